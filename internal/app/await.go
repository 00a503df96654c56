package app

import (
	"context"
	"time"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// awaitNode waits until the node of this process is connected, but not for long: requests that come meanwhile wait, and are not told that this
// machine's agent is away.
func (s *server) awaitNode(ctx context.Context, began time.Time) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.OwnNode)
	defer cancel()
	changes := s.store.Watch(ctx, store.Nodes.All())
	for {
		connected := false
		s.store.View(func(r store.Reader) {
			n, ok := store.Nodes.Get(r, s.in.NodeID)
			connected = ok && n.Connected && !n.ConnectedAt.Before(began)
		})
		if connected {
			return
		}
		if _, ok := <-changes.C(); !ok {
			return
		}
		changes.Take()
	}
}
