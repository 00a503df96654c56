package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
)

// Config is what a Proxy needs.
type Config struct {
	// Addresses are the addresses of this machine on which listeners answer, such as 127.0.0.1.
	Addresses []string
	// OnHealth is told each change of a target's state; OnProblem why a listener's port is not served, "" when it is: once for each
	// listener, and then when it changes. Neither may block or call the Proxy.
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
	gate    *gate.Gate      // of all ports
	ctx     context.Context // ends some time after Close
	cancel  context.CancelFunc
	closing sync.WaitGroup // ports that end

	mu      sync.Mutex // orders Apply and Close, and guards what follows
	groups  map[string]*group
	targets map[string]*target // by key
	ports   map[int]*port
	told    map[string]string // what OnProblem was told last, by listener
	closed  bool
}

// live is a table with what is alive of it.
type live struct {
	Table
	byHost map[string]*balancer // by DNS name in lower case
	byPort map[int][]entrance   // the oldest load balancer first
	groups map[string]*group
	stats  map[string]*Stats // by load balancer
}

// balancer is a load balancer's listeners, in the order of their ports.
type balancer struct{ entrances []entrance }

// entrance is a listener and whose it is.
type entrance struct {
	balancer *Balancer
	listener *Listener
	routes   []route
}

// Stats counts a load balancer's requests since the proxy started.
type Stats struct {
	Requests atomic.Int64
	Failed   atomic.Int64 // answered with 502, 503 or 504 by the proxy itself
	logged   atomic.Int64 // Unix second of the last failure that was logged
}

// New makes a Proxy that serves nothing yet.
func New(c Config) *Proxy {
	p := &Proxy{Config: c, groups: map[string]*group{}, targets: map[string]*target{}, ports: map[int]*port{}, told: map[string]string{},
		checker: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext},
		// A request takes two descriptors, its client's and its target's.
		gate: gate.New(gate.Config{Name: "load balancers", Total: gate.Part(1<<16, 4), Log: c.Log})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.forward = newForwarder(p)
	p.table.Store(&live{stats: map[string]*Stats{}})
	return p
}

// Apply makes t what is served, at once: requests that are under way go on, the next ones see t. The proxy keeps t; it must not be
// changed afterwards.
func (p *Proxy) Apply(t Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	old := p.table.Load()
	l := &live{Table: t, byHost: map[string]*balancer{}, byPort: map[int][]entrance{}, groups: map[string]*group{},
		stats: map[string]*Stats{}}
	used := map[string]bool{}
	for i := range t.Balancers {
		b := &t.Balancers[i]
		if l.stats[b.ARN] = old.stats[b.ARN]; l.stats[b.ARN] == nil {
			l.stats[b.ARN] = &Stats{}
		}
		own := &balancer{}
		l.byHost[strings.ToLower(b.DNSName)] = own
		for j := range b.Listeners {
			e := entrance{balancer: b, listener: &b.Listeners[j]}
			for _, r := range e.listener.Rules {
				e.routes = append(e.routes, newRoute(r))
				for _, w := range r.Action.Forward {
					used[w.Group] = true
				}
			}
			own.entrances = append(own.entrances, e)
			l.byPort[e.listener.Port] = append(l.byPort[e.listener.Port], e)
		}
	}
	p.applyTargets(l, used)
	p.table.Store(l)
	p.applyPorts(l)
}

// applyTargets brings groups and targets to life and ends those that the table lacks. It needs the lock.
func (p *Proxy) applyTargets(l *live, used map[string]bool) {
	keep := map[string]bool{}
	for arn, conf := range l.Groups {
		g := p.groups[arn]
		if g == nil {
			g = newGroup(arn)
			p.groups[arn] = g
		}
		l.groups[arn] = g
		g.least.Store(conf.LeastOutstanding)
		g.sticky.Store(int64(conf.Stickiness))
		g.minHealthy, g.minHealthyPercent = conf.MinHealthy, conf.MinHealthyPercent
		g.members = make([]*target, 0, len(conf.Targets))
		for _, c := range conf.Targets {
			key := model.TargetKey(arn, c.ID, c.Port)
			keep[key] = true
			g.members = append(g.members, p.applyTarget(key, c, conf, used[arn]))
		}
		sortTargets(g.members)
	}
	for key, t := range p.targets {
		if !keep[key] {
			t.retire()
			delete(p.targets, key)
		}
	}
	for arn, g := range p.groups {
		if _, ok := l.Groups[arn]; !ok {
			delete(p.groups, arn)
			g.members = nil
		}
		g.settle()
	}
}

// applyTarget brings a target up to date. One with the same name at another address is another target.
func (p *Proxy) applyTarget(key string, c Target, g Group, used bool) *target {
	t := p.targets[key]
	if t != nil && t.address != address(c) {
		t.retire()
		t = nil
	}
	if t != nil {
		t.update(c, g, used)
		return t
	}
	t = newTarget(p, g.ARN, c)
	p.targets[key] = t
	t.update(c, g, used)
	select { // its first check is made at once anyway
	case <-t.wake:
	default:
	}
	go t.watch()
	return t
}

// refresh computes again who takes a group's requests.
func (p *Proxy) refresh(arn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.groups[arn]; g != nil {
		g.settle()
	}
}

// ServeHost serves a request that came to another server, if its Host is the DNS name of a load balancer. The listener is the one
// on port 80, or the first.
func (p *Proxy) ServeHost(w http.ResponseWriter, r *http.Request) bool {
	l := p.table.Load()
	b := l.byHost[strings.ToLower(hostname(r.Host))]
	if b == nil {
		return false
	}
	if len(b.entrances) == 0 {
		page(w, http.StatusServiceUnavailable)
		return true
	}
	chosen := b.entrances[0]
	for _, e := range b.entrances {
		if e.listener.Port == 80 {
			chosen = e
		}
	}
	arrived := chosen.listener.Port
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		arrived = at.Port
	}
	p.serve(w, r, l, chosen, arrived)
	return true
}

// serve finds the rule and follows it.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, l *live, in entrance, port int) {
	way := passage{entrance: in, port: port, stats: l.stats[in.balancer.ARN]}
	way.stats.Requests.Add(1)
	p.age(w, r, in.balancer.ClientKeepAlive)
	switch {
	case r.ProtoMajor > 1 && in.balancer.HTTP1Only:
		way.refuse(w, http.StatusHTTPVersionNotSupported)
		return
	case r.Method == http.MethodTrace || r.Method == http.MethodConnect:
		way.refuse(w, http.StatusMethodNotAllowed)
		return
	}
	for i := range in.routes {
		if !in.routes[i].matches(r) {
			continue
		}
		switch a := &in.routes[i].action; {
		case a.Fixed != nil:
			way.own(w).Set("Content-Type", or(a.Fixed.ContentType, "text/plain")+"; charset=utf-8")
			w.WriteHeader(a.Fixed.Status)
			_, _ = io.WriteString(w, a.Fixed.Body) // fails only when the client is gone
		case a.Redirect != nil:
			w.Header().Set("Location", a.Redirect.location(r, port))
			way.refuse(w, a.Redirect.Status)
		default:
			way.group, way.stick = l.groups[a.destination(r)], a.Sticky
			p.forward.serve(w, r, &way)
		}
		return
	}
	way.stats.Failed.Add(1)
	way.refuse(w, http.StatusServiceUnavailable)
}

// age asks a client whose connection is old to open another one.
func (p *Proxy) age(w http.ResponseWriter, r *http.Request, limit time.Duration) {
	if born, ok := r.Context().Value(bornKey{}).(time.Time); ok && limit > 0 && p.Now().Sub(born) > limit {
		w.Header().Set("Connection", "close")
	}
}

// Close ends every listener and check; requests in flight get a moment to end.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	ports := p.ports
	p.ports = map[int]*port{}
	for _, q := range ports {
		q.leave()
	}
	for _, t := range p.targets {
		t.stop()
	}
	p.mu.Unlock()
	defer p.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	context.AfterFunc(ctx, p.cancel)
	for _, q := range ports {
		p.closing.Go(func() { q.shut(ctx) })
	}
	p.closing.Wait()
	p.mu.Lock()
	for _, t := range p.targets {
		t.retire() // ends what was upgraded
	}
	p.targets = map[string]*target{}
	p.mu.Unlock()
	p.forward.close()
	return nil
}
