package cast

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// machine is a proxy that only remembers, and a server's sink for what it sees.
type machine struct {
	mu    sync.Mutex
	table map[string]bool
	whole int // how many whole tables came
	heard map[string]string
}

func (m *machine) Change(d proxy.Delta) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.All {
		m.whole++
		clear(m.table)
	}
	for _, b := range d.Balancers {
		m.table[b.ARN] = true
	}
	for _, g := range d.Groups {
		m.table[g.ARN] = true
	}
	for _, arn := range slices.Concat(d.GoneBalancers, d.GoneGroups) {
		delete(m.table, arn)
	}
}

func (m *machine) Health(h model.TargetHealth) { m.hear(h.ID, string(h.State)) }
func (m *machine) Problem(l, problem string)   { m.hear(l, problem) }

func (m *machine) hear(what, is string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[what] = is
}

func sorted[V any](m map[string]V, f func(string, V) string) string {
	var all []string
	for k, v := range m {
		all = append(all, f(k, v))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (m *machine) has(t *testing.T, table, heard string) {
	t.Helper()
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := sorted(m.table, func(k string, _ bool) string { return k }); got != table {
		t.Errorf("the table is %q, want %q", got, table)
	}
	if got := sorted(m.heard, func(k, v string) string { return k + ":" + v }); got != heard {
		t.Errorf("heard %q, want %q", got, heard)
	}
}

// bench is a Caster and a Receiver with net.Pipe between them.
type bench struct {
	*Caster
	r       *Receiver
	m       *machine
	away    atomic.Bool // nobody gets through
	stale   atomic.Bool
	mu      sync.Mutex
	last    net.Conn
	accepts chan net.Conn
}

func (b *bench) Accept() (net.Conn, error) {
	if c, ok := <-b.accepts; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (b *bench) Close() error   { close(b.accepts); return nil }
func (b *bench) Addr() net.Addr { return nil }

func newBench(ctx context.Context, all *sync.WaitGroup) *bench {
	b := &bench{m: &machine{table: map[string]bool{}, heard: map[string]string{}}, accepts: make(chan net.Conn)}
	log := slog.New(slog.DiscardHandler)
	b.Caster = New(Config{Node: func(net.Conn) string { return "n" }, Fresh: func() bool { return !b.stale.Load() }, Log: log,
		Open: func(context.Context, string) (Sink, func()) { return b.m, func() {} }})
	b.r = NewReceiver(ReceiverConfig{Servers: func() []string { return []string{"s"} }, Apply: b.m, Log: log,
		Dial: func(ctx context.Context, _, protocol string) (net.Conn, error) {
			if b.away.Load() || protocol != Protocol {
				return nil, errors.New("nobody answers")
			}
			near, far := net.Pipe()
			b.mu.Lock()
			b.last = near
			b.mu.Unlock()
			select {
			case b.accepts <- far:
				return near, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
	all.Go(func() { _ = b.Serve(ctx, b) })
	all.Go(func() { _ = b.r.Run(ctx) })
	return b
}

func (b *bench) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.last.Close()
}

func group(arn string, targets ...string) proxy.Group {
	g := proxy.Group{ARN: arn}
	for _, id := range targets {
		g.Targets = append(g.Targets, proxy.Target{ID: id, Port: 1})
	}
	return g
}

func sees(id, state string) model.TargetHealth {
	h := model.TargetHealth{TargetGroupARN: "g", ID: id, Port: 1}
	h.State = "healthy"
	if state != "" {
		h.State = "unhealthy"
	}
	return h
}

// TestATableIsCarried: whole at first, then what changes; what is seen comes back; a machine that does not serve has an empty one; who is cut
// off keeps what it has, and what it saw meanwhile is told later.
func TestATableIsCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		b := newBench(ctx, &all)
		b.m.has(t, "", "")
		b.Serving(map[string]bool{"n": true})
		b.Change(proxy.Delta{All: true, Balancers: []proxy.Balancer{{ARN: "lb"}}, Groups: []proxy.Group{group("g", "x", "y")}})
		b.m.has(t, "g lb", "")
		b.r.Health(sees("x", ""))
		b.r.Problem("l", "in use")
		b.m.has(t, "g lb", "l:in use x:healthy")
		b.Change(proxy.Delta{Groups: []proxy.Group{group("h")}, GoneBalancers: []string{"lb"}})
		b.m.has(t, "g h", "l:in use x:healthy")
		if b.m.whole != 1 {
			t.Errorf("%d whole tables", b.m.whole)
		}

		b.away.Store(true)
		b.cut()
		synctest.Wait()
		b.r.Health(sees("x", "bad"))
		b.r.Health(sees("y", ""))
		b.Change(proxy.Delta{Groups: []proxy.Group{group("k"), group("g", "x")}})
		clear(b.m.heard)
		b.m.has(t, "g h", "")
		b.away.Store(false)
		<-time.After(2 * timeouts.TableRetry)
		b.m.has(t, "g h k", "l:in use x:unhealthy") // of y, which is gone, nothing is said

		b.Serving(map[string]bool{})
		b.m.has(t, "", "l:in use x:unhealthy")
		b.Change(proxy.Delta{Groups: []proxy.Group{group("z")}})
		b.m.has(t, "", "l:in use x:unhealthy")
		b.Serving(map[string]bool{"n": true})
		b.m.has(t, "g h k z", "l:in use x:unhealthy")
	})
}

// TestAServerThatLostTouchIsLeft: it says nothing, and the machine goes to another.
func TestAServerThatLostTouchIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		b := newBench(ctx, &all)
		b.Serving(map[string]bool{"n": true})
		b.Change(proxy.Delta{All: true, Groups: []proxy.Group{group("g")}})
		b.m.has(t, "g", "")
		b.mu.Lock()
		first := b.last
		b.mu.Unlock()
		b.stale.Store(true)
		b.Change(proxy.Delta{All: true})
		<-time.After(2 * timeouts.TableSilence)
		b.m.has(t, "g", "")
		b.mu.Lock()
		if b.last == first {
			t.Error("it stays")
		}
		b.mu.Unlock()
	})
}

// TestLargeTablesComeInParts that together are the whole.
func TestLargeTablesComeInParts(t *testing.T) {
	d := proxy.Delta{All: true}
	for i := range 30 {
		g := proxy.Group{ARN: fmt.Sprint(i)}
		for k := range 1000 {
			g.Targets = append(g.Targets, proxy.Target{ID: fmt.Sprint(k), Port: 1})
		}
		d.Groups = append(d.Groups, g)
	}
	all := parts(d)
	var whole *proxy.Delta
	for i, m := range all {
		if m.More != (i+1 < len(all)) || len(m.Delta.Groups) > 4 {
			t.Errorf("part %d: %d groups, more: %t", i, len(m.Delta.Groups), m.More)
		}
		whole = join(whole, m.Delta)
	}
	if len(all) < 8 || !whole.All || len(whole.Groups) != 30 {
		t.Errorf("%d parts, %t, %d groups", len(all), whole.All, len(whole.Groups))
	}
}

// FuzzReceive: whatever bytes come, an error or a message, and never more memory than a frame may take.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Add([]byte{0, 0, 0, 30, '{', '"', 'H', '"'})
	f.Fuzz(func(t *testing.T, data []byte) {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(data)
			far.Close()
		}()
		if m, err := receive(near, near, timeouts.TableSilence); err == nil && m == nil {
			t.Error("neither")
		}
		near.Close()
	})
}
