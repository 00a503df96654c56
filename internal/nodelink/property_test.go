package nodelink_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestSetsAgree: whatever happens to tasks and sessions, in the end the node has exactly the tasks that the store says it has, and
// the store has the newest report of each.
func TestSetsAgree(t *testing.T) {
	for name, open := range transports {
		t.Run(name, func(t *testing.T) { setsAgree(t, open) })
	}
}

func setsAgree(t *testing.T, open func(*world) transport) {
	rapid.Check(t, func(rt *rapid.T) {
		ids := []string{"a", "b", "c", "d"}
		var script []int
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			script = append(script, rapid.IntRange(0, 6*len(ids)-1).Draw(rt, "step"))
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, open)
			m := w.join("n1")
			synctest.Wait()
			seq := int64(0)
			cut := false
			for _, step := range script {
				id := ids[step%len(ids)]
				switch step / len(ids) {
				case 0:
					w.put(assigned(id, "n1"))
				case 1:
					w.update(func(tx store.Tx) { store.Tasks.Delete(tx, id) })
				case 2:
					w.update(func(tx store.Tx) {
						if old, ok := store.Tasks.Get(tx, id); ok {
							t := *old
							t.Desired, t.Released = model.Stopped, true
							store.Tasks.Put(tx, &t)
						}
					})
				case 3:
					seq++
					m.Report(report(id, seq, []model.TaskStatus{model.Pending, model.Running, model.Stopped}[seq%3]))
				case 4:
					if cut = !cut; cut {
						m.cut()
					} else {
						m.heal()
						time.Sleep(longer)
					}
				case 5:
					synctest.Wait()
				}
			}
			m.heal()
			time.Sleep(longer)
			synctest.Wait()
			want := ""
			w.store.View(func(r store.Reader) {
				for t := range store.Tasks.By(r, store.ByNode, "n1") {
					if !t.Ended() {
						want += t.ID
						if t.Released {
							want += "(stop)"
						}
						want += " "
					}
				}
			})
			if got := m.has(); got != want {
				t.Errorf("the node has %q, the store says %q", got, want)
			}
			for _, id := range ids {
				seq++
				m.Report(report(id, seq, model.Stopping))
			}
			synctest.Wait()
			w.store.View(func(r store.Reader) {
				for task := range store.Tasks.By(r, store.ByNode, "n1") {
					if !task.Ended() && task.Observed.Status != model.Stopping {
						t.Errorf("the newest report of %s did not arrive: %s", task.ID, fmt.Sprint(task.Observed.Status))
					}
				}
			})
		})
		if t.Failed() {
			rt.Fatalf("script %v", script)
		}
	})
}
