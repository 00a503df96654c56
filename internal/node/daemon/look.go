package daemon

import (
	"context"

	"github.com/berthdev/berth/internal/timeouts"
)

// Health is how a containerd is.
type Health struct {
	PID    int      // 0 when it does not run
	Serves bool     // it answers
	Aside  []string // containers whose shim does not answer, and which it was started without
}

// Look asks how the containerd of a config is. It changes nothing.
func Look(ctx context.Context, c Config) (Health, error) {
	d, err := New(c, nil)
	if err != nil {
		return Health{}, err
	}
	h := Health{PID: d.PID(), Aside: d.c.shims().Aside()}
	h.Serves = h.PID != 0 && d.answers(ctx, timeouts.ContainerdAnswer)
	return h, nil
}
