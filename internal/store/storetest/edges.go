package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// panics: a panic in an update reaches its caller, changes nothing and does not block the store.
func panics(t *testing.T, s store.Store) {
	func() {
		defer func() {
			if p := recover(); p != "mistake" {
				t.Errorf("the caller got %v", p)
			}
		}()
		_ = s.Update(ctx, func(tx store.Tx) error {
			store.Families.Put(tx, &model.Family{Name: "a"})
			panic("mistake")
		})
	}()
	update(t, s, func(tx store.Tx) {
		if _, ok := store.Families.Get(tx, "a"); ok {
			t.Error("the update left a row")
		}
	})
}

// scansStand: rows may be changed while they are being scanned.
func scansStand(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) {
		for i := range 20 {
			store.Tasks.Put(tx, task(fmt.Sprintf("%02d", i), "c", "", ""))
		}
	})
	update(t, s, func(tx store.Tx) {
		n := 0
		for v := range store.Tasks.By(tx, store.ByCluster, "c") {
			n++
			store.Tasks.Delete(tx, v.ID)
			store.Tasks.Put(tx, task("9"+v.ID, "c", "", ""))
		}
		if n != 20 {
			t.Errorf("the scan saw %d rows", n)
		}
	})
	s.View(func(r store.Reader) {
		if all := ids(store.Tasks.By(r, store.ByCluster, "c")); len(all) != 20 || all[0] != "900" {
			t.Errorf("rows %v", all)
		}
	})
}

// oddKeys: keys and index values that begin with one another, or hold bytes that an encoding might trip over.
func oddKeys(t *testing.T, s store.Store) {
	odd := []string{"a", "a\x00", "a\x00b", "a/b", "ab", "é", "\xf0\x9f\x98\x80"}
	update(t, s, func(tx store.Tx) {
		for i, cluster := range odd {
			store.Tasks.Put(tx, task(cluster, cluster, "", fmt.Sprint("n", i)))
		}
	})
	s.View(func(r store.Reader) {
		want(t, "order", ids(store.Tasks.Scan(r, "")), odd...)
		for _, cluster := range odd {
			want(t, fmt.Sprintf("cluster %q", cluster), ids(store.Tasks.By(r, store.ByCluster, cluster)), cluster)
			if v, ok := store.Tasks.Get(r, cluster); !ok || v.ID != cluster {
				t.Errorf("key %q: %+v", cluster, v)
			}
		}
	})
}

// allOrNone: readers never see a part of an update.
func allOrNone(t *testing.T, s store.Store) {
	const pairs, rounds = 4, 40
	var wg sync.WaitGroup
	for w := range pairs {
		wg.Go(func() {
			for i := range rounds {
				err := s.Update(ctx, func(tx store.Tx) error {
					store.Families.Put(tx, &model.Family{Name: fmt.Sprint("left", w), LatestRevision: i})
					store.Families.Put(tx, &model.Family{Name: fmt.Sprint("right", w), LatestRevision: i})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				s.View(func(r store.Reader) {
					for w := range pairs {
						left, l := store.Families.Get(r, fmt.Sprint("left", w))
						right, r := store.Families.Get(r, fmt.Sprint("right", w))
						if l != r || l && left.LatestRevision != right.LatestRevision {
							t.Errorf("half an update: %+v and %+v", left, right)
						}
					}
					if own, _ := store.Families.Get(r, fmt.Sprint("left", w)); own == nil || own.LatestRevision != i {
						t.Errorf("own update %d is not visible: %+v", i, own)
					}
				})
			}
		})
	}
	wg.Wait()
}

// closeEndsUpdates: updates that meet a closing store are durable or end with ErrClosed, and none hangs.
func closeEndsUpdates(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	begun := make(chan struct{}, 8)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				err := s.Update(ctx, func(tx store.Tx) error {
					store.Families.Put(tx, &model.Family{Name: fmt.Sprint(w), LatestRevision: i})
					return nil
				})
				if i == 0 {
					begun <- struct{}{}
				}
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
