// Package control is the one loop of the control plane: on any change, or each second, it looks at the whole state, asks the planners
// what to do, and stores their answers. It is level-triggered: a change only means "look again", and a pass that finds nothing to
// do writes nothing.
package control

import (
	"context"
	"log/slog"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the loop needs.
type Config struct {
	Store store.Store
	// Places is shared with the API; nil makes one.
	Places *places.Keeper
	Scope  model.Scope
	Now    func() time.Time
	// NewID returns a fresh id of 32 hexadecimal digits.
	NewID func() string
	Pace  model.Pace
	Log   *slog.Logger

	Tick       time.Duration // default 1 s: the longest time between two passes
	LostGrace  time.Duration // default 60 s: how long a lost node's tasks are left alone
	KeepEnded  time.Duration // default 3 days: how long ended tasks can be described
	KeepNewest int           // default 10,000: how many ended tasks are kept at most
}

// Control is the loop.
type Control struct {
	Config
	checks    map[string]bool // by task definition key: an essential container has a health check. Definitions never change
	collected time.Time       // when garbage was last collected
}

// New makes a Control.
func New(c Config) *Control {
	if c.Places == nil {
		c.Places = places.New(c.Store)
	}
	c.Tick = or(c.Tick, time.Second)
	c.LostGrace = or(c.LostGrace, time.Minute)
	c.KeepEnded = or(c.KeepEnded, 72*time.Hour)
	c.KeepNewest = or(c.KeepNewest, 10_000)
	return &Control{Config: c, checks: map[string]bool{}}
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Run passes until ctx is done.
func (c *Control) Run(ctx context.Context) error {
	changes := c.Store.Watch(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes.C():
			if !ok {
				return nil
			}
			changes.Take()
		case <-timer.C:
		}
		next, err := c.Step(ctx)
		if err != nil && ctx.Err() == nil {
			c.Log.Error("the control loop could not store its plan", "error", err)
		}
		timer.Reset(c.wait(next))
	}
}

// wait is how long to sleep when nothing changes.
func (c *Control) wait(next time.Time) time.Duration {
	if next.IsZero() {
		return c.Tick
	}
	return min(c.Tick, max(next.Sub(c.Now()), time.Millisecond))
}

// Step is one pass. It first looks without holding up anybody; only when there is something to do it plans again in a
// transaction, so that what it planned from is still true, and stores. It returns the earliest time at which another pass may find
// something to do though nothing changes; zero when there is none.
func (c *Control) Step(ctx context.Context) (next time.Time, err error) {
	var p *pass
	c.Store.View(func(r store.Reader) {
		look := &probe{Reader: r}
		p = &pass{Control: c, tx: look, now: c.Now(), collected: c.collected, idle: func() bool { return !look.wrote }}
		p.run()
	})
	if p.idle() {
		c.collected = p.collected
		return p.next, nil
	}
	err = c.Store.Update(ctx, func(tx store.Tx) error {
		p = &pass{Control: c, tx: tx, now: c.Now(), collected: c.collected, idle: func() bool { return true }}
		p.run()
		return nil
	})
	if err != nil {
		return time.Time{}, err
	}
	c.collected = p.collected
	for _, say := range p.said {
		c.Log.Info(say.text, say.args...)
	}
	return p.next, nil
}

// probe is a transaction that only notes whether anything would be written.
type probe struct {
	store.Reader
	wrote bool
}

// PutRow implements store.Tx.
func (p *probe) PutRow(string, string, any) { p.wrote = true }

// DeleteRow implements store.Tx.
func (p *probe) DeleteRow(string, string) { p.wrote = true }

// pass is one look at everything. Its order is that of a task's life: what is asked, what is planned, where it goes, who may reach it.
type pass struct {
	*Control
	tx        store.Tx
	now       time.Time
	next      time.Time
	said      []saying
	collected time.Time
	// idle tells that the pass should go on: it stores what it plans, or it is a probe that has found nothing to do so far.
	idle func() bool
}

// saying is a line for the log; it is written only after what it says is stored.
type saying struct {
	text string
	args []any
}

func (p *pass) run() {
	for _, stage := range []func(){p.leaveClusters, p.endLost, p.services, p.stopTasks, p.place, p.targets, p.collect} {
		if !p.idle() {
			return
		}
		stage()
	}
}

func (p *pass) say(text string, args ...any) { p.said = append(p.said, saying{text, args}) }

// look asks for another pass at that time.
func (p *pass) look(at time.Time) {
	if !at.IsZero() && (p.next.IsZero() || at.Before(p.next)) {
		p.next = at
	}
}

// definition returns a task definition, and whether its essential containers' health counts.
func (p *pass) definition(family string, revision int) (def *model.TaskDefinition, checks bool) {
	key := model.TaskDefinitionKey(family, revision)
	def, ok := store.TaskDefinitions.Get(p.tx, key)
	if !ok {
		return nil, false
	}
	checks, known := p.checks[key]
	if !known {
		for _, c := range def.Definition.ContainerDefinitions {
			checks = checks || c.HealthCheck != nil && (c.Essential == nil || *c.Essential)
		}
		p.checks[key] = checks
	}
	return def, checks
}
