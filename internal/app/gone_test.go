package app

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
	"github.com/berthdev/berth/internal/timeouts"
)

// TestSessionsOfServersThatAreGoneEnd: of one that was removed at once, of a silent one after a while, of one that comes back in time or opens
// sessions never.
func TestSessionsOfServersThatAreGoneEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(store.Schema())
		defer s.Close()
		session := func(tx store.Tx, node, server string) {
			store.Nodes.Put(tx, &model.Node{ID: node, Server: server, Connected: true, ConnectedAt: time.Now()})
		}
		update := func(f func(tx store.Tx)) {
			t.Helper()
			if err := s.Update(t.Context(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		update(func(tx store.Tx) {
			for _, id := range []string{"self", "alive", "dead", "back", "opens"} {
				store.Servers.Put(tx, &model.Server{ID: id})
				session(tx, "of-"+id, id)
			}
			session(tx, "of-removed", "removed")
		})
		connected := func() (all []string) {
			synctest.Wait()
			s.View(func(r store.Reader) {
				for n := range store.Nodes.Scan(r, "") {
					if n.Connected {
						all = append(all, n.ID)
					}
				}
			})
			return all
		}
		began := time.Now()
		u := &undertaker{store: s, self: "self", log: slog.New(slog.DiscardHandler), forget: nodelink.Book{Store: s, Now: time.Now}.Forget,
			answers: func(_ context.Context, row *model.Server) bool {
				return row.ID == "alive" || row.ID == "back" && time.Since(began) > timeouts.ServerGone/2
			}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- u.run(ctx) }()
		for _, step := range []struct {
			after time.Duration
			want  []string
		}{
			{timeouts.ServerLook - time.Millisecond, []string{"of-alive", "of-back", "of-dead", "of-opens", "of-removed", "of-self"}},
			{timeouts.ServerGone, []string{"of-alive", "of-back", "of-dead", "of-opens", "of-self"}},
			{timeouts.ServerGone + 2*timeouts.ServerLook, []string{"of-alive", "of-back", "of-opens", "of-self"}},
			{2 * timeouts.ServerGone, []string{"of-alive", "of-back", "of-opens", "of-self"}},
		} {
			if time.Since(began) < timeouts.ServerGone {
				time.Sleep(step.after - time.Since(began))
			} else {
				update(func(tx store.Tx) { session(tx, "of-opens", "opens") })
				time.Sleep(step.after - time.Since(began))
			}
			if got := connected(); !slices.Equal(got, step.want) {
				t.Errorf("after %s: %v, want %v", step.after, got, step.want)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
