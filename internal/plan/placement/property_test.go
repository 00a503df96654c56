package placement

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// world is a random set of nodes and tasks to place.
type world struct {
	nodes     []*model.Node
	instances []*model.Instance
	tasks     []*model.Task
}

func drawWorld(t *rapid.T) world {
	w := world{}
	w.nodes, w.instances = fleet(rapid.IntRange(1, 8).Draw(t, "nodes"))
	for _, n := range w.nodes {
		n.CPU = rapid.Int64Range(0, 500).Draw(t, "cpu")
		n.Memory = rapid.Int64Range(0, 500).Draw(t, "memory")
		n.Connected = rapid.IntRange(0, 5).Draw(t, "connected") > 0
		if rapid.Bool().Draw(t, "first cluster only") {
			n.Clusters = []string{"c"}
		}
		if rapid.Bool().Draw(t, "as the node says") {
			w.instances = slices.DeleteFunc(w.instances, func(i *model.Instance) bool { return i.NodeID == n.ID })
		}
	}
	strategies := [][]types.PlacementStrategy{nil, {strategy("binpack", "cpu")}, {{Type: "random"}},
		{strategy("spread", "attribute:ecs.availability-zone"), strategy("binpack", "memory")}, {strategy("spread", "host")}}
	for k := range rapid.IntRange(1, 40).Draw(t, "tasks") {
		task := &model.Task{ID: fmt.Sprintf("t%02d", k), Group: rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group"),
			Cluster:  rapid.SampledFrom([]string{"c", "d"}).Draw(t, "cluster"),
			Needs:    model.Resources{CPU: rapid.Int64Range(0, 200).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 200).Draw(t, "memory")},
			Strategy: rapid.SampledFrom(strategies).Draw(t, "strategy")}
		if rapid.Bool().Draw(t, "has port") {
			task.Needs.Ports = []model.HostPort{{Port: rapid.Int32Range(20, 24).Draw(t, "port"), Protocol: "tcp"}}
		}
		if rapid.IntRange(0, 3).Draw(t, "distinct") == 0 {
			task.Constraints = []types.PlacementConstraint{constraint("distinctInstance", "")}
		}
		w.tasks = append(w.tasks, task)
	}
	return w
}

func (w world) place() []Decision {
	s := stateOf(w.nodes, w.instances, nil)
	var out []Decision
	for _, t := range w.tasks {
		out = append(out, s.Place(t))
	}
	return out
}

// TestPlacementIsSound: no machine is filled over its capacity, no port is given twice, a distinct task shares its instance with
// no task of its group, every refusal explains itself, and the same input gives the same answer.
func TestPlacementIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		decisions := w.place()
		if again := w.place(); fmt.Sprint(decisions) != fmt.Sprint(again) {
			t.Fatalf("two answers to one question:\n%v\n%v", decisions, again)
		}
		free, ports, groups := map[string]*model.Node{}, map[string]bool{}, map[string]bool{}
		for _, n := range w.nodes {
			left := *n
			free[n.ID] = &left
		}
		for k, d := range decisions {
			task := w.tasks[k]
			if d.InstanceID == "" {
				if d.Reason == "" || d.Explanation == "" {
					t.Fatalf("%s: refused without a reason: %+v", task.ID, d)
				}
				continue
			}
			n := free[d.NodeID]
			n.CPU -= task.Needs.CPU
			n.Memory -= task.Needs.Memory
			if n.CPU < 0 || n.Memory < 0 || !n.Connected {
				t.Fatalf("%s: node %s over capacity or not connected: %+v", task.ID, d.NodeID, n)
			}
			for _, p := range task.Needs.Ports {
				key := fmt.Sprint(d.NodeID, p)
				if ports[key] || p.Port == 22 {
					t.Fatalf("%s: port %v of %s given twice or reserved", task.ID, p, d.NodeID)
				}
				ports[key] = true
			}
			key := d.InstanceID + task.Group
			if groups[key] && len(task.Constraints) > 0 {
				t.Fatalf("%s: shares %s with its group", task.ID, d.InstanceID)
			}
			groups[key] = true
		}
	})
}

// TestRefusalIsTrue: a task that is refused for CPU or memory fits on no connected node of its cluster.
func TestRefusalIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for _, task := range w.tasks {
			task.Constraints, task.Needs.Ports = nil, nil
		}
		s := stateOf(w.nodes, w.instances, nil)
		for _, task := range w.tasks {
			if d := s.Place(task); d.InstanceID != "" {
				continue
			}
			for _, n := range s.nodes {
				if n.Member(task.Cluster) && n.Connected && n.freeCPU >= task.Needs.CPU && n.freeMemory >= task.Needs.Memory {
					t.Fatalf("%s fits on %s but was refused", task.ID, n.id)
				}
			}
		}
	})
}
