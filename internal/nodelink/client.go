package nodelink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
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
	// Memory keeps what was seen of the servers' state over restarts; nil: it is forgotten.
	Memory Memory
	// OnServers, which may be nil, gets the servers there are.
	OnServers func(Servers)
	// OnAssign gets the whole set of assignments after each change, in the order of their task ids.
	OnAssign func([]model.Assignment)
	// OnKeep, which may be nil, is told before each OnAssign whether tasks that the state before knew are kept; Kept are those.
	OnKeep func(bool)
	Kept   func() []Kept
	// OnCall, which may be nil, gets a server's calls for sessions in containers. It must not block.
	OnCall    func(Call)
	Network   Network       // nil where tasks have no addresses
	Heartbeat time.Duration // default 5 s
	// Beats tells whether servers answer the node's beats; nil: it has none, and needs none. While none does, heartbeats come in the
	// session, each second.
	Beats func() bool
	Log   *slog.Logger
}

// Memory keeps what a node has seen of its servers' state: see Seen.
type Memory interface {
	// Load returns what was saved last, and the incarnations that were left for it.
	Load() (now Seen, past []string, err error)
	Save(now Seen, past []string) error
}

// Client is the node's half. It opens sessions for as long as Run runs, and keeps the newest report of each task until the server
// has stored it.
type Client struct {
	ClientConfig
	mu      sync.Mutex
	unacked map[string]pending // by task id
	wake    chan struct{}
	usage   chan model.Usage

	seen Seen // and past: only Run touches them
	past []string
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
	return &Client{ClientConfig: c, unacked: map[string]pending{}, wake: make(chan struct{}, 1), usage: make(chan model.Usage, 1)}
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

// Use sends what the tasks use, or drops it where that is not taken at once; it never blocks.
func (c *Client) Use(u model.Usage) {
	select {
	case c.usage <- u:
	default:
	}
}

// maxBatch is how many reports one message carries.
const maxBatch = 256

// Run opens a session and, when it is lost, another, until ctx is done. The pauses between attempts are random, so that nodes which lost
// the same server do not come back together, and grow until one is welcomed.
func (c *Client) Run(ctx context.Context) error {
	if c.Memory != nil {
		var err error
		if c.seen, c.past, err = c.Memory.Load(); err != nil {
			return fmt.Errorf("what this node has seen of its servers: %w", err)
		}
	}
	limit := timeouts.SessionRetry
	for {
		welcomed, err := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if welcomed {
			limit = timeouts.SessionRetry
		}
		wait := rand.N(limit)
		if said, ok := errors.AsType[*Refused](err); ok {
			wait += said.RetryAfter
		}
		c.Log.Warn("there is no session with a server", "reason", err, "again in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		limit = min(2*limit, timeouts.SessionLonger)
	}
}

// session runs one session until it is lost. welcomed tells that the server took the node in.
func (c *Client) session(ctx context.Context) (welcomed bool, err error) {
	conn, err := c.Dial(ctx)
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := c.open(ctx, conn); err != nil {
		return false, err
	}
	c.sendAgain()
	s := &clientSession{c: c, conn: conn, epoch: c.seen.Epoch, blocks: make(chan *Blocks)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.receive(ctx) })
	g.Go(func() error { return s.send(ctx) })
	g.Go(func() error { return s.talkNetwork(ctx) })
	return true, g.Wait()
}

// open says hello and waits to be welcomed by a server whose state is not older than what the node has seen.
func (c *Client) open(ctx context.Context, conn Conn) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.SessionOpen)
	defer cancel()
	if err := conn.Send(ctx, Message{Hello: &Hello{Declaration: c.Declare(), Seen: c.seen}}); err != nil {
		if _, why := conn.Recv(ctx); why != nil {
			err = why
		}
		return fmt.Errorf("say hello: %w", err)
	}
	m, err := conn.Recv(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("wait to be welcomed: %w", err)
	case m.Refused != nil:
		return m.Refused
	case m.Welcome == nil:
		return errors.New("the server did not answer hello with welcome")
	}
	return c.learn(m.Welcome.Seen)
}

// pastKept is how many incarnations a node remembers that it has left.
const pastKept = 32

// learn notes what a server says of its state, or tells why it is no server for this node.
func (c *Client) learn(now Seen) error {
	switch {
	case now.Incarnation == c.seen.Incarnation && now.Epoch <= c.seen.Epoch:
		return refused(timeouts.SessionRefused, "the server's state is older than what this node has seen of it (session %d after session %d): was a disk "+
			"put back? Restore a backup with berth restore, which nodes accept", now.Epoch, c.seen.Epoch)
	case now.Incarnation == c.seen.Incarnation:
	case slices.Contains(c.past, now.Incarnation):
		return refused(timeouts.SessionRefused, "the server has the state from before a backup was restored (%s, and this node knows %s): it must not "+
			"run beside the restored one", now.Incarnation, c.seen.Incarnation)
	case c.seen.Epoch > 0:
		c.past = append(c.past[max(0, len(c.past)+1-pastKept):], c.seen.Incarnation)
	}
	c.seen = now
	if c.Memory == nil {
		return nil
	}
	if err := c.Memory.Save(c.seen, c.past); err != nil {
		c.Log.Error("what this node has seen of its servers is not saved", "error", err)
	}
	return nil
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
	blocks   chan *Blocks          // those that came, on their way to talkNetwork
	peers    map[string]model.Peer // receive's alone, as groups
	groups   guard
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
		case m.Peers != nil:
			s.hearPeers(m.Peers)
		case m.Groups != nil:
			s.hearGroups(m.Groups)
		case m.Blocks != nil:
			select {
			case s.blocks <- m.Blocks:
			case <-ctx.Done():
				return ctx.Err()
			}
		case m.Call != nil:
			if s.c.OnCall != nil {
				s.c.OnCall(*m.Call)
			}
		case m.Servers != nil:
			if s.c.OnServers != nil {
				s.c.OnServers(*m.Servers)
			}
		case m.Assignments != nil:
			a := m.Assignments
			if a.Full {
				have = map[string]model.Assignment{}
			}
			if have == nil {
				return errors.New("the first assignments are not the full set")
			}
			s.apply(a, have)
		}
	}
}

// apply changes what the node has, and tells the agent when the set is whole.
func (s *clientSession) apply(a *Assignments, have map[string]model.Assignment) {
	for _, p := range a.Put {
		have[p.Task.ID] = p
	}
	for _, id := range a.Remove {
		delete(have, id)
	}
	if a.More {
		return
	}
	s.mu.Lock()
	s.revision = a.Revision
	s.mu.Unlock()
	all := make([]model.Assignment, 0, len(have))
	for _, id := range slices.Sorted(maps.Keys(have)) {
		all = append(all, have[id])
	}
	if s.c.OnKeep != nil {
		s.c.OnKeep(a.Keep)
	}
	s.c.OnAssign(all)
}

func (s *clientSession) send(ctx context.Context) error {
	tick := time.NewTicker(s.c.Heartbeat)
	defer tick.Stop()
	var look <-chan time.Time
	if s.c.Beats != nil {
		looks := time.NewTicker(timeouts.BeatPasses)
		defer looks.Stop()
		look = looks.C
	}
	var batch uint64
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look:
			if s.c.Beats() {
				continue
			}
			if err := s.heartbeat(ctx, true); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.heartbeat(ctx, false); err != nil {
				return err
			}
		case u := <-s.c.usage:
			if err := s.conn.Send(ctx, Message{Usage: &u}); err != nil {
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

func (s *clientSession) heartbeat(ctx context.Context, noBeats bool) error {
	s.mu.Lock()
	beat := Heartbeat{Epoch: s.epoch, Revision: s.revision, NoBeats: noBeats}
	s.mu.Unlock()
	if s.c.Kept != nil {
		beat.Kept = s.c.Kept()
	}
	return s.conn.Send(ctx, Message{Heartbeat: &beat})
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
