package copies

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/peer/peertest"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/serve/logstore/intake"
)

var (
	_ agent.LogSink = (*Logs)(nil)
	_ intake.Sink   = (*Logs)(nil)
)

type cluster struct {
	t       testing.TB
	servers []*server
}

type server struct {
	*peertest.Server
	dead  bool
	store *logstore.Store
	logs  *Logs
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c, machines := &cluster{t: t}, peertest.New(t)
	for i := range n {
		s := &server{}
		var err error
		s.store, err = logstore.Open(t.TempDir(), logstore.Config{SyncInterval: -1, MinFree: -1, Log: slog.New(slog.DiscardHandler)})
		ok(t, err)
		t.Cleanup(func() { s.store.Close() })
		clients := map[string]*http.Client{}
		id := fmt.Sprint("s", i)
		var mu sync.Mutex
		s.logs = New(Config{Self: id, Local: s.store, Path: "/logcopies/", Others: func() (others []Server) {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range c.servers {
				if o == s {
					continue
				}
				if clients[o.ID] == nil {
					clients[o.ID] = s.Client(o.Server)
				}
				others = append(others, Server{o.ID, clients[o.ID]})
			}
			return others
		}})
		s.Server = machines.Server(id, func(p *peer.Server) { p.Handle("/logcopies/", peer.Servers, s.logs) })
		c.servers = append(c.servers, s)
	}
	return c
}

// kill makes a server away; who asks it is not told that it will be back.
func (c *cluster) kill(i int) {
	c.servers[i].Kill()
	c.servers[i].dead = true
}

// revive starts a server again, and has the others ask it without waiting.
func (c *cluster) revive(i int) {
	c.servers[i].Start()
	c.servers[i].dead = false
	for _, s := range c.servers {
		s.logs.mu.Lock()
		clear(s.logs.away)
		s.logs.mu.Unlock()
	}
}

// living is some server that lives.
func (c *cluster) living(from int) *server {
	for i := range c.servers {
		if s := c.servers[(from+i)%len(c.servers)]; !s.dead {
			return s
		}
	}
	return nil
}

func read(t testing.TB, l *Logs, q logstore.Query) (all []string) {
	t.Helper()
	for e, err := range l.Scan(t.Context(), "/g", q) {
		ok(t, err)
		all = append(all, e.Message)
	}
	return all
}

// lines are those of a source with the numbers from and up to, each of ten bytes; three have one time.
func lines(name, source string, from, to int) model.LogBatch {
	b := model.LogBatch{Group: "/g", Stream: name, Source: source}
	for i := from; i < to; i++ {
		b.Lines = append(b.Lines, model.LogLine{At: time.UnixMilli(1_700_000_000_000 + int64(i/3)), Message: fmt.Sprintf("%s %d", source, i),
			Start: int64(i * 10), End: int64(i*10 + 10)})
	}
	return b
}

// copiesOfLine is on how many servers' disks a message is.
func (c *cluster) copiesOfLine(name, message string) (n int) {
	for _, s := range c.servers {
		for e, err := range s.store.Scan(c.t.Context(), "/g", logstore.Query{Streams: []string{name}, Lenient: true}) {
			if err == nil && e.Message == message {
				n++
			}
		}
	}
	return n
}

func TestAStreamIsOnTwoServersAndReadOnAny(t *testing.T) {
	for n := 1; n <= 3; n++ {
		c := newCluster(t, n)
		for i := range 6 {
			name := fmt.Sprint("s", i)
			ok(t, c.servers[i%n].logs.Prepare(t.Context(), "/g", name, true))
			for range 2 {
				ok(t, c.servers[(i+1)%n].logs.Append(t.Context(), lines(name, "x", 0, 5)))
			}
			ok(t, c.servers[i%n].logs.Write(t.Context(), "/g", name, []model.LogEvent{{At: time.UnixMilli(1_800_000_000_000), Message: "written"}}))
			for _, message := range []string{"x 0", "x 4", "written"} {
				if got := c.copiesOfLine(name, message); got != min(n, 2) {
					t.Errorf("%d servers: %q of %s is on %d", n, message, name, got)
				}
			}
		}
		want := read(t, c.servers[0].logs, logstore.Query{})
		if len(want) != 36 {
			t.Errorf("%d servers: %d events", n, len(want))
		}
		back := read(t, c.servers[0].logs, logstore.Query{Backward: true})
		if slices.Reverse(back); !slices.Equal(back, want) {
			t.Errorf("backwards: %q", back)
		}
		for _, s := range c.servers {
			if got := read(t, s.logs, logstore.Query{}); !slices.Equal(got, want) {
				t.Errorf("%s reads %q", s.ID, got)
			}
			streams, err := s.logs.Streams("/g", "s", "s1", 3)
			if err != nil || len(streams) != 3 || streams[0].Name != "s2" || streams[0].LastAt != 1_800_000_000_000 {
				t.Errorf("streams at %s: %+v (%v)", s.ID, streams, err)
			}
		}
		// A page goes on at another server.
		var paged []string
		q := logstore.Query{}
		for i := 0; ; i++ {
			got := 0
			for e, err := range c.servers[i%n].logs.Scan(t.Context(), "/g", q) {
				ok(t, err)
				paged = append(paged, e.Message)
				at := e.Position
				q.From = &at
				if got++; got == 5 {
					break
				}
			}
			if got < 5 {
				break
			}
		}
		if !slices.Equal(paged, want) {
			t.Errorf("%d servers, by pages: %q", n, paged)
		}
	}
}

func TestRefusalsAreTheLocalStoresOwn(t *testing.T) {
	c := newCluster(t, 2)
	l := c.servers[0].logs
	ok(t, l.CreateGroup(logstore.Group{Name: "/g"}))
	ok(t, l.CreateStream("/g", "s"))
	scan := func(q logstore.Query) (err error) {
		for _, err = range c.servers[1].logs.Scan(t.Context(), "/g", q) {
			break
		}
		return err
	}
	_, none := l.Stream("/g", "none")
	_, group := l.Streams("/none", "", "", 0)
	_, position := l.Position(t.Context(), "/g", "none", "x")
	for name, e := range map[string]struct{ got, want error }{
		"group twice":           {c.servers[1].logs.CreateGroup(logstore.Group{Name: "/g"}), logstore.ErrGroupExists},
		"stream twice":          {c.servers[1].logs.CreateStream("/g", "s"), logstore.ErrStreamExists},
		"stream's name":         {l.CreateStream("/g", "a:b"), logstore.ErrBadName},
		"stream of no group":    {l.CreateStream("/none", "s"), logstore.ErrNoGroup},
		"stream":                {none, logstore.ErrNoStream},
		"streams of no group":   {group, logstore.ErrNoGroup},
		"position of no stream": {position, logstore.ErrNoStream},
		"lines of no stream":    {l.Append(t.Context(), lines("none", "x", 0, 1)), logstore.ErrNoStream},
		"events of no stream":   {l.Write(t.Context(), "/g", "none", []model.LogEvent{{Message: "x"}}), logstore.ErrNoStream},
		"scan of no stream":     {scan(logstore.Query{Streams: []string{"s", "none"}}), logstore.ErrNoStream},
		"delete no stream":      {l.DeleteStream("/g", "none"), logstore.ErrNoStream},
	} {
		if !errors.Is(e.got, e.want) {
			t.Errorf("%s: %v, want %v", name, e.got, e.want)
		}
	}
	if err := scan(logstore.Query{Streams: []string{"s"}}); err != nil {
		t.Errorf("scan of a stream of another server: %v", err)
	}
}

// Groups are the same on all servers, also on those that were away; what was deleted does not come back with them.
func TestWhatIsDeletedStaysDeleted(t *testing.T) {
	c := newCluster(t, 3)
	l := c.servers[0].logs
	for _, name := range []string{"/g", "/gone", "/again"} {
		ok(t, l.CreateGroup(logstore.Group{Name: name}))
	}
	for _, name := range []string{"kept", "gone", "again"} {
		ok(t, l.Prepare(t.Context(), "/g", name, false))
		ok(t, l.Append(t.Context(), lines(name, "x", 0, 3)))
	}
	old := lines("s", "x", 0, 3)
	old.Group = "/again"
	ok(t, l.Prepare(t.Context(), "/again", "s", false))
	ok(t, l.Append(t.Context(), old))
	c.kill(2)
	ok(t, l.UpdateGroup("/g", func(g *logstore.Group) error { g.RetentionDays = 3653; return nil }))
	ok(t, l.DeleteGroup("/gone"))
	ok(t, l.DeleteGroup("/again"))
	ok(t, l.CreateGroup(logstore.Group{Name: "/again"}))
	ok(t, l.DeleteStream("/g", "gone"))
	ok(t, l.DeleteStream("/g", "again"))
	ok(t, l.CreateStream("/g", "again"))
	c.revive(2)
	for _, s := range c.servers {
		s.logs.Mend(t.Context())
	}
	for _, s := range c.servers {
		g, err := s.store.Group("/g")
		if err != nil || g.RetentionDays != 3653 {
			t.Errorf("%s: %+v, %v", s.ID, g, err)
		}
		if _, err := s.store.Group("/gone"); !errors.Is(err, logstore.ErrNoGroup) {
			t.Errorf("%s has a group that was deleted: %v", s.ID, err)
		}
		if _, err := s.logs.Stream("/again", "s"); !errors.Is(err, logstore.ErrNoStream) {
			t.Errorf("%s has a stream of a group that was deleted: %v", s.ID, err)
		}
		if _, err := s.logs.Stream("/g", "gone"); !errors.Is(err, logstore.ErrNoStream) {
			t.Errorf("%s has a stream that was deleted: %v", s.ID, err)
		}
		if got := read(t, s.logs, logstore.Query{}); !slices.Equal(got, []string{"x 0", "x 1", "x 2"}) {
			t.Errorf("%s reads %q", s.ID, got)
		}
	}
	// An old server's lines of the deleted stream would have the places of the new one's, were its id the same.
	ok(t, l.Append(t.Context(), lines("again", "x", 0, 2)))
	if got := read(t, c.servers[2].logs, logstore.Query{Streams: []string{"again"}}); len(got) != 2 {
		t.Errorf("a stream that was made anew has %q", got)
	}
}

// What one server took alone has a second copy when another is back, also when the first was restarted meanwhile.
func TestALoneCopyIsMended(t *testing.T) {
	c := newCluster(t, 2)
	l := c.servers[0].logs
	ok(t, l.Prepare(t.Context(), "/g", "s", true))
	ok(t, l.Append(t.Context(), lines("s", "x", 0, 2)))
	c.kill(1)
	ok(t, l.Append(t.Context(), lines("s", "x", 2, 5000)))
	if n := c.copiesOfLine("s", "x 4999"); n != 1 {
		t.Fatalf("%d copies", n)
	}
	again := New(l.c)
	again.Mend(t.Context())
	c.revive(1)
	clear(again.away)
	again.Mend(t.Context())
	for _, message := range []string{"x 0", "x 2", "x 4999"} {
		if n := c.copiesOfLine("s", message); n != 2 {
			t.Errorf("%q has %d copies", message, n)
		}
	}
	if singles, err := c.servers[0].store.Singles(); err != nil || len(singles) != 0 {
		t.Errorf("still to be copied: %v (%v)", singles, err)
	}
	if n, err := c.servers[0].logs.Spread(t.Context()); n != 1 || err != nil {
		t.Errorf("spread: %d streams, %v", n, err)
	}
}

// TestNoLineIsLostOrDoubled: servers die and come back between any two steps, one at a time; answers are lost; whoever sends again begins
// where a server says. Every line that was answered is read once, on every server that lives, and at the end all lines are.
func TestNoLineIsLostOrDoubled(t *testing.T) {
	run := 0
	c := newCluster(t, 3)
	rapid.Check(t, func(rt *rapid.T) {
		run++
		name, source := fmt.Sprint("stream ", run), "x"
		defer func() {
			for i := range c.servers {
				c.revive(i)
			}
		}()
		ok(t, c.servers[rapid.IntRange(0, 2).Draw(rt, "prepares")].logs.Prepare(t.Context(), "/g", name, true))
		acked, sent, known := 0, 0, true
		check := func(at *server) {
			var got []string
			for e, err := range at.logs.Scan(t.Context(), "/g", logstore.Query{Streams: []string{name}}) {
				if err != nil {
					rt.Fatal(err)
				}
				got = append(got, e.Message)
			}
			for i, message := range got {
				if message != fmt.Sprint("x ", i) {
					rt.Fatalf("%s reads as line %d: %q", at.ID, i, message)
				}
			}
			if len(got) < acked || len(got) > sent {
				rt.Fatalf("%s reads %d lines; %d were acknowledged, %d sent", at.ID, len(got), acked, sent)
			}
		}
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			at := c.living(rapid.IntRange(0, 2).Draw(rt, "server"))
			switch rapid.SampledFrom([]string{"append", "append", "lost", "die", "revive", "mend", "read"}).Draw(rt, "step") {
			case "append", "lost":
				if !known { // a node that begins anew, or has no answer
					p, err := at.logs.Position(t.Context(), "/g", name, source)
					if err != nil {
						rt.Fatal(err)
					}
					if int(p[0]) < acked*10 {
						rt.Fatalf("the position is %d, and %d lines were acknowledged", p[0], acked)
					}
					acked, known = int(p[0])/10, true
				}
				to := acked + rapid.IntRange(1, 5).Draw(rt, "lines")
				sent = max(sent, to)
				if rapid.Bool().Draw(rt, "half") { // it reached one server, which then was not asked to answer
					ok(t, at.store.Take(t.Context(), made(t, at.logs, name)))
					ok(t, at.store.Append(t.Context(), lines(name, source, acked, to)))
					known = false
					break
				}
				if err := at.logs.Append(t.Context(), lines(name, source, acked, to)); err != nil {
					rt.Fatal(err)
				}
				acked = to
			case "die":
				if !slices.ContainsFunc(c.servers, func(s *server) bool { return s.dead }) {
					c.kill(rapid.IntRange(0, 2).Draw(rt, "dies"))
				}
			case "revive":
				for i := range c.servers {
					c.revive(i)
				}
			case "mend":
				at.logs.Mend(t.Context())
			default:
				check(at)
			}
		}
		for _, s := range c.servers {
			if !s.dead {
				check(s)
			}
		}
	})
}

func made(t testing.TB, l *Logs, name string) logstore.Piece {
	p, err := l.known(t.Context(), stream{"/g", name})
	ok(t, err)
	return p
}

// BenchmarkAppend is what is acknowledged a second, of batches of 500 lines of 120 bytes over 16 streams, with one server and with two.
func BenchmarkAppend(b *testing.B) {
	for n := 1; n <= 2; n++ {
		b.Run(fmt.Sprint(n, " servers"), func(b *testing.B) {
			c := newCluster(b, n)
			l, text := c.servers[0].logs, strings.Repeat("x", 120)
			var mu sync.Mutex
			next := 0
			b.SetBytes(500 * 120)
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				mu.Lock()
				next++
				batch := model.LogBatch{Group: "/g", Stream: fmt.Sprint("s", next), Source: "x", Lines: make([]model.LogLine, 500)}
				mu.Unlock()
				ok(b, l.Prepare(b.Context(), "/g", batch.Stream, true))
				at := int64(0)
				for p.Next() {
					for i := range batch.Lines {
						batch.Lines[i] = model.LogLine{At: time.UnixMilli(1_700_000_000_000 + at/10_000), Message: text, Start: at, End: at + 120}
						at += 120
					}
					ok(b, l.Append(b.Context(), batch))
				}
			})
		})
	}
}
