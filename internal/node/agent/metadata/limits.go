package metadata

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The ECS agent's throttle of a task.
const (
	steady = 40 // requests a second
	burst  = 60
)

// limits throttles each task.
type limits struct {
	mu  *sync.Mutex
	all map[string]*rate.Limiter // by task id
}

// maxLimits is how many tasks are remembered before those that have not asked lately are forgotten.
const maxLimits = 1024

func newLimits() limits { return limits{mu: &sync.Mutex{}, all: map[string]*rate.Limiter{}} }

func (l limits) allow(task string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.all[task]
	if limiter == nil {
		if len(l.all) >= maxLimits {
			for id, other := range l.all {
				if other.TokensAt(now) >= burst { // a fresh one would allow the same
					delete(l.all, id)
				}
			}
		}
		limiter = rate.NewLimiter(steady, burst)
		l.all[task] = limiter
	}
	return limiter.AllowN(now, 1)
}
