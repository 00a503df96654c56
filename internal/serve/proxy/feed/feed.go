// Package feed joins the store and the proxy: it makes the routing table from the load balancers' tables whenever they change, and
// writes what the proxy sees of targets and ports back.
package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Feed is both directions. Make one, give its Health and Problem to proxy.New, then Run it.
type Feed struct {
	// Hand, when not nil, has the leader do what Receive does, where the store says that this server does not lead. Set it before Run.
	Hand func(context.Context, Report) error

	store store.Store
	log   *slog.Logger
	wake  chan struct{}
	timer *time.Timer // of the next attempt; only writes touches it

	mu       sync.Mutex
	health   map[string]model.TargetHealth // not written yet, by target key
	problems map[string]string             // not written yet, by listener
	orphans  map[string]struct{}           // keys of healths whose target is gone
}

// New makes a Feed.
func New(s store.Store, log *slog.Logger) *Feed {
	return &Feed{store: s, log: log, wake: make(chan struct{}, 1), health: map[string]model.TargetHealth{}, problems: map[string]string{},
		orphans: map[string]struct{}{}}
}

// Health takes what the proxy sees of a target; it does not block.
func (f *Feed) Health(h model.TargetHealth) {
	f.mu.Lock()
	f.health[h.Key()] = h
	f.mu.Unlock()
	f.nudge()
}

// Problem takes why a listener's port is not served, "" when it is; it does not block.
func (f *Feed) Problem(listener, problem string) {
	f.mu.Lock()
	f.problems[listener] = problem
	f.mu.Unlock()
	f.nudge()
}

func (f *Feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// again has what waits written a little later.
func (f *Feed) again() {
	if f.timer == nil {
		f.timer = time.AfterFunc(timeouts.FeedRetry, f.nudge)
	}
	f.timer.Reset(timeouts.FeedRetry)
}

// Applier takes the table and its changes: a proxy, or the link to one in another process.
type Applier interface{ Change(proxy.Delta) }

// Run keeps p serving what the store says until ctx is done.
func (f *Feed) Run(ctx context.Context, p Applier) error {
	changes := f.store.Watch(ctx, store.LoadBalancers.All(), store.Listeners.All(), store.Rules.All(), store.TargetGroups.All(),
		store.Targets.All())
	f.apply(p, store.Batch{All: true})
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	writing.Go(func() { f.writes(ctx) })
	defer writing.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes.C():
			if !ok {
				return nil
			}
			f.apply(p, changes.Take())
		}
	}
}

// writes stores what the proxy sees until ctx is done: beside the changes of the table, which do not wait for a leader.
func (f *Feed) writes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
			if err := f.write(ctx); err != nil && ctx.Err() == nil {
				f.log.Error("cannot store the health of targets", "error", err)
				f.again()
			}
		}
	}
}

// apply tells p what changed. What concerns nothing of the table, such as a problem that this feed wrote itself, gives no change there.
func (f *Feed) apply(p Applier, b store.Batch) {
	var d proxy.Delta
	f.store.View(func(r store.Reader) {
		if b.All {
			d = Build(r).Whole()
			f.findOrphans(r)
			return
		}
		d = touch(r, b.Changes).delta(r)
		for _, c := range b.Changes {
			if c.Table == store.Targets.Name() && c.New == nil {
				f.orphan(c.Key)
			}
		}
	})
	if !d.Empty() {
		p.Change(d)
	}
}

// findOrphans notes the healths of targets that are gone.
func (f *Feed) findOrphans(r store.Reader) {
	for h := range store.TargetHealths.Scan(r, "") {
		if _, ok := store.Targets.Get(r, h.Key()); !ok {
			f.orphan(h.Key())
		}
	}
}

func (f *Feed) orphan(key string) {
	f.mu.Lock()
	f.orphans[key] = struct{}{}
	f.mu.Unlock()
	f.nudge()
}

// batch is what one write stores.
type batch struct {
	health   map[string]model.TargetHealth
	problems map[string]string
	orphans  map[string]struct{}
}

// take empties what waits to be written.
func (f *Feed) take() batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := batch{f.health, f.problems, f.orphans}
	f.health, f.problems, f.orphans = map[string]model.TargetHealth{}, map[string]string{}, map[string]struct{}{}
	return b
}

// putBack keeps a batch that could not be written, except for what is newer by now.
func (f *Feed) putBack(b batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, h := range b.health {
		if _, ok := f.health[key]; !ok {
			f.health[key] = h
		}
	}
	for arn, problem := range b.problems {
		if _, ok := f.problems[arn]; !ok {
			f.problems[arn] = problem
		}
	}
	for key := range b.orphans {
		f.orphans[key] = struct{}{}
	}
}

// write stores what came since the last time, in one transaction.
func (f *Feed) write(ctx context.Context) error {
	b := f.take()
	err := f.store.Update(store.Freeing(ctx), func(tx store.Tx) error { // a target that is drained lets its task end
		b.write(tx)
		return nil
	})
	if f.Hand != nil && errors.Is(err, store.ErrNotLeader) {
		b, err = f.handOn(ctx, b)
	}
	if err != nil {
		f.putBack(b)
	}
	return err
}

func (b batch) write(tx store.Tx) {
	for key, h := range b.health {
		writeHealth(tx, key, h)
	}
	for arn, problem := range b.problems {
		if old, ok := store.Listeners.Get(tx, arn); ok && old.Problem != problem {
			l := *old
			l.Problem = problem
			store.Listeners.Put(tx, &l)
		}
	}
	for key := range b.orphans {
		if _, ok := store.Targets.Get(tx, key); !ok {
			store.TargetHealths.Delete(tx, key)
		}
	}
}

// writeHealth stores a target's health. That of a target that is gone is dropped, and so are drained targets that a client
// registered: nobody else waits for them. Those of tasks are control's.
func writeHealth(tx store.Tx, key string, h model.TargetHealth) {
	t, ok := store.Targets.Get(tx, key)
	if ok && h.Drained && t.Task == "" && !t.DrainingSince.IsZero() {
		store.Targets.Delete(tx, key)
		ok = false
	}
	old, known := store.TargetHealths.Get(tx, key)
	switch {
	case !ok && known:
		store.TargetHealths.Delete(tx, key)
	case ok && (!known || !same(*old, h)): // a proxy that is found again says all that it sees
		store.TargetHealths.Put(tx, &h)
	}
}

func same(a, b model.TargetHealth) bool {
	a.Since = b.Since
	return a == b
}
