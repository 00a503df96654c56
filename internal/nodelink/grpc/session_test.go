package grpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/timeouts"
)

// welcoming serves sessions that welcome their node and read what comes; callers are noted.
type welcoming struct {
	mu      sync.Mutex
	callers []nodelink.Caller
	refuse  *nodelink.Refused
}

func (w *welcoming) serve(ctx context.Context, who nodelink.Caller, c nodelink.Conn) error {
	w.mu.Lock()
	w.callers = append(w.callers, who)
	answer := nodelink.Message{Welcome: &nodelink.Welcome{Seen: nodelink.Seen{Epoch: int64(len(w.callers))}}}
	if w.refuse != nil {
		answer = nodelink.Message{Refused: w.refuse}
	}
	w.mu.Unlock()
	if _, err := c.Recv(ctx); err != nil {
		return err
	}
	if err := c.Send(ctx, answer); err != nil {
		return err
	}
	for {
		if _, err := c.Recv(ctx); err != nil {
			return err
		}
	}
}

func (w *welcoming) refuseFrom(r *nodelink.Refused) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = r
}

// TestTheCertificateIsTheNode: a session is that of the certificate's id and of its key, and only nodes have one.
func TestTheCertificateIsTheNode(t *testing.T) {
	ca, err := pki.NewCA("c7f2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issue := func(role pki.Role, id string) *pki.Identity {
		identity, err := ca.Issue(pki.Peer{Role: role, ID: id}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return identity
	}
	me := issue(pki.RoleServer, "s1")
	port := peer.NewServer(peer.Config{Identity: func() *pki.Identity { return me }})
	w := &welcoming{}
	service := NewService(w.serve, slog.New(slog.DiscardHandler))
	service.Register(port.GRPC())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = port.Serve(ctx, l) })
	open := func(id *pki.Identity) error {
		d := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return id }})
		r := NewRouter(RouterConfig{Node: id.Peer.ID, Servers: []string{l.Addr().String()}, Connect: d.GRPC})
		defer r.Close()
		c, err := r.Dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.Send(ctx, nodelink.Message{Hello: &nodelink.Hello{}}) // why it fails, Recv says
		_, err = c.Recv(ctx)
		return err
	}
	n1, other := issue(pki.RoleNode, "n1"), issue(pki.RoleNode, "n2")
	if err := open(n1); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("before Run: %v", err)
	}
	running.Go(func() { _ = service.Run(ctx) })
	for { // until it runs
		if err := open(n1); err == nil {
			break
		}
	}
	if err := open(other); err != nil {
		t.Error(err)
	}
	if err := open(me); err == nil || !strings.Contains(err.Error(), "server s1") {
		t.Errorf("a server's session: %v", err)
	}
	cancel()
	running.Wait()
	want := []nodelink.Caller{{Node: "n1", Key: n1.Peer.KeyHash}, {Node: "n2", Key: other.Peer.KeyHash}}
	if !slices.Equal(w.callers, want) {
		t.Errorf("callers %v, want %v", w.callers, want)
	}
}

// machine is a server in memory, whose connections can be cut.
type machine struct {
	*welcoming
	address string
	l       *bufconn.Listener
	stop    context.CancelFunc
	mu      sync.Mutex
	cut     chan struct{} // closed when the cut is healed; nil: none
	dials   int
	open    int
}

// newMachine starts a server with the keepalive of the cluster port.
func newMachine(t *testing.T, address string) *machine {
	m := &machine{welcoming: &welcoming{}, address: address}
	m.start(t)
	return m
}

// start has it serve, again after stop.
func (m *machine) start(t *testing.T) {
	l := bufconn.Listen(64 << 10)
	service := NewService(m.serve, slog.New(slog.DiscardHandler))
	s := rpc.NewServer(rpc.KeepaliveParams(keepalive.ServerParameters{Time: timeouts.PeerKeepAlive, Timeout: timeouts.PeerKeepAlive}),
		rpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: timeouts.PeerKeepAlive / 2, PermitWithoutStream: true}),
		rpc.StreamInterceptor(func(srv any, ss rpc.ServerStream, _ *rpc.StreamServerInfo, next rpc.StreamHandler) error {
			return next(srv, asN1{ss})
		}))
	service.Register(s)
	ctx, cancel := context.WithCancel(t.Context())
	stop := func() { cancel(); s.Stop() }
	go func() { _ = service.Run(ctx) }()
	go func() { _ = s.Serve(l) }()
	t.Cleanup(stop)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.l, m.stop = l, stop
}

type asN1 struct{ rpc.ServerStream }

func (k asN1) Context() context.Context {
	return peer.With(k.ServerStream.Context(), pki.Peer{Role: pki.RoleNode, ID: "n1"})
}

func (m *machine) setCut(cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut != nil {
		close(m.cut)
		m.cut = nil
	}
	if cut {
		m.cut = make(chan struct{})
	}
}

// wait waits for the cut to heal, until the connection is closed.
func (m *machine) wait(closed chan struct{}) {
	for {
		m.mu.Lock()
		cut := m.cut
		m.mu.Unlock()
		if cut == nil {
			return
		}
		select {
		case <-cut:
		case <-closed:
			return
		}
	}
}

// wire is a connection to a machine: while that is cut off, nothing comes or goes, and nothing is lost.
type wire struct {
	net.Conn
	m      *machine
	closed chan struct{}
	once   sync.Once
}

func (w *wire) Write(p []byte) (int, error) { w.m.wait(w.closed); return w.Conn.Write(p) }
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.m.wait(w.closed)
	return n, err
}

func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.m.mu.Lock()
		w.m.open--
		w.m.mu.Unlock()
	})
	return w.Conn.Close()
}

// network is some machines by their addresses.
type network map[string]*machine

func (n network) connect(address string) (*rpc.ClientConn, error) {
	return rpc.NewClient("passthrough:///"+address, rpc.WithTransportCredentials(insecure.NewCredentials()), rpc.WithIdleTimeout(0),
		rpc.WithKeepaliveParams(keepalive.ClientParameters{Time: timeouts.PeerKeepAlive, Timeout: timeouts.PeerKeepAlive, PermitWithoutStream: true}),
		rpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			m := n[address]
			if m == nil {
				return nil, errors.New("no such machine")
			}
			m.mu.Lock()
			m.dials++
			l := m.l
			m.mu.Unlock()
			c, err := l.DialContext(ctx)
			if err != nil {
				return nil, err
			}
			m.mu.Lock()
			m.open++
			m.mu.Unlock()
			return &wire{Conn: c, m: m, closed: make(chan struct{})}, nil
		}))
}

func (m *machine) seen() (dials, open, sessions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.welcoming.mu.Lock()
	defer m.welcoming.mu.Unlock()
	return m.dials, m.open, len(m.callers)
}

// greet opens a session by hand.
func greet(ctx context.Context, r *Router) (nodelink.Conn, error) {
	c, err := r.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.Send(ctx, nodelink.Message{Hello: &nodelink.Hello{}}); err != nil {
		return nil, err
	}
	m, err := c.Recv(ctx)
	if err == nil && m.Refused != nil {
		err = m.Refused
	}
	return c, err
}

// TestShortCuts: a session outlives a cut of 0.5 s, and of 8 s, but not one that keepalive finds.
func TestShortCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "s1:4567")
		r := NewRouter(RouterConfig{Node: "n1", Servers: []string{"s1:4567"}, Connect: network{"s1:4567": m}.connect})
		defer r.Close()
		c, err := greet(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := c.Recv(context.Background())
			ended <- err
		}()
		for _, cut := range []time.Duration{500 * time.Millisecond, 8 * time.Second} {
			for range 5 {
				m.setCut(true)
				time.Sleep(cut)
				m.setCut(false)
				time.Sleep(7 * time.Second)
				select {
				case err := <-ended:
					t.Fatalf("after a cut of %s: %v", cut, err)
				default:
				}
			}
		}
		m.setCut(true)
		began := time.Now()
		err = <-ended
		if took := time.Since(began); err == nil || took > 2*timeouts.PeerKeepAlive+time.Second {
			t.Errorf("a machine that is gone was noticed after %s: %v", took, err)
		}
		m.setCut(false)
	})
}

// TestStandby: the session is with the server that ranks first, a connection to the next is open already, and when the first is gone the
// next has the session without a handshake; connections to others are not kept.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, addresses := network{}, []string{"s1:1", "s2:1", "s3:1", "s4:1"}
		for _, a := range addresses {
			n[a] = newMachine(t, a)
		}
		ranked := rank("n1", addresses)
		var told []string
		r := NewRouter(RouterConfig{Node: "n1", Servers: ranked[3:], Connect: n.connect, OnServers: func(a []string) { told = a }})
		defer r.Close()
		if _, err := greet(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.SetServers(nodelink.Servers{Addresses: addresses, Spread: time.Minute})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		expect := func(what string, want ...[3]int) {
			t.Helper()
			for i, a := range ranked {
				dials, open, sessions := n[a].seen()
				if got := [3]int{dials, open, sessions}; got != want[i] {
					t.Errorf("%s: dials, open connections and sessions of the server of rank %d: %v, want %v", what, i, got, want[i])
				}
			}
		}
		expect("the session stays", [3]int{1, 1, 0}, [3]int{}, [3]int{}, [3]int{1, 1, 1})
		if !slices.Equal(told, addresses) {
			t.Errorf("told %v", told)
		}
		n[ranked[3]].stop()
		synctest.Wait()
		if _, err := greet(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect("the standby takes over", [3]int{1, 1, 1}, [3]int{1, 1, 0}, [3]int{}, [3]int{1, 0, 1})
		n[ranked[1]].refuseFrom(&nodelink.Refused{Reason: "no"})
		n[ranked[0]].stop()
		time.Sleep(time.Second)
		if _, err := greet(t.Context(), r); err == nil {
			t.Error("a refusal was a session")
		}
		if _, err := greet(t.Context(), r); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		expect("after a refusal the next", [3]int{2, 0, 1}, [3]int{1, 0, 1}, [3]int{1, 1, 1}, [3]int{2, 0, 1})
	})
}

// TestGoesBack: a session returns to its first server some minutes after that came back, and not before.
func TestGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, addresses := network{}, []string{"s1:1", "s2:1"}
		for _, a := range addresses {
			n[a] = newMachine(t, a)
		}
		ranked := rank("n1", addresses)
		r := NewRouter(RouterConfig{Node: "n1", Servers: addresses, Connect: n.connect})
		defer r.Close()
		n[ranked[0]].stop()
		c, err := greet(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		ended := make(chan error, 1)
		go func() {
			_, err := c.Recv(context.Background())
			ended <- err
		}()
		time.Sleep(10 * time.Minute)
		select {
		case err := <-ended:
			t.Fatalf("it left a server for none after %s: %v", time.Since(began), err)
		default:
		}
		synctest.Wait()
		n[ranked[0]].start(t)
		<-ended
		if took := time.Since(began) - 10*time.Minute; took > 2*timeouts.SessionBack+time.Minute {
			t.Errorf("it went back after %s", took)
		}
		if _, err := greet(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, _, sessions := n[ranked[0]].seen(); sessions != 1 {
			t.Errorf("the first server has %d sessions", sessions)
		}
	})
}

// TestRanks: each server has about as many nodes as the others, and when one goes only its own move.
func TestRanks(t *testing.T) {
	all, count, moved := []string{"a", "b", "c", "d", "e"}, map[string]int{}, 0
	for k := range 5000 {
		node := string(rune('a'+k%26)) + time.Duration(k).String()
		first := rank(node, all)[0]
		count[first]++
		if after := rank(node, all[:4])[0]; after != first {
			if moved++; first != "e" {
				t.Fatalf("node %s moved from %s to %s", node, first, after)
			}
		}
	}
	for a, n := range count {
		if n < 850 || n > 1150 {
			t.Errorf("%s has %d of 5,000 nodes", a, n)
		}
	}
	if moved != count["e"] {
		t.Errorf("%d moved", moved)
	}
}
