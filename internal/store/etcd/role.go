package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/store"
)

// leadPoll is the pause between two looks at whether raft still has a leader: it tells of a new one only.
const leadPoll = 50 * time.Millisecond

// transferPatience is how long another member may take to become the leader when this one hands over.
const transferPatience = 2 * time.Second

// Role is what a server is to the others at a moment.
type Role struct {
	Leading bool   // its Updates are taken; it alone writes
	Leader  string // the id of the server that leads, "" while there is none
	Reign   uint64 // rises each time that this server begins to lead
	Removed bool   // the others took it off their list: it shall end
}

// office is a role and what belongs to it.
type office struct {
	Role
	changed chan struct{} // closed when another office takes this one's place
	coming  bool          // this server is about to lead: an Update waits
	term    uint64        // of raft, while leading
}

// Role tells the role, and returns a channel that is closed when it is another.
func (s *Store) Role() (Role, <-chan struct{}) {
	o := s.office.Load()
	return o.Role, o.changed
}

// turn takes up an office. Needs mu.
func (s *Store) turn(next office) {
	old := s.office.Load()
	if old != nil && next.Role == old.Role && next.coming == old.coming && next.term == old.term {
		return
	}
	next.changed = make(chan struct{})
	s.office.Store(&next)
	if old != nil {
		close(old.changed)
	}
}

// Confirm returns nil once it is sure that this server led, after the call began, with everything in View that was ever acknowledged. One
// question to the others serves all who wait; a server without others needs none. Errors: store.ErrNotLeader, ctx's, etcd's.
func (s *Store) Confirm(ctx context.Context) error {
	o, m := s.office.Load(), s.member.Load()
	if !o.Leading {
		return &store.NotLeaderError{Leader: o.Leader}
	}
	if m.alone || m.voters() == 1 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-o.changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := m.etcd.Server.LinearizableReadNotify(ctx)
	now := s.office.Load()
	if !now.Leading || now.Reign != o.Reign || m.etcd.Server.Term() != o.term {
		return &store.NotLeaderError{Leader: now.Leader}
	}
	if err != nil {
		return fmt.Errorf("ask the other servers who leads: %w", err)
	}
	return nil
}

// Contact returns nil once a leader that a majority follows has heard of this server, which may be that leader, after the call began. A server
// without others needs nobody. Errors: store.ErrNotLeader while there is none, ctx's, etcd's.
func (s *Store) Contact(ctx context.Context) error {
	m := s.member.Load()
	if m.sole() {
		return nil
	}
	if m.leader() == "" {
		return &store.NotLeaderError{}
	}
	return m.etcd.Server.LinearizableReadNotify(ctx)
}

// serve is the store's one goroutine that follows, takes over, commits and steps down, until the store closes.
func (s *Store) serve() {
	defer close(s.stopped)
	defer s.failQueue(store.ErrClosed)
	for !s.closing() {
		if s.office.Load().Leading {
			s.lead()
		} else {
			s.follow()
		}
	}
}

func (s *Store) closing() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// wish is one for another Config.
type wish struct {
	to   Config
	done chan error
}

// Reconfigure restarts etcd with other Peers, within a second or so. Updates wait meanwhile; Views and watchers notice nothing.
func (s *Store) Reconfigure(ctx context.Context, p *Peers) error {
	c := s.config()
	c.Peers = p
	w := wish{c, make(chan error, 1)}
	for _, step := range []func() (bool, error){
		func() (bool, error) {
			select {
			case s.changes <- w:
				return true, nil
			case <-s.stopped:
				return false, store.ErrClosed
			case <-ctx.Done():
				return false, ctx.Err()
			}
		},
		func() (bool, error) {
			select {
			case err := <-w.done:
				return true, err
			case <-ctx.Done():
				return false, ctx.Err()
			}
		},
	} {
		if ok, err := step(); !ok || err != nil {
			return err
		}
	}
	return nil
}

// restart does what Reconfigure asks for. When etcd does not start so, it starts as it was.
func (s *Store) restart(w wish) {
	old := s.config()
	s.mu.Lock()
	now := s.office.Load()
	s.turn(office{Role: Role{Reign: now.Reign}, coming: true})
	s.mu.Unlock()
	err := s.member.Load().stop()
	if err != nil {
		s.log.Warn("etcd did not stop cleanly", "error", err)
	}
	ctx, cancel := s.untilStop()
	defer cancel()
	m, err := run(ctx, w.to)
	if err == nil {
		s.conf.Store(&w.to)
		s.member.Store(m)
		w.done <- nil
		return
	}
	w.done <- err
	s.resume(old)
}

// untilStop is a context that ends when the store closes.
func (s *Store) untilStop() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// pause waits; less when the store closes.
func (s *Store) pause(d time.Duration) {
	select {
	case <-s.stop:
	case <-time.After(d):
	}
}
