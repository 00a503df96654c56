package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (w *world) step() {
	w.t.Helper()
	if _, err := w.c.Step(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// ended puts a standalone task that ended some time ago.
func (w *world) ended(id string, ago time.Duration) {
	w.update(func(tx store.Tx) {
		store.Tasks.Put(tx, &model.Task{ID: id, Cluster: "default", Family: "web", Revision: 1, Desired: model.Stopped,
			Observed: model.Observed{Status: model.Stopped, StoppedAt: w.now.Add(-ago)}})
	})
}

func (w *world) has(id string) bool {
	_, ok := store.Tasks.Get(w.view(), id)
	return ok
}

// TestEndedTasksAreForgotten: after three days, or the oldest first when there are too many; those that run never.
func TestEndedTasksAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.ended("old", 73*time.Hour)
	w.ended("young", 71*time.Hour)
	w.step()
	if w.has("old") || !w.has("young") {
		t.Errorf("old is kept: %t, young is kept: %t", w.has("old"), w.has("young"))
	}
	w.c.KeepNewest = 2
	w.ended("b", time.Hour)
	w.ended("a", time.Minute)
	w.now = w.now.Add(2 * time.Minute)
	w.step()
	if w.has("young") || !w.has("a") || !w.has("b") {
		t.Error("not the two that ended last are kept")
	}
}

// TestTokensAreForgotten: those that have expired; one without a time lasts as long as the service that it made.
func TestTokensAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.service(0, 1)
	tokens := []*model.Idempotency{
		{Operation: "RunTask", Token: "expired", ExpiresAt: w.now.Add(-time.Second)},
		{Operation: "RunTask", Token: "valid", ExpiresAt: w.now.Add(time.Hour)},
		{Operation: "CreateService", Cluster: "default", Token: "web"},
	}
	w.update(func(tx store.Tx) {
		for _, token := range tokens {
			store.Idempotencies.Put(tx, token)
		}
	})
	kept := func() (names []string) {
		for i := range store.Idempotencies.Scan(w.view(), "") {
			names = append(names, i.Token)
		}
		slices.Sort(names)
		return names
	}
	w.step()
	if got := kept(); !slices.Equal(got, []string{"valid", "web"}) {
		t.Errorf("kept %v", got)
	}
	w.update(func(tx store.Tx) {
		s, _ := store.Services.Get(tx, "default/web")
		gone := *s
		gone.Status = "INACTIVE"
		store.Services.Put(tx, &gone)
	})
	w.now = w.now.Add(80 * time.Hour)
	w.step()
	if got := kept(); len(got) != 0 {
		t.Errorf("kept %v after the service was forgotten", got)
	}
	for d := range store.Deployments.Scan(w.view(), "") {
		t.Errorf("deployment %s of a forgotten service is left", d.ID)
	}
	for r := range store.ServiceRevisions.Scan(w.view(), "") {
		t.Errorf("revision %s of a forgotten service is left", r.ID)
	}
}

// TestDeletedDefinitions: a task definition that is being deleted goes when no service and no task uses it.
func TestDeletedDefinitions(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.turn(4)
	w.update(func(tx store.Tx) {
		for d := range store.TaskDefinitions.Scan(w.view(), "") {
			going := *d
			going.Definition.Status = types.TaskDefinitionStatusDeleteInProgress
			store.TaskDefinitions.Put(tx, &going)
		}
	})
	w.now = w.now.Add(2 * time.Minute)
	w.step()
	var left []int
	for d := range store.TaskDefinitions.Scan(w.view(), "") {
		left = append(left, d.Revision)
	}
	if !slices.Equal(left, []int{1}) {
		t.Errorf("left are revisions %v, want 1, which runs", left)
	}
}

// TestInstancesOfDeletedClusters: what a client said of an instance goes with its cluster.
func TestInstancesOfDeletedClusters(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx store.Tx) {
		for _, name := range []string{"default", "other"} {
			store.Clusters.Put(tx, &model.Cluster{Name: name, ARN: scope.ClusterARN(name), Status: "ACTIVE"})
			i, ok := store.InstanceOn(tx, name, "n1")
			if !ok {
				t.Fatalf("n1 is no instance of %s", name)
			}
			drained := *i
			drained.Status = "DRAINING"
			store.Instances.Put(tx, &drained)
		}
		store.Clusters.Put(tx, &model.Cluster{Name: "other", ARN: scope.ClusterARN("other"), Status: "INACTIVE"})
	})
	w.step()
	var left []string
	for i := range store.Instances.Scan(w.view(), "") {
		left = append(left, i.Cluster)
	}
	if !slices.Equal(left, []string{"default"}) {
		t.Errorf("rows of instances are left in %v", left)
	}
}

// TestMissingDefinition: a service whose task definition is gone says so once, and the loop goes on.
func TestMissingDefinition(t *testing.T) {
	w := newWorld(t)
	w.service(1, 9)
	for range 3 {
		w.step()
	}
	if n := strings.Count(w.events(), "was unable to start a task because the task definition"); n != 1 {
		t.Errorf("said %d times:\n%s", n, w.events())
	}
}

// TestStopOrder: a task with a target is drained, and only then released to its agent.
func TestStopOrder(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.turn(4)
	var id string
	for task := range store.Tasks.By(w.view(), store.ByService, "default/web") {
		id = task.ID
	}
	key := model.TargetKey("group", "10.0.0.1", 80)
	w.update(func(tx store.Tx) {
		store.TargetGroups.Put(tx, &model.TargetGroup{ARN: "group"})
		store.Targets.Put(tx, &model.Target{TargetGroupARN: "group", ID: "10.0.0.1", Port: 80, Task: id, Service: "default/web"})
		old, _ := store.Tasks.Get(tx, id)
		stopped := *old
		stopped.StopRequest = &model.StopRequest{Code: types.TaskStopCodeUserInitiated, Reason: "enough", At: w.now}
		store.Tasks.Put(tx, &stopped)
	})
	state := func() string {
		task, _ := store.Tasks.Get(w.view(), id)
		target, ok := store.Targets.Get(w.view(), key)
		return fmt.Sprintf("%s released=%t target=%t draining=%t", task.LastStatus(), task.Released, ok, ok && !target.DrainingSince.IsZero())
	}
	w.step()
	if got := state(); got != "DEACTIVATING released=false target=true draining=true" {
		t.Errorf("first: %s", got)
	}
	w.update(func(tx store.Tx) {
		store.TargetHealths.Put(tx, &model.TargetHealth{TargetGroupARN: "group", ID: "10.0.0.1", Port: 80, Drained: true})
	})
	w.step()
	if got := state(); got != "RUNNING released=true target=false draining=false" {
		t.Errorf("drained: %s", got)
	}
	if _, ok := store.TargetHealths.Get(w.view(), key); ok {
		t.Error("the target's health is left")
	}
}

// TestRunReactsToChanges: Run acts on a change without waiting for its tick.
func TestRunReactsToChanges(t *testing.T) {
	w := newWorld(t)
	done := make(chan error, 1)
	changed := w.st.Watch(t.Context(), store.Tasks.All())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- w.c.Run(ctx) }()
	w.service(1, 1)
	select {
	case <-changed.C():
	case <-time.After(10 * time.Second):
		t.Error("no task was started")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
