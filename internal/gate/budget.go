package gate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrBusy says that a Budget had nothing left for as long as one waits.
var ErrBusy = errors.New("too many bytes of requests are in memory")

// Budget bounds the bytes that requests hold in memory, in total and by source. What does not fit waits for its turn.
type Budget struct {
	total, perSource int64
	patience         time.Duration

	mu      sync.Mutex
	used    int64
	sources map[string]int64
	queue   []*waiter // the oldest first
}

type waiter struct {
	source string
	n      int64
	ready  chan struct{} // closed under the lock when the bytes are the waiter's
}

// NewBudget makes a Budget; patience is how long Take waits. A Take of more than total or perSource never succeeds.
func NewBudget(total, perSource int64, patience time.Duration) *Budget {
	return &Budget{total: total, perSource: perSource, patience: patience, sources: map[string]int64{}}
}

// Take takes n bytes for a source; give gives them back and may be called more than once. The error is ErrBusy, or ctx's.
func (b *Budget) Take(ctx context.Context, source string, n int64) (give func(), err error) {
	w := &waiter{source: source, n: n, ready: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, w)
	b.serve()
	b.mu.Unlock()
	select {
	case <-w.ready:
		return b.giver(w), nil
	default:
	}
	t := time.NewTimer(b.patience)
	defer t.Stop()
	err = ErrBusy
	select {
	case <-w.ready:
		return b.giver(w), nil
	case <-t.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.queue, w); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
		b.serve() // those behind it may fit
		return nil, err
	}
	return b.giver(w), nil // its turn came at the same moment
}

func (b *Budget) giver(w *waiter) func() {
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.used -= w.n
		if b.sources[w.source] -= w.n; b.sources[w.source] == 0 {
			delete(b.sources, w.source)
		}
		b.serve()
	})
}

// serve lets those in whose turn it is: in order, where a source that has its share is passed over, and nobody else. It needs the
// lock.
func (b *Budget) serve() {
	for i := 0; i < len(b.queue); {
		w := b.queue[i]
		if b.sources[w.source]+w.n > b.perSource {
			i++
			continue
		}
		if b.used+w.n > b.total {
			return
		}
		b.used += w.n
		b.sources[w.source] += w.n
		b.queue = slices.Delete(b.queue, i, i+1)
		close(w.ready)
	}
}

// Used returns the bytes that are taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
