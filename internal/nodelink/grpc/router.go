package grpc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/timeouts"
)

// RouterConfig is what a Router needs.
type RouterConfig struct {
	Node string // its id, by which it ranks the servers
	// Servers are those to begin with: addresses (host:port) of cluster ports.
	Servers []string
	// Connect makes a connection, which connects by itself; it is closed by the Router.
	Connect func(address string) (*rpc.ClientConn, error)
	// OnServers, which may be nil, gets the servers there are, so that they outlive this process.
	OnServers func(addresses []string)
}

// Router opens a node's sessions: with the server that ranks first for it (rendezvous hashing: each server has as many nodes as the
// others, and only a server's own nodes move when it goes), and when that is lost with the next one, its standby, to which the connection
// is open already. When the first is there again for a while the session goes back to it.
type Router struct {
	c RouterConfig

	mu      sync.Mutex
	closed  bool
	servers []string                   // ranked
	failed  map[string]time.Time       // when a server was last tried in vain
	conns   map[string]*rpc.ClientConn // at most to the active server and the standby, but for a moment
	active  string                     // of the last session
	end     func()                     // ends the last session; nil before the first
	settle  *time.Timer                // connects to the standby; nil when nothing is to be done
	back    *time.Timer                // moves the session to the first server; nil: none was elsewhere
}

// NewRouter makes a Router. Close it.
func NewRouter(c RouterConfig) *Router {
	r := &Router{c: c, failed: map[string]time.Time{}, conns: map[string]*rpc.ClientConn{}}
	r.servers = rank(c.Node, c.Servers)
	return r
}

// rank orders servers by what a hash of node and address says.
func rank(node string, addresses []string) []string {
	weight := func(address string) uint64 {
		sum := sha256.Sum256([]byte(node + "\x00" + address))
		return binary.BigEndian.Uint64(sum[:])
	}
	out := slices.Clone(addresses)
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a, b)) })
	return slices.Compact(out)
}

// Dial opens a session's stream: nodelink.ClientConfig's Dial.
func (r *Router) Dial(ctx context.Context) (nodelink.Conn, error) {
	var errs []error
	for _, address := range r.order() {
		c, err := r.open(ctx, address)
		if err == nil {
			return c, nil
		}
		r.fail(address)
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("no server's address is known; join again with a token (berth node --join …)")
	}
	return nil, errors.Join(errs...)
}

// order is in which order servers are tried: those that were not tried in vain lately by their rank, then the others, the longest ago first.
func (r *Router) order() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.servers)
	for address, at := range r.failed {
		if time.Since(at) > timeouts.SessionAvoid {
			delete(r.failed, address)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return r.failed[a].Compare(r.failed[b]) })
	return out
}

func (r *Router) fail(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[address] = time.Now()
}

// open opens a stream to the server.
func (r *Router) open(ctx context.Context, address string) (nodelink.Conn, error) {
	cc, err := r.conn(address)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(ctx)
	slow := time.AfterFunc(timeouts.SessionOpen, end)
	stream, err := cc.NewStream(life, &rpc.StreamDesc{StreamName: streamName, ServerStreams: true, ClientStreams: true},
		"/"+serviceName+"/"+streamName)
	if !slow.Stop() && err == nil {
		err = errors.New("the server does not answer")
	}
	if err != nil {
		end()
		return nil, err
	}
	r.mu.Lock()
	r.active, r.end = address, end
	r.mu.Unlock()
	r.arrange(0)
	r.goBack()
	return &routed{conn: newConn(stream, end), r: r, address: address}, nil
}

// conn is the connection to a server, made when there is none or the one there is waits before it tries again: who asks wants it now.
// (ClientConn.ResetConnectBackoff would say so, but up to grpc-go 1.85 it reads its connections without their lock.)
func (r *Router) conn(address string) (*rpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nodelink.ErrClosed
	}
	if cc := r.conns[address]; cc != nil {
		if cc.GetState() != connectivity.TransientFailure {
			return cc, nil
		}
		_ = cc.Close()
		delete(r.conns, address)
	}
	cc, err := r.c.Connect(address)
	if err != nil {
		return nil, err
	}
	r.conns[address] = cc
	return cc, nil
}

// SetServers says which servers there are now; the session stays where it is as long as it lasts.
func (r *Router) SetServers(s nodelink.Servers) {
	if len(s.Addresses) == 0 {
		return
	}
	ranked := rank(r.c.Node, s.Addresses)
	r.mu.Lock()
	same := slices.Equal(ranked, r.servers)
	r.servers = ranked
	r.mu.Unlock()
	if same {
		return
	}
	r.arrange(rand.N(s.Spread + 1))
	r.goBack()
	if r.c.OnServers != nil {
		r.c.OnServers(s.Addresses)
	}
}

// goBack ends the session after a while, if it is not with the first server and that can be reached then: the next one is.
func (r *Router) goBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.back != nil {
		r.back.Stop()
	}
	if r.closed || r.end == nil || r.active == r.servers[0] {
		return
	}
	first, end := r.servers[0], r.end
	r.back = time.AfterFunc(timeouts.SessionBack+rand.N(timeouts.SessionBack), func() {
		if !r.reach(first) {
			r.goBack()
			return
		}
		r.mu.Lock()
		delete(r.failed, first)
		r.mu.Unlock()
		end()
	})
}

// reach tells whether there is a connection to the server, or can be one.
func (r *Router) reach(address string) bool {
	cc, err := r.conn(address)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.PeerDial)
	defer cancel()
	cc.Connect()
	for state := cc.GetState(); state != connectivity.Ready; state = cc.GetState() {
		if state == connectivity.Shutdown || !cc.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}

// arrange connects, after a while, to the standby, and closes the connections that are neither its nor the active server's.
func (r *Router) arrange(after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settle != nil {
		r.settle.Stop()
	}
	if !r.closed {
		r.settle = time.AfterFunc(after, func() {
			standby := r.standby()
			r.closeUnused(standby)
			if standby == "" {
				return
			}
			if cc, err := r.conn(standby); err == nil {
				cc.Connect()
			}
		})
	}
}

func (r *Router) closeUnused(standby string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for address, cc := range r.conns {
		if address != r.active && address != standby {
			_ = cc.Close()
			delete(r.conns, address)
		}
	}
}

// standby is the server that takes over when the active one is lost.
func (r *Router) standby() string {
	order := r.order()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, address := range order {
		if address != r.active {
			return address
		}
	}
	return ""
}

// Close closes the connections, and with them the session.
func (r *Router) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, t := range []*time.Timer{r.settle, r.back} {
		if t != nil {
			t.Stop()
		}
	}
	for _, cc := range r.conns {
		_ = cc.Close()
	}
	clear(r.conns)
}

// routed is a session that the router learns from: a server that does not welcome the node is not the first to be tried again, nor is
// one whose session was lost.
type routed struct {
	*conn
	r       *Router
	address string
	once    sync.Once
}

// Recv implements nodelink.Conn.
func (c *routed) Recv(ctx context.Context) (nodelink.Message, error) {
	m, err := c.conn.Recv(ctx)
	if err != nil || m.Refused != nil {
		c.once.Do(func() { c.r.fail(c.address) })
	}
	return m, err
}
