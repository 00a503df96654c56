package nodelink_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// world is a server's half over a store, and nodes that dial it.
type world struct {
	t      *testing.T
	ctx    context.Context
	store  store.Store
	server *nodelink.Server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := mem.New(store.Schema())
	w := &world{t: t, ctx: ctx, store: s, server: nodelink.NewServer(nodelink.ServerConfig{Store: s})}
	w.update(func(tx store.Tx) { store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: "f", Revision: 1}) })
	return w
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
}

// join starts a node.
func (w *world) join(id string) *member {
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
			server, node := nodelink.Pipe()
			m.conn = node
			go w.server.Serve(w.ctx, id, server)
			return node, nil
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
