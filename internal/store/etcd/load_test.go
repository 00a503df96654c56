package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/storetest"
)

// recorder notes the keys of puts and can make reads slow or fail.
type recorder struct {
	kv
	puts []string
	gets atomic.Int64 // several goroutines ask
	get  func(n int, ctx context.Context) error
}

func (r *recorder) Txn(ctx context.Context) clientv3.Txn { return &recordedTxn{r.kv.Txn(ctx), r} }

func (r *recorder) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	n := int(r.gets.Add(1)) - 1
	if r.get != nil {
		if err := r.get(n, ctx); err != nil {
			return nil, err
		}
	}
	return r.kv.Get(ctx, key, opts...)
}

type recordedTxn struct {
	clientv3.Txn
	r *recorder
}

func (t *recordedTxn) If(c ...clientv3.Cmp) clientv3.Txn  { t.Txn = t.Txn.If(c...); return t }
func (t *recordedTxn) Else(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(o...); return t }
func (t *recordedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, op := range ops {
		if key := string(op.KeyBytes()); key != fenceKey {
			t.r.puts = append(t.r.puts, key)
		}
	}
	t.Txn = t.Txn.Then(ops...)
	return t
}

func openRecorded(t *testing.T, dir string) (*Store, *recorder) {
	t.Helper()
	s, err := Open(ctx, Config{Dir: dir, Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r := &recorder{kv: s.member.Load().kv}
	s.member.Load().kv = r
	return s, r
}

// change puts what f makes of the task.
func change(t *testing.T, s *Store, f func(*model.Task)) {
	t.Helper()
	err := s.Update(ctx, func(tx store.Tx) error {
		next := model.Task{ID: "1", Cluster: "c"}
		if old, ok := store.Tasks.Get(tx, "1"); ok {
			next = *old
		}
		f(&next)
		store.Tasks.Put(tx, &next)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func current(t *testing.T, s *Store) *model.Task {
	t.Helper()
	var task *model.Task
	s.View(func(r store.Reader) { task, _ = store.Tasks.Get(r, "1") })
	if task == nil {
		t.Fatal("the task is gone")
	}
	return task
}

func report(seq int64) func(*model.Task) {
	return func(t *model.Task) {
		t.Observed = model.Observed{Seq: seq, Status: model.Running, Containers: []model.Container{{Name: "app", Image: "i"}}}
		t.Version++
	}
}

// TestOnlyWhatChangedIsWritten: a report writes what was observed, a decision what was decided, and both are there after a restart.
func TestOnlyWhatChangedIsWritten(t *testing.T) {
	dir := t.TempDir()
	s, r := openRecorded(t, dir)
	rest, part := "/berth/tasks/1", "/berth.parts/tasks/1"
	for _, step := range []struct {
		name string
		f    func(*model.Task)
		want []string
	}{
		{"made", func(*model.Task) {}, []string{rest, part}},
		{"reported", report(1), []string{part}},
		{"decided", func(t *model.Task) { t.Desired = model.Stopped }, []string{rest}},
		{"both", func(t *model.Task) { report(2)(t); t.Released = true }, []string{rest, part}},
		{"nothing", func(*model.Task) {}, nil},
	} {
		r.puts = nil
		change(t, s, step.f)
		got := map[string]bool{}
		for _, key := range r.puts {
			got[key] = true
		}
		if len(got) != len(step.want) || len(step.want) > 0 && !got[step.want[0]] || len(step.want) > 1 && !got[step.want[1]] {
			t.Errorf("%s: wrote %v, want %v", step.name, r.puts, step.want)
		}
	}
	before := current(t, s)
	s.Close()
	s, _ = openRecorded(t, dir)
	if got := current(t, s); !reflect.DeepEqual(got, before) {
		t.Errorf("after a restart\n%+v, before\n%+v", got, before)
	}
	update := s.Update(ctx, func(tx store.Tx) error { store.Tasks.Delete(tx, "1"); return nil })
	if left, err := s.member.Load().client.Get(ctx, "/berth", clientv3.WithPrefix()); update != nil || err != nil || len(left.Kvs) != 1 { // the fence
		t.Errorf("after the deletion: %v %v %v", left.Kvs, update, err)
	}
}

// TestRowsInOnePieceAreRead: what was stored before tasks had parts is read, and stays whole whichever part changes first.
func TestRowsInOnePieceAreRead(t *testing.T) {
	for name, first := range map[string]func(*model.Task){"a decision": func(t *model.Task) { t.Desired = model.Stopped }, "a report": report(8)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := openRecorded(t, dir)
			old := &model.Task{ID: "1", Cluster: "c"}
			report(7)(old)
			data, err := model.EncodeJSON(old)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.member.Load().client.Put(ctx, "/berth/tasks/1", string(data)); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s, _ = openRecorded(t, dir)
			if got := current(t, s); !reflect.DeepEqual(got, old) {
				t.Errorf("read %+v of %+v", got, old)
			}
			change(t, s, first)
			change(t, s, func(t *model.Task) { t.Released = true })
			before := current(t, s)
			s.Close()
			s, _ = openRecorded(t, dir)
			if got := current(t, s); !reflect.DeepEqual(got, before) || got.Observed.Seq < 7 {
				t.Errorf("read %+v of %+v", got, before)
			}
		})
	}
}

// forgetful is an etcd that has forgotten what a watcher asks for, the first time.
type forgetful struct {
	kv
	asked bool
}

func (f *forgetful) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	if f.asked {
		return f.kv.Watch(ctx, key, opts...)
	}
	f.asked = true
	answer := make(chan clientv3.WatchResponse, 1)
	answer <- clientv3.WatchResponse{CompactRevision: 1, Canceled: true}
	return answer
}

// TestLoadsTakeTheirTime: a load while the store is in use may take longer than any request, and asks again for a page that does not come;
// meanwhile the store answers reads, and afterwards watchers and followers look at everything.
func TestLoadsTakeTheirTime(t *testing.T) {
	s, r := openRecorded(t, t.TempDir())
	for i := range 3 {
		err := s.Update(ctx, func(tx store.Tx) error {
			for j := range firstPage {
				store.Families.Put(tx, &model.Family{Name: fmt.Sprint(i, "-", j, strings.Repeat("x", 100))})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w := s.Watch(ctx, store.Tasks.All())
	var follower storetest.Shadow
	s.Follow(&follower)
	s.patience = 500 * time.Millisecond // longer than an answer takes under the race detector on a busy machine
	var seen atomic.Int64
	r.get = func(n int, ctx context.Context) error {
		seen.Store(int64(len(strings.Fields(names(s)))))
		if n%2 == 1 { // every other request is never answered
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	began := time.Now()
	f := &flaky{kv: &forgetful{kv: r}}
	f.before = func(n int) error {
		if n < commitAttempts {
			return rpctypes.ErrTimeout
		}
		return nil
	}
	s.member.Load().kv = f
	if err := put(s, "a"); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("the update whose outcome nobody knew: %v", err)
	}
	<-w.C()
	if took := time.Since(began); took < s.patience {
		t.Errorf("the load took %s: nothing was slow", took)
	}
	if seen := seen.Load(); seen != 3*firstPage {
		t.Errorf("%d rows could be read during the load", seen)
	}
	if !w.Take().All {
		t.Error("a watcher was not told that the state was loaded anew")
	}
	err := put(s, "a")
	for errors.Is(err, store.ErrNotLeader) { // reads go on being slow, and it has yet to ask for the newest commit
		err = put(s, "a")
	}
	if err != nil || len(strings.Fields(names(s))) != 3*firstPage+1 || follower.Names() != names(s) {
		t.Errorf("afterwards: %v, %d rows", err, len(strings.Fields(names(s))))
	}
}
