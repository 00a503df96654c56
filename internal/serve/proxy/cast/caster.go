package cast

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// Sink takes what a machine's proxy sees; its methods do not block.
type Sink interface {
	Health(model.TargetHealth)
	Problem(listener, problem string)
}

// Config is what a Caster is told. All are required.
type Config struct {
	// Node names the machine at the other end.
	Node func(net.Conn) string
	// Open makes the Sink of a machine's connection; close is called when that has ended.
	Open func(ctx context.Context, node string) (s Sink, close func())
	// Fresh tells whether the table is that of the cluster; while it is not, this server is silent, and machines go to another.
	Fresh func() bool
	Log   *slog.Logger
}

// Caster is the server's side. It is a feed.Applier: one table for all machines, and each is told what changed since it was told last.
type Caster struct {
	c Config

	mu      sync.Mutex
	begun   bool
	table   proxy.Kept
	serving map[string]bool // machines that are to serve load balancers
	links   map[*link]struct{}
}

// link is a machine's connection.
type link struct {
	node    string
	wake    chan struct{}
	told    bool // it has the whole table, or the empty one
	served  bool // which of them
	changed map[string]bool
}

// New makes a Caster without a table: nobody is told anything before its first Change, which must be a whole one.
func New(c Config) *Caster {
	return &Caster{c: c, links: map[*link]struct{}{}}
}

// Serving says which machines are to serve load balancers; the others have an empty table.
func (c *Caster) Serving(ids map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = ids
	for l := range c.links {
		l.nudge()
	}
}

// Change implements feed.Applier.
func (c *Caster) Change(d proxy.Delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.All {
		c.begun = true
		for l := range c.links {
			l.told = false
		}
	}
	changed := c.table.Change(d)
	for l := range c.links {
		for _, arn := range changed {
			l.changed[arn] = true
		}
		l.nudge()
	}
}

func (l *link) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take is what the machine is to be told.
func (c *Caster) take(l *link) (d proxy.Delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun {
		return d
	}
	changed := l.changed
	l.changed = map[string]bool{}
	serves := c.serving[l.node]
	whole := !l.told || l.served != serves
	l.told, l.served = true, serves
	switch {
	case whole:
		d = c.table.Whole()
	default:
		d = c.table.Some(changed)
	}
	if !serves { // names are answered on every machine
		d.Balancers, d.Groups, d.GoneBalancers, d.GoneGroups = nil, nil, nil, nil
	}
	return d
}

// Serve answers the machines whose connections l accepts, until ctx is done.
func (c *Caster) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() { c.answer(ctx, conn) })
	}
}

// answer keeps one machine's proxy up to date until its connection ends.
func (c *Caster) answer(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer cancel()
	node := c.c.Node(conn)
	sink, done := c.c.Open(ctx, node)
	defer done()
	l := &link{node: node, wake: make(chan struct{}, 1), changed: map[string]bool{}}
	c.mu.Lock()
	c.links[l] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.links, l)
		c.mu.Unlock()
	}()
	var telling sync.WaitGroup
	telling.Go(func() {
		defer cancel()
		if err := c.tell(ctx, conn, l); err != nil && ctx.Err() == nil {
			c.c.Log.Info("a machine is not told of load balancers any more", "node", node, "reason", err)
		}
	})
	r := bufio.NewReader(conn)
	for {
		m, err := receive(conn, r, timeouts.TableSilence)
		if err != nil {
			break
		}
		for _, h := range m.Health {
			sink.Health(h)
		}
		for arn, problem := range m.Problems {
			sink.Problem(arn, problem)
		}
	}
	cancel()
	telling.Wait()
}

// tell says what changes, and that the server lives.
func (c *Caster) tell(ctx context.Context, conn net.Conn, l *link) error {
	beat := time.NewTicker(timeouts.TableBeat)
	defer beat.Stop()
	for {
		if c.c.Fresh() {
			if d := c.take(l); !d.Empty() {
				for _, m := range parts(d) {
					if err := send(conn, m); err != nil {
						return err
					}
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-beat.C:
			if !c.c.Fresh() {
				continue
			}
			if err := send(conn, &message{}); err != nil {
				return err
			}
		}
	}
}
