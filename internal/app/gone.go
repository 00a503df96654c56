package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/fleet"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// undertaker has the sessions end that servers held which are gone: removed, or silent for ServerGone. Nobody else would write that down, and
// a machine that was started anew is not let in while its last session stands.
type undertaker struct {
	store   store.Store
	self    string // this server, which leads
	answers func(context.Context, *model.Server) bool
	forget  func(ctx context.Context, server string) error
	log     *slog.Logger

	silent map[string]time.Time // since when, by server
}

// run looks until ctx is done.
func (u *undertaker) run(ctx context.Context) error {
	u.silent = map[string]time.Time{}
	tick := time.NewTicker(timeouts.ServerLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, id := range u.look(ctx) {
			if err := u.forget(ctx, id); err != nil {
				return err
			}
			u.log.Warn("a server is gone: its nodes are without a session until they find another", "server", id)
		}
	}
}

// look names the servers that are gone and hold sessions by what is stored.
func (u *undertaker) look(ctx context.Context) (gone []string) {
	holders, rows := map[string]time.Time{}, map[string]*model.Server{} // when the last session began; who is known
	u.store.View(func(r store.Reader) {
		for n := range store.Nodes.Scan(r, "") {
			if n.Connected && n.Server != "" && n.Server != u.self && !n.ConnectedAt.Before(holders[n.Server]) {
				holders[n.Server] = n.ConnectedAt
			}
		}
		for id := range holders {
			if row, ok := store.Servers.Get(r, id); ok {
				rows[id] = row
			}
		}
	})
	heard := u.ask(ctx, rows)
	now := time.Now()
	for id, last := range holders {
		since, was := u.silent[id]
		switch {
		case rows[id] == nil:
			gone = append(gone, id)
		case heard[id]:
			delete(u.silent, id)
		case !was || last.After(since): // who opens a session lives
			u.silent[id] = now
		case now.Sub(since) >= timeouts.ServerGone:
			gone = append(gone, id)
		}
	}
	for id := range u.silent {
		if _, holds := holders[id]; !holds {
			delete(u.silent, id)
		}
	}
	return gone
}

// ask tells which servers answer.
func (u *undertaker) ask(ctx context.Context, rows map[string]*model.Server) map[string]bool {
	heard := map[string]bool{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for id, row := range rows {
		asked.Go(func() {
			if u.answers(ctx, row) {
				mu.Lock()
				defer mu.Unlock()
				heard[id] = true
			}
		})
	}
	asked.Wait()
	return heard
}

func (s *server) undertaker() *undertaker {
	return &undertaker{store: s.store, self: s.in.NodeID, forget: s.book().Forget, log: s.log, answers: func(_ context.Context, row *model.Server) bool {
		return !s.stateOf(fleet.Server{ID: row.ID, Address: row.Address}).Heard.IsZero()
	}}
}
