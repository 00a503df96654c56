package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// judge pronounces a verdict upon node n1, on which the agent of world is.
func (w *world) judge(is model.Verdict) {
	w.update(func(tx store.Tx) {
		old, _ := store.Nodes.Get(tx, "n1")
		n := *old
		n.Life = model.Life{Verdict: is, Since: w.now}
		store.Nodes.Put(tx, &n)
	})
}

// another adds a machine on which nothing ever starts.
func (w *world) another() {
	w.update(func(tx store.Tx) {
		store.Nodes.Put(tx, &model.Node{ID: "n2", Connected: true, Epoch: 1,
			Declaration: model.Declaration{CPU: 2048, Memory: 4096, Attributes: map[string]string{}}})
	})
}

// on spells the tasks of a node that have not ended, by how they are.
func (w *world) on(node string) string {
	var words []string
	for t := range store.Tasks.By(w.view(), store.ByNode, node) {
		if !t.Ended() {
			words = append(words, string(t.LastStatus()))
		}
	}
	return strings.Join(words, " ")
}

// TestLostNode: a lost machine's task is replaced at once and kept until its replacement is healthy.
func TestLostNode(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.turn(4)
	w.judge(model.NodeLost)
	w.step()
	if !strings.Contains(w.events(), "was unable to place a task") || w.on("n1") != "RUNNING" {
		t.Errorf("nowhere else to go: %s\n%s", w.on("n1"), w.events())
	}
	w.another()
	w.step()
	if w.on("n1") != "RUNNING" || w.on("n2") != "PENDING" {
		t.Fatalf("n1: %s, n2: %s\n%s", w.on("n1"), w.on("n2"), w.events())
	}
	t.Run("it comes back first", func(t *testing.T) {
		w.judge(model.NodeAlive)
		w.turn(1)
		if w.on("n1") != "RUNNING" || w.on("n2") != "DEACTIVATING" && w.on("n2") != "PENDING" {
			t.Errorf("n1: %s, n2: %s", w.on("n1"), w.on("n2"))
		}
	})
	t.Run("the replacement comes first", func(t *testing.T) {
		w.judge(model.NodeLost)
		w.step()
		w.update(func(tx store.Tx) {
			for t := range store.Tasks.By(tx, store.ByNode, "n2") {
				if t.StopRequest == nil {
					up := *t
					up.Observed.Status, up.Observed.StartedAt = model.Running, w.now
					store.Tasks.Put(tx, &up)
				}
			}
		})
		w.now = w.now.Add(3 * time.Second)
		w.step()
		if w.on("n1") != "" {
			t.Errorf("n1: %s, n2: %s\n%s", w.on("n1"), w.on("n2"), w.events())
		}
		w.judge(model.NodeAlive)
		w.turn(4)
		if w.on("n1") != "" {
			t.Errorf("back, n1 has %s", w.on("n1"))
		}
	})
	for task := range store.Tasks.By(w.view(), store.ByNode, "n1") {
		if task.StoppedReason() != "Host EC2 (instance "+model.EC2ID("n1")+") stopped/terminated." || task.StopCode() != types.TaskStopCodeInfrastructureHealth {
			t.Errorf("the tombstone says %s: %q", task.StopCode(), task.StoppedReason())
		}
	}
}

// TestOnPartition: what a service's tag says.
func TestOnPartition(t *testing.T) {
	for _, c := range []struct {
		tag   string
		after time.Duration // 0: never
	}{{"replace", time.Nanosecond}, {"wait", 0}, {"fence=10s", 10*time.Second + 30*time.Second + 2*time.Second}} {
		t.Run(c.tag, func(t *testing.T) {
			w := newWorld(t)
			w.another()
			w.update(func(tx store.Tx) {
				n, _ := store.Nodes.Get(tx, "n2")
				off := *n
				off.Life.Verdict = model.NodeImpaired
				store.Nodes.Put(tx, &off)
			})
			w.service(1, 1)
			w.update(func(tx store.Tx) {
				s, _ := store.Services.Get(tx, "default/web")
				tagged := *s
				tagged.Tags = []types.Tag{{Key: new(model.PartitionTag), Value: &c.tag}}
				store.Services.Put(tx, &tagged)
			})
			w.turn(4)
			w.update(func(tx store.Tx) {
				n, _ := store.Nodes.Get(tx, "n2")
				well := *n
				well.Life = model.Life{}
				store.Nodes.Put(tx, &well)
			})
			if w.on("n1") != "RUNNING" || w.on("n2") != "" {
				t.Fatalf("n1: %s, n2, which is impaired: %s", w.on("n1"), w.on("n2"))
			}
			w.judge(model.NodeLost)
			w.step()
			lost := w.now
			if c.after > time.Nanosecond {
				w.now = lost.Add(c.after - time.Millisecond)
				w.step()
				if w.on("n2") != "" {
					t.Error("replaced while the node may still run it")
				}
				w.now = lost.Add(c.after)
				w.step()
			}
			if c.after == 0 {
				w.now = lost.Add(time.Hour)
				w.step()
			}
			if replaced := w.on("n2") == "PENDING"; replaced != (c.after != 0) {
				t.Errorf("n1: %s, n2: %s", w.on("n1"), w.on("n2"))
			}
		})
	}
}

// TestForgotten: what no service looks after ends after a minute; after three days nothing is left of the node.
func TestForgotten(t *testing.T) {
	w := newWorld(t)
	w.service(1, 1)
	w.update(func(tx store.Tx) {
		store.Tasks.Put(tx, &model.Task{ID: "alone", Cluster: "default", Family: "web", Revision: 1, NodeID: "n1", InstanceID: "i", Desired: model.Running,
			Observed: model.Observed{Status: model.Running}})
		store.Instances.Put(tx, &model.Instance{ID: "i", Cluster: "default", NodeID: "n1", Status: "ACTIVE"})
	})
	w.turn(4)
	w.judge(model.NodeLost)
	w.step()
	lost := w.now
	alone := func() bool { at, _ := store.Tasks.Get(w.view(), "alone"); return at.Ended() }
	w.now = lost.Add(59 * time.Second)
	if w.step(); alone() {
		t.Error("ended before the grace")
	}
	w.now = lost.Add(time.Minute)
	if w.step(); !alone() || w.on("n1") != "RUNNING" {
		t.Errorf("after the grace: alone ended %v, the service's task %s", alone(), w.on("n1"))
	}
	w.now = lost.Add(72 * time.Hour)
	w.step()
	w.step()
	if _, ok := store.Nodes.Get(w.view(), "n1"); ok || w.on("n1") != "" {
		t.Errorf("after three days: known %v, tasks %s", ok, w.on("n1"))
	}
	w.update(func(tx store.Tx) { // nobody knows the node of this one
		store.Tasks.Put(tx, &model.Task{ID: "orphan", Cluster: "default", Family: "web", Revision: 1, NodeID: "n3", InstanceID: "i", Desired: model.Running,
			Observed: model.Observed{Status: model.Running}})
		store.Nodes.Put(tx, &model.Node{ID: "n3"})
	})
	w.step()
	w.update(func(tx store.Tx) { store.Nodes.Delete(tx, "n3") })
	w.step()
	if orphan, _ := store.Tasks.Get(w.view(), "orphan"); !orphan.Ended() {
		t.Error("a task of a node that was removed has not ended")
	}
	for i := range store.Instances.Scan(w.view(), "") {
		t.Errorf("instance %s is left", i.Key())
	}
}
