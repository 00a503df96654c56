package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/storetest"
)

var ctx = context.Background()

// flaky is an etcd whose transactions fail as told.
type flaky struct {
	kv
	mu    sync.Mutex
	count int
	// before and after, when not nil, are asked around each transaction by its number, from 0; an error is the answer.
	before, after func(n int) error
}

func (f *flaky) Txn(ctx context.Context) clientv3.Txn { return &flakyTxn{f.kv.Txn(ctx), f} }

type flakyTxn struct {
	clientv3.Txn
	f *flaky
}

func (t *flakyTxn) If(c ...clientv3.Cmp) clientv3.Txn  { t.Txn = t.Txn.If(c...); return t }
func (t *flakyTxn) Then(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(o...); return t }
func (t *flakyTxn) Else(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(o...); return t }

func (t *flakyTxn) Commit() (*clientv3.TxnResponse, error) {
	t.f.mu.Lock()
	n := t.f.count
	t.f.count++
	t.f.mu.Unlock()
	if t.f.before != nil {
		if err := t.f.before(n); err != nil {
			return nil, err
		}
	}
	res, err := t.Txn.Commit()
	if t.f.after != nil && err == nil {
		err = t.f.after(n)
	}
	return res, err
}

func openFlaky(t *testing.T, dir string, f *flaky) *Store {
	t.Helper()
	s, err := Open(ctx, Config{Dir: dir, Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f.kv = s.member.Load().kv
	s.member.Load().kv = f
	return s
}

func put(s *Store, name string) error {
	return s.Update(ctx, func(tx store.Tx) error { store.Families.Put(tx, &model.Family{Name: name}); return nil })
}

func names(s *Store) string {
	var all []string
	s.View(func(r store.Reader) {
		for f := range store.Families.Scan(r, "") {
			all = append(all, f.Name)
		}
	})
	return strings.Join(all, " ")
}

// TestFailedCommits has commits fail in every way and compares what callers were told, what is visible, and what is on the disk.
func TestFailedCommits(t *testing.T) {
	timeout := rpctypes.ErrTimeout
	only := func(failing int, err error) func(int) error {
		return func(n int) error {
			if n == failing {
				return err
			}
			return nil
		}
	}
	first := func(n int, err error) func(int) error {
		return func(i int) error {
			if i < n {
				return err
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		before, after func(int) error
		fails         bool   // the update of "b"
		want          string // after the updates of "b" and "c"
	}{
		"etcd refuses":                     {only(0, rpctypes.ErrNoSpace), nil, true, "a c"},
		"one answer is lost":               {nil, only(0, timeout), false, "a b c"},
		"one request is lost":              {only(0, timeout), nil, false, "a b c"},
		"all requests are lost":            {first(commitAttempts, timeout), nil, true, "a c"},
		"all answers are lost":             {nil, first(commitAttempts, timeout), true, "a b c"},
		"refused after an answer was lost": {only(1, rpctypes.ErrNoSpace), only(0, timeout), false, "a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := &flaky{}
			s := openFlaky(t, dir, f)
			if err := put(s, "a"); err != nil {
				t.Fatal(err)
			}
			var follower storetest.Shadow
			s.Follow(&follower)
			f.mu.Lock()
			f.count, f.before, f.after = 0, c.before, c.after
			f.mu.Unlock()
			if err := put(s, "b"); (err != nil) != c.fails {
				t.Errorf("the update that failed: %v", err)
			}
			if err := put(s, "c"); err != nil {
				t.Errorf("the next update: %v", err)
			}
			if got := names(s); got != c.want {
				t.Errorf("visible: %q, want %q", got, c.want)
			}
			if got := follower.Names(); got != c.want {
				t.Errorf("the follower knows %q, want %q", got, c.want)
			}
			s.Close()
			if got := names(openFlaky(t, dir, &flaky{})); got != c.want {
				t.Errorf("on the disk: %q, want %q", got, c.want)
			}
		})
	}
}

// TestStoreOutlivesALongFailure keeps etcd away for longer than a commit and its recovery try.
func TestStoreOutlivesALongFailure(t *testing.T) {
	f := &flaky{}
	s := openFlaky(t, t.TempDir(), f)
	f.before = func(n int) error {
		if n < 5*commitAttempts {
			return rpctypes.ErrTimeout
		}
		return nil
	}
	failures := 0
	for put(s, "x") != nil {
		if failures++; failures > 10 {
			t.Fatal("the store does not recover")
		}
		if got := names(s); got != "" {
			t.Errorf("visible although it failed: %q", got)
		}
	}
	if got := names(s); got != "x" || failures == 0 {
		t.Errorf("visible: %q, after %d failures", got, failures)
	}
}

// TestUpdatesOnTopOfAFailedOneFail queues updates that read what a failing one wrote.
func TestUpdatesOnTopOfAFailedOneFail(t *testing.T) {
	f := &flaky{}
	s := openFlaky(t, t.TempDir(), f)
	entered, leave := make(chan struct{}), make(chan struct{})
	f.before = func(n int) error {
		if n == 0 {
			close(entered)
			<-leave
			return rpctypes.ErrNoSpace
		}
		return nil
	}
	var follower storetest.Shadow
	s.Follow(&follower)
	results := make(chan error, 3)
	go func() { results <- put(s, "first") }()
	<-entered
	ran := make(chan bool, 2)
	for _, write := range []bool{true, false} { // the second writes nothing, but what it saw is not durable either
		go func() {
			results <- s.Update(ctx, func(tx store.Tx) error {
				_, saw := store.Families.Get(tx, "first")
				if write {
					store.Families.Put(tx, &model.Family{Name: "second"})
				}
				ran <- saw
				return nil
			})
		}()
		if !<-ran {
			t.Error("an update does not see the one before it")
		}
	}
	if got := follower.Names(); got != "first second" {
		t.Errorf("the follower knows %q while the commit goes on", got)
	}
	close(leave)
	for range 3 {
		if err := <-results; !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("got %v", err)
		}
	}
	if got := names(s); got != "" || follower.Names() != "" {
		t.Errorf("visible: %q; the follower knows %q", got, follower.Names())
	}
}

// TestQueuedUpdatesShareACommit holds a commit up and counts those that the updates behind it need.
func TestQueuedUpdatesShareACommit(t *testing.T) {
	f := &flaky{}
	s := openFlaky(t, t.TempDir(), f)
	const queued = 50
	entered, ran, leave := make(chan struct{}), make(chan struct{}, queued), make(chan struct{})
	f.before = func(n int) error {
		if n == 0 {
			close(entered)
			<-leave
		}
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := put(s, "first"); err != nil {
			t.Error(err)
		}
	})
	<-entered
	for i := range queued {
		wg.Go(func() {
			err := s.Update(ctx, func(tx store.Tx) error {
				store.Families.Put(tx, &model.Family{Name: fmt.Sprint(i % 40)}) // some write the same row
				ran <- struct{}{}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range queued {
		<-ran
	}
	if got := names(s); got != "" {
		t.Errorf("visible before it is durable: %q", got)
	}
	close(leave)
	wg.Wait()
	if f.count != 2 {
		t.Errorf("%d commits", f.count)
	}
	if got := len(strings.Fields(names(s))); got != 41 {
		t.Errorf("%d rows", got)
	}
}

func TestAForeignWriterStopsACommit(t *testing.T) {
	s := openFlaky(t, t.TempDir(), &flaky{})
	if _, err := s.member.Load().client.Put(ctx, fenceKey, "someone/7"); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "x"); !errors.Is(err, errFenced) {
		t.Errorf("got %v", err)
	}
	if got := names(s); got != "" {
		t.Errorf("visible: %q", got)
	}
	if err := put(s, "y"); err != nil { // raft says that this one leads, and it has seen what the other wrote
		t.Error(err)
	}
	s.View(func(r store.Reader) {
		if r.Revision() != 8 {
			t.Errorf("revision %d on top of another's 7", r.Revision())
		}
	})
}

func TestLargeUpdates(t *testing.T) {
	s := openFlaky(t, t.TempDir(), &flaky{})
	fill := func(rows, size int) error {
		return s.Update(ctx, func(tx store.Tx) error {
			for i := range rows {
				store.Families.Put(tx, &model.Family{Name: strings.Repeat("x", size) + fmt.Sprint(i)})
			}
			return nil
		})
	}
	if err := fill(1, maxUpdateBytes); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many bytes: %v", err)
	}
	if err := fill(maxUpdateOps+1, 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many rows: %v", err)
	}
	if got := names(s); got != "" {
		t.Error("a refused update is visible")
	}
	for _, c := range []struct{ rows, size int }{{1, maxUpdateBytes/2 - 1000}, {maxUpdateOps, 1}} {
		if err := fill(c.rows, c.size); err != nil {
			t.Errorf("%d rows of %d bytes: %v", c.rows, c.size, err)
		}
	}
}

func TestOldRevisionsAreForgotten(t *testing.T) {
	s := openFlaky(t, t.TempDir(), &flaky{})
	for range compactEvery + 10 {
		if err := put(s, "x"); err != nil {
			t.Fatal(err)
		}
	}
	s.compacting.Wait()
	if _, err := s.member.Load().client.Get(ctx, fenceKey, clientv3.WithRev(compactEvery/2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("an old revision is still there: %v", err)
	}
	if got := names(s); got != "x" {
		t.Errorf("rows %q", got)
	}
}
