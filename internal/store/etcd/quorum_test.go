package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/storetest"
)

// TestFollowersKeepWarmMirrors: what the leader commits is on the others, with its revision, told to their watchers and followers; they
// refuse Updates by the leader's name.
func TestFollowersKeepWarmMirrors(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	var follower storetest.Shadow
	if f.leaderName() == "s2" {
		if err := f.up["s2"].Transfer(ctx); err != nil {
			t.Fatal(err)
		}
		until(f.up["s2"], func(r Role) bool { return !r.Leading })
	}
	s2 := f.up["s2"]
	s2.Follow(&follower)
	w := s2.Watch(ctx, store.Tasks.All())
	for i := range 20 {
		if err := f.write(fmt.Sprint("f", i)); err != nil {
			t.Fatal(err)
		}
	}
	err := f.leader().Update(ctx, func(tx store.Tx) error {
		store.Tasks.Put(tx, &model.Task{ID: "t", Cluster: "c", NodeID: "n", Observed: model.Observed{Seq: 1}})
		store.Families.Delete(tx, "f0")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = f.leader().Update(ctx, func(tx store.Tx) error { // its part alone
		was, _ := store.Tasks.Get(tx, "t")
		now := *was
		now.Observed.Seq = 2
		store.Tasks.Put(tx, &now)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var revision uint64
	f.leader().View(func(r store.Reader) { revision = r.Revision() })
	for _, name := range []string{"s2", "s3"} {
		f.eventually(name+" follows", func() (err error) {
			f.up[name].View(func(r store.Reader) {
				task, ok := store.Tasks.Get(r, "t")
				if r.Revision() != revision || !ok || task.Observed.Seq != 2 || task.NodeID != "n" || len(ids(r)) != 1 {
					err = fmt.Errorf("revision %d of %d, task %+v", r.Revision(), revision, task)
				}
			})
			return err
		})
		f.same(name)
	}
	if follower.Names() != names(s2) {
		t.Errorf("the follower knows %q of %q", follower.Names(), names(s2))
	}
	<-w.C()
	if b := w.Take(); len(b.Changes) == 0 {
		t.Errorf("the watcher was told %+v", b)
	}
	err = put(s2, "x")
	var refused *store.NotLeaderError
	if !errors.As(err, &refused) || refused.Leader != f.leaderName() || !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("an update on a follower: %v", err)
	}
	if err := s2.Confirm(ctx); !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("a follower confirms: %v", err)
	}
	if err := f.leader().Confirm(ctx); err != nil {
		t.Errorf("the leader does not confirm: %v", err)
	}
	if err := errors.Join(s2.Contact(ctx), f.leader().Contact(ctx)); err != nil {
		t.Errorf("without contact: %v", err)
	}
}

func ids(r store.Reader) (all []string) {
	for t := range store.Tasks.By(r, store.ByNode, "n") {
		all = append(all, t.ID)
	}
	return all
}

// TestTheNextLeaderGoesOn kills leaders, and cuts them off: what was acknowledged is there, what a deposed one still writes is not, and it
// follows when it is back.
func TestTheNextLeaderGoesOn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	if err := f.write("a"); err != nil {
		t.Fatal(err)
	}
	dead := f.leaderName()
	f.kill(dead)
	f.eventually("write on two servers", func() error { return f.write("b") })
	f.start(dead, nil)
	f.same(dead)
	lonely := f.leaderName()
	s := f.up[lonely]
	f.cut(lonely, true)
	late := make(chan error, 1)
	go func() { late <- put(s, "late") }()
	if err := s.Confirm(t.Context()); err == nil { // it cannot know any more
		t.Error("a leader that was cut off confirms its state")
	}
	if err := s.Contact(t.Context()); err == nil {
		t.Error("a leader that was cut off is in contact with itself")
	}
	if err := <-late; !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("a write of a leader that was cut off: %v", err)
	}
	delete(f.up, lonely)
	f.eventually("write without it", func() error { return f.write("c") })
	f.up[lonely] = s
	f.cut(lonely, false)
	f.same(lonely)
	if got := names(s); !strings.HasPrefix(got, "a b c") {
		t.Errorf("it shows %q", got)
	}
}

// TestADeposedLeaderCommitsNothing has one write with its old fence after another has taken over.
func TestADeposedLeaderCommitsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	old := f.leader()
	fence := old.fence
	if err := old.Transfer(ctx); err != nil {
		t.Fatal(err)
	}
	f.eventually("another leads", func() error {
		if f.leader() == old {
			return errors.New("not yet")
		}
		return f.write("a")
	})
	f.eventually("the old one follows", func() error {
		if names(old) != "a" {
			return errors.New("not yet")
		}
		return nil
	})
	m := old.member.Load()
	mute := &Store{patience: patience, fence: fence} // its requests are forwarded, as raft's are
	if _, err := mute.write(ctx, m, fenceOf(writerOf(fence), 99), nil); !errors.Is(err, errFenced) {
		t.Errorf("a deposed leader's commit: %v", err)
	}
}

// TestALoneServerGrowsAndShrinks: one that had no listener gets one while it is used, two more join, and leave again.
func TestALoneServerGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	f := &fleet{t: t, pki: certificates(t), dirs: map[string]string{}, peers: map[string]*Peers{}, up: map[string]*Store{}}
	p := f.peersOf("s1")
	s := openFlaky(t, f.dirs["s1"], &flaky{})
	f.up["s1"] = s
	if err := put(s, "a"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() { // no update fails meanwhile
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := put(s, "busy"); err != nil {
				done <- err
				return
			}
		}
	}()
	began := time.Now()
	if err := s.Reconfigure(ctx, p); err != nil {
		t.Fatal(err)
	}
	t.Log("a listener after", time.Since(began))
	f.join("s2")
	f.join("s3")
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("an update failed: %v", err)
	}
	if err := put(s, "b"); err != nil {
		t.Fatal(err)
	}
	f.same("s2")
	f.same("s3")
	for _, name := range []string{"s2", "s3"} {
		f.eventually("remove "+name, func() error {
			for _, m := range f.leader().Members() {
				if m.Name == name {
					return f.leader().Remove(ctx, m.ID)
				}
			}
			return nil
		})
		if role := until(f.up[name], func(r Role) bool { return r.Removed }); !role.Removed {
			t.Errorf("%s does not know that it was removed: %+v", name, role)
		}
		f.kill(name)
	}
	if err := f.write("c"); err != nil || names(s) != "a b busy c" {
		t.Errorf("%v, %q", err, names(s))
	}
	delete(f.up, "s1")
}

// until waits for a role.
func until(s *Store, is func(Role) bool) Role {
	late := time.After(time.Minute)
	for {
		role, changed := s.Role()
		if is(role) {
			return role
		}
		select {
		case <-changed:
		case <-late:
			return role
		}
	}
}

// TestAQuorumIsLostForGood: of three servers two are gone; the third goes on alone when it is told so, and lets another in.
func TestAQuorumIsLostForGood(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	if err := f.write("a"); err != nil {
		t.Fatal(err)
	}
	f.same("s3")
	for _, name := range []string{"s1", "s2", "s3"} {
		f.kill(name)
	}
	r, err := Peek(f.dirs["s3"], store.Schema())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := store.Families.Get(r, "a"); !ok {
		t.Error("its disk does not show what it had")
	}
	f.peers["s3"].together, f.peers["s3"].Forced = "", true
	f.start("s3", nil)
	if err := f.write("b"); err != nil || names(f.up["s3"]) != "a b" {
		t.Errorf("%v, %q", err, names(f.up["s3"]))
	}
	if err := f.up["s3"].Close(); err != nil {
		t.Error(err)
	}
	f.peers["s3"].Forced = false
	f.start("s3", nil)
	f.join("s4")
	f.same("s4")
}

// BenchmarkTakeOver kills the leader of three servers and measures how long the next write takes to be acknowledged, what a commit takes,
// and whether anything acknowledged is lost.
func BenchmarkTakeOver(b *testing.B) {
	f := newFleet(b, 3)
	var took, commits []time.Duration
	acked := map[string]bool{}
	write := func(name string) {
		if err := f.write(name); err != nil {
			b.Fatal(err)
		}
		acked[name] = true
	}
	for b.Loop() {
		for i := range 50 {
			began := time.Now()
			write(fmt.Sprint("c", len(took), "-", i))
			commits = append(commits, time.Since(began))
		}
		name := f.leaderName()
		began := time.Now()
		f.kill(name)
		f.eventually("write on two servers", func() error { return f.write(fmt.Sprint("n", len(took))) })
		took = append(took, time.Since(began))
		f.start(name, nil)
		f.same(name)
	}
	lost := 0
	f.leader().View(func(r store.Reader) {
		for name := range acked {
			if _, ok := store.Families.Get(r, name); !ok {
				lost++
			}
		}
	})
	slices.Sort(took)
	slices.Sort(commits)
	b.ReportMetric(took[len(took)/2].Seconds(), "takeover-p50-s")
	b.ReportMetric(took[len(took)-1].Seconds(), "takeover-max-s")
	b.ReportMetric(float64(commits[len(commits)/2].Microseconds())/1000, "commit-p50-ms")
	b.ReportMetric(float64(commits[len(commits)*99/100].Microseconds())/1000, "commit-p99-ms")
	b.ReportMetric(float64(lost), "lost")
	b.ReportMetric(0, "ns/op")
}
