package nodelink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/nodelink/grpc"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// world is a server's half over a store, and nodes that dial it.
type world struct {
	t       *testing.T
	ctx     context.Context // of the nodes
	store   store.Store
	mu      sync.Mutex
	serving context.Context // of the server's sessions
	stop    context.CancelFunc
	server  *nodelink.Server
	dial    transport
	key     string // of the nodes
	service *grpc.Service
}

// restart starts the next server, after stop.
func (w *world) restart() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serving, w.stop = context.WithCancel(w.ctx)
	w.server = nodelink.NewServer(nodelink.ServerConfig{ID: "s1", Store: w.store})
	if err := w.server.Forget(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	if w.service != nil {
		ctx := w.serving
		go func() { _ = w.service.Run(ctx) }()
	}
}

// now is the server that serves, and its context.
func (w *world) now() (context.Context, *nodelink.Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serving, w.server
}

// transport opens a session of a node.
type transport func(ctx context.Context, node string) (nodelink.Conn, error)

// transports are those that every promise is kept over.
var transports = map[string]func(*world) transport{"pipe": overPipe, "gRPC": overGRPC}

// overBoth runs a test over each transport.
func overBoth(t *testing.T, test func(t *testing.T, w *world)) {
	for name, open := range transports {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, open)) })
		})
	}
}

func newWorld(t *testing.T, open func(*world) transport) *world {
	t.Helper()
	s := mem.New(store.Schema())
	w := &world{t: t, store: s, server: nodelink.NewServer(nodelink.ServerConfig{ID: "s1", Store: s})}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(t.Context())
	w.serving, w.stop = context.WithCancel(w.ctx)
	w.dial = open(w)
	t.Cleanup(cancel) // before the transport's end
	w.update(func(tx store.Tx) {
		store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: "f", Revision: 1, Definition: types.TaskDefinition{Family: new("f")}})
	})
	return w
}

func overPipe(w *world) transport {
	return func(_ context.Context, node string) (nodelink.Conn, error) {
		server, mine := nodelink.Pipe()
		ctx, s := w.now()
		go func() { _ = s.Serve(ctx, nodelink.Caller{Node: node, Key: w.key}, server) }()
		return mine, nil
	}
}

// overGRPC gives each node a connection of its own, on which it is who it is. Each has a row, as one that has joined.
func overGRPC(w *world) transport {
	w.service = grpc.NewService(func(ctx context.Context, who nodelink.Caller, c nodelink.Conn) error {
		_, s := w.now()
		return s.Serve(ctx, nodelink.Caller{Node: who.Node, Key: w.key}, c)
	}, slog.New(slog.DiscardHandler))
	go func() { _ = w.service.Run(w.serving) }()
	var mu sync.Mutex
	routers := map[string]*grpc.Router{}
	return func(ctx context.Context, node string) (nodelink.Conn, error) {
		mu.Lock()
		r := routers[node]
		if r == nil {
			l := bufconn.Listen(64 << 10)
			s := rpc.NewServer(rpc.StreamInterceptor(func(srv any, ss rpc.ServerStream, _ *rpc.StreamServerInfo, next rpc.StreamHandler) error {
				return next(srv, as{ss, pki.Peer{Role: pki.RoleNode, ID: node}})
			}))
			w.service.Register(s)
			go func() { _ = s.Serve(l) }()
			r = grpc.NewRouter(grpc.RouterConfig{Node: node, Servers: []string{"s1"}, Connect: func(string) (*rpc.ClientConn, error) {
				return rpc.NewClient("passthrough:///s1", rpc.WithTransportCredentials(insecure.NewCredentials()),
					rpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
			}})
			routers[node] = r
			w.t.Cleanup(func() { r.Close(); s.Stop() })
		}
		mu.Unlock()
		return r.Dial(ctx)
	}
}

// as is a stream of who its certificate would say.
type as struct {
	rpc.ServerStream
	who pki.Peer
}

func (a as) Context() context.Context { return peer.With(a.ServerStream.Context(), a.who) }

// open opens a session by hand.
func (w *world) open(node string) nodelink.Conn {
	w.t.Helper()
	c, err := w.dial(w.ctx, node)
	if err == nil {
		err = c.Send(w.ctx, nodelink.Message{Hello: &nodelink.Hello{}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// ended reads a session to its end.
func (w *world) ended(c nodelink.Conn) error {
	for {
		if _, err := c.Recv(w.ctx); err != nil {
			return err
		}
	}
}

func (w *world) update(f func(store.Tx)) {
	w.t.Helper()
	if err := w.store.Update(w.ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(tasks ...*model.Task) {
	w.t.Helper()
	w.update(func(tx store.Tx) {
		for _, t := range tasks {
			store.Tasks.Put(tx, t)
		}
	})
}

func (w *world) task(id string) *model.Task {
	w.t.Helper()
	var out *model.Task
	w.store.View(func(r store.Reader) { out, _ = store.Tasks.Get(r, id) })
	if out == nil {
		w.t.Fatalf("no task %s", id)
	}
	return out
}

func (w *world) node(id string) *model.Node {
	w.t.Helper()
	var out *model.Node
	w.store.View(func(r store.Reader) { out, _ = store.Nodes.Get(r, id) })
	if out == nil {
		w.t.Fatalf("no node %s", id)
	}
	return out
}

// assigned is a task of a node that is wanted and not started yet.
func assigned(id, node string) *model.Task {
	return &model.Task{ID: id, Family: "f", Revision: 1, NodeID: node, InstanceID: "i", Desired: model.Running, Version: 1,
		Observed: model.Observed{Status: model.Pending}}
}

func report(id string, seq int64, status model.TaskStatus) model.Report {
	return model.Report{TaskID: id, Observed: model.Observed{Seq: seq, Status: status}}
}

// member is a node's client and what it was told last.
type member struct {
	*nodelink.Client
	mu    sync.Mutex
	set   []model.Assignment
	calls int
	conn  nodelink.Conn // of the last session
	stop  context.CancelFunc
	done  chan struct{}
	down  bool // dials fail
	dials int

	servers string // the addresses that it was told last
}

// sets is what the node was told.
func (m *member) sets() []model.Assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set
}

// join starts a node.
func (w *world) join(id string) *member { return w.joinWith(id, nil) }

func (w *world) joinWith(id string, memory nodelink.Memory) *member {
	m := &member{done: make(chan struct{})}
	m.Client = nodelink.NewClient(nodelink.ClientConfig{
		Declare: func() model.Declaration { return model.Declaration{Hostname: "host-" + id, CPU: 1024} },
		Dial: func(ctx context.Context) (nodelink.Conn, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.dials++
			if m.down {
				return nil, errors.New("the network is down")
			}
			var err error
			m.conn, err = w.dial(ctx, id)
			return m.conn, err
		},
		Memory: memory,
		OnServers: func(s nodelink.Servers) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.servers = fmt.Sprint(s.Addresses)
		},
		OnAssign: func(all []model.Assignment) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.set = all
			m.calls++
		},
	})
	ctx, cancel := context.WithCancel(w.ctx)
	m.stop = cancel
	go func() {
		defer close(m.done)
		m.Run(ctx)
	}()
	return m
}

// has spells the set: "a b(stop)".
func (m *member) has() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := ""
	for _, a := range m.set {
		if out += a.Task.ID; a.Stop {
			out += "(stop)"
		}
		out += " "
	}
	return out
}

// cut breaks the session and keeps the network down until heal.
func (m *member) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = true
	m.conn.Close()
}

func (m *member) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = false
}

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// longer is more time than any reconnection takes.
const longer = 30 * time.Second
