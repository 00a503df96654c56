package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// Config is what a Proxy needs.
type Config struct {
	// Addresses are the addresses of this machine on which listeners answer, such as 127.0.0.1.
	Addresses []string
	// OnHealth is told each change of a target's state; OnProblem why a listener's port is not served, "" when it is. Neither may
	// block.
	OnHealth  func(model.TargetHealth)
	OnProblem func(listenerARN, problem string)
	Pace      model.Pace
	Now       func() time.Time
	Log       *slog.Logger
}

// Proxy serves a Table.
type Proxy struct {
	Config
	table   atomic.Pointer[live]
	checker http.RoundTripper
	forward *forwarder

	mu      sync.Mutex // orders Apply and Close, and guards what follows
	groups  map[string]*group
	targets map[string]*target // by key
	ports   map[int]*port
	closed  bool
}

// live is a table with what is alive of it.
type live struct {
	Table
	byHost map[string]*Balancer // by DNS name
	byPort map[int][]entrance
	groups map[string]*group
	stats  map[string]*Stats // by load balancer
}

// entrance is a listener and whose it is.
type entrance struct {
	balancer *Balancer
	listener *Listener
}

// Stats counts a load balancer's requests since the proxy started.
type Stats struct {
	Requests atomic.Int64
	Failed   atomic.Int64 // answered with 502, 503 or 504 by the proxy itself
	logged   atomic.Int64 // Unix second of the last failure that was logged
}

// New makes a Proxy that serves nothing yet.
func New(c Config) *Proxy {
	p := &Proxy{Config: c, groups: map[string]*group{}, targets: map[string]*target{}, ports: map[int]*port{},
		checker: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}}
	p.forward = newForwarder(p)
	p.table.Store(&live{stats: map[string]*Stats{}})
	return p
}

// Apply makes t what is served, at once: requests that are under way go on, the next ones see t.
func (p *Proxy) Apply(t Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	old := p.table.Load()
	l := &live{Table: t, byHost: map[string]*Balancer{}, byPort: map[int][]entrance{}, groups: map[string]*group{}, stats: map[string]*Stats{}}
	used := map[string]bool{}
	for i := range t.Balancers {
		b := &t.Balancers[i]
		l.byHost[strings.ToLower(b.DNSName)] = b
		if l.stats[b.ARN] = old.stats[b.ARN]; l.stats[b.ARN] == nil {
			l.stats[b.ARN] = &Stats{}
		}
		for j := range b.Listeners {
			ls := &b.Listeners[j]
			l.byPort[ls.Port] = append(l.byPort[ls.Port], entrance{b, ls})
			for _, r := range ls.Rules {
				for _, w := range r.Action.Forward {
					used[w.Group] = true
				}
			}
		}
	}
	p.applyTargets(l, used)
	p.table.Store(l)
	p.applyPorts(l)
}

// applyTargets brings groups and targets to life and ends those that the table lacks.
func (p *Proxy) applyTargets(l *live, used map[string]bool) {
	keep := map[string]bool{}
	for arn, g := range l.Groups {
		lg := p.groups[arn]
		if lg == nil {
			lg = &group{arn: arn}
			lg.ready.Store(&[]*target{})
			p.groups[arn] = lg
		}
		lg.least.Store(g.LeastOutstanding)
		l.groups[arn] = lg
		for _, conf := range g.Targets {
			key := model.TargetKey(arn, conf.ID, conf.Port)
			keep[key] = true
			t := p.targets[key]
			if t != nil && t.address != address(conf) { // another machine behind the same name
				close(t.stop)
				t = nil
			}
			if t == nil {
				t = &target{proxy: p, group: arn, id: conf.ID, port: conf.Port, address: address(conf), open: map[io.Closer]struct{}{},
					wake: make(chan struct{}, 1), stop: make(chan struct{})}
				p.targets[key] = t
				t.update(conf, g, used[arn])
				select { // its first check is made at once anyway
				case <-t.wake:
				default:
				}
				go t.watch()
			} else {
				t.update(conf, g, used[arn])
			}
		}
	}
	for key, t := range p.targets {
		if !keep[key] {
			close(t.stop)
			delete(p.targets, key)
		}
	}
	for arn := range p.groups {
		if _, ok := l.Groups[arn]; !ok {
			delete(p.groups, arn)
			continue
		}
		p.ready(arn)
	}
}

func address(t Target) string { return net.JoinHostPort(t.Address, strconv.Itoa(int(t.Port))) }

// refresh computes again who takes a group's requests.
func (p *Proxy) refresh(arn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.groups[arn] != nil {
		p.ready(arn)
	}
}

// ready needs the lock. When no target is healthy all take requests: ALB fails open.
func (p *Proxy) ready(arn string) {
	var healthy, all []*target
	for _, t := range p.targets {
		if t.group != arn {
			continue
		}
		may, well := t.takes()
		if may {
			all = append(all, t)
		}
		if well {
			healthy = append(healthy, t)
		}
	}
	if len(healthy) == 0 {
		healthy = all
	}
	sortTargets(healthy)
	p.groups[arn].ready.Store(&healthy)
}

// ServeHost serves a request that came to another server, if its Host is the DNS name of a load balancer. The listener is the one
// on port 80, or the first.
func (p *Proxy) ServeHost(w http.ResponseWriter, r *http.Request) bool {
	l := p.table.Load()
	b := l.byHost[strings.ToLower(hostname(r.Host))]
	if b == nil {
		return false
	}
	if len(b.Listeners) == 0 {
		fail(w, http.StatusServiceUnavailable)
		return true
	}
	chosen := &b.Listeners[0]
	for i := range b.Listeners {
		if b.Listeners[i].Port == 80 {
			chosen = &b.Listeners[i]
		}
	}
	p.serve(w, r, l, entrance{b, chosen})
	return true
}

// serve finds the rule and follows it.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, l *live, in entrance) {
	stats := l.stats[in.balancer.ARN]
	stats.Requests.Add(1)
	for i := range in.listener.Rules {
		rule := &in.listener.Rules[i]
		if !rule.matches(r) {
			continue
		}
		switch a := rule.Action; {
		case a.Fixed != nil:
			if a.Fixed.ContentType != "" {
				w.Header().Set("Content-Type", a.Fixed.ContentType)
			}
			w.WriteHeader(a.Fixed.Status)
			io.WriteString(w, a.Fixed.Body)
		case a.Redirect != nil:
			w.Header().Set("Location", a.Redirect.location(r, in.listener.Port))
			w.WriteHeader(a.Redirect.Status)
		default:
			p.forward.serve(w, r, &passage{group: l.groups[choose(a.Forward)], balancer: in.balancer, port: in.listener.Port, stats: stats})
		}
		return
	}
	stats.Failed.Add(1)
	fail(w, http.StatusServiceUnavailable)
}

// Stats returns the counters of a load balancer, nil for one that is not served.
func (p *Proxy) Stats(arn string) *Stats { return p.table.Load().stats[arn] }

// Close ends every listener and check; requests in flight get a moment to end.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	ports := p.ports
	p.ports = map[int]*port{}
	for _, t := range p.targets {
		close(t.stop)
	}
	p.targets = map[string]*target{}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var errs []error
	for _, q := range ports {
		errs = append(errs, q.close(ctx))
	}
	p.forward.close()
	return errors.Join(errs...)
}

// Healthy tells how many of a group's targets are healthy.
func (p *Proxy) Healthy(group string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		if t.group == group {
			t.mu.Lock()
			if t.state == elbtypes.TargetHealthStateEnumHealthy {
				n++
			}
			t.mu.Unlock()
		}
	}
	return n
}
