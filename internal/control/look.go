package control

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// An owner that writes so often within a second finds no rest: it pauses for a second, so that others have theirs.
const maxStreak = 1000

// look looks at one owner and gives it back to the queue. Whatever goes wrong is the owner's own.
func (c *Control) look(ctx context.Context, e *entry) error {
	now := c.Now()
	p, err := c.attempt(ctx, e, now)
	if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
		c.queue.done(e, time.Time{}, 0)
		return ctx.Err()
	}
	if err != nil {
		e.limit = max(1, or(e.limit, maxRows)/2)
		wait := min(timeouts.ControlRetry<<min(e.failures, 10), timeouts.ControlRetryLast)
		c.quiet.say(now, err, func() {
			log := c.Log
			if f, ok := errors.AsType[*fault](err); ok {
				log = log.With("stack", f.stack)
			}
			log.Error("the control loop could not look after "+e.owner.String(), "error", err, "again in", wait)
		})
		c.complain(ctx, e.owner, err)
		c.queue.done(e, now.Add(wait), e.failures+1)
		return err
	}
	e.limit = 0
	for _, say := range p.said {
		c.Log.Info(say.text, say.args...)
	}
	next, failures := p.next, 0
	if p.tx.wrote {
		// There may be more to do: one transaction does no more than it may. Services and tasks are told of it by their own rows.
		if e.kind != ofService && e.kind != ofTask {
			next = now
		}
		if now.Sub(e.began) >= timeouts.ControlRestless {
			e.began, e.streak = now, 0
		}
		if e.streak++; e.streak > maxStreak {
			next, failures = now.Add(timeouts.ControlRetry), 1
			c.Log.Warn("the control loop finds no rest at "+e.owner.String(), "again in", timeouts.ControlRetry)
		}
	}
	c.queue.done(e, next, failures)
	return nil
}

// attempt first looks without holding up anybody; only when there is something to do it plans again in a transaction, so that what it
// planned from is still true, and stores.
func (c *Control) attempt(ctx context.Context, e *entry, now time.Time) (p *pass, err error) {
	c.Store.View(func(r store.Reader) {
		p = c.newPass(e, now, &batch{Reader: r})
		err = p.run(e.owner)
	})
	if err != nil || !p.tx.wrote {
		return p, err
	}
	p, err = c.store(ctx, e, now, false)
	if !errors.Is(err, store.ErrFull) {
		return p, err
	}
	if freed, failed := c.store(store.Freeing(ctx), e, now, true); failed == nil && freed.tx.wrote {
		freed.look(now.Add(timeouts.ControlRetry)) // nobody tells when there is room for the rest
		return freed, nil                          // what fills the disk can be stopped, though nothing new can start
	}
	return p, err
}

// store looks at an owner in a transaction. With frees it only takes away: nothing is started.
func (c *Control) store(ctx context.Context, e *entry, now time.Time, frees bool) (p *pass, err error) {
	err = c.Store.Update(ctx, func(tx store.Tx) error {
		p = c.newPass(e, now, &batch{Reader: tx, tx: tx})
		p.frees = frees
		return p.run(e.owner)
	})
	return p, err
}

// complain tells a service's user what went wrong with it.
func (c *Control) complain(ctx context.Context, o owner, failure error) {
	if o.kind != ofService {
		return
	}
	_ = c.Store.Update(ctx, func(tx store.Tx) (err error) {
		p := c.newPass(&entry{}, c.Now(), &batch{Reader: tx, tx: tx})
		return p.guard(func() {
			if s, ok := store.Services.Get(tx, o.key); ok {
				p.event(s, fmt.Sprintf("(service %s) could not be looked after: %s. Berth tries again.", s.Name, failure))
			}
		})
	})
}

// maxRows and maxWeight bound one transaction, far below what any store takes.
const (
	maxRows   = 1000
	maxWeight = 4 << 20
)

// pass is one look at one owner.
type pass struct {
	*Control
	tx    *batch
	now   time.Time
	next  time.Time
	said  []saying
	limit int  // of the rows that the transaction writes
	frees bool // nothing is to be started: the disk is full
	defs  map[string]definition
	nodes map[string]*model.Node // that were read
}

// saying is a line for the log; it is written only after what it says is stored.
type saying struct {
	text string
	args []any
}

func (c *Control) newPass(e *entry, now time.Time, tx *batch) *pass {
	return &pass{Control: c, tx: tx, now: now, limit: or(e.limit, maxRows), defs: map[string]definition{}, nodes: map[string]*model.Node{}}
}

// run looks at the owner; a panic becomes an error.
func (p *pass) run(o owner) error {
	return p.guard(func() {
		switch o.kind {
		case ofCluster:
			p.cluster(o.key)
		case ofNode:
			p.node(o.key)
		case ofService:
			p.service(o.key)
		case ofTask:
			p.standalone(o.key)
		case ofDefinitions:
			p.definitions()
		case ofGarbage:
			p.collect()
		case ofWaiting:
			p.retry(p.now)
		case ofRepair:
			p.look(p.repair.step(p.Control, p.tx, p.now))
		}
	})
}

func (p *pass) guard(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &fault{what: fmt.Sprint(v), stack: string(debug.Stack())}
		}
	}()
	f()
	return nil
}

// fault is a panic.
type fault struct{ what, stack string }

// Error is one sentence; the stack is for the log.
func (f *fault) Error() string { return "a fault in Berth itself (" + f.what + ")" }

func (p *pass) say(text string, args ...any) { p.said = append(p.said, saying{text, args}) }

// look asks for another look at that time.
func (p *pass) look(at time.Time) {
	if !at.IsZero() && (p.next.IsZero() || at.Before(p.next)) {
		p.next = at
	}
}

// probing tells that nothing is stored, and that enough is known: something would be written.
func (p *pass) probing() bool { return p.tx.tx == nil && p.tx.wrote }

// full tells that the transaction holds as much as it may; what is left is done by the next look.
func (p *pass) full() bool { return p.tx.rows >= p.limit || p.tx.weight >= maxWeight }

// batch is a transaction that is counted, or one that only notes whether anything would be written.
type batch struct {
	store.Reader
	tx     store.Tx // nil: nothing is stored
	wrote  bool
	rows   int
	weight int  // roughly, in bytes
	acted  bool // wrote more than events, whose words may name what has changed since
}

// PutRow implements store.Tx.
func (b *batch) PutRow(table, key string, value any) {
	b.wrote = true
	b.acted = b.acted || table != store.ServiceEvents.Name()
	b.rows++
	b.weight += weigh(value)
	if b.tx != nil {
		b.tx.PutRow(table, key, value)
	}
}

// DeleteRow implements store.Tx.
func (b *batch) DeleteRow(table, key string) {
	b.wrote = true
	b.acted = b.acted || table != store.ServiceEvents.Name()
	b.rows++
	if b.tx != nil {
		b.tx.DeleteRow(table, key)
	}
}

// rowWeight is what a row without tags takes, roughly.
const rowWeight = 1 << 10

// weigh is roughly how many bytes a row takes in the store's log. What clients may make large are a task's tags and overrides.
func weigh(row any) int {
	t, ok := row.(*model.Task)
	if !ok {
		return rowWeight
	}
	n := rowWeight + 512*len(t.Observed.Containers)
	for _, tag := range t.Tags {
		n += 32 + len(text(tag.Key)) + len(text(tag.Value))
	}
	for _, o := range t.Overrides.ContainerOverrides {
		for _, c := range o.Command {
			n += len(c)
		}
		for _, v := range o.Environment {
			n += 32 + len(text(v.Name)) + len(text(v.Value))
		}
	}
	return n
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// quiet keeps one failure of many owners, such as a full disk, from filling the log.
type quiet struct {
	mu   sync.Mutex
	last string
	at   time.Time
}

func (q *quiet) say(now time.Time, err error, log func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err.Error() == q.last && now.Sub(q.at) < time.Second {
		return
	}
	q.last, q.at = err.Error(), now
	log()
}
