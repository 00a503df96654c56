package cast

import (
	"bufio"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// Applier takes the table and its changes: the proxy.
type Applier interface{ Change(proxy.Delta) }

// ReceiverConfig is what a Receiver is told. All are required.
type ReceiverConfig struct {
	// Servers are the addresses of the servers' cluster ports.
	Servers func() []string
	// Dial connects to one, for a protocol: peer.Dialer's Dial.
	Dial  func(ctx context.Context, address, protocol string) (net.Conn, error)
	Apply Applier
	Log   *slog.Logger
}

// Receiver is the machine's side.
type Receiver struct {
	c    ReceiverConfig
	wake chan struct{}

	mu       sync.Mutex
	targets  map[string]bool               // keys of those in the table, by which what is seen of others is forgotten
	groups   map[string][]string           // their keys, by group
	seen     map[string]model.TargetHealth // by target key
	said     map[string]string             // by listener
	health   map[string]bool               // keys of what is to be told
	problems map[string]bool
}

// NewReceiver makes a Receiver.
func NewReceiver(c ReceiverConfig) *Receiver {
	return &Receiver{c: c, wake: make(chan struct{}, 1), targets: map[string]bool{}, groups: map[string][]string{}, seen: map[string]model.TargetHealth{},
		said: map[string]string{}, health: map[string]bool{}, problems: map[string]bool{}}
}

// Health takes what the proxy sees of a target; it does not block.
func (r *Receiver) Health(h model.TargetHealth) {
	r.mu.Lock()
	r.seen[h.Key()], r.health[h.Key()] = h, true
	r.mu.Unlock()
	r.nudge()
}

// Problem takes why a listener's port is not served, "" when it is; it does not block.
func (r *Receiver) Problem(listener, problem string) {
	r.mu.Lock()
	r.said[listener], r.problems[listener] = problem, true
	r.mu.Unlock()
	r.nudge()
}

func (r *Receiver) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run has the proxy serve what the servers say, and tells them what it sees, until ctx is done. While no server answers the proxy goes on
// with what it has.
func (r *Receiver) Run(ctx context.Context) error {
	for n := 0; ctx.Err() == nil; n++ {
		all := r.c.Servers()
		if len(all) == 0 {
			all = []string{""}
		}
		began := time.Now()
		err := r.attend(ctx, all[n%len(all)])
		if ctx.Err() != nil {
			return nil
		}
		r.c.Log.Debug("no server says what the load balancers are", "server", all[n%len(all)], "reason", err)
		if time.Since(began) > timeouts.TableSilence { // it was good: it may only have been started anew
			n--
		}
		select {
		case <-ctx.Done():
		case <-time.After(timeouts.TableRetry/2 + rand.N(timeouts.TableRetry)):
		}
	}
	return nil
}

// attend listens to one server until the connection ends.
func (r *Receiver) attend(ctx context.Context, address string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := r.c.Dial(ctx, address, Protocol)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	in := bufio.NewReader(conn)
	var whole *proxy.Delta
	told := false
	for {
		m, err := receive(conn, in, timeouts.TableSilence)
		if err != nil {
			return err
		}
		if m.Delta == nil {
			continue
		}
		whole = join(whole, m.Delta)
		if m.More {
			continue
		}
		r.note(*whole)
		r.c.Apply.Change(*whole)
		whole = nil
		if !told { // whoever is told anything first is told all
			told = true
			r.all()
			telling.Go(func() {
				defer cancel()
				_ = r.tell(ctx, conn) // the next connection tells all
			})
		}
	}
}

func join(d, part *proxy.Delta) *proxy.Delta {
	if d == nil {
		return part
	}
	d.Join(*part)
	return d
}

// note keeps which targets there are, and forgets what was seen of others.
func (r *Receiver) note(d proxy.Delta) {
	r.mu.Lock()
	defer r.mu.Unlock()
	drop := func(group string) {
		for _, key := range r.groups[group] {
			delete(r.targets, key)
		}
		delete(r.groups, group)
	}
	if d.All {
		clear(r.targets)
		clear(r.groups)
	}
	for _, arn := range d.GoneGroups {
		drop(arn)
	}
	for _, g := range d.Groups {
		drop(g.ARN)
		for _, t := range g.Targets {
			key := model.TargetKey(g.ARN, t.ID, t.Port)
			r.targets[key] = true
			r.groups[g.ARN] = append(r.groups[g.ARN], key)
		}
	}
	maps.DeleteFunc(r.seen, func(key string, _ model.TargetHealth) bool { return !r.targets[key] })
	maps.DeleteFunc(r.health, func(key string, _ bool) bool { return !r.targets[key] })
}

// all has everything told.
func (r *Receiver) all() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.seen {
		r.health[key] = true
	}
	for arn := range r.said {
		r.problems[arn] = true
	}
	r.nudge()
}

// tellAtATime bounds the targets of one message.
const tellAtATime = 2000

// tell says what is seen, and that this machine lives.
func (r *Receiver) tell(ctx context.Context, conn net.Conn) error {
	beat := time.NewTicker(timeouts.TableBeat)
	defer beat.Stop()
	for {
		m := r.take()
		for len(m.Health)+len(m.Problems) > 0 {
			if err := send(conn, m); err != nil {
				return err
			}
			m = r.take()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-beat.C:
			if err := send(conn, &message{}); err != nil {
				return err
			}
		}
	}
}

// take is what is to be told next.
func (r *Receiver) take() *message {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &message{Problems: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(r.health)) {
		if len(m.Health) == tellAtATime {
			break
		}
		m.Health = append(m.Health, r.seen[key])
		delete(r.health, key)
	}
	for arn := range r.problems {
		m.Problems[arn] = r.said[arn]
	}
	clear(r.problems)
	return m
}
