// Package life finds out which nodes live, on the server that leads: it gathers what is heard of them (beats here and at other servers,
// sessions, answers to probes), has plan/judge decide, and stores verdicts in the nodes' rows. One row is all that a verdict writes: what
// clients see of tasks and instances is worked out from it, and control replaces what is to be replaced.
package life

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/judge"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what Life needs.
type Config struct {
	Store store.Store
	// Local is the node of this process, which lives as long as it does; "" for none.
	Local string
	// Health tells what is wrong with the machine of Local, which does not beat to itself; nil: nothing.
	Health func() beat.Health
	// Name is this server's.
	Name string
	// Leads tells whether this server's verdicts count; nil: always.
	Leads func() bool
	// Kernel tells whether the kernel of a machine answers at that address; nil: by a TCP connection to the cluster port. It has
	// judge.Probing.
	Kernel func(ctx context.Context, address string) bool
	Now    func() time.Time // with a monotonic clock; nil means time.Now
	Log    *slog.Logger
}

// Hearing is where else a server hears of nodes.
type Hearing struct {
	Beats *beat.Server
	// Key is the key of a node's packets.
	Key func(node string) beat.Key
	// Others are the other servers, now.
	Others func() []Other
}

// Other is another server.
type Other interface {
	Name() string
	// Hear asks what it knows of nodes of which this one hears nothing, and to probe them.
	Hear(ctx context.Context, nodes []string) (map[string]Signs, error)
}

// Signs are how long ago a server heard of a node; below 0: never.
type Signs struct {
	Beat, Agent, Keeper time.Duration
	Health              beat.Health // of the last beat
}

// Life judges the nodes of a store.
type Life struct {
	Config
	began time.Time
	nudge chan struct{}

	mu      sync.Mutex
	hearing Hearing
	heardAt time.Time // when hearing began
	nodes   map[string]*node
	order   []*node
	hold    judge.Hold
	dialing int
	saying  bool      // verdicts are being stored
	asked   time.Time // when other servers were last asked of lost nodes

	late   time.Duration // only Run touches these
	lateAt time.Time
	input  []judge.Node
	times  []time.Time
}

// node is what is known of one node besides its beats here.
type node struct {
	row     *model.Node
	id      beat.ID
	named   bool      // id is valid
	since   time.Time // when its verdict was first seen
	told    bool
	asked   time.Time
	kernel  time.Time
	session time.Time
	stream  time.Time
	others  map[string]heard // by server
}

// heard is what another server said of a node.
type heard struct {
	beat, agent, keeper time.Time
	health              beat.Health
	said                time.Time // when the server last answered, whether it hears the node or not
}

// New makes a Life. It judges nothing before Run.
func New(c Config) *Life {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Kernel == nil {
		c.Kernel = dialKernel
	}
	return &Life{Config: c, began: c.Now(), nudge: make(chan struct{}, 1), nodes: map[string]*node{}}
}

// Listen begins to hear beats.
func (l *Life) Listen(h Hearing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hearing, l.heardAt = h, l.Now()
	for _, n := range l.order {
		l.introduce(n)
	}
	l.wake()
}

// Session notes that something came in a node's session. noBeats: it says that its beats do not get through.
func (l *Life) Session(id string, noBeats bool) {
	now := l.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[id]; n != nil {
		n.session = now
		if noBeats {
			n.stream = now
		}
	}
}

// Bye has the nodes judged at once: one has said that its machine shuts down.
func (l *Life) Bye(beat.ID) { l.wake() }

// Heard is when a node last gave a sign of life here; false for never.
func (l *Life) Heard(id string) (at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[id]
	if n == nil {
		return at, false
	}
	if id == l.Local {
		return l.Now(), true
	}
	at = n.stream
	if l.hearing.Beats != nil && n.named {
		if h, ok := l.hearing.Beats.Heard(n.id); ok {
			at = latest(at, h.Last, h.Agent, h.Keeper)
		}
	}
	if at.IsZero() {
		at = n.session
	}
	return at, !at.IsZero()
}

// Confirm says that the nodes that are silent are lost, though they are most of them; false when no verdict waits for that.
func (l *Life) Confirm() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hold.Since.IsZero() {
		return false
	}
	l.hold.Confirmed = true
	l.wake()
	return true
}

// wake makes Run look now.
func (l *Life) wake() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// Run judges until ctx is done.
func (l *Life) Run(ctx context.Context) error {
	rows := l.Store.Watch(ctx, store.Nodes.All())
	l.take(store.Batch{All: true})
	timer := time.NewTimer(0)
	defer timer.Stop()
	planned := l.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-rows.C():
			if !ok {
				return nil
			}
			l.take(rows.Take())
		case <-l.nudge:
		case <-timer.C:
			l.noteLate(planned)
		}
		next := l.look(ctx)
		wait := min(max(next.Sub(l.Now()), timeouts.LifeLeast), timeouts.LifeMost)
		if next.IsZero() {
			wait = timeouts.LifeMost
		}
		planned = l.Now().Add(wait)
		timer.Reset(wait)
	}
}

// noteLate notes how late this process runs.
func (l *Life) noteLate(planned time.Time) {
	now := l.Now()
	if late := now.Sub(planned); late > timeouts.LifeLate {
		l.late, l.lateAt = late, now
		l.Log.Warn("this process ran late: verdicts wait", "by", late)
	}
}

// take takes in what has changed of nodes.
func (l *Life) take(b store.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !b.All {
		for _, c := range b.Changes {
			if row, ok := c.New.(*model.Node); ok {
				l.put(row)
			} else {
				l.drop(c.Key)
			}
		}
		return
	}
	known := map[string]bool{}
	l.Store.View(func(r store.Reader) {
		for row := range store.Nodes.Scan(r, "") {
			known[row.ID] = true
			l.put(row)
		}
	})
	for id := range l.nodes {
		if !known[id] {
			l.drop(id)
		}
	}
}

// put takes in a node's row. mu is held.
func (l *Life) put(row *model.Node) {
	n := l.nodes[row.ID]
	if n == nil {
		n = &node{others: map[string]heard{}}
		id, err := beat.ParseID(row.ID)
		n.id, n.named = id, err == nil
		l.nodes[row.ID] = n
		l.order = append(l.order, n)
	}
	old := n.row
	if n.row = row; old == nil || old.Life.Verdict != row.Life.Verdict || old.Life.Cause != row.Life.Cause {
		n.since, n.told = l.Now(), false
	}
	if old == nil || old.Address != row.Address {
		l.introduce(n)
	}
	if row.Connected && (old == nil || old.Epoch != row.Epoch) {
		n.session = l.Now()
	}
}

func (l *Life) drop(id string) {
	n := l.nodes[id]
	if n == nil {
		return
	}
	delete(l.nodes, id)
	for i, other := range l.order {
		if other == n {
			l.order = append(l.order[:i], l.order[i+1:]...)
			break
		}
	}
	if l.hearing.Beats != nil && n.named {
		l.hearing.Beats.Drop(n.id)
	}
}

// look judges once and returns when to look again.
func (l *Life) look(ctx context.Context) time.Time {
	leads := l.Leads == nil || l.Leads()
	l.mu.Lock()
	in := l.gather()
	if !leads {
		l.hold = judge.Hold{}
		l.mu.Unlock()
		return time.Time{}
	}
	out := judge.Judge(in)
	l.hold = out.Hold
	for _, note := range out.Notes {
		l.say(note)
	}
	l.ask(ctx, out.Ask)
	l.askOfLost(ctx, in)
	if len(out.Verdicts) > 0 && !l.saying { // a busy disk must not keep others from being asked; what is not said now is said by the next look
		l.saying = true
		go l.tell(ctx, out.Verdicts)
	}
	l.mu.Unlock()
	return out.Next
}

// tell stores verdicts, and then has the nodes looked at again.
func (l *Life) tell(ctx context.Context, all []judge.Verdict) {
	if err := l.pronounce(ctx, all); err != nil && ctx.Err() == nil {
		l.Log.Error("verdicts cannot be stored", "nodes", len(all), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(timeouts.LifeRetry):
		}
	}
	l.mu.Lock()
	l.saying = false
	l.mu.Unlock()
	l.wake()
}

func (l *Life) say(note judge.Note) {
	if n := l.nodes[note.Node]; n != nil {
		n.told = true
		l.Log.Warn(note.Text, "node", note.Node, "host", n.row.Hostname)
		return
	}
	l.Log.Warn(note.Text)
}

// words spell what is wrong with a machine.
func words(h beat.Health) string { return strings.Join((h & beat.Impaired).Words(), " and ") }

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
