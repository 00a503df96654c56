package link

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// ErrSilent says that the proxy is there and does not answer.
var ErrSilent = errors.New("the proxy does not answer")

// ClientConfig is what a Client is told. The functions are called one after another, by the goroutine of Serve, and own what they get.
type ClientConfig struct {
	OnHealth  func(model.TargetHealth)
	OnProblem func(listenerARN, problem string)
	// OnSockets gets listening sockets by their names, and the names of those that are closed; with all, others are gone.
	OnSockets func(all bool, open map[string]int, closed []string)
	Silence   time.Duration // after which a proxy that says nothing is hung; 0 means timeouts.ProxySilence
	Log       *slog.Logger
}

// Client feeds a proxy in another process. It keeps the table, so that a proxy that is found again, or is a new one, is told of it.
type Client struct {
	c     ClientConfig
	epoch string
	wake  chan struct{}

	mu      sync.Mutex
	table   proxy.Kept
	begun   bool            // a whole table has come
	all     bool            // the whole table is to be said
	changed map[string]bool // keys of what is to be said
	seq     uint64          // of what was sent last
	conn    *Conn           // of Serve
	asked   map[uint64]chan proxy.Snapshot
	number  uint64
}

// NewClient makes a Client without a table: nothing is fed before its first Change, which must be a whole one.
func NewClient(c ClientConfig) *Client {
	c.Silence = cmp.Or(c.Silence, timeouts.ProxySilence)
	return &Client{c: c, epoch: rand.Text(), wake: make(chan struct{}, 1), changed: map[string]bool{}, asked: map[uint64]chan proxy.Snapshot{}}
}

// Change notes a change of the table and has it sent; it does not wait for the proxy. Changes that come while it is away, or busy, are
// sent as one.
func (c *Client) Change(d proxy.Delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.All {
		c.begun, c.all = true, true
	}
	for _, key := range c.table.Change(d) {
		c.changed[key] = true
	}
	c.nudge()
}

func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be said, and its number; nothing while there is no table.
func (c *Client) take() (d proxy.Delta, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun || !c.all && len(c.changed) == 0 {
		return d, 0
	}
	if d = c.table.Some(c.changed); c.all {
		d = c.table.Whole()
	}
	c.all = false
	clear(c.changed)
	c.seq++
	return d, c.seq
}

// Greet says what the side that connects wants and returns who answers, and its sockets by name.
func Greet(conn *Conn, role Role) (Hello, map[string]int, error) {
	open := map[string]int{}
	err := conn.Send(&Message{Hello: &Hello{Role: role}})
	var hello *Hello
	for err == nil {
		var m *Message
		var got []int
		if m, got, err = conn.Receive(timeouts.ProxyGreet); err != nil {
			break
		}
		switch {
		case m.Hello != nil:
			hello = m.Hello
		case m.Sockets != nil:
			for i, name := range m.Sockets.Names {
				open[name] = got[i]
			}
		}
		if m.Ready && hello != nil {
			return *hello, open, nil
		}
	}
	closeAll(slices.Collect(maps.Values(open)))
	return Hello{}, nil, fmt.Errorf("the proxy does not say who it is: %w", err)
}

// Serve feeds the proxy at the other end of conn, which said hello to a Greet, until ctx is done or the connection ends. The error is
// ErrSilent when the proxy is hung.
func (c *Client) Serve(ctx context.Context, conn *Conn, hello Hello) error {
	c.mu.Lock()
	c.conn = conn
	if hello.Epoch != c.epoch || hello.Seq != c.seq {
		c.all = true
	}
	c.mu.Unlock()
	c.nudge()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	failed := make(chan error, 1)
	go func() { failed <- c.send(ctx, conn) }()
	err := c.receive(conn)
	cancel()
	conn.Close()
	if sent := <-failed; err == nil {
		err = sent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
	for n, ch := range c.asked {
		close(ch)
		delete(c.asked, n)
	}
	return err
}

// send says what changes, and asks for signs of life.
func (c *Client) send(ctx context.Context, conn *Conn) error {
	beat := time.NewTicker(timeouts.ProxyBeat)
	defer beat.Stop()
	for n := uint64(1); ; {
		d, seq := c.take()
		if seq > 0 {
			for _, a := range Parts(c.epoch, seq, d) {
				if err := conn.Send(&Message{Apply: a}); err != nil {
					conn.Close()
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-beat.C:
			if err := conn.Send(&Message{Beat: n}); err != nil {
				conn.Close()
				return err
			}
			n++
		}
	}
}

// receive takes the proxy's reports until the connection ends.
func (c *Client) receive(conn *Conn) error {
	for {
		m, got, err := conn.Receive(c.c.Silence)
		if err != nil {
			if isTimeout(err) {
				return ErrSilent
			}
			return err
		}
		for _, h := range m.Health {
			c.c.OnHealth(h)
		}
		for arn, problem := range m.Problems {
			c.c.OnProblem(arn, problem)
		}
		if s := m.Sockets; s != nil {
			open := map[string]int{}
			for i, name := range s.Names {
				open[name] = got[i]
			}
			c.c.OnSockets(s.All, open, s.Closed)
		}
		if m.Counted != nil {
			c.mu.Lock()
			if ch := c.asked[m.Counted.Number]; ch != nil {
				ch <- m.Counted.Snapshot
				delete(c.asked, m.Counted.Number)
			}
			c.mu.Unlock()
		}
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// ErrAway says that no proxy is connected.
var ErrAway = errors.New("the proxy is away")

// Stats asks the proxy for its counters.
func (c *Client) Stats(ctx context.Context) (proxy.Snapshot, error) {
	answer := make(chan proxy.Snapshot, 1)
	c.mu.Lock()
	conn := c.conn
	if conn == nil {
		c.mu.Unlock()
		return proxy.Snapshot{}, ErrAway
	}
	c.number++
	n := c.number
	c.asked[n] = answer
	c.mu.Unlock()
	if err := conn.Send(&Message{Count: n}); err != nil {
		return proxy.Snapshot{}, err
	}
	select {
	case s, ok := <-answer:
		if !ok {
			return proxy.Snapshot{}, ErrAway
		}
		return s, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.asked, n)
		c.mu.Unlock()
		return proxy.Snapshot{}, ctx.Err()
	}
}
