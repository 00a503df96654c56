package app

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// contact is when this server was last surely in contact with a leader that a majority follows: what it answers to beats renews no lease
// beyond that.
type contact struct{ at atomic.Pointer[time.Time] }

// never is the age of a contact that there was not: older than any lease.
const never = time.Duration(math.MaxInt64)

// age is how long ago that was, at most.
func (c *contact) age() time.Duration {
	if at := c.at.Load(); at != nil {
		return time.Since(*at)
	}
	return never
}

// run asks until ctx is done. ask returns nil when there was contact after it was called.
func (c *contact) run(ctx context.Context, ask func(context.Context) error) error {
	tick := time.NewTicker(timeouts.ServerContact)
	defer tick.Stop()
	for {
		if began := time.Now(); ask(ctx) == nil {
			c.at.Store(&began)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// leaderAge is how long ago this server was in contact with the leader, at most. One that is alone always is.
func (s *server) leaderAge() time.Duration {
	if !s.several.Load() {
		return 0
	}
	return s.contact.age()
}
