package beat

import (
	"context"
	"crypto/sha256"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// network carries datagrams in memory, at once.
type network struct {
	mu    sync.Mutex
	at    map[netip.AddrPort]*wire
	cut   func(from, to netip.AddrPort) bool
	taken []sent // all that was sent
}

type sent struct {
	from netip.AddrPort
	Datagram
}

type wire struct {
	net  *network
	addr netip.AddrPort
	in   chan Datagram
	done chan struct{}
	once sync.Once
}

func (n *network) listen(addr string) *wire {
	w := &wire{net: n, addr: netip.MustParseAddrPort(addr), in: make(chan Datagram, 1024), done: make(chan struct{})}
	n.mu.Lock()
	n.at[w.addr] = w
	n.mu.Unlock()
	return w
}

func (w *wire) Read(into []Datagram) (int, error) {
	select {
	case into[0] = <-w.in:
		return 1, nil
	case <-w.done:
		return 0, net.ErrClosed
	}
}

func (w *wire) Write(out []Datagram) {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	for _, d := range out {
		to := d.Addr
		d.Addr = w.addr
		w.net.taken = append(w.net.taken, sent{w.addr, Datagram{Addr: to, N: d.N, Data: d.Data}})
		if other := w.net.at[to]; other != nil && (w.net.cut == nil || !w.net.cut(w.addr, to)) {
			select {
			case other.in <- d:
			default:
			}
		}
	}
}

func (n *network) cutOff(cut func(from, to netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *network) sent() int { return len(n.all()) }

func (n *network) all() []sent {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.taken)
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.done) })
	return nil
}

// cluster is one server and nodes, in a bubble of synctest.
type cluster struct {
	*network
	t      *testing.T
	server *Server
	began  time.Time
	stood  atomic.Int64 // how long the machines' clocks stood still
}

var secret = []byte("the cluster's")

func newCluster(t *testing.T, conf ServerConfig) *cluster {
	c := &cluster{network: &network{at: map[netip.AddrPort]*wire{}}, t: t, began: time.Now().Add(-time.Hour)}
	c.serve(conf)
	return c
}

const serverAddr = "10.0.0.1:4567"

// serve starts a server, or another in its place.
func (c *cluster) serve(conf ServerConfig) {
	c.server = NewServer(conf)
	c.run(NewPort(c.listen(serverAddr), c.server, nil))
}

func (c *cluster) run(p *Port) context.CancelFunc {
	ctx, cancel := context.WithCancel(c.t.Context())
	go func() { _ = p.Run(ctx) }()
	return cancel
}

func (c *cluster) clock() time.Duration { return time.Since(c.began) - time.Duration(c.stood.Load()) }

func (c *cluster) stall(d time.Duration) { c.stood.Add(int64(d)) }

// member is a node that runs.
type member struct {
	*Node
	kill context.CancelFunc
}

func (c *cluster) join(addr string, conf NodeConfig) *member {
	conf.Clock = c.clock
	n := NewNode(conf)
	key := keyOf(secret, conf.ID)
	if err := n.Set(Settings{Servers: []string{serverAddr}, Key: key[:], Epoch: 7}); err != nil {
		c.t.Fatal(err)
	}
	c.server.Put(conf.ID, key, netip.MustParseAddrPort(addr))
	ctx, cancel := context.WithCancel(c.t.Context())
	stop := c.run(NewPort(c.listen(addr), nil, n))
	go n.Run(ctx)
	return &member{n, func() { cancel(); stop() }}
}

func (c *cluster) heard(id ID) Heard {
	c.t.Helper()
	h, ok := c.server.Heard(id)
	if !ok {
		c.t.Fatalf("the server does not know %s", id)
	}
	return h
}

// silent is for how long nothing was heard of a node.
func (c *cluster) silent(id ID) time.Duration { return time.Since(c.heard(id).Last) }

func bubble(t *testing.T, f func(*testing.T)) { t.Helper(); synctest.Test(t, f) }

// wait lets time pass and everything settle.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func keyOf(cluster []byte, id ID) Key {
	return Key(sha256.Sum256(append(slices.Clone(cluster), id[:]...)))
}
