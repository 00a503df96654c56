// Package storetest is the one suite that every store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Run runs the suite; open makes an empty store with store.Schema().
func Run(t *testing.T, open func(t testing.TB) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Store){
		"WritesAreReadBack": writesAreReadBack, "IndexesFollowTheRows": indexesFollow, "SnapshotsStay": snapshotsStay,
		"AFailedUpdateLeavesNothing": failedUpdate, "WatchersAreTold": watchers, "UpdatesDoNotMix": updatesDoNotMix,
		"ClosedIsClosed": closed, "LikeAMap": likeAMap, "APanicLeavesNothing": panics, "ScansAreOfOneMoment": scansStand,
		"OddKeysAndValues": oddKeys, "UpdatesAreAllOrNone": allOrNone, "CloseEndsUpdates": closeEndsUpdates,
		"LateWatchersLookAtEverything": overflow, "RegionsAreApart": regions, "BatchesReplay": replays, "FollowersSeeWhatUpdatesSee": followers,
		"RehearsalsLeaveNothing": rehearsals,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { s.Close() })
			f(t, s)
		})
	}
}

var ctx = context.Background()

func update(t testing.TB, s store.Store, f func(tx store.Tx)) {
	t.Helper()
	if err := s.Update(ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func task(id, cluster, service, node string) *model.Task {
	return &model.Task{ID: id, Cluster: cluster, Service: service, NodeID: node}
}

func ids(seq func(func(*model.Task) bool)) (all []string) {
	for t := range seq {
		all = append(all, t.ID)
	}
	return all
}

func want(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func writesAreReadBack(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) {
		for _, k := range []string{"b", "a", "ab", "c"} {
			store.Families.Put(tx, &model.Family{Name: k, LatestRevision: len(k)})
		}
		if f, ok := store.Families.Get(tx, "ab"); !ok || f.LatestRevision != 2 {
			t.Errorf("a transaction does not read its own write: %+v", f)
		}
		store.Families.Delete(tx, "c")
		store.Families.Delete(tx, "never there")
	})
	s.View(func(r store.Reader) {
		var all, some []string
		for f := range store.Families.Scan(r, "") {
			all = append(all, f.Name)
		}
		for f := range store.Families.Scan(r, "a") {
			some = append(some, f.Name)
		}
		want(t, "all", all, "a", "ab", "b")
		want(t, "prefix a", some, "a", "ab")
		if _, ok := store.Families.Get(r, "c"); ok {
			t.Error("a deleted row is there")
		}
	})
}

func indexesFollow(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) {
		store.Tasks.Put(tx, task("2", "one", "web", ""))
		store.Tasks.Put(tx, task("1", "one", "web", "n"))
		store.Tasks.Put(tx, task("3", "one", "webber", ""))
		want(t, "own writes by service", ids(store.Tasks.By(tx, store.ByService, "one/web")), "1", "2")
	})
	update(t, s, func(tx store.Tx) {
		store.Tasks.Put(tx, task("2", "two", "", "n"))
		want(t, "in the transaction", ids(store.Tasks.By(tx, store.ByService, "one/web")), "1")
		want(t, "by node in the transaction", ids(store.Tasks.By(tx, store.ByNode, "n")), "1", "2")
		store.Tasks.Delete(tx, "1")
		want(t, "after the deletion", ids(store.Tasks.By(tx, store.ByNode, "n")), "2")
	})
	s.View(func(r store.Reader) {
		want(t, "by service", ids(store.Tasks.By(r, store.ByService, "one/web")))
		want(t, "by node", ids(store.Tasks.By(r, store.ByNode, "n")), "2")
		want(t, "by cluster", ids(store.Tasks.By(r, store.ByCluster, "one")), "3")
		want(t, "an empty value is no value", ids(store.Tasks.By(r, store.ByNode, "")))
	})
}

func snapshotsStay(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) { store.Families.Put(tx, &model.Family{Name: "a", LatestRevision: 1}) })
	var old store.Reader
	s.View(func(r store.Reader) { old = r })
	update(t, s, func(tx store.Tx) { store.Families.Put(tx, &model.Family{Name: "a", LatestRevision: 2}) })
	if f, _ := store.Families.Get(old, "a"); f.LatestRevision != 1 {
		t.Errorf("a snapshot changed: %+v", f)
	}
	s.View(func(r store.Reader) {
		if r.Revision() <= old.Revision() {
			t.Errorf("revision %d after %d", r.Revision(), old.Revision())
		}
	})
}

func failedUpdate(t *testing.T, s store.Store) {
	no := errors.New("no")
	err := s.Update(ctx, func(tx store.Tx) error {
		store.Families.Put(tx, &model.Family{Name: "a"})
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Update(gone, func(tx store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled update: %v", err)
	}
	s.View(func(r store.Reader) {
		if _, ok := store.Families.Get(r, "a"); ok {
			t.Error("a failed update left a row")
		}
	})
}

func updatesDoNotMix(t *testing.T, s store.Store) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				err := s.Update(ctx, func(tx store.Tx) error {
					next := model.Family{Name: "count"}
					if f, ok := store.Families.Get(tx, "count"); ok {
						next = *f
					}
					next.LatestRevision++
					store.Families.Put(tx, &next)
					if (w+i)%5 == 0 {
						return errors.New("changed my mind")
					}
					return nil
				})
				if err != nil && err.Error() != "changed my mind" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.View(func(r store.Reader) {
		if f, _ := store.Families.Get(r, "count"); f.LatestRevision != writers*each*4/5 {
			t.Errorf("counted %d, want %d", f.LatestRevision, writers*each*4/5)
		}
	})
}

func closed(t *testing.T, s store.Store) {
	notices := s.Watch(ctx)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(ctx, func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v", err)
	}
	for range notices.C() {
	}
}

// likeAMap does random things to the store and to a map, and compares.
func likeAMap(t *testing.T, s store.Store) {
	truth := map[string]*model.Task{}
	rapid.Check(t, func(rt *rapid.T) {
		draft := maps.Clone(truth)
		fail := rapid.Bool().Draw(rt, "fail")
		err := s.Update(ctx, func(tx store.Tx) error {
			clear(draft)
			maps.Copy(draft, truth)
			for range rapid.IntRange(1, 6).Draw(rt, "writes") {
				id := fmt.Sprint(rapid.IntRange(0, 9).Draw(rt, "id"))
				if rapid.Bool().Draw(rt, "delete") {
					store.Tasks.Delete(tx, id)
					delete(draft, id)
				} else {
					v := task(id, "c", fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "service")), "")
					if rapid.Bool().Draw(rt, "ended") {
						v.Observed.Status, v.Accounted = model.Stopped, rapid.Bool().Draw(rt, "accounted")
					}
					store.Tasks.Put(tx, v)
					draft[id] = v
				}
				compare(rt, tx, draft)
			}
			if fail {
				return errors.New("no")
			}
			return nil
		})
		if (err != nil) != fail {
			rt.Fatalf("update: %v", err)
		}
		if !fail {
			truth = draft
		}
		s.View(func(r store.Reader) { compare(rt, r, truth) })
	})
}

func compare(t *rapid.T, r store.Reader, truth map[string]*model.Task) {
	keys := slices.Sorted(maps.Keys(truth))
	if got := ids(store.Tasks.Scan(r, "")); !slices.Equal(got, keys) {
		t.Fatalf("rows %v, want %v", got, keys)
	}
	for service := range 3 {
		var listed, open []string
		for _, k := range keys {
			if t := truth[k]; t.Service == fmt.Sprint(service) {
				listed = append(listed, k)
				if !t.Ended() || !t.Accounted {
					open = append(open, k)
				}
			}
		}
		if got := ids(store.Tasks.By(r, store.ByOpen, fmt.Sprintf("c/%d", service))); !slices.Equal(got, open) {
			t.Fatalf("open tasks of service %d: %v, want %v", service, got, open)
		}
		if got := ids(store.Tasks.By(r, store.ByService, fmt.Sprintf("c/%d", service))); !slices.Equal(got, listed) {
			t.Fatalf("service %d: %v, want %v", service, got, listed)
		}
	}
}
