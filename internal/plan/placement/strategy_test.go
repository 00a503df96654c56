package placement

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// roomy makes n nodes that hold any number of small tasks.
func roomy(n int) ([]*model.Node, []*model.Instance) {
	nodes, instances := fleet(n)
	for _, node := range nodes {
		node.CPU, node.Memory = 1_000_000, 1_000_000
	}
	return nodes, instances
}

// TestSpreadIsEven: where every machine has room, the values of the field that is spread over differ by one task at most, whatever
// else runs there; and within a value the next strategy does the same.
func TestSpreadIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, instances := roomy(rapid.IntRange(1, 9).Draw(t, "nodes"))
		var others []*model.Task
		for k := range rapid.IntRange(0, 10).Draw(t, "others") {
			i := rapid.SampledFrom(instances).Draw(t, "instance")
			others = append(others, &model.Task{ID: fmt.Sprint("o", k), Group: "service:other", Cluster: "c", InstanceID: i.ID, NodeID: i.NodeID,
				Needs: model.Resources{CPU: 900, Memory: 900}})
		}
		s := stateOf(nodes, instances, others)
		zones, machines := map[string]int{}, map[string]map[string]int{}
		for _, n := range nodes {
			zone := n.Attributes["ecs.availability-zone"]
			zones[zone] = 0
			if machines[zone] == nil {
				machines[zone] = map[string]int{}
			}
			machines[zone][n.ID] = 0
		}
		for k := range rapid.IntRange(1, 30).Draw(t, "tasks") {
			d := s.Place(small(fmt.Sprint("t", k), func(t *model.Task) {
				t.Strategy = []types.PlacementStrategy{strategy("spread", "attribute:ecs.availability-zone"), strategy("spread", "instanceId")}
			}))
			zone := s.nodes[d.NodeID].Attributes["ecs.availability-zone"]
			zones[zone]++
			machines[zone][d.NodeID]++
			if uneven(zones) || uneven(machines[zone]) {
				t.Fatalf("after %d tasks the zones have %v, and the machines %v", k+1, zones, machines)
			}
		}
	})
}

func uneven(counts map[string]int) bool {
	all := slices.Collect(maps.Values(counts))
	return slices.Max(all)-slices.Min(all) > 1
}

// TestBinpackFillsTheFullest: a task goes to a machine on which no other that it fits on has less of the resource left.
func TestBinpackFillsTheFullest(t *testing.T) {
	for _, field := range []string{"cpu", "memory"} {
		rapid.Check(t, func(t *rapid.T) {
			nodes, instances := fleet(rapid.IntRange(1, 6).Draw(t, "nodes"))
			for _, n := range nodes {
				n.CPU, n.Memory = rapid.Int64Range(100, 1000).Draw(t, "cpu"), rapid.Int64Range(100, 1000).Draw(t, "memory")
			}
			s := stateOf(nodes, instances, nil)
			for k := range rapid.IntRange(1, 20).Draw(t, "tasks") {
				task := small(fmt.Sprint(k), func(task *model.Task) {
					task.Needs = model.Resources{CPU: rapid.Int64Range(1, 200).Draw(t, "cpu"), Memory: rapid.Int64Range(1, 200).Draw(t, "memory")}
					task.Strategy = []types.PlacementStrategy{strategy("binpack", field)}
				})
				left, least, fits := map[string]int64{}, int64(1<<62), false
				for id, n := range s.nodes {
					left[id] = n.freeMemory
					if field == "cpu" {
						left[id] = n.freeCPU
					}
					if n.freeCPU >= task.Needs.CPU && n.freeMemory >= task.Needs.Memory {
						least, fits = min(least, left[id]), true
					}
				}
				d := s.Place(task)
				if (d.InstanceID != "") != fits || fits && left[d.NodeID] != least {
					t.Fatalf("task %+v went to %q with %d left of %v; the least is %d", task.Needs, d.NodeID, left[d.NodeID], left, least)
				}
			}
		})
	}
}

// TestRandomReachesEveryMachine, and the same task always goes to the same one.
func TestRandomReachesEveryMachine(t *testing.T) {
	seen := map[string]int{}
	for k := range 400 {
		nodes, instances := roomy(5)
		place := func() string {
			return stateOf(nodes, instances, nil).Place(small(fmt.Sprint("task-", k), func(t *model.Task) {
				t.Strategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeRandom}}
			})).InstanceID
		}
		at := place()
		if again := place(); again != at {
			t.Fatalf("task %d went to %s, and then to %s", k, at, again)
		}
		seen[at]++
	}
	for id, n := range seen {
		if n < 40 || n > 130 { // 80 of 400 are even
			t.Errorf("%s was chosen %d times of 400: %v", id, n, seen)
		}
	}
	if len(seen) != 5 {
		t.Errorf("chosen were %v", seen)
	}
}

// TestBatchIsOneByOne: placing a batch on one state is the same as placing each task on a state built from all before it.
func TestBatchIsOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		batch := w.place()
		var placed []*model.Task
		for k, task := range w.tasks {
			d := stateOf(w.nodes, w.instances, placed).Place(task)
			if d.InstanceID != batch[k].InstanceID || d.NodeID != batch[k].NodeID {
				t.Fatalf("task %d of the batch went to %q, alone to %q", k, batch[k].InstanceID, d.InstanceID)
			}
			if d.InstanceID != "" {
				next := *task
				next.InstanceID, next.NodeID = d.InstanceID, d.NodeID
				placed = append(placed, &next)
			}
		}
	})
}

func TestAttributes(t *testing.T) {
	n := &model.Node{Declaration: model.Declaration{Arch: "amd64", Attributes: map[string]string{"ecs.os-type": "linux", "stack": "node's"}}}
	i := &model.Instance{Attributes: []types.Attribute{{Name: new("stack"), Value: new("own")}, {Name: new("flag")}, {}}}
	want := map[string]string{"ecs.os-type": "linux", "stack": "own", "flag": "", "ecs.cpu-architecture": "x86_64"}
	for name, value := range want {
		if got, ok := n.Attribute(i, name); !ok || got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if _, ok := n.Attribute(i, "none"); ok {
		t.Error("none exists")
	}
	n.Arch = "arm64"
	if got, _ := n.Attribute(nil, "ecs.cpu-architecture"); got != "arm64" {
		t.Errorf("architecture %q", got)
	}
	n.Attributes["ecs.cpu-architecture"] = "said"
	if got, _ := n.Attribute(nil, "ecs.cpu-architecture"); got != "said" {
		t.Errorf("what the node says is %q", got)
	}
	if _, ok := (*model.Node)(nil).Attribute(i, "ecs.os-type"); ok {
		t.Error("without a node it has the node's")
	}
}
