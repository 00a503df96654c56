package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Proxy needs.
type Config struct {
	// Addresses are the addresses of this machine on which listeners answer, such as 127.0.0.1.
	Addresses []string
	// OnHealth is told each change of a target's state; OnProblem why a listener's port is not served, "" when it is: once for each
	// listener, and then when it changes. Neither may block or call the Proxy.
	OnHealth  func(model.TargetHealth)
	OnProblem func(listenerARN, problem string)
	// Listen opens the port of an address such as 127.0.0.1:80; nil: net.Listen. Closing what it returns gives the port back.
	Listen func(address string) (net.Listener, error)
	// Known is what was seen of targets before this proxy began, by their keys: a target that comes first begins with it.
	Known map[string]model.TargetHealth
	// Elsewhere tells whether another process may still have requests in flight to a target that drains; nil: none has. Settle is
	// called when what it tells has changed. It may not call the Proxy.
	Elsewhere func(targetKey string) bool
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

	slow    bool        // tests: net/http reads everything
	leaving atomic.Bool // clients are asked to close their connections

	mu        sync.Mutex // orders Change and Close, and guards what follows
	balancers map[string]*balancer
	confs     map[string]Group // what the table says of groups
	uses      map[string]int   // how many balancers lead to a group
	groups    map[string]*group
	targets   map[string]*target // by key
	ports     map[int]*port
	told      map[string]string // what OnProblem was told last, by listener
	closed    bool
}

// live is what requests are served by. It is replaced, never changed.
type live struct {
	byHost map[string]*balancer // by DNS name in lower case
	byPort map[int][]entrance   // the oldest load balancer first
	groups map[string]*group
	stats  map[string]*Stats // by load balancer
}

// balancer is a load balancer as it lives.
type balancer struct {
	conf      Balancer
	entrances []entrance // in the order of their ports
	leads     []string   // the groups that its rules lead to, each once
}

// entrance is a listener and whose it is.
type entrance struct {
	balancer *Balancer
	listener *Listener
	routes   []route
}

// Stats counts a load balancer's requests since the proxy started.
type Stats struct {
	Requests atomic.Int64
	Failed   atomic.Int64    // answered with 502, 503 or 504 by the proxy itself
	answers  [5]atomic.Int64 // of the proxy itself: 4xx, 5xx but for the next, 502, 503, 504
	logged   atomic.Int64    // Unix second of the last failure that was logged
}

// New makes a Proxy that serves nothing yet.
func New(c Config) *Proxy {
	p := &Proxy{Config: c, balancers: map[string]*balancer{}, confs: map[string]Group{}, uses: map[string]int{}, groups: map[string]*group{},
		targets: map[string]*target{}, ports: map[int]*port{}, told: map[string]string{},
		checker: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: timeouts.ProxyDial}).DialContext},
		// A request takes two descriptors, its client's and its target's.
		gate: gate.New(gate.Config{Name: "load balancers", Total: gate.Part(1<<16, 4), Log: c.Log})}
	if p.Listen == nil {
		p.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if p.Elsewhere == nil {
		p.Elsewhere = func(string) bool { return false }
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.forward = newForwarder(p)
	p.table.Store(&live{stats: map[string]*Stats{}})
	return p
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
		page(http.StatusServiceUnavailable).write(w)
		return true
	}
	chosen := &b.entrances[0]
	for i := range b.entrances {
		if b.entrances[i].listener.Port == 80 {
			chosen = &b.entrances[i]
		}
	}
	arrived := chosen.listener.Port
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		arrived = at.Port
	}
	p.serve(w, r, l, chosen, arrived)
	return true
}
