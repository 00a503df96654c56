package placement

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// The size that the issue names.
const manyNodes, manyServices, manyTasks = 10_000, 10_000, 200_000

// large is a cluster in which each of many services has some tasks; every machine is about half full.
func large() (nodes []*model.Node, tasks []*model.Task) {
	for k := range manyNodes {
		nodes = append(nodes, &model.Node{ID: fmt.Sprintf("%032x", k*7919), Connected: true,
			Declaration: model.Declaration{CPU: 8192, Memory: 16384, ReservedPorts: []int32{22, 2375, 2376},
				Attributes: map[string]string{"ecs.availability-zone": string(rune('a' + k%3)), "rack": fmt.Sprint(k % 200), "few": fmt.Sprint(k % 1000)}}})
	}
	for k := range manyTasks {
		tasks = append(tasks, &model.Task{ID: fmt.Sprintf("%032x", k), Cluster: "c", Group: fmt.Sprint("service:", k%manyServices), Service: "s",
			NodeID:     nodes[k%manyNodes].ID,
			InstanceID: "i", Needs: model.Resources{CPU: 128 + int64(k%5)*64, Memory: 256 + int64(k%7)*64}})
	}
	return nodes, tasks
}

var inC = []*model.Cluster{{Name: "c", Status: "ACTIVE"}}

// BenchmarkPlace places a task and takes it back, in a large cluster, by each kind of strategy and constraint. It logs what the
// state takes beside the rows that it was told.
func BenchmarkPlace(b *testing.B) {
	nodes, tasks := large()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := NewState(inC, nodes, nil, tasks)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("the state takes %d MiB", (after.HeapAlloc-before.HeapAlloc)>>20)
	zone, instance := strategy("spread", "attribute:ecs.availability-zone"), strategy("spread", "instanceId")
	kinds := []struct {
		name        string
		strategy    []types.PlacementStrategy
		constraints []types.PlacementConstraint
		change      func(*model.Task)
	}{
		{"default", nil, nil, nil},
		{"default, alone", nil, nil, func(t *model.Task) { t.Service, t.Group = "", "family:f" }},
		{"binpack memory", []types.PlacementStrategy{strategy("binpack", "memory")}, nil, nil},
		{"zone, binpack cpu", []types.PlacementStrategy{zone, strategy("binpack", "cpu")}, nil, nil},
		{"zone, random", []types.PlacementStrategy{zone, {Type: "random"}}, nil, nil},
		{"random", []types.PlacementStrategy{{Type: "random"}}, nil, nil},
		{"200 racks, instance", []types.PlacementStrategy{strategy("spread", "attribute:rack"), instance}, nil, nil},
		{"binpack, then spread", []types.PlacementStrategy{strategy("binpack", "memory"), instance}, nil, nil},
		{"distinct", nil, []types.PlacementConstraint{constraint("distinctInstance", "")}, nil},
		{"memberOf 10 of 10000", nil, []types.PlacementConstraint{constraint("memberOf", "attribute:few == 7")}, nil},
		{"beside 20 tasks", nil, []types.PlacementConstraint{constraint("memberOf", "task:group == service:17")}, nil},
		{"fits nowhere", nil, nil, func(t *model.Task) { t.Needs.Memory = 1 << 20 }},
	}
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			k := 0
			for b.Loop() {
				k++
				t := &model.Task{ID: fmt.Sprintf("%032x", manyTasks+k), Cluster: "c", Group: fmt.Sprint("service:", k%manyServices), Service: "s",
					Needs: model.Resources{CPU: 128, Memory: 256}, Strategy: kind.strategy, Constraints: kind.constraints}
				if kind.change != nil {
					kind.change(t)
				}
				s.Place(t)
				s.DropTask(t.ID)
			}
		})
	}
}

// BenchmarkService places a service of 5,000 tasks on 1,000 machines, so that every machine has several of it.
func BenchmarkService(b *testing.B) {
	for b.Loop() {
		s := NewState(inC, nil, nil, nil)
		for k := range 1000 {
			s.PutNode(&model.Node{ID: fmt.Sprint(k), Connected: true,
				Declaration: model.Declaration{CPU: 1 << 20, Memory: 1 << 20, Attributes: map[string]string{"ecs.availability-zone": string(rune('a' + k%3))}}})
		}
		for k := range 5000 {
			if d := s.Place(small(fmt.Sprint(k), nil)); d.NodeID == "" {
				b.Fatal(d)
			}
		}
	}
	b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "placements/s")
}

// BenchmarkLarge builds the state of a large cluster, as a start does.
func BenchmarkLarge(b *testing.B) {
	nodes, tasks := large()
	for b.Loop() {
		NewState(inC, nodes, nil, tasks)
	}
}
