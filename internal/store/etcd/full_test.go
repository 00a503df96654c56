package etcd

import (
	"errors"
	"testing"

	"github.com/berthdev/berth/internal/store"
)

// has makes a server see so much free disk, and no ballast.
func (f *fleet) has(name string, free uint64) {
	r := f.up[name].room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ballast = f.dirs[name] + "/none"
	r.free = func() (uint64, error) { return free, nil }
}

// TestAFullDiskOfOneServer: a leader whose disk is full hands over, a follower's etcd is stopped before it would end the process, the
// cluster goes on, and so does the server when there is room again.
func TestAFullDiskOfOneServer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	full := f.leaderName()
	s := f.up[full]
	f.has(full, reserve-1)
	if err := put(s, "refused"); !errors.Is(err, store.ErrFull) {
		t.Errorf("a write on a full disk: %v", err)
	}
	until(s, func(r Role) bool { return !r.Leading })
	f.eventually("write elsewhere", func() error { return f.write("a") })
	f.same(full)
	f.has(full, least-1)
	m := s.member.Load()
	<-m.etcd.Server.StopNotify()
	if err := f.write("b"); err != nil {
		t.Errorf("the others: %v", err)
	}
	if got := names(s); got != "a" {
		t.Errorf("what it showed last is %q", got)
	}
	f.has(full, 4*reserve)
	f.same(full)
}
