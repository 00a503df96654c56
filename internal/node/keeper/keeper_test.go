package keeper

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/beat"
)

const node = "00000000000000000000000000000001"

// rig is a keeper on loopback, and what it did.
type rig struct {
	t      *testing.T
	socket string
	server *beat.Server
	at     netip.AddrPort // of the server
	mu     sync.Mutex
	sent   []string
}

var key = make([]byte, 32)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, socket: filepath.Join(t.TempDir(), "keeper.sock"), server: beat.NewServer(beat.ServerConfig{})}
	id, _ := beat.ParseID(node)
	r.server.Put(id, beat.Key(key), netip.AddrPort{})
	l, err := beat.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.at = beat.Local(l)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { _ = beat.NewPort(l, r.server, nil).Run(ctx) })
	work.Go(func() {
		err := Run(ctx, Config{Socket: r.socket, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Signal: func(cgroup string, sig unix.Signal) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent = append(r.sent, sig.String()+" "+cgroup)
		}})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); work.Wait() })
	return r
}

// agent is one that lives until stop is called.
func (r *rig) agent(c Charge, onTaken func(time.Duration)) (stop func()) {
	c.Node = node
	ctx, cancel := context.WithCancel(context.Background())
	a := NewAgent(r.socket, func() Charge { return c }, onTaken, slog.New(slog.DiscardHandler))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run(ctx) }()
	<-a.Ready()
	return func() { cancel(); <-ended }
}

func (r *rig) heard() beat.Heard {
	id, _ := beat.ParseID(node)
	h, _ := r.server.Heard(id)
	return h
}

func (r *rig) did(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.sent, what)
}

func (r *rig) eventually(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal(what)
		}
	}
}

// TestStandsIn: the keeper is silent while the agent lives, beats in its place when it is dead, and hands the lease on.
func TestStandsIn(t *testing.T) {
	r := newRig(t)
	r.eventually("there is no socket", func() bool { ok, _ := filepath.Glob(r.socket); return len(ok) == 1 })
	c := Charge{Boot: 7, Settings: beat.Settings{Servers: []string{r.at.String()}, Key: key, Period: 50 * time.Millisecond}}
	stop := r.agent(c, nil)
	if !r.heard().Last.IsZero() {
		t.Error("the keeper beats beside the agent")
	}
	stop()
	r.eventually("it does not stand in", func() bool { h := r.heard(); return !h.Last.IsZero() && h.Health == beat.Away && h.Boot == 7 })
	var lease time.Duration
	stop = r.agent(c, func(l time.Duration) { lease = l })
	if lease == 0 {
		t.Error("the keeper was answered, and hands no lease on")
	}
	last := r.heard().Last
	time.Sleep(200 * time.Millisecond)
	if now := r.heard().Last; now.Sub(last) > 100*time.Millisecond {
		t.Error("the keeper beats on beside the agent that is back")
	}
	stop()
}

// TestBye: nobody stands in on a machine that shuts down.
func TestBye(t *testing.T) {
	r := newRig(t)
	r.eventually("there is no socket", func() bool { ok, _ := filepath.Glob(r.socket); return len(ok) == 1 })
	r.agent(Charge{Bye: true, Settings: beat.Settings{Servers: []string{r.at.String()}, Key: key}}, nil)()
	time.Sleep(300 * time.Millisecond)
	if h := r.heard(); !h.Last.IsZero() {
		t.Errorf("after bye: %+v", h)
	}
}

// TestFence: while the agent is away and no server answers, the keeper stops what must not run then, and nothing else.
func TestFence(t *testing.T) {
	r := newRig(t)
	r.eventually("there is no socket", func() bool { ok, _ := filepath.Glob(r.socket); return len(ok) == 1 })
	r.agent(Charge{Settings: beat.Settings{Servers: []string{"127.0.0.1:9"}, Key: key}, Lease: time.Millisecond, Fences: []Fence{
		{Cgroup: "/fenced", Lease: 50 * time.Millisecond, Stop: 20 * time.Millisecond},
		{Cgroup: "/patient", Lease: 1e6 * time.Hour}}}, nil)()
	r.eventually("it is not stopped", func() bool { return r.did("terminated /fenced") })
	r.eventually("it is not killed", func() bool { return r.did("killed /fenced") })
	if r.did("terminated /patient") || r.did("killed /patient") {
		t.Error("a task whose lease is good was stopped")
	}
}
