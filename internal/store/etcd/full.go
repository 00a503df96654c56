package etcd

import (
	"context"
	"time"
)

// spacePoll is the pause between two looks of a follower at its disk, handOverEvery that between two attempts of a leader to have another lead.
const (
	spacePoll     = time.Second
	handOverEvery = 30 * time.Second
)

// handOver has another server lead, as this one's disk is full. If that one's is, too, it hands over in its turn.
func (s *Store) handOver(ctx context.Context, m *member) {
	if m.sole() || time.Since(s.handed) < handOverEvery {
		return
	}
	s.handed = time.Now()
	s.log.Error("the disk is full: another server shall lead")
	s.handing.Go(func() {
		if err := s.Transfer(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("no other server leads, though this one's disk is full", "error", err)
		}
	})
}

// park stops etcd before it finds no room, which would end the process, and starts it again when there is some. The other servers go on.
func (s *Store) park(m *member) {
	s.log.Error("the disk is full: this server does not take part any more until some space is free; the others go on")
	s.mu.Lock()
	s.turn(office{Role: Role{Reign: s.office.Load().Reign}})
	s.mu.Unlock()
	if err := m.stop(); err != nil {
		s.log.Warn("etcd did not stop cleanly", "error", err)
	}
	for !s.room.back() {
		if s.pause(spacePoll); s.closing() {
			return
		}
	}
	s.resume(s.config())
}

// resume starts etcd, however often it takes.
func (s *Store) resume(c Config) {
	ctx, cancel := s.untilStop()
	defer cancel()
	for !s.closing() {
		m, err := run(ctx, c)
		if err == nil {
			s.member.Store(m)
			return
		}
		s.log.Error("cannot start etcd again", "error", err)
		s.pause(startPause)
	}
}

// back tells whether there is room for an etcd to start.
func (r *room) back() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := r.free()
	return err == nil && free >= reserve
}
