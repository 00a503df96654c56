// Package control is the control plane at work: it asks the planners what to do and stores their answers. Each owner (a service, a
// task of no service, a node, a cluster) is looked at by itself, when something of it has changed or its time has come, in
// transactions of bounded size; what goes wrong with one is told, tried again, and stops no other.
//
// It is level-triggered: a change only means "look again", a look that finds nothing to do writes nothing, and a slow repair looks at
// everything once in a while. All that it remembers between two looks can be made anew from one View.
package control

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what control needs.
type Config struct {
	Store store.Store
	// Places is shared with the API; nil makes one.
	Places *places.Keeper
	Scope  model.Scope
	Now    func() time.Time
	// NewID returns a fresh id of 32 hexadecimal digits. It is called by several goroutines.
	NewID func() string
	Pace  model.Pace
	Log   *slog.Logger

	// NoMachines is why no task can run in this scope, a sentence; "" where there may be machines.
	NoMachines string

	Repair     time.Duration // in this time everything is looked at; 0 means timeouts.ControlRepair
	LostGrace  time.Duration // how long a lost node's tasks of no service are left alone; 0 means timeouts.LostGrace
	Forget     time.Duration // how long a lost node is remembered; 0 means timeouts.NodeForgotten
	KeepEnded  time.Duration // how long ended tasks can be described; 0 means timeouts.KeepEnded
	KeepNewest int           // default 10,000: how many ended tasks are kept at most
}

// Control looks after a store.
type Control struct {
	Config
	queue   *queue
	watcher *store.Watcher // of Step
	garbage garbage
	repair  repair
	quiet   quiet

	mu      sync.Mutex
	waiting map[owner]struct{} // has tasks that fit nowhere: looked at again when something may fit
	retried time.Time          // when they were all looked at last
	swept   time.Time          // when deleted task definitions were looked at last
	held    map[string]owner   // by target key: who waits until another service's target is gone
	lost    map[string]loss    // by node: since when this control has known it as lost
}

// New makes a Control. To follow another leader's work, make a new one: it builds what it remembers when it begins.
func New(c Config) *Control {
	if c.Places == nil {
		c.Places = places.New(c.Store)
	}
	c.Repair = or(c.Repair, timeouts.ControlRepair)
	c.LostGrace = or(c.LostGrace, timeouts.LostGrace)
	c.Forget = or(c.Forget, timeouts.NodeForgotten)
	c.KeepEnded = or(c.KeepEnded, timeouts.KeepEnded)
	c.KeepNewest = or(c.KeepNewest, 10_000)
	return &Control{Config: c, queue: newQueue(), waiting: map[owner]struct{}{}, held: map[string]owner{}, lost: map[string]loss{}}
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// workers is how many owners are looked at at a time. Most of them wait for the disk: what they wrote meanwhile is committed together.
const workers = 32

// Run looks after the store until ctx is done or the store closes. Looks that have begun end before it returns.
func (c *Control) Run(ctx context.Context) error {
	w := c.watch(ctx)
	work := make(chan *entry)
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			for e := range work {
				c.look(ctx, e)
			}
			return nil
		})
	}
	defer func() { _ = g.Wait() }()
	defer close(work)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var held *entry // taken, and not given to a worker yet
	for {
		var out chan<- *entry
		if held == nil {
			e, next, ok := c.queue.take(c.Now())
			if ok {
				held = e
			} else if !next.IsZero() {
				timer.Reset(max(next.Sub(c.Now()), time.Millisecond))
			}
		}
		if held != nil {
			out = work
		}
		select {
		case <-ctx.Done():
			return nil
		case out <- held:
			held = nil
		case _, ok := <-w.C():
			if !ok {
				return nil
			}
			c.absorb(w)
		case <-c.queue.changed:
		case <-timer.C:
		}
	}
}

// Step looks at all that is to be looked at now, one owner after the other, until nothing is left to do. It returns the earliest time
// at which there is something to look at though nothing changes. The first Step looks at everything; ctx of the first must live as
// long as the Control. Step is for whoever turns the clock by hand, and not to be mixed with Run.
func (c *Control) Step(ctx context.Context) (next time.Time, err error) {
	if c.watcher == nil {
		c.watcher = c.watch(ctx)
	}
	for {
		c.absorb(c.watcher)
		e, next, ok := c.queue.take(c.Now())
		if !ok {
			return next, err
		}
		if failed := c.look(ctx, e); err == nil {
			err = failed
		}
	}
}

// watch begins to collect changes, and asks for a look at everything.
func (c *Control) watch(ctx context.Context) *store.Watcher {
	w := c.Store.Watch(ctx, interests...)
	c.wakeAll()
	return w
}
