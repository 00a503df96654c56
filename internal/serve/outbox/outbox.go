// Package outbox does what others want done elsewhere: what they put into it, in the transaction in which they decided it, the leader does, at
// least once, and again until it is done. It is bounded: what does not fit is left out and counted.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// The bounds.
const (
	most      = 10_000 // deliveries that wait
	atOnce    = 16
	perTarget = 2
	maxBody   = 256 << 10
)

// ErrNever is in the error of a delivery that need not be tried again.
var ErrNever = errors.New("it is not tried again")

// Room is how many deliveries more there is room for.
func Room(r store.Reader) int {
	n := most
	for range store.Outbox.Scan(r, "") {
		n--
	}
	return max(n, 0)
}

// Put adds deliveries; it returns how many there was no room for. One whose id is there already is the same.
func Put(tx store.Tx, all ...*model.Delivery) (left int) {
	room := Room(tx)
	for _, d := range all {
		if _, known := store.Outbox.Get(tx, d.ID); known {
			continue
		}
		if room == 0 || len(d.Body) > maxBody {
			left++
			continue
		}
		store.Outbox.Put(tx, d)
		room--
	}
	return left
}

// ID makes the id of a delivery of a moment, so that ids are in the order of time; what tells it from others.
func ID(at time.Time, what string) string { return fmt.Sprintf("%016x-%s", at.UnixNano(), what) }

// Handler does a delivery. It may be called again for one that it has done.
type Handler func(ctx context.Context, d *model.Delivery) error

// Runner does deliveries.
type Runner struct {
	Store    store.Store
	Handlers map[string]Handler // by kind
	Now      func() time.Time
	Log      *slog.Logger

	mu   sync.Mutex
	busy map[string]int // by target
	done map[string]outcome
}

// outcome is what became of a delivery; it is kept from its end until it is written down.
type outcome struct {
	ended bool
	err   error
}

// Run does deliveries until ctx is done: run it on the leader.
func (r *Runner) Run(ctx context.Context) error {
	r.busy, r.done = map[string]int{}, map[string]outcome{}
	w := r.Store.Watch(ctx, store.Outbox.All())
	finished := make(chan struct{}, 1)
	var g sync.WaitGroup
	defer g.Wait()
	for {
		if err := r.note(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, store.ErrNotLeader) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrUnknown) {
				return err
			}
			r.Log.Warn("what became of deliveries is not written down", "error", err)
		}
		wait := r.start(ctx, &g, finished)
		timer := time.NewTimer(wait)
		select {
		case <-finished:
		case <-timer.C:
		case _, ok := <-w.C():
			if !ok {
				timer.Stop()
				return nil
			}
			w.Take()
		}
		timer.Stop()
	}
}

// start begins what is due, and tells how long nothing else will be.
func (r *Runner) start(ctx context.Context, g *sync.WaitGroup, finished chan struct{}) (wait time.Duration) {
	now := r.Now()
	wait = timeouts.DeliverLook
	var rows []*model.Delivery
	r.Store.View(func(v store.Reader) {
		for d := range store.Outbox.Scan(v, "") {
			rows = append(rows, d)
		}
	})
	slices.SortStableFunc(rows, func(a, b *model.Delivery) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	r.mu.Lock()
	defer r.mu.Unlock()
	waits := map[string]bool{} // queues whose first one is not done
	for _, d := range rows {
		first := d.Queue == "" || !waits[d.Queue]
		if d.Queue != "" {
			waits[d.Queue] = true
		}
		_, running := r.done[d.ID]
		if !first || running || len(r.done) >= atOnce || r.busy[d.Target] >= perTarget {
			continue
		}
		if later := d.Next.Sub(now); later > 0 {
			wait = min(wait, later)
			continue
		}
		r.done[d.ID] = outcome{}
		r.busy[d.Target]++
		g.Go(func() {
			err := r.do(ctx, d)
			r.mu.Lock()
			r.done[d.ID] = outcome{true, err}
			if r.busy[d.Target]--; r.busy[d.Target] == 0 {
				delete(r.busy, d.Target)
			}
			r.mu.Unlock()
			select {
			case finished <- struct{}{}:
			default:
			}
		})
	}
	return wait
}

func (r *Runner) do(ctx context.Context, d *model.Delivery) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v", ErrNever, p)
		}
	}()
	handle := r.Handlers[d.Kind]
	if handle == nil {
		return fmt.Errorf("%w: this Berth does not know deliveries of kind %q", ErrNever, d.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.DeliverCall)
	defer cancel()
	return handle(ctx, d)
}

// note writes down what became of deliveries.
func (r *Runner) note(ctx context.Context) error {
	r.mu.Lock()
	ended := map[string]error{}
	for id, o := range r.done {
		if o.ended {
			ended[id] = o.err
		}
	}
	r.mu.Unlock()
	if len(ended) == 0 || ctx.Err() != nil {
		return nil
	}
	now := r.Now()
	type lost struct {
		*model.Delivery
		err error
	}
	var given []lost
	err := r.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		given = given[:0]
		for id, failure := range ended {
			d, ok := store.Outbox.Get(tx, id)
			if !ok {
				continue
			}
			next := *d
			next.Attempts++
			next.Next = now.Add(pause(next.Attempts))
			if failure == nil || errors.Is(failure, ErrNever) || next.Next.After(d.Until) || d.Most > 0 && next.Attempts >= d.Most {
				store.Outbox.Delete(tx, id)
				if failure != nil {
					given = append(given, lost{&next, failure})
				}
				continue
			}
			next.Failure = fmt.Sprintf("%.500s", failure.Error())
			store.Outbox.Put(tx, &next)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	for id := range ended {
		delete(r.done, id)
	}
	r.mu.Unlock()
	for _, d := range given {
		r.Log.Warn("a delivery is given up", "kind", d.Kind, "target", d.Target, "for", d.Source, "attempts", d.Attempts, "error", d.err)
	}
	return nil
}

// pause is how long after an attempt the next one is.
func pause(attempts int) time.Duration {
	return min(time.Second<<min(attempts-1, 10), timeouts.DeliverLongest)
}
