package link

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
)

// proxyEnd is the proxy's half with a proxy that only remembers.
type proxyEnd struct {
	*Server
	socket string

	mu      sync.Mutex
	table   map[string]bool // ARNs
	changes []proxy.Delta
	health  map[string]model.TargetHealth
	sockets []Socket
	told    chan struct{}
}

func newProxyEnd(t *testing.T) *proxyEnd {
	p := &proxyEnd{socket: filepath.Join(t.TempDir(), "s"), table: map[string]bool{}, health: map[string]model.TargetHealth{},
		told: make(chan struct{}, 1000)}
	p.Server = NewServer(ServerConfig{Hello: Hello{Fingerprint: "f", PID: 42}, Log: slog.New(slog.DiscardHandler),
		Change: func(d proxy.Delta) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.All {
				clear(p.table)
			}
			for _, b := range d.Balancers {
				p.table[b.ARN] = true
			}
			for _, g := range d.Groups {
				p.table[g.ARN] = true
			}
			for _, arn := range slices.Concat(d.GoneBalancers, d.GoneGroups) {
				delete(p.table, arn)
			}
			p.changes = append(p.changes, d)
			p.told <- struct{}{}
		},
		Health: func() (all []model.TargetHealth) {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, h := range p.health {
				all = append(all, h)
			}
			return all
		},
		Problems: func() map[string]string { return map[string]string{"l": "port 80 is in use"} },
		Count:    func() proxy.Snapshot { return proxy.Snapshot{Balancers: map[string]proxy.Counts{"b": {Requests: 5}}} },
		Sockets: func() []Socket {
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.Clone(p.sockets)
		}})
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve(l)
	t.Cleanup(func() {
		l.Close()
		p.Close()
	})
	return p
}

// sees tells the node's half of a target's state.
func (p *proxyEnd) sees(h model.TargetHealth) {
	p.mu.Lock()
	p.health[h.Key()] = h
	p.mu.Unlock()
	p.Server.Health(h)
}

// nodeEnd is the node's half and what it heard.
type nodeEnd struct {
	*Client
	t     *testing.T
	heard chan string
}

func newNodeEnd(t *testing.T) *nodeEnd {
	n := &nodeEnd{t: t, heard: make(chan string, 1000)}
	n.Client = NewClient(ClientConfig{Log: slog.New(slog.DiscardHandler),
		OnHealth:  func(h model.TargetHealth) { n.heard <- h.ID + " " + string(h.State) },
		OnProblem: func(l, problem string) { n.heard <- l + ": " + problem },
		OnSockets: func(_ bool, open map[string]int, closed []string) {
			for name, fd := range open {
				unix.Close(fd)
				n.heard <- "open " + name
			}
			for _, name := range closed {
				n.heard <- "closed " + name
			}
		}})
	return n
}

// serve connects until the test ends or stop is called.
func (n *nodeEnd) serve(p *proxyEnd) (hello Hello, stop func()) {
	n.t.Helper()
	conn, err := Dial(p.socket)
	if err != nil {
		n.t.Fatal(err)
	}
	hello, open, err := Greet(conn, Feed)
	if err != nil {
		n.t.Fatal(err)
	}
	for name, fd := range open {
		unix.Close(fd)
		n.heard <- "open " + name
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Serve(ctx, conn, hello)
	}()
	stop = func() {
		cancel()
		<-done
	}
	n.t.Cleanup(stop)
	return hello, stop
}

func (n *nodeEnd) hears(want ...string) {
	n.t.Helper()
	for len(want) > 0 {
		select {
		case got := <-n.heard:
			i := slices.Index(want, got)
			if i < 0 {
				n.t.Fatalf("heard %q, want one of %q", got, want)
			}
			want = slices.Delete(want, i, i+1)
		case <-time.After(10 * time.Second):
			n.t.Fatalf("never heard %q", want)
		}
	}
}

func (p *proxyEnd) has(t *testing.T, want ...string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		ok := len(p.table) == len(want) && !slices.ContainsFunc(want, func(arn string) bool { return !p.table[arn] })
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-p.told:
		case <-late:
			t.Fatalf("the table never became %v: %v", want, p.table)
		}
	}
}

func groups(arns ...string) (all []proxy.Group) {
	for _, arn := range arns {
		all = append(all, proxy.Group{ARN: arn})
	}
	return all
}

// A change costs a message with what changed; a node that comes again with the same table says nothing, another one says all.
func TestTheTableIsKeptUp(t *testing.T) {
	p, n := newProxyEnd(t), newNodeEnd(t)
	n.Change(proxy.Delta{All: true, Groups: groups("a", "b"), Balancers: []proxy.Balancer{{ARN: "lb"}}})
	_, stop := n.serve(p)
	p.has(t, "a", "b", "lb")
	n.Change(proxy.Delta{Groups: groups("c"), GoneGroups: []string{"a"}})
	p.has(t, "b", "c", "lb")
	p.mu.Lock()
	if last := p.changes[len(p.changes)-1]; last.All || len(last.Groups) != 1 || len(last.Balancers) != 0 {
		t.Errorf("one change was said as %+v", last)
	}
	count := len(p.changes)
	p.mu.Unlock()
	stop()
	_, stop = n.serve(p)
	n.hears("l: port 80 is in use", "l: port 80 is in use") // by now it would have sent the table
	n.Change(proxy.Delta{GoneBalancers: []string{"lb"}})
	p.has(t, "b", "c")
	p.mu.Lock()
	if len(p.changes) != count+1 {
		t.Errorf("%d changes after the node came again, want 1", len(p.changes)-count)
	}
	p.mu.Unlock()
	stop()
	n.Change(proxy.Delta{Groups: groups("d")}) // while the proxy is away, which comes again as another process
	q := newProxyEnd(t)
	n.serve(q)
	q.has(t, "b", "c", "d")
}

// A node without a table, such as one whose store is still loading, changes nothing.
func TestNothingIsFedBeforeThereIsATable(t *testing.T) {
	p, n := newProxyEnd(t), newNodeEnd(t)
	n.serve(p)
	n.hears("l: port 80 is in use")
	if s, err := n.Stats(context.Background()); err != nil || s.Balancers["b"].Requests != 5 {
		t.Errorf("%+v %v", s, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.changes) > 0 {
		t.Errorf("%+v", p.changes)
	}
}

// What happened while no node listened is told to the next one, as it is now.
func TestReportsWaitForTheNextNode(t *testing.T) {
	p := newProxyEnd(t)
	one := newNodeEnd(t)
	_, stop := one.serve(p)
	one.hears("l: port 80 is in use")
	p.sees(model.TargetHealth{TargetGroupARN: "g", ID: "x", State: "initial"})
	one.hears("x initial")
	stop()
	p.sees(model.TargetHealth{TargetGroupARN: "g", ID: "x", State: "healthy"})
	p.sees(model.TargetHealth{TargetGroupARN: "g", ID: "x", State: "unhealthy"})
	two := newNodeEnd(t)
	two.serve(p)
	two.hears("l: port 80 is in use", "x unhealthy")
}

// Whoever comes last feeds; an older one's changes are not heard any more, nor are changes that came before.
func TestTheLastFeederIsHeard(t *testing.T) {
	p, one, two := newProxyEnd(t), newNodeEnd(t), newNodeEnd(t)
	one.Change(proxy.Delta{All: true, Groups: groups("old")})
	one.serve(p)
	p.has(t, "old")
	two.Change(proxy.Delta{All: true, Groups: groups("new")})
	two.serve(p)
	p.has(t, "new")
	one.Change(proxy.Delta{Groups: groups("late")})
	two.Change(proxy.Delta{Groups: groups("newer")})
	p.has(t, "new", "newer")
	feeder := p.feeding()
	p.Server.mu.Lock()
	epoch, seq := p.epoch, p.Server.seq
	p.Server.mu.Unlock()
	p.mu.Lock()
	count := len(p.changes)
	p.mu.Unlock()
	p.apply(feeder, &Apply{Epoch: epoch, Seq: seq, Delta: proxy.Delta{All: true}})
	p.apply(feeder, &Apply{Epoch: "another", Seq: 1, Delta: proxy.Delta{Groups: groups("stray")}})
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.changes) != count {
		t.Errorf("taken: %+v", p.changes[count:])
	}
}

func TestSocketsAreToldAsTheyOpenAndClose(t *testing.T) {
	p, n := newProxyEnd(t), newNodeEnd(t)
	open := func(name string) Socket {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return Socket{Name: name, Identity: l, Descriptor: func() (int, func(), error) {
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				return -1, nil, err
			}
			return int(f.Fd()), func() { f.Close() }, nil
		}}
	}
	set := func(all ...Socket) {
		p.mu.Lock()
		p.sockets = all
		p.mu.Unlock()
		p.SocketsChanged()
	}
	a, b := open("a"), open("b")
	set(a)
	n.serve(p)
	n.hears("open a", "l: port 80 is in use")
	set(a, b)
	n.hears("open b")
	set(b)
	n.hears("closed a")
	set(open("b")) // another one of that name
	n.hears("open b")
	var many []Socket
	var want []string
	for i := range 3 * maxDescriptors {
		name := "many" + string(rune('A'+i))
		many, want = append(many, open(name)), append(want, "open "+name)
	}
	set(many...)
	n.hears(append(want, "closed b")...)
}

// A successor gets the sockets, becomes the feeder, and is told which targets are busy; the node's connection ends.
func TestASuccessorTakesOver(t *testing.T) {
	p, n := newProxyEnd(t), newNodeEnd(t)
	succeeded := make(chan struct{})
	p.c.Succeeded = func() { close(succeeded) }
	p.c.Busy = func() []string { return []string{"g|x|1"} }
	n.Change(proxy.Delta{All: true, Groups: groups("a")})
	n.serve(p)
	p.has(t, "a")
	conn, err := Dial(p.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := Greet(conn, Succeed); err != nil {
		t.Fatal(err)
	}
	if err := conn.Send(&Message{Ready: true}); err != nil {
		t.Fatal(err)
	}
	<-succeeded
	if err := conn.Send(&Message{Apply: &Apply{Epoch: "s", Seq: 1, Delta: proxy.Delta{All: true, Groups: groups("z")}}}); err != nil {
		t.Fatal(err)
	}
	p.has(t, "z")
	for {
		m, _, err := conn.Receive(10 * time.Second)
		if err != nil || m.Busy == nil || !slices.Equal(m.Busy.Keys, []string{"g|x|1"}) {
			t.Fatalf("%+v %v", m, err)
		}
		if m.Busy.Seq == 1 {
			break
		}
	}
	if p.feeding() != nil {
		t.Error("the node feeds it still")
	}
}
