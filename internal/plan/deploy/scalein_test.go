package deploy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// machine is where tasks are: a node with a zone, a rack and what is free.
type machine struct {
	zone, rack       string
	freeCPU, freeMem int64
}

// at puts the tasks on the machines of their order; a task needs 100 of each.
func (f *fixture) at(machines map[string]machine, on ...string) *fixture {
	for k := range f.Input.Tasks {
		t := f.Input.Tasks[k].Task
		t.InstanceID, t.NodeID, t.Needs = on[k], on[k], model.Resources{CPU: 100, Memory: 100}
	}
	f.Where = func(t *model.Task) Place {
		m := machines[t.NodeID]
		return Place{Node: &model.Node{ID: t.NodeID,
			Declaration: model.Declaration{Attributes: map[string]string{"ecs.availability-zone": m.zone, "rack": m.rack}}},
			FreeCPU: m.freeCPU, FreeMemory: m.freeMem}
	}
	return f
}

func (f *fixture) strategy(kindsAndFields ...string) *fixture {
	for _, s := range kindsAndFields {
		kind, field, _ := strings.Cut(s, " ")
		f.Service.Strategy = append(f.Service.Strategy, types.PlacementStrategy{Type: types.PlacementStrategyType(kind), Field: &field})
	}
	return f
}

// leavers are the tasks that a plan stops, in order.
func leavers(f *fixture) (ids []string) {
	for _, a := range Plan(f.Input) {
		if s, ok := a.(Stop); ok {
			ids = append(ids, s.TaskID)
		}
	}
	return ids
}

// TestScaleIn: what leaves is what the strategies can spare best.
func TestScaleIn(t *testing.T) {
	machines := map[string]machine{"a1": {"a", "r1", 900, 100}, "a2": {"a", "r2", 500, 500}, "b1": {"b", "r1", 100, 900}, "b2": {"b", "r2", 550, 550},
		"c1": {"c", "r3", 0, 0}}
	tests := []struct {
		name     string
		strategy []string
		on       string // the machines of the tasks a, b, c …, the oldest first
		left     int32
		want     string
	}{
		{"the zone with most", nil, "a1 a2 b1 c1", 3, "b"},
		{"and of its machines that with most", nil, "a1 a1 a2 b1 b1", 4, "b"},
		{"zones before machines", nil, "a1 a2 a1 b1 b1", 4, "c"},
		{"the zones by turns", nil, "a1 a1 a2 b1 b1 b2", 2, "e b f c"},
		{"the newest of equals", nil, "a1 b1 c1", 1, "c b"},
		{"the zone counts though the machines are even", []string{"spread attribute:ecs.availability-zone"}, "a1 a2 b1", 2, "b"},
		{"another attribute", []string{"spread attribute:rack"}, "a1 a2 b1 c1", 3, "c"},
		{"machines only", []string{"spread instanceId"}, "a1 a2 b1 c1 c1", 4, "e"},
		{"pack by memory: where most is free", []string{"binpack memory"}, "a1 a2 b1 b2", 3, "c"},
		{"pack by cpu", []string{"binpack CPU"}, "a1 a2 b1 b2", 3, "a"},
		{"packing empties one machine", []string{"binpack memory"}, "a2 a2 b2 b2 b2 c1", 3, "e d c"},
		{"zones, then pack", []string{"spread attribute:ecs.availability-zone", "binpack memory"}, "a1 a2 b1 b2 c1", 3, "c b"},
		{"any", []string{"random"}, "a1 a1 b1 c1", 3, "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			on := strings.Fields(tt.on)
			f := service(tt.left, 0, 200).done(1).tasks(1, "abcdefgh"[:len(on)], running).at(machines, on...).strategy(tt.strategy...)
			for k := range f.Input.Tasks {
				f.Input.Tasks[k].CreatedAt = now.AddDate(0, 0, k-10)
			}
			if got := strings.Join(leavers(f), " "); got != tt.want {
				t.Errorf("stopped %q, want %q", got, tt.want)
			}
		})
	}
}

// TestScaleInTakesTheUselessFirst: however the zones stand, a task that is not healthy leaves before one that is.
func TestScaleInTakesTheUselessFirst(t *testing.T) {
	machines := map[string]machine{"a1": {zone: "a"}, "b1": {zone: "b"}}
	f := service(2, 0, 200).done(1).tasks(1, "ab", running).tasks(1, "c", fresh).at(machines, "a1", "a1", "b1")
	if got := leavers(f); !slices.Equal(got, []string{"c"}) {
		t.Errorf("stopped %v", got)
	}
}

// TestScaleInLevels: a zone that lost a task has at most one fewer than any other then, whatever was before, and so do the machines
// within a zone; where tasks are packed each leaves the machine that has most free, counting what those before it gave back.
func TestScaleInLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a1", "a2", "b1", "b2", "b3", "c1"}
		machines := map[string]machine{}
		for _, name := range names {
			machines[name] = machine{zone: name[:1], freeCPU: rapid.Int64Range(0, 500).Draw(t, "cpu"), freeMem: rapid.Int64Range(0, 500).Draw(t, "memory")}
		}
		n := rapid.IntRange(1, 25).Draw(t, "tasks")
		on := rapid.SliceOfN(rapid.SampledFrom(names), n, n).Draw(t, "on")
		f := service(rapid.Int32Range(0, int32(n)).Draw(t, "left"), 0, 200).done(1).tasks(1, "abcdefghijklmnopqrstuvwxyz"[:n], running).at(machines, on...)
		packed := rapid.Bool().Draw(t, "packed")
		if packed {
			f.strategy("binpack memory")
		}
		stops := leavers(f)
		if len(stops) != n-int(f.Service.DesiredCount) {
			t.Fatalf("stopped %d of %d, to leave %d", len(stops), n, f.Service.DesiredCount)
		}
		left, zones, lost := map[string]int{}, map[string]int{}, map[string]bool{}
		for _, m := range on {
			left[m]++
			zones[m[:1]]++
		}
		for _, id := range stops {
			m := on[id[0]-'a']
			for other, tasks := range left {
				if packed && tasks > 0 && machines[other].freeMem > machines[m].freeMem {
					t.Fatalf("%s leaves %s though %s has more left: %v", id, m, other, machines)
				}
			}
			at := machines[m]
			at.freeMem += 100
			machines[m] = at
			left[m]--
			zones[m[:1]]--
			lost[m], lost[m[:1]] = true, true
		}
		if packed {
			return
		}
		for a, x := range zones {
			for b, y := range zones {
				if lost[a] && y > x+1 {
					t.Fatalf("zone %s lost tasks and has %d, zone %s has %d", a, x, b, y)
				}
			}
		}
		for a, x := range left {
			for b, y := range left {
				if lost[a] && a[0] == b[0] && y > x+1 {
					t.Fatalf("machine %s lost tasks and has %d, %s has %d\n%s", a, x, b, y, fmt.Sprint(on))
				}
			}
		}
	})
}
