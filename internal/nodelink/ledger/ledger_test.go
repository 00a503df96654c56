package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// servers are two of a cluster: s1, which has the store, and s2, which holds the sessions. The connection between them is in memory.
type servers struct {
	t     *testing.T
	store store.Store
	mux   *http.ServeMux

	mu     sync.Mutex
	leads  bool // s1 does
	here   bool // s2 does
	down   bool // s1 is not reached
	lose   bool // what s1 answers is lost
	posts  int
	ledger *Relayed
}

// Handle implements Mux.
func (s *servers) Handle(pattern string, _ peer.Who, h http.Handler) { s.mux.Handle(pattern, h) }

// RoundTrip implements http.RoundTripper.
func (s *servers) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.posts++
	down, lose := s.down, s.lose
	s.mu.Unlock()
	time.Sleep(time.Millisecond) // in which more reports come together
	if down {
		return nil, errors.New("no route")
	}
	w := httptest.NewRecorder()
	r = r.WithContext(peer.With(r.Context(), pki.Peer{Role: pki.RoleServer, ID: "s2"}))
	s.mux.ServeHTTP(w, r)
	if lose {
		return nil, errors.New("cut off")
	}
	return w.Result(), nil
}

func (s *servers) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func newServers(t *testing.T) *servers {
	s := &servers{t: t, store: mem.New(store.Schema()), mux: http.NewServeMux(), leads: true}
	book := nodelink.Book{Store: s.store, Now: time.Now}
	Register(s, book, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.leads })
	s.ledger = New(Config{Local: book, Client: func(string) *http.Client { return &http.Client{Transport: s} },
		Leader: func() (bool, string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.here || !s.leads {
				return s.here, ""
			}
			return false, "s1:4567"
		}})
	s.update(func(tx store.Tx) {
		store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: "f", Revision: 1})
		for n := range 200 {
			id := fmt.Sprintf("n%03d", n)
			store.Tasks.Put(tx, &model.Task{ID: "t" + id, Family: "f", Revision: 1, NodeID: id, Desired: model.Running, Observed: model.Observed{Status: model.Pending}})
		}
	})
	return s
}

func (s *servers) update(f func(store.Tx)) {
	if err := s.store.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *servers) node(id string) (n model.Node) {
	s.store.View(func(r store.Reader) {
		if row, ok := store.Nodes.Get(r, id); ok {
			n = *row
		}
	})
	return n
}

func (s *servers) status(node string) (status model.TaskStatus) {
	s.store.View(func(r store.Reader) {
		if row, ok := store.Tasks.Get(r, "t"+node); ok {
			status = row.Observed.Status
		}
	})
	return status
}

// join opens a node's sessions with s2.
func (s *servers) join(ctx context.Context, half *nodelink.Server, id string) (c *nodelink.Client, cut func()) {
	var mu sync.Mutex
	var last nodelink.Conn
	c = nodelink.NewClient(nodelink.ClientConfig{Declare: func() model.Declaration { return model.Declaration{} }, OnAssign: func([]model.Assignment) {},
		Dial: func(context.Context) (nodelink.Conn, error) {
			server, mine := nodelink.Pipe()
			mu.Lock()
			last = mine
			mu.Unlock()
			go func() { _ = half.Serve(ctx, nodelink.Caller{Node: id}, server) }()
			return mine, nil
		}})
	go func() { _ = c.Run(ctx) }()
	return c, func() {
		mu.Lock()
		defer mu.Unlock()
		_ = last.Close()
	}
}

func running(id string, seq int64) model.Report {
	return model.Report{TaskID: "t" + id, Observed: model.Observed{Seq: seq, Status: model.Running}}
}

// TestSessionsOfAFollower: what happens in them is stored by the leader, many sessions' reports together, also when an answer was lost,
// when there is no leader for a while, and when the follower begins to lead.
func TestSessionsOfAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := newServers(t)
		half := nodelink.NewServer(nodelink.ServerConfig{ID: "s2", Store: s.store, Ledger: s.ledger})
		clients := map[string]*nodelink.Client{}
		var cut func()
		for n := range 200 {
			id := fmt.Sprintf("n%03d", n)
			clients[id], cut = s.join(ctx, half, id)
		}
		time.Sleep(time.Second)
		if n := s.node("n007"); !n.Connected || n.Epoch != 1 || n.Server != "s2" {
			t.Errorf("a node of the follower: %+v", n)
		}
		s.set(func() { s.posts, s.leads = 0, false })
		for id, c := range clients {
			c.Report(running(id, 1))
		}
		time.Sleep(3 * time.Second)
		if got := s.status("n100"); got != model.Pending {
			t.Errorf("a report without a leader: %s", got)
		}
		s.set(func() { s.leads, s.lose = true, true })
		time.Sleep(time.Second)
		s.set(func() { s.lose = false })
		time.Sleep(time.Second)
		for id := range clients {
			if got := s.status(id); got != model.Running {
				t.Fatalf("the report of %s: %s", id, got)
			}
		}
		s.set(func() {
			if s.down = true; s.posts > 100 {
				t.Errorf("%d messages for 200 reports", s.posts)
			}
		})
		cut() // of n199, whose end and next beginning wait
		time.Sleep(4 * time.Second)
		if n := s.node("n199"); !n.Connected || n.Epoch != 1 {
			t.Errorf("without the leader: %+v", n)
		}
		s.set(func() { s.here = true })
		clients["n000"].Report(running("n000", 2))
		time.Sleep(5 * time.Second)
		if n := s.node("n199"); !n.Connected || n.Epoch < 2 {
			t.Errorf("after the follower began to lead: %+v", n)
		}
	})
}

// TestRefusals: what the leader refuses is refused by the follower in the same words, and a stale session is told so.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		_, err := s.ledger.Begin(t.Context(), nodelink.Opening{Caller: nodelink.Caller{Node: "stranger", Key: "k"}, Server: "a lie"})
		if said, ok := errors.AsType[*nodelink.Refused](err); !ok || !strings.Contains(said.Reason, "join again") || said.RetryAfter == 0 {
			t.Errorf("a stranger: %v", err)
		}
		if _, err := s.ledger.Begin(t.Context(), nodelink.Opening{Caller: nodelink.Caller{Node: "n001"}, Server: "a lie"}); err != nil {
			t.Fatal(err)
		}
		if n := s.node("n001"); n.Server != "s2" {
			t.Errorf("its server is %q", n.Server)
		}
		if err := s.ledger.Report(t.Context(), "n001", 7, []model.Report{running("n001", 1)}); err == nil || !strings.Contains(err.Error(), "newer session") {
			t.Errorf("a stale report: %v", err)
		}
		if err := s.ledger.End(t.Context(), "n001", 1); err != nil || s.node("n001").Connected {
			t.Errorf("ended: %v, %+v", err, s.node("n001"))
		}
		s.set(func() { s.down = true })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := s.ledger.Begin(ctx, nodelink.Opening{Caller: nodelink.Caller{Node: "n001"}}); err == nil || !strings.Contains(err.Error(), "no route") {
			t.Errorf("a leader that is not reached: %v", err)
		}
		for _, path := range []string{pathBegin, pathEnd, pathReport} {
			w := httptest.NewRecorder()
			s.mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader("{[")))
			if w.Code != http.StatusBadRequest {
				t.Errorf("%s with nonsense: %d", path, w.Code)
			}
		}
	})
}
