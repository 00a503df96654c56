package storetest

import (
	"testing"

	"github.com/berthdev/berth/internal/store"
)

// regions: same keys in two regions do not meet, in tables, indexes or watches.
func regions(t *testing.T, s store.Store) {
	east, west := store.Partition(s, "eu-east-1"), store.Partition(s, "eu-west-1")
	everywhere := map[string]store.Store{"home": s, "east": east, "west": west}
	watchers := map[string]*store.Watcher{}
	for name, part := range everywhere {
		watchers[name] = part.Watch(ctx, store.Tasks.Where(store.ByService, "c/web"))
		watchers[name+" all"] = part.Watch(ctx)
		part.View(func(r store.Reader) { want(t, "before, "+name, ids(store.Tasks.Scan(r, ""))) })
	}
	update(t, s, func(tx store.Tx) { store.Tasks.Put(tx, task("1", "c", "web", "home")) })
	update(t, east, func(tx store.Tx) {
		if _, ok := store.Tasks.Get(tx, "1"); ok {
			t.Error("the home region's task is in another")
		}
		store.Tasks.Put(tx, task("1", "c", "web", "east"))
		store.Tasks.Put(tx, task("2", "c", "web", "east"))
	})
	update(t, east, func(tx store.Tx) { store.Tasks.Delete(tx, "2") })
	for name, nodes := range map[string][]string{"home": {"home"}, "east": {"east"}, "west": nil} {
		everywhere[name].View(func(r store.Reader) {
			var all, indexed []string
			for v := range store.Tasks.Scan(r, "") {
				all = append(all, v.NodeID)
			}
			for v := range store.Tasks.By(r, store.ByService, "c/web") {
				indexed = append(indexed, v.NodeID)
			}
			want(t, name, all, nodes...)
			want(t, name+" by service", indexed, nodes...)
		})
		changed := nodes
		if nodes != nil {
			changed = []string{"1:->web"}
		}
		for _, w := range []string{name, name + " all"} {
			var rows []string
			b := watchers[w].Take()
			for _, c := range b.Changes {
				if c.Table == store.Tasks.Name() {
					rows = append(rows, told(store.Batch{Changes: []store.Change{c}})...)
				}
			}
			want(t, "told in "+w, rows, changed...)
		}
	}
	s.View(func(r store.Reader) {
		var names []string
		for v := range store.Regions.Scan(r, "") {
			names = append(names, v.Name)
		}
		want(t, "regions", names, "eu-east-1")
	})
}
