package outbox_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/serve/outbox"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// TestDeliveries: what is put arrives, also when the first attempts fail, in order within a queue.
func TestDeliveries(t *testing.T) {
	got := make(chan string, 10)
	fail := 2
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		if fail > 0 {
			fail--
			w.WriteHeader(503)
			return
		}
		got <- string(b)
	}))
	defer srv.Close()
	s := mem.New(store.Schema())
	defer s.Close()
	now := time.Now()
	run := &outbox.Runner{Store: s, Now: func() time.Time { now = now.Add(time.Minute); return now }, Log: slog.New(slog.DiscardHandler), Handlers: map[string]outbox.Handler{"http": outbox.Post()}}
	until := now.Add(1000 * time.Hour)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		for i := range 3 {
			d := outbox.Hook(now.Add(time.Duration(i)), fmt.Sprint(i), srv.URL, fmt.Sprint(i), "")
			d.Queue, d.Until = "q", until
			outbox.Put(tx, d, d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run.Run(c) }()
	for i := range 3 {
		if b := <-got; b != fmt.Sprint(i) {
			t.Errorf("got %s in the place of %d", b, i)
		}
	}
	w := s.Watch(t.Context(), store.Outbox.All())
	for left := 1; left > 0; {
		left = 0
		s.View(func(v store.Reader) {
			for range store.Outbox.Scan(v, "") {
				left++
			}
		})
		if left > 0 {
			<-w.C()
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
