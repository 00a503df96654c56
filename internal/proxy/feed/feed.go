// Package feed joins the store and the proxy: it makes the routing table from the load balancers' tables whenever they change, and
// writes what the proxy sees of targets and ports back.
package feed

import (
	"context"
	"log/slog"
	"reflect"
	"sync"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/proxy"
	"github.com/berthdev/berth/internal/store"
)

// Feed is both directions. Make one, give its Health and Problem to proxy.New, then Run it.
type Feed struct {
	store store.Store
	log   *slog.Logger
	wake  chan struct{}

	mu       sync.Mutex
	health   map[string]model.TargetHealth // not written yet, by target key
	problems map[string]string             // not written yet, by listener
}

// New makes a Feed.
func New(s store.Store, log *slog.Logger) *Feed {
	return &Feed{store: s, log: log, wake: make(chan struct{}, 1), health: map[string]model.TargetHealth{}, problems: map[string]string{}}
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

// Run keeps p serving what the store says until ctx is done.
func (f *Feed) Run(ctx context.Context, p *proxy.Proxy) error {
	changes := f.store.Watch(ctx, store.LoadBalancers.Name(), store.Listeners.Name(), store.Rules.Name(), store.TargetGroups.Name(),
		store.Targets.Name())
	var last proxy.Table
	for {
		var t proxy.Table
		f.store.View(func(r store.Reader) { t = Build(r) })
		if !reflect.DeepEqual(t, last) {
			p.Apply(t)
			last = t
		}
		for again := true; again; {
			select {
			case <-ctx.Done():
				return nil
			case _, ok := <-changes:
				if !ok {
					return nil
				}
				again = false
			case <-f.wake:
				if err := f.write(ctx); err != nil && ctx.Err() == nil {
					f.log.Error("cannot store the health of targets", "error", err)
				}
			}
		}
	}
}

// write stores what came since the last time. The health of a target that is gone is dropped.
func (f *Feed) write(ctx context.Context) error {
	f.mu.Lock()
	health, problems := f.health, f.problems
	f.health, f.problems = map[string]model.TargetHealth{}, map[string]string{}
	f.mu.Unlock()
	return f.store.Update(ctx, func(tx store.Tx) error {
		for key, h := range health {
			if _, ok := store.Targets.Get(tx, key); !ok {
				store.TargetHealths.Delete(tx, key)
				continue
			}
			store.TargetHealths.Put(tx, &h)
		}
		for arn, problem := range problems {
			if old, ok := store.Listeners.Get(tx, arn); ok && old.Problem != problem {
				l := *old
				l.Problem = problem
				store.Listeners.Put(tx, &l)
			}
		}
		return f.forgetDrained(tx, health)
	})
}

// forgetDrained removes drained targets that a client registered: nobody else waits for them. Those of tasks are control's.
func (f *Feed) forgetDrained(tx store.Tx, health map[string]model.TargetHealth) error {
	for key, h := range health {
		if t, ok := store.Targets.Get(tx, key); ok && h.Drained && t.Task == "" && !t.DrainingSince.IsZero() {
			store.Targets.Delete(tx, key)
			store.TargetHealths.Delete(tx, key)
		}
	}
	return nil
}
