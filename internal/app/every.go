package app

import (
	"context"
	"time"
)

// every calls f each time d has passed, one call after the other, until ctx is done. It returns nil, for groups of loops.
func every(ctx context.Context, d time.Duration, f func()) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f()
		}
	}
}
