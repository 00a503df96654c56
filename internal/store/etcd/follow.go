package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berthdev/berth/internal/store"
)

// everything is the prefix of all keys that the store has in etcd.
const everything = "/berth"

// startPause is the pause before another attempt at what failed: to start etcd, to load the state.
const startPause = time.Second

var errElection = errors.New("another election came between")

// follow keeps the mirror warm by what etcd tells of each commit, until this server has taken the lead, etcd must restart, or the state
// has to be loaded anew.
func (s *Store) follow() {
	ctx, cancel := s.untilStop()
	defer cancel()
	m := s.member.Load()
	events := m.kv.Watch(ctx, everything, clientv3.WithPrefix(), clientv3.WithRev(s.at+1))
	tick := time.NewTicker(leadPoll)
	defer tick.Stop()
	space := time.NewTicker(spacePoll)
	defer space.Stop()
	var asked chan int64 // the answer to how far the mirror has to be before this server may lead
	goal := int64(-1)    // the answer
	for {
		leads := s.look(m)
		switch {
		case !leads:
			goal = -1
		case goal >= 0 && s.at >= goal:
			if err := s.takeFence(ctx, m); err == nil {
				return
			} else if !errors.Is(err, errFenced) && !errors.Is(err, errElection) && ctx.Err() == nil { // etcd will tell what another wrote meanwhile
				s.log.Warn("cannot take the lead yet", "error", err)
			}
			goal = -1
		case goal < 0 && asked == nil:
			asked = s.ask(ctx, m)
		}
		select {
		case <-s.stop:
			return
		case w := <-s.changes:
			cancel()
			s.restart(w)
			return
		case <-m.etcd.Server.StopNotify():
			s.ended(m)
			return
		case <-m.etcd.Server.LeaderChangedNotify():
		case <-tick.C:
		case <-space.C:
			if !m.sole() && !s.room.keeps() {
				cancel()
				s.park(m)
				return
			}
		case goal = <-asked:
			asked = nil
		case res, ok := <-events:
			if err := s.absorb(res, ok); err != nil {
				cancel()
				s.reload(err)
				return
			}
		}
	}
}

// look tells whether raft has this member lead, and whom others should turn to.
func (s *Store) look(m *member) bool {
	leads := m.leads()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := *s.office.Load()
	o.Leader, o.coming = m.leader(), leads || m.sole()
	s.turn(o)
	return leads
}

// ask asks, of a leader that a majority follows, which of etcd's revisions wrote the fence last: all commits there are. The answer is -1
// when there is none.
func (s *Store) ask(ctx context.Context, m *member) chan int64 {
	answer := make(chan int64, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, s.patience)
		defer cancel()
		res, err := m.kv.Get(ctx, fenceKey, clientv3.WithKeysOnly())
		switch {
		case err != nil:
			answer <- -1
		case len(res.Kvs) == 0:
			answer <- 0
		default:
			answer <- res.Kvs[0].ModRevision
		}
	}()
	return answer
}

// takeFence makes this process the one that writes: commits that others began before do not happen any more.
func (s *Store) takeFence(ctx context.Context, m *member) error {
	term := m.etcd.Server.Term()
	mine := fenceOf(uuid.NewString(), s.published.Load().Revision())
	at, err := s.write(ctx, m, mine, nil)
	if err != nil {
		return fmt.Errorf("take the store over: %w", err)
	}
	s.fence, s.at = mine, at
	if m.etcd.Server.Term() != term || !m.leads() {
		return errElection
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.office.Load()
	s.turn(office{Role: Role{Leading: true, Leader: m.leader(), Reign: now.Reign + 1}, term: term})
	return nil
}

// absorb makes what etcd tells of visible: all events of one revision at once. It returns why the mirror cannot go on from where it is.
func (s *Store) absorb(res clientv3.WatchResponse, open bool) error {
	if err := res.Err(); err != nil {
		return err
	}
	if !open {
		return errors.New("etcd does not tell of changes any more")
	}
	for events := res.Events; len(events) > 0; {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		if err := s.absorbOne(events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// absorbOne makes a commit of another server's visible.
func (s *Store) absorbOne(events []*clientv3.Event) error {
	rows, fence, err := s.decode(events)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.ahead.Begin()
	for at, got := range rows {
		if value := got.over(s.ahead.GetRow(at.table, at.key)); value != nil {
			tx.PutRow(at.table, at.key, value)
		} else {
			tx.DeleteRow(at.table, at.key)
		}
	}
	changes := tx.Changes()
	state := tx.Commit()
	if fence != "" {
		s.fence = fence
		state = state.At(revisionOf(fence))
	}
	s.ahead = state
	s.published.Store(state)
	s.at = events[0].Kv.ModRevision
	if len(changes) > 0 {
		s.followers.Apply(changes)
		s.hub.Notify(changes)
	}
	return nil
}

// told is what one commit says of a row: of its rest, its part, or both.
type told struct {
	kind         store.Kind
	rest, part   any // nil: deleted
	hasRest, has bool
}

// decode reads a commit's events. What a newer version wrote into tables that this one does not know stays where it is.
func (s *Store) decode(events []*clientv3.Event) (rows map[place]told, fence string, err error) {
	rows = map[place]told{}
	for _, e := range events {
		key := string(e.Kv.Key)
		if key == fenceKey {
			fence = string(e.Kv.Value)
			continue
		}
		deleted := e.Type == clientv3.EventTypeDelete
		var err error
		i, isPart, known := locate(s.byName, key)
		if known && !deleted {
			i, _, err = read(s.byName, key, e.Kv.Value)
		}
		if err != nil {
			return nil, "", fmt.Errorf("%w: row %s of table %s: %w", errDamaged, i.key, i.table, err)
		}
		if !known {
			continue
		}
		t := rows[i.place]
		t.kind = i.kind
		if isPart {
			t.part, t.has = i.value, true
		} else {
			t.rest, t.hasRest = i.value, true
		}
		rows[i.place] = t
	}
	return rows, fence, nil
}

// over is the row that it makes of the old one; nil: there is none any more.
func (t told) over(old any) any {
	part := t.kind.Part
	switch {
	case part == nil, t.hasRest && t.rest == nil:
		return t.rest
	case t.hasRest && t.has && t.part != nil:
		part.Join(t.rest, t.part)
		return t.rest
	case t.hasRest:
		if old != nil {
			_, own := part.Split(old)
			part.Join(t.rest, own)
		}
		return t.rest
	case old == nil || t.part == nil:
		return old
	}
	rest, _ := part.Split(old)
	part.Join(rest, t.part)
	return rest
}

// reload loads the state anew: the mirror is so far behind that etcd has forgotten what came next.
func (s *Store) reload(why error) {
	if s.closing() {
		return
	}
	s.log.Warn("the state is loaded anew", "reason", why)
	ctx, cancel := s.untilStop()
	defer cancel()
	if err := s.load(ctx); err != nil {
		if !s.closing() {
			s.log.Error("cannot load the state", "error", err)
		}
		s.pause(startPause)
		return
	}
	s.hub.NotifyAll()
}

// ended waits for the end of the store: the others have removed this server, and its etcd has stopped.
func (s *Store) ended(m *member) {
	s.log.Error("etcd has ended: the other servers have removed this one")
	s.mu.Lock()
	s.turn(office{Role: Role{Reign: s.office.Load().Reign, Removed: true}})
	s.mu.Unlock()
	select {
	case <-s.stop:
	case w := <-s.changes:
		s.restart(w)
	}
}
