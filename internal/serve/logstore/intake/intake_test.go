package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/upstream"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/peer/peertest"
	"github.com/berthdev/berth/internal/serve/logstore"
)

var (
	_ Sink          = (*logstore.Store)(nil)
	_ agent.LogSink = (*logstore.Store)(nil)
	_ agent.LogSink = upstream.Logs{}
)

func openStore(t testing.TB, c logstore.Config) *logstore.Store {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	s, err := logstore.Open(t.TempDir(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// remote serves sink on a cluster port on loopback, and returns a sink that is a node's way to it, and what to call to cut the way.
func remote(t testing.TB, sinks ...Sink) (agent.LogSink, func(server int)) {
	t.Helper()
	cluster := peertest.New(t)
	var servers []*peertest.Server
	var addresses []string
	for n, sink := range sinks {
		s := cluster.Server(fmt.Sprint("s", n), func(server *peer.Server) {
			server.Handle(Path, peer.Nodes, New(Config{Sink: sink, Log: slog.New(slog.DiscardHandler),
				From: func(ctx context.Context) string { p, _ := peer.From(ctx); return p.ID }}))
		})
		servers, addresses = append(servers, s), append(addresses, s.Address)
	}
	node := cluster.Node("n1")
	up := upstream.New(upstream.Config{Addresses: func() []string { return addresses }, Client: func(address string) *http.Client {
		c := node.HTTP(address)
		t.Cleanup(c.CloseIdleConnections)
		return c
	}})
	return up.Logs(), func(n int) { servers[n].Kill() }
}

func batch(source string, from, to int) model.LogBatch {
	b := model.LogBatch{Group: "/g", Stream: "s", Source: source}
	for i := from; i < to; i++ {
		b.Lines = append(b.Lines, model.LogLine{At: time.UnixMilli(1_700_000_000_000 + int64(i/3)), Message: fmt.Sprintf("%s %d", source, i),
			Output: 0, Start: int64(i * 10), End: int64(i*10 + 10)})
	}
	return b
}

func read(t testing.TB, s *logstore.Store) (all []string) {
	t.Helper()
	for e, err := range s.Scan(t.Context(), "/g", logstore.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Message)
	}
	return all
}

// TestSinks is what every way to the log store must do.
func TestSinks(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, s *logstore.Store) agent.LogSink{
		"in process": func(_ *testing.T, s *logstore.Store) agent.LogSink { return s },
		"remote":     func(t *testing.T, s *logstore.Store) agent.LogSink { sink, _ := remote(t, s); return sink },
	} {
		t.Run(name, func(t *testing.T) {
			store := openStore(t, logstore.Config{SyncInterval: -1})
			sink, ctx := open(t, store), t.Context()
			err := sink.Prepare(ctx, "/g", "s", false)
			if refusal, ok := errors.AsType[*model.TaskError](err); !ok || refusal.Name != "ResourceInitializationError" ||
				!strings.HasSuffix(refusal.Message, "ResourceNotFoundException: The specified log group does not exist.") {
				t.Errorf("a group that is not there: %v", err)
			}
			if err := sink.Append(ctx, batch("a", 0, 1)); err == nil || !strings.Contains(err.Error(), "does not exist") {
				t.Errorf("lines for a group that is not there: %v", err)
			}
			for range 2 {
				if err := sink.Prepare(ctx, "/g", "s", true); err != nil {
					t.Fatal(err)
				}
			}
			for _, b := range []model.LogBatch{batch("a", 0, 5), batch("a", 0, 5), batch("b", 0, 2), batch("a", 3, 9), {Group: "/g", Stream: "s", Source: "c"}} {
				if err := sink.Append(ctx, b); err != nil {
					t.Fatal(err)
				}
			}
			if at, err := sink.Position(ctx, "/g", "s", "a"); err != nil || at != (model.LogPosition{90, 0}) {
				t.Errorf("position %v (%v)", at, err)
			}
			if at, err := sink.Position(ctx, "/g", "s", "new"); err != nil || at != (model.LogPosition{}) {
				t.Errorf("position of a new source %v (%v)", at, err)
			}
			if got := read(t, store); len(got) != 11 {
				t.Errorf("%d lines: %q", len(got), got)
			}
		})
	}
}

// lossy stores, and says that it did not, when it is told to.
type lossy struct {
	Sink
	lose atomic.Bool
}

func (l *lossy) Append(ctx context.Context, b model.LogBatch) error {
	err := l.Sink.Append(ctx, b)
	if err == nil && l.lose.Swap(false) {
		err = errors.New("the answer is lost")
	}
	return err
}

// A server that dies is passed over; one whose answer is lost stores nothing twice.
func TestAnotherServerTakesOver(t *testing.T) {
	store := openStore(t, logstore.Config{SyncInterval: -1})
	first := &lossy{Sink: store}
	sink, cut := remote(t, first, store)
	if err := sink.Prepare(t.Context(), "/g", "s", true); err != nil {
		t.Fatal(err)
	}
	first.lose.Store(true)
	for from, to := range map[int]int{0: 3} {
		if err := sink.Append(t.Context(), batch("a", from, to)); err != nil {
			t.Fatal(err)
		}
	}
	cut(0)
	if err := sink.Append(t.Context(), batch("a", 3, 6)); err != nil {
		t.Fatal(err)
	}
	cut(1)
	if err := sink.Append(t.Context(), batch("a", 6, 9)); !errors.Is(err, upstream.ErrNoServer) {
		t.Errorf("without servers: %v", err)
	}
	if got := read(t, store); len(got) != 6 {
		t.Errorf("%d lines: %q", len(got), got)
	}
}

func TestWhatIsMalformedOrTooLargeIsRefused(t *testing.T) {
	store := openStore(t, logstore.Config{SyncInterval: -1})
	i := New(Config{Sink: store, From: func(context.Context) string { return "n1" }, Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		method, path, body string
		length             int64
		want               int
	}{
		{"POST", "/logs/append", "nonsense", 8, http.StatusBadRequest},
		{"POST", "/logs/append", "", 0, http.StatusBadRequest},
		{"POST", "/logs/append", "x", maxBatch + 1, http.StatusRequestEntityTooLarge},
		{"POST", "/logs/append", "x", -1, http.StatusRequestEntityTooLarge},
		{"POST", "/logs/append", "x", 20, http.StatusBadRequest},
		{"POST", "/logs/prepare", "{", 1, http.StatusBadRequest},
		{"GET", "/logs/position?group=/none&stream=s&source=x", "", 0, http.StatusNotFound},
		{"GET", "/logs/nothing", "", 0, http.StatusNotFound},
	} {
		r, w := request(c.method, c.path, c.body, c.length)
		i.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s %q: %d %s, want %d", c.method, c.path, c.body, w.Code, w.Body, c.want)
		}
	}
	if i.memory.Used() != 0 {
		t.Errorf("%d bytes of memory were not given back", i.memory.Used())
	}
}

// BenchmarkIngest is what a core takes in, of batches of 500 lines of 120 bytes, over eight containers.
func BenchmarkIngest(b *testing.B) {
	for _, name := range []string{"in process", "remote"} {
		b.Run(name, func(b *testing.B) {
			store := openStore(b, logstore.Config{MinFree: -1})
			var sink agent.LogSink = store
			if name == "remote" {
				sink, _ = remote(b, store)
			}
			if err := sink.Prepare(b.Context(), "/g", "s", true); err != nil {
				b.Fatal(err)
			}
			const lines, size = 500, 120
			b.SetBytes(lines * size)
			b.SetParallelism(8)
			var source atomic.Int64
			text := strings.Repeat("x", size)
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				out := model.LogBatch{Group: "/g", Stream: fmt.Sprint("s", source.Add(1)), Source: fmt.Sprint("source ", source.Load()), Lines: make([]model.LogLine, lines)}
				if err := sink.Prepare(b.Context(), "/g", out.Stream, true); err != nil {
					b.Error(err)
				}
				at := int64(0)
				for p.Next() {
					for i := range out.Lines {
						out.Lines[i] = model.LogLine{At: time.UnixMilli(1_700_000_000_000 + at/10_000), Message: text, Start: at, End: at + size}
						at += size
					}
					if err := sink.Append(b.Context(), out); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func request(method, path, body string, length int64) (*http.Request, *httptest.ResponseRecorder) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.ContentLength = length
	return r, httptest.NewRecorder()
}
