package storetest

import (
	"errors"
	"testing"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// rehearsals: an Update of a dry context sees its own writes, is refused as any other, and leaves nothing, for nobody.
func rehearsals(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) { store.Families.Put(tx, &model.Family{Name: "real"}) })
	w := s.Watch(t.Context())
	var before, after uint64
	s.View(func(r store.Reader) { before = r.Revision() })
	err := s.Update(store.Dry(ctx), func(tx store.Tx) error {
		store.Families.Put(tx, &model.Family{Name: "dry"})
		store.Families.Delete(tx, "real")
		if _, ok := store.Families.Get(tx, "dry"); !ok {
			t.Error("a rehearsal does not see its own writes")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := s.Update(store.Dry(ctx), func(store.Tx) error { return no }); !errors.Is(err, no) {
		t.Errorf("a rehearsal that is refused returns %v", err)
	}
	update(t, s, func(tx store.Tx) {
		if _, ok := store.Families.Get(tx, "dry"); ok {
			t.Error("a later update sees what was only rehearsed")
		}
	})
	s.View(func(r store.Reader) {
		after = r.Revision()
		if _, ok := store.Families.Get(r, "real"); !ok {
			t.Error("a rehearsed deletion happened")
		}
	})
	if after != before {
		t.Errorf("a rehearsal is revision %d, after %d", after, before)
	}
	if b := w.Take(); b.All || len(b.Changes) > 0 {
		t.Errorf("watchers were told of a rehearsal: %+v", b)
	}
}
