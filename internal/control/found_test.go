package control_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestFoundByName: the running tasks of a service are instances of its Cloud Map service, and never one that may be told to stop already.
func TestFoundByName(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx store.Tx) {
		store.DiscoveryServices.Put(tx, &model.DiscoveryService{ID: "srv-1", Name: "web", Namespace: "ns-1"})
		n, _ := store.Nodes.Get(tx, "n1")
		changed := *n
		changed.Address = "10.0.0.9"
		store.Nodes.Put(tx, &changed)
		for d := range store.TaskDefinitions.Scan(tx, "") {
			def := *d
			def.Definition.NetworkMode = types.NetworkModeHost
			store.TaskDefinitions.Put(tx, &def)
		}
	})
	w.service(2, 1)
	w.update(func(tx store.Tx) {
		for r := range store.ServiceRevisions.Scan(tx, "default/web/") {
			rev := *r
			rev.ServiceRegistries = []types.ServiceRegistry{{RegistryArn: new(scope.ARN("servicediscovery", "service/srv-1")), ContainerName: new("c"),
				ContainerPort: new(int32(80))}}
			store.ServiceRevisions.Put(tx, &rev)
		}
	})
	instances := func() (ids []string) {
		for i := range store.DiscoveryInstances.Scan(w.view(), "") {
			task, ok := store.Tasks.Get(w.view(), i.ID)
			if !ok || task.Released || i.Attributes[model.AttributePort] != "80" || i.Attributes[model.AttributeIPv4] != "10.0.0.9" {
				t.Errorf("instance %+v of task %+v", i, task)
			}
			ids = append(ids, i.ID)
		}
		return ids
	}
	for range 30 {
		w.turn(1)
		instances()
	}
	before := instances()
	if len(before) != 2 {
		t.Fatalf("%d instances for two tasks", len(before))
	}
	w.update(func(tx store.Tx) { // one is asked to stop
		old, _ := store.Tasks.Get(tx, before[0])
		task := *old
		task.StopRequest = &model.StopRequest{Code: types.TaskStopCodeUserInitiated, Reason: "x", At: w.now}
		store.Tasks.Put(tx, &task)
	})
	for range 30 {
		w.turn(1)
		instances()
	}
	if after := instances(); len(after) != 2 || slices.Contains(after, before[0]) {
		t.Errorf("instances %v after %s was stopped", after, before[0])
	}
	w.update(func(tx store.Tx) { // the service is deleted
		s, _ := store.Services.Get(tx, "default/web")
		gone := *s
		gone.Status, gone.DesiredCount = "INACTIVE", 0
		store.Services.Put(tx, &gone)
		for task := range store.Tasks.By(tx, store.ByOpen, "default/web") {
			stop := *task
			stop.StopRequest = &model.StopRequest{Code: types.TaskStopCodeServiceSchedulerInitiated, Reason: "x", At: w.now}
			store.Tasks.Put(tx, &stop)
		}
	})
	for range 10 {
		w.turn(1)
	}
	if left := instances(); len(left) > 0 {
		t.Errorf("instances of a deleted service: %v", left)
	}
	r, ok := store.DiscoveryRevisions.Get(w.view(), "srv-1")
	if !ok || r.N < 6 {
		t.Errorf("revision %+v after three came and three went", r)
	}
}
