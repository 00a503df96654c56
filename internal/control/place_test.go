package control_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestWhatFitsNowhereIsNotMade: of a service for which there is not room enough the tasks that fit are made, and of the others
// nothing but an event, until there is room; nothing is written while there is none.
func TestWhatFitsNowhereIsNotMade(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx store.Tx) {
		n, _ := store.Nodes.Get(tx, "n1")
		small := *n
		small.Memory = 250
		store.Nodes.Put(tx, &small)
	})
	w.service(3, 1)
	w.turn(6)
	all := slices.Collect(store.Tasks.Scan(w.view(), ""))
	if len(all) != 2 || len(w.running()) != 2 {
		t.Fatalf("there are %d tasks, of which %v run", len(all), w.running())
	}
	if !strings.Contains(w.events(), "has started 2 tasks") || strings.Count(w.events(), "has insufficient memory available") != 1 {
		t.Errorf("events:\n%s", w.events())
	}
	before := w.view().Revision()
	if _, err := w.c.Step(context.Background()); err != nil || w.view().Revision() != before {
		t.Errorf("written though nothing fits: %v", err)
	}
	w.update(func(tx store.Tx) {
		n, _ := store.Nodes.Get(tx, "n1")
		large := *n
		large.Memory = 300
		store.Nodes.Put(tx, &large)
	})
	w.turn(2)
	if len(w.running()) != 3 {
		t.Errorf("there is room, but only %v run\n%s", w.running(), w.events())
	}
}

// TestTasksOfOldThatAreNowhere: what an older Berth stored before it had a place is made anew.
func TestTasksOfOldThatAreNowhere(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.update(func(tx store.Tx) {
		store.Tasks.Put(tx, &model.Task{ID: "old", Cluster: "default", Service: "web", Family: "web", Revision: 1, Desired: model.Running,
			LaunchType: types.LaunchTypeEc2, Observed: model.Observed{Status: model.Pending}})
	})
	w.turn(2)
	if _, there := store.Tasks.Get(w.view(), "old"); there || len(w.running()) != 1 {
		t.Errorf("running %v, the old one is there: %t", w.running(), there)
	}
}
