package control_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
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

// TestATaskOfAPoolWaitsForAMachine: it is placed as soon as one of its pool has room, stops when that is asked, and ends after half an hour.
func TestATaskOfAPoolWaitsForAMachine(t *testing.T) {
	w := newWorld(t)
	pool := &model.CapacityProvider{Name: "pool"}
	task := func(id string) *model.Task {
		return &model.Task{ID: id, Cluster: "default", Family: "web", Revision: 1, Desired: model.Running, LaunchType: types.LaunchTypeEc2, CapacityProvider: "pool",
			Constraints: []types.PlacementConstraint{pool.Pool()}, CreatedAt: w.now, Version: 1, Observed: model.Observed{Status: model.Provisioning}}
	}
	status := func(id string) string {
		got, ok := store.Tasks.Get(w.view(), id)
		if !ok {
			return "gone"
		}
		return string(got.Observed.Status) + " " + got.NodeID
	}
	w.update(func(tx store.Tx) {
		for _, id := range []string{"one", "two", "three"} {
			store.Tasks.Put(tx, task(id))
		}
	})
	w.turn(2)
	if got := status("one"); got != "PROVISIONING " {
		t.Errorf("without a machine of its pool: %s", got)
	}
	w.update(func(tx store.Tx) {
		stopped, _ := store.Tasks.Get(tx, "two")
		asked := *stopped
		asked.StopRequest = &model.StopRequest{Code: types.TaskStopCodeUserInitiated, Reason: "enough"}
		store.Tasks.Put(tx, &asked)
	})
	w.turn(2)
	if got := status("two"); got != "STOPPED " {
		t.Errorf("asked to stop: %s", got)
	}
	pooled := func(node, pool string) {
		w.update(func(tx store.Tx) {
			n, _ := store.Nodes.Get(tx, node)
			next := *n
			next.Attributes = map[string]string{model.AttributePool: pool}
			store.Nodes.Put(tx, &next)
		})
	}
	pooled("n1", "pool")
	w.turn(2)
	if got, _ := store.Tasks.Get(w.view(), "one"); got.NodeID != "n1" {
		t.Errorf("with a machine: %s", status("one"))
	}
	pooled("n1", "other")
	w.update(func(tx store.Tx) { store.Tasks.Put(tx, task("late")) })
	w.turn(2)
	w.now = w.now.Add(timeouts.Provisioning + time.Second)
	w.turn(2)
	got, _ := store.Tasks.Get(w.view(), "late")
	if got.Observed.Status != model.Stopped || got.Observed.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.Contains(got.Observed.StoppedReason, "capacity provider pool") {
		t.Errorf("after half an hour: %+v", got.Observed)
	}
}
