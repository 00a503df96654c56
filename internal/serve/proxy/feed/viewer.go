package feed

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Viewer has what one machine's load balancers see written down.
type Viewer struct {
	// Hand, when not nil, has the leader do what Receive does, where the store says that this server does not lead. Set it before Write.
	Hand func(context.Context, Report) error

	id    string // of the machine
	store store.Store
	log   *slog.Logger
	wake  chan struct{}
	timer *time.Timer // of the next attempt; only Write touches it

	mu sync.Mutex
	waiting
	seen map[string]model.TargetHealth // what was said of each target last
	said map[string]string             // and of each listener
}

// waiting is what is not written yet.
type waiting struct {
	health   map[string]model.TargetHealth // by target key
	problems map[string]string             // by listener
	orphans  map[string]struct{}           // keys of healths whose target is gone
	doubts   map[string]struct{}           // keys of targets that are judged anew
}

func nothingWaits() waiting {
	return waiting{map[string]model.TargetHealth{}, map[string]string{}, map[string]struct{}{}, map[string]struct{}{}}
}

// NewViewer makes one for the machine of that id.
func NewViewer(s store.Store, id string, log *slog.Logger) *Viewer {
	return &Viewer{id: id, store: s, log: log, wake: make(chan struct{}, 1), waiting: nothingWaits(), seen: map[string]model.TargetHealth{},
		said: map[string]string{}}
}

// Health takes what the proxy sees of a target; it does not block.
func (f *Viewer) Health(h model.TargetHealth) {
	f.mu.Lock()
	f.health[h.Key()], f.seen[h.Key()] = h, h
	f.mu.Unlock()
	f.nudge()
}

// Problem takes why a listener's port is not served, "" when it is; it does not block.
func (f *Viewer) Problem(listener, problem string) {
	f.mu.Lock()
	f.problems[listener], f.said[listener] = problem, problem
	f.mu.Unlock()
	f.nudge()
}

// Again has all written once more that was said.
func (f *Viewer) Again() {
	f.mu.Lock()
	maps.Copy(f.health, f.seen)
	maps.Copy(f.problems, f.said)
	f.mu.Unlock()
	f.nudge()
}

func (f *Viewer) orphan(key string) {
	f.mu.Lock()
	delete(f.seen, key)
	f.orphans[key] = struct{}{}
	f.mu.Unlock()
	f.nudge()
}

func (f *Viewer) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// again has what waits written a little later.
func (f *Viewer) again() {
	if f.timer == nil {
		f.timer = time.AfterFunc(timeouts.FeedRetry, f.nudge)
	}
	f.timer.Reset(timeouts.FeedRetry)
}

// Write stores what the proxy sees until ctx is done: beside the changes of the table, which do not wait for a leader.
func (f *Viewer) Write(ctx context.Context) {
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

// batch is what one write stores.
type batch struct {
	viewer string
	waiting
}

// doubtsAtATime bounds the targets that one write judges anew.
const doubtsAtATime = 500

// take empties what waits to be written.
func (f *Viewer) take() batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := batch{f.id, f.waiting}
	f.waiting = nothingWaits()
	for key := range b.doubts {
		if len(b.doubts) <= doubtsAtATime {
			break
		}
		delete(b.doubts, key)
		f.doubts[key] = struct{}{}
		f.nudge()
	}
	return b
}

// putBack keeps a batch that could not be written, except for what is newer by now.
func (f *Viewer) putBack(b batch) {
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
	maps.Copy(f.orphans, b.orphans)
	maps.Copy(f.doubts, b.doubts)
}

// write stores what came since the last time, in one transaction.
func (f *Viewer) write(ctx context.Context) error {
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
	each := views(tx) && known(tx, b.viewer)
	for key, h := range b.health {
		if each {
			view(tx, b.viewer, key, h)
		} else {
			writeHealth(tx, key, h)
		}
	}
	for arn, problem := range b.problems {
		if each {
			note(tx, b.viewer, arn, problem)
		} else if old, ok := store.Listeners.Get(tx, arn); ok && old.Problem != problem {
			l := *old
			l.Problem = problem
			store.Listeners.Put(tx, &l)
		}
	}
	for key := range b.orphans {
		if _, ok := store.Targets.Get(tx, key); !ok {
			store.TargetHealths.Delete(tx, key)
			viewsOf(tx, key)
		}
	}
	for key := range b.doubts {
		judge(tx, key)
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
