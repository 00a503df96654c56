package placement

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// truth is what a State was told, and the State.
type truth struct {
	clusters map[string]*model.Cluster
	nodes    map[string]*model.Node
	rows     map[string]*model.Instance
	tasks    map[string]*model.Task
	ports    map[string]*model.Listener
	servers  map[string]bool
	kept     *State
}

func newTruth() *truth {
	return &truth{map[string]*model.Cluster{}, map[string]*model.Node{}, map[string]*model.Instance{}, map[string]*model.Task{},
		map[string]*model.Listener{}, map[string]bool{}, NewState(nil, nil, nil, nil)}
}

func values[V any](m map[string]V) []V {
	var out []V
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// built is a State that was told nothing but the result.
func (w *truth) built() *State {
	s := NewState(values(w.clusters), values(w.nodes), values(w.rows), values(w.tasks))
	for _, l := range w.ports {
		s.PutListener(l)
	}
	for id := range w.servers {
		s.PutServer(id)
	}
	return s
}

var zones, racks = []string{"a", "b", "c"}, []string{"r1", "r2"}

// change changes one thing.
func (w *truth) change(t *rapid.T) {
	node, cluster := rapid.SampledFrom([]string{"n0", "n1", "n2", "n3", "n4", "n5"}), rapid.SampledFrom([]string{"c", "d"})
	switch rapid.IntRange(0, 13).Draw(t, "change") {
	case 0:
		c := &model.Cluster{Name: cluster.Draw(t, "cluster"), Status: rapid.SampledFrom([]string{"ACTIVE", "ACTIVE", "INACTIVE"}).Draw(t, "status")}
		w.clusters[c.Name] = c
		w.kept.PutCluster(c)
	case 1:
		name := cluster.Draw(t, "cluster")
		delete(w.clusters, name)
		w.kept.DropCluster(name)
	case 2, 3, 4:
		n := drawNode(t, node.Draw(t, "node"))
		w.nodes[n.ID] = n
		w.kept.PutNode(n)
	case 5:
		id := node.Draw(t, "node")
		delete(w.nodes, id)
		w.kept.DropNode(id)
	case 6:
		i := &model.Instance{NodeID: node.Draw(t, "node"), Cluster: cluster.Draw(t, "cluster"),
			Status: rapid.SampledFrom([]string{"ACTIVE", "DRAINING", "INACTIVE"}).Draw(t, "status")}
		i.ID = "i" + i.NodeID
		if rapid.Bool().Draw(t, "own zone") {
			i.Attributes = []types.Attribute{{Name: new("ecs.availability-zone"), Value: new(rapid.SampledFrom(zones).Draw(t, "zone"))}}
		}
		w.rows[i.Key()] = i
		w.kept.PutInstance(i)
	case 7:
		if all := values(w.rows); len(all) > 0 {
			i := rapid.SampledFrom(all).Draw(t, "row")
			delete(w.rows, i.Key())
			w.kept.DropInstance(i)
		}
	case 8, 9, 10:
		task := drawTask(t, fmt.Sprint("t", rapid.IntRange(0, 12).Draw(t, "id")))
		task.NodeID, task.InstanceID = node.Draw(t, "node"), "i"
		task.Observed.Status = rapid.SampledFrom([]model.TaskStatus{model.Pending, model.Running, model.Running, model.Stopped}).Draw(t, "status")
		if rapid.Bool().Draw(t, "dynamic port") {
			task.Observed.Containers = []model.Container{{NetworkBindings: []types.NetworkBinding{{HostPort: new(int32(81))}}}}
		}
		w.tasks[task.ID] = task
		w.kept.PutTask(task)
	case 11:
		w.changeListener(t, node.Draw(t, "node"))
	case 12:
		id := node.Draw(t, "node")
		if w.servers[id] {
			delete(w.servers, id)
			w.kept.DropServer(id)
		} else {
			w.servers[id] = true
			w.kept.PutServer(id)
		}
	default:
		id := fmt.Sprint("t", rapid.IntRange(0, 12).Draw(t, "id"))
		delete(w.tasks, id)
		w.kept.DropTask(id)
	}
}

// changeListener changes a load balancer's listener; a node may not serve it.
func (w *truth) changeListener(t *rapid.T, node string) {
	arn := rapid.SampledFrom([]string{"l", "m"}).Draw(t, "listener")
	if rapid.IntRange(0, 3).Draw(t, "it goes") == 0 {
		delete(w.ports, arn)
		w.kept.DropListener(arn)
		return
	}
	l := listenerAt(arn, rapid.Int32Range(80, 81).Draw(t, "port"))
	if rapid.Bool().Draw(t, "missed") {
		l.Problems = map[string]string{node: "in use"}
	}
	w.ports[arn] = l
	w.kept.PutListener(l)
}

func drawNode(t *rapid.T, id string) *model.Node {
	n := &model.Node{ID: id, Connected: rapid.IntRange(0, 4).Draw(t, "connected") > 0,
		Declaration: model.Declaration{CPU: rapid.Int64Range(0, 500).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 500).Draw(t, "memory"),
			Attributes: map[string]string{
				"ecs.availability-zone": rapid.SampledFrom(zones).Draw(t, "zone"), "rack": rapid.SampledFrom(racks).Draw(t, "rack")}}}
	if rapid.IntRange(0, 5).Draw(t, "one cluster") == 0 {
		n.Clusters = []string{rapid.SampledFrom([]string{"c", "d"}).Draw(t, "member of")}
	}
	if rapid.Bool().Draw(t, "without a server") {
		n.KeyHash, n.Attributes[model.AttributeBalancer] = "k", rapid.SampledFrom([]string{"true", "false"}).Draw(t, "serves")
	}
	if rapid.IntRange(0, 5).Draw(t, "limit") == 0 {
		n.Attributes[ENILimitAttribute] = rapid.SampledFrom([]string{"0", "1", "2"}).Draw(t, "enis")
	}
	return n
}

func drawTask(t *rapid.T, id string) *model.Task {
	task := &model.Task{ID: id, Cluster: rapid.SampledFrom([]string{"c", "d"}).Draw(t, "cluster"),
		Group: rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group"), Needs: model.Resources{
			CPU: rapid.Int64Range(0, 150).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 150).Draw(t, "memory"),
			ENIs: rapid.IntRange(0, 1).Draw(t, "enis")}}
	if rapid.Bool().Draw(t, "service") {
		task.Service = "s"
	}
	if rapid.IntRange(0, 3).Draw(t, "port") == 0 {
		task.Needs.Ports = []model.HostPort{{Port: rapid.Int32Range(80, 81).Draw(t, "number"), Protocol: "tcp"}}
	}
	kinds := []types.PlacementStrategy{strategy("spread", "attribute:ecs.availability-zone"), strategy("spread", "attribute:rack"),
		strategy("spread", "instanceId"), strategy("binpack", "cpu"), strategy("binpack", "memory"), {Type: "random"}}
	task.Strategy = rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 3).Draw(t, "strategy")
	task.Constraints = rapid.SliceOfN(rapid.SampledFrom([]types.PlacementConstraint{constraint("distinctInstance", ""),
		constraint("memberOf", "attribute:rack == r1"), constraint("memberOf", "attribute:ecs.availability-zone in [a, b]"),
		constraint("memberOf", "not(task:group == h)"), constraint("memberOf", "task:group == h and attribute:rack == r1"),
		constraint("memberOf", "task:group in [g, x] or task:group == h"), constraint("memberOf", "task:group == h or attribute:rack == r2"), constraint("memberOf", "runningTasksCount < 2")}), 0, 1).Draw(t, "constraints")
	return task
}

// everyone asks each instance that fits for its scores: what best must find without asking them all.
func everyone(s *State, t *model.Task) string {
	c := s.clusters[t.Cluster]
	if c == nil || !c.active() {
		return ""
	}
	k := s.class(c, t)
	q, v := c.ask(k, t), s.view(s.pool(c), k)
	var best *node
	var lowest []int64
	for _, i := range v.pool.list {
		if !i.active() || firstRefusal(filters, q, i) != nil {
			continue
		}
		var scores []int64
		for _, score := range k.ranking.scores {
			scores = append(scores, score.of(q, i.node, i.row))
		}
		order := slices.Compare(scores, lowest)
		if best == nil || order < 0 || order == 0 && i.node.id < best.id {
			best, lowest = i.node, scores
		}
	}
	if best == nil {
		return ""
	}
	return best.id
}

// isTrue tells whether what a refusal says is so.
func isTrue(s *State, t *model.Task, d, fresh Decision) bool {
	if d.ClosestInstanceID == "" || reflect.DeepEqual(d, fresh) {
		return reflect.DeepEqual(d, fresh)
	}
	c := s.clusters[t.Cluster]
	k := s.class(c, t)
	q, v := c.ask(k, t), s.view(s.pool(c), k)
	for _, i := range v.pool.list {
		for n := range filters {
			if i.active() && c.instance(i.node).ID == d.ClosestInstanceID && filters[n].reason == d.Reason {
				return filters[n].refuses(q, i) && strings.HasSuffix(d.Explanation, filters[n].text)
			}
		}
	}
	return false
}

// TestKeptIsBuilt: after any changes a State that was told each of them decides as one that is built from the result, and both choose
// what asking every instance would choose. What it says when nothing fits is true, though another instance may have come nearer since it was worked out.
func TestKeptIsBuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTruth()
		w.kept.few = rapid.SampledFrom([]int{0, few}).Draw(t, "few")
		for _, name := range []string{"c", "d"} {
			w.clusters[name] = &model.Cluster{Name: name, Status: "ACTIVE"}
			w.kept.PutCluster(w.clusters[name])
		}
		kinds := []*model.Task{drawTask(t, "k0"), drawTask(t, "k1")} // asked for again and again
		for round := range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(0, 12).Draw(t, "changes") {
				w.change(t)
			}
			built := w.built()
			for k := range 3 {
				task := drawTask(t, fmt.Sprint("q", round, k))
				if k < len(kinds) {
					again := *kinds[k]
					again.ID, task = task.ID, &again
				}
				want := everyone(built, task)
				got, fresh := w.kept.Place(task), built.Place(task)
				if got.NodeID != want || fresh.NodeID != want || want != "" && !reflect.DeepEqual(got, fresh) || want == "" && !isTrue(built, task, got, fresh) {
					t.Fatalf("the kept state says  %+v\nthe built one says   %+v\nasking everyone says %q", got, fresh, want)
				}
				if got.NodeID != "" && rapid.Bool().Draw(t, "take it back") {
					w.kept.DropTask(task.ID)
					built.DropTask(task.ID)
				} else if got.NodeID != "" {
					stored := *task
					stored.NodeID, stored.InstanceID = got.NodeID, got.InstanceID
					w.tasks[task.ID] = &stored
				}
			}
		}
	})
}

// TestNothingStays: a State from which everything was taken away again is empty.
func TestNothingStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTruth()
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			w.change(t)
			w.kept.Place(drawTask(t, "q"))
		}
		w.kept.DropTask("q")
		for id := range w.tasks {
			w.kept.DropTask(id)
		}
		for _, i := range w.rows {
			w.kept.DropInstance(i)
		}
		for id := range w.nodes {
			w.kept.DropNode(id)
		}
		for name := range w.clusters {
			w.kept.DropCluster(name)
		}
		s := w.kept
		if len(s.tasks)+len(s.nodes)+len(s.clusters)+s.choosy != 0 {
			t.Fatalf("left are %v %v %v %d", s.tasks, s.nodes, s.clusters, s.choosy)
		}
		for _, p := range s.pools {
			if len(p.list)+len(p.of) != 0 {
				t.Fatalf("the pool of %v has %d instances", p.cluster, len(p.list))
			}
			for _, v := range p.views {
				for _, c := range v.cells {
					if len(c.shelf.blocks)+len(v.entries) != 0 {
						t.Fatalf("a view has %d entries, and a cell blocks %v", len(v.entries), c.shelf.blocks)
					}
				}
			}
		}
	})
}

// TestManyClustersAndKinds: more clusters of their own instances and more kinds of tasks than are kept at hand change no decision.
func TestManyClustersAndKinds(t *testing.T) {
	nodes, _ := fleet(9)
	s := NewState(nil, nodes, nil, nil)
	for k := range 2 * maxPools {
		name := fmt.Sprint("c", k)
		s.PutCluster(&model.Cluster{Name: name, Status: "ACTIVE"})
		s.PutInstance(&model.Instance{ID: "i", NodeID: fmt.Sprintf("n%02d", k%9), Cluster: name, Status: "DRAINING"})
	}
	for round := range 2 {
		for k := range 2 * maxPools {
			for kind := range 2 * maxViews {
				task := small(fmt.Sprint(round, k, kind), func(t *model.Task) {
					t.Cluster, t.Needs = fmt.Sprint("c", k), model.Resources{CPU: 1}
					t.Constraints = []types.PlacementConstraint{constraint("memberOf", fmt.Sprintf("attribute:x%d !exists", kind))}
				})
				want := everyone(s, task)
				if d := s.Place(task); d.NodeID != want || d.NodeID == fmt.Sprintf("n%02d", k%9) {
					t.Fatalf("placed on %q, want %q", d.NodeID, want)
				}
			}
		}
	}
	if len(s.pools) > maxPools || len(s.pools[0].views) > maxViews {
		t.Errorf("kept are %d pools, and %d views of one", len(s.pools), len(s.pools[0].views))
	}
}

// TestShelf: a shelf holds what was put there and not taken, in order, and yields what has room.
func TestShelf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shelf
		on := map[string]item{}
		for range rapid.IntRange(0, 1000).Draw(t, "steps") {
			id := fmt.Sprint(rapid.IntRange(0, 400).Draw(t, "id"))
			if x, there := on[id]; there {
				s.take(x)
				delete(on, id)
				continue
			}
			x := item{a: rapid.Int64Range(0, 5).Draw(t, "a"), b: rapid.Int64Range(0, 2).Draw(t, "b"), cpu: rapid.Int64Range(0, 9).Draw(t, "cpu"),
				memory: rapid.Int64Range(0, 9).Draw(t, "memory"), of: &instance{node: newNode(id, nil)}}
			s.put(x)
			on[id] = x
		}
		cpu, memory := rapid.Int64Range(0, 9).Draw(t, "cpu"), rapid.Int64Range(0, 9).Draw(t, "memory")
		var want, got []item
		for _, x := range on {
			if x.cpu >= cpu && x.memory >= memory {
				want = append(want, x)
			}
		}
		slices.SortFunc(want, item.compare)
		s.room(cpu, memory, func(x item) bool { got = append(got, x); return true })
		if !slices.Equal(got, want) {
			t.Fatalf("yielded %v\nwant %v", got, want)
		}
	})
}
