package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/berthdev/berth/internal/model"
)

// TestWatchersOfNothing: an interest that can never be met is a fault of the program.
func TestWatchersOfNothing(t *testing.T) {
	h := NewHub(Schema())
	for _, i := range []Interest{{Table: "nothing"}, Tasks.Where("nothing", "x"), {Index: ByKey}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was taken", i)
				}
			}()
			h.Watch(t.Context(), i)
		}()
	}
}

// TestLoadedAnew: every watcher is told to look at everything.
func TestLoadedAnew(t *testing.T) {
	h := NewHub(Schema())
	w := h.Watch(t.Context(), Tasks.Where(ByNode, "n"))
	h.Notify([]Change{{Tasks.Name(), "1", nil, &model.Task{ID: "1", NodeID: "n"}}})
	h.NotifyAll()
	<-w.C()
	if b := w.Take(); !b.All || len(b.Changes) > 0 {
		t.Errorf("%+v", b)
	}
}

// TestHubForgets: nothing is left of watchers that ended.
func TestHubForgets(t *testing.T) {
	h := NewHub(Schema())
	ctx, cancel := context.WithCancel(t.Context())
	var all []*Watcher
	for i := range 10 {
		all = append(all, h.Watch(ctx, Tasks.Where(ByNode, fmt.Sprint(i)), Tasks.Where(ByNode, "same"), Nodes.All()), h.Watch(ctx))
	}
	cancel()
	for _, w := range all {
		for range w.C() {
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers)+len(h.indexed)+len(h.forget) > 0 {
		t.Errorf("left: %v %v %v", h.watchers, h.indexed, h.forget)
	}
}

// BenchmarkNotify measures a task's change beside many sessions that do not care for it; the floor is the same without them.
func BenchmarkNotify(b *testing.B) {
	for _, sessions := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			h := NewHub(Schema())
			mine := h.Watch(b.Context(), Tasks.Where(ByNode, "mine"))
			for i := range sessions {
				h.Watch(b.Context(), Tasks.Where(ByNode, fmt.Sprint("n", i)), Nodes.Where(ByKey, fmt.Sprint("n", i)))
			}
			row := &model.Task{ID: "1", NodeID: "mine"}
			b.ReportAllocs()
			for b.Loop() {
				h.Notify([]Change{{Tasks.Name(), "1", row, row}})
			}
			if len(mine.Take().Changes) != 1 {
				b.Error("nobody was told")
			}
		})
	}
}
