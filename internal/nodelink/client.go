package nodelink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// ClientConfig is what a node's half needs.
type ClientConfig struct {
	// Declare says what the node is; it is asked at the start of each session.
	Declare func() model.Declaration
	Dial    func(ctx context.Context) (Conn, error)
	// OnAssign gets the whole set of assignments after each change, in the order of their task ids.
	OnAssign  func([]model.Assignment)
	Heartbeat time.Duration // default 5 s
	Log       *slog.Logger
}

// Client is the node's half. It opens sessions for as long as Run runs, and keeps the newest report of each task until the server
// has stored it.
type Client struct {
	ClientConfig
	mu      sync.Mutex
	unacked map[string]pending // by task id
	wake    chan struct{}
}

// pending is a report that is not acknowledged; batch is the last one that carried it, 0 before the first.
type pending struct {
	report model.Report
	batch  uint64
}

// NewClient makes a Client. Log may be left out.
func NewClient(c ClientConfig) *Client {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = timeouts.Heartbeat
	}
	return &Client{ClientConfig: c, unacked: map[string]pending{}, wake: make(chan struct{}, 1)}
}

// Report queues what the agent sees of a task; it never blocks. A newer report of the same task replaces an older one.
func (c *Client) Report(r model.Report) {
	c.mu.Lock()
	if old, ok := c.unacked[r.TaskID]; !ok || old.report.Observed.Seq < r.Observed.Seq {
		c.unacked[r.TaskID] = pending{report: r}
	}
	c.mu.Unlock()
	c.nudge()
}

// maxBatch is how many reports one message carries.
const maxBatch = 256

// Run opens a session and, when it is lost, another, until ctx is done. The pauses between attempts grow until one is welcomed.
func (c *Client) Run(ctx context.Context) error {
	wait := timeouts.SessionRetry
	for {
		welcomed, err := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if welcomed {
			wait = timeouts.SessionRetry
		}
		c.Log.Warn("the session with the server is lost", "error", err, "again in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, timeouts.SessionLonger)
	}
}

// session runs one session until it is lost. welcomed tells that the server took the node in.
func (c *Client) session(ctx context.Context) (welcomed bool, err error) {
	conn, err := c.Dial(ctx)
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Send(ctx, Message{Hello: &Hello{c.Declare()}}); err != nil {
		return false, fmt.Errorf("say hello: %w", err)
	}
	m, err := conn.Recv(ctx)
	if err != nil {
		return false, fmt.Errorf("wait to be welcomed: %w", err)
	}
	if m.Welcome == nil {
		return false, errors.New("the server did not answer hello with welcome")
	}
	c.sendAgain()
	s := &clientSession{c: c, conn: conn, epoch: m.Welcome.Epoch}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.receive(ctx) })
	g.Go(func() error { return s.send(ctx) })
	return true, g.Wait()
}

// sendAgain marks every report as not sent: the last session may have lost it.
func (c *Client) sendAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.unacked {
		c.unacked[id] = pending{report: p.report}
	}
	c.nudge()
}

// nudge makes the session's sender look for reports to send.
func (c *Client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// clientSession is one session; its two loops share only revision.
type clientSession struct {
	c        *Client
	conn     Conn
	epoch    int64
	mu       sync.Mutex
	revision uint64
}

func (s *clientSession) receive(ctx context.Context) error {
	var have map[string]model.Assignment // nil until the first full set
	for {
		m, err := s.conn.Recv(ctx)
		if err != nil {
			return err
		}
		switch {
		case m.Ack != nil:
			s.c.acked(m.Ack.Batch)
		case m.Assignments != nil:
			a := m.Assignments
			if have == nil && !a.Full {
				return errors.New("the first assignments are not the full set")
			}
			if a.Full {
				have = map[string]model.Assignment{}
			}
			for _, p := range a.Put {
				have[p.Task.ID] = p
			}
			for _, id := range a.Remove {
				delete(have, id)
			}
			s.mu.Lock()
			s.revision = a.Revision
			s.mu.Unlock()
			all := make([]model.Assignment, 0, len(have))
			for _, id := range slices.Sorted(maps.Keys(have)) {
				all = append(all, have[id])
			}
			s.c.OnAssign(all)
		}
	}
}

func (s *clientSession) send(ctx context.Context) error {
	tick := time.NewTicker(s.c.Heartbeat)
	defer tick.Stop()
	var batch uint64
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.mu.Lock()
			beat := Heartbeat{Epoch: s.epoch, Revision: s.revision}
			s.mu.Unlock()
			if err := s.conn.Send(ctx, Message{Heartbeat: &beat}); err != nil {
				return err
			}
		case <-s.c.wake:
			batch++
			items := s.c.take(batch)
			if len(items) == 0 {
				continue
			}
			if err := s.conn.Send(ctx, Message{Reports: &Reports{Epoch: s.epoch, Batch: batch, Items: items}}); err != nil {
				return err
			}
		}
	}
}

// take returns the reports that were not sent in this session and marks them as sent with batch.
func (c *Client) take(batch uint64) []model.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	var items []model.Report
	for _, id := range slices.Sorted(maps.Keys(c.unacked)) {
		if p := c.unacked[id]; p.batch == 0 {
			if len(items) == maxBatch {
				c.nudge()
				break
			}
			items = append(items, p.report)
			c.unacked[id] = pending{p.report, batch}
		}
	}
	return items
}

func (c *Client) acked(batch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.unacked, func(_ string, p pending) bool { return p.batch != 0 && p.batch <= batch })
}
