package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// told says what a batch lists of tasks and families, as "key:old>new" with the services or revisions.
func told(b store.Batch) (all []string) {
	show := func(v any) string {
		switch v := v.(type) {
		case *model.Task:
			return v.Service
		case *model.Family:
			return fmt.Sprint(v.LatestRevision)
		}
		return "-"
	}
	for _, c := range b.Changes {
		all = append(all, c.Key+":"+show(c.Old)+">"+show(c.New))
	}
	if b.All {
		all = append(all, "all")
	}
	return all
}

// quiet fails when the watcher was told of anything.
func quiet(t *testing.T, what string, w *store.Watcher) {
	t.Helper()
	select {
	case <-w.C():
		t.Errorf("%s: told %v", what, told(w.Take()))
	default:
	}
}

// watchers: each is told of what it asked for, by table, by an index's value or by key, with the values before and after.
func watchers(t *testing.T, s store.Store) {
	live, stop := context.WithCancel(ctx)
	families, everything := s.Watch(live, store.Families.All()), s.Watch(live)
	web, one := s.Watch(live, store.Tasks.Where(store.ByService, "c/web")), s.Watch(live, store.Tasks.Where(store.ByKey, "1"))
	for n, step := range []struct{ service, told string }{{"web", "1:->web"}, {"web", "1:web>web"}, {"api", "1:web>api"}} {
		update(t, s, func(tx store.Tx) { store.Tasks.Put(tx, task("1", "c", step.service, fmt.Sprint(n))) })
		<-web.C()
		want(t, "of the service", told(web.Take()), step.told)
	}
	update(t, s, func(tx store.Tx) { store.Tasks.Put(tx, task("1", "c", "api", "")) })
	quiet(t, "a task elsewhere", web)
	<-one.C()
	want(t, "by key, four changes of one row", told(one.Take()), "1:->api")
	quiet(t, "a watcher of families", families)
	update(t, s, func(tx store.Tx) {
		store.Families.Put(tx, &model.Family{Name: "a", LatestRevision: 1})
		store.Tasks.Put(tx, task("2", "c", "web", ""))
		store.Tasks.Put(tx, task("2", "c", "db", ""))
		store.Tasks.Delete(tx, "1")
	})
	<-families.C()
	want(t, "a family", told(families.Take()), "a:->1")
	<-everything.C()
	want(t, "everything, a row that came and went left out", told(everything.Take()), "a:->1", "2:->db")
	want(t, "taken", told(everything.Take()))
	want(t, "deleted", told(one.Take()), "1:api>-")
	quiet(t, "a task that was of the service within a transaction", web)
	stop()
	for _, w := range []*store.Watcher{everything, families, web, one} {
		for range w.C() { // ends when the channel is closed
		}
	}
}

// overflow: who does not take its changes for long is told to look at everything, and then of changes again.
func overflow(t *testing.T, s store.Store) {
	w, other := s.Watch(ctx, store.Families.All()), s.Watch(ctx, store.Families.Where(store.ByKey, "7"))
	update(t, s, func(tx store.Tx) {
		for i := range 20_000 {
			store.Families.Put(tx, &model.Family{Name: fmt.Sprint(i)})
		}
	})
	<-w.C()
	want(t, "too much to list", told(w.Take()), "all")
	<-other.C()
	want(t, "one row of many", told(other.Take()), "7:->0")
	update(t, s, func(tx store.Tx) { store.Families.Delete(tx, "0") })
	<-w.C()
	want(t, "after that", told(w.Take()), "0:0>-")
}

// replays: who replays batches onto a copy, from whenever it began and however seldom it takes them, has what the store has.
func replays(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		live, stop := context.WithCancel(ctx)
		defer stop()
		copies := []*replica{newReplica(live, s), newReplica(live, s, store.Tasks.All()),
			newReplica(live, s, store.Tasks.Where(store.ByService, "c/1")),
			newReplica(live, s, store.Tasks.Where(store.ByService, "c/1"), store.Tasks.Where(store.ByNode, "n2")),
			newReplica(live, s, store.Tasks.Where(store.ByKey, "3"))}
		for range rapid.IntRange(1, 8).Draw(rt, "updates") {
			update(t, s, func(tx store.Tx) {
				for range rapid.IntRange(1, 5).Draw(rt, "writes") {
					id := fmt.Sprint(rapid.IntRange(0, 6).Draw(rt, "id"))
					if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
						store.Tasks.Delete(tx, id)
						continue
					}
					store.Tasks.Put(tx, task(id, "c", fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "service")),
						fmt.Sprint("n", rapid.IntRange(0, 2).Draw(rt, "node"))))
				}
			})
			for i, c := range copies {
				if rapid.Bool().Draw(rt, fmt.Sprint("take", i)) {
					c.compare(rt, s)
				}
			}
		}
	})
}

// replica is a copy of the tasks that some interests list.
type replica struct {
	w         *store.Watcher
	interests []store.Interest
	rows      map[string]*model.Task
}

func newReplica(live context.Context, s store.Store, interests ...store.Interest) *replica {
	c := &replica{w: s.Watch(live, interests...), interests: interests, rows: map[string]*model.Task{}}
	s.View(func(r store.Reader) { maps.Insert(c.rows, maps.All(c.listed(r))) })
	return c
}

// listed is what the store lists under the interests.
func (c *replica) listed(r store.Reader) map[string]*model.Task {
	rows := map[string]*model.Task{}
	for t := range store.Tasks.Scan(r, "") {
		if c.wants(t) {
			rows[t.ID] = t
		}
	}
	return rows
}

func (c *replica) wants(t *model.Task) bool {
	return len(c.interests) == 0 || slices.ContainsFunc(c.interests, func(i store.Interest) bool {
		return i.Index == "" || i.Index == store.ByKey && i.Value == t.ID || i.Index == store.ByNode && i.Value == t.NodeID ||
			i.Index == store.ByService && i.Value == t.Cluster+"/"+t.Service
	})
}

func (c *replica) compare(t *rapid.T, s store.Store) {
	for _, change := range c.w.Take().Changes {
		was, _ := change.Old.(*model.Task)
		if held := c.rows[change.Key]; was != nil && c.wants(was) && held != was {
			t.Fatalf("%v: %s was %+v before the change, the copy has %+v", c.interests, change.Key, was, held)
		}
		delete(c.rows, change.Key)
		if now, ok := change.New.(*model.Task); ok && c.wants(now) {
			c.rows[change.Key] = now
		}
	}
	s.View(func(r store.Reader) {
		if there := c.listed(r); !maps.Equal(c.rows, there) {
			t.Fatalf("%v: the copy has %v, the store %v", c.interests, slices.Sorted(maps.Keys(c.rows)), slices.Sorted(maps.Keys(there)))
		}
	})
}
