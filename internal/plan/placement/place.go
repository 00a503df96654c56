package placement

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Place chooses an instance of the task's cluster for the task and counts the task as placed there. A task that fits nowhere
// changes nothing.
func (s *State) Place(t *model.Task) Decision {
	s.DropTask(t.ID)
	c := s.clusters[t.Cluster]
	if c == nil || !c.active() {
		return none(t)
	}
	k := s.class(c, t)
	if k.err != nil {
		return Decision{TaskID: t.ID, Reason: reasonMemberOf, Explanation: k.err.Error()}
	}
	if k.refused != nil && k.refused.frees == s.frees && len(k.dynamic) == 0 { // it has only filled since: what did not fit does not now
		return k.refused.of(t)
	}
	q, v := c.ask(k, t), s.view(s.pool(c), k)
	best := q.best(v)
	if best == nil {
		if k.refused == nil || len(v.pool.list) <= s.few || s.frees-k.refused.asked >= patience || !k.refused.holds(q, v) {
			k.refused = q.explain(v)
			k.refused.asked = s.frees
		}
		k.refused.frees = s.frees
		return k.refused.of(t)
	}
	s.hold(t, best.node.id, true)
	return Decision{TaskID: t.ID, InstanceID: c.instance(best.node).ID, NodeID: best.node.id, Reason: k.ranking.why}
}

// PlaceOn places the task on one container instance (StartTask): only what the machine cannot do is checked, no constraint and no
// strategy.
func (s *State) PlaceOn(at *model.Instance, t *model.Task) Decision {
	s.DropTask(t.ID)
	n := s.nodes[at.NodeID]
	if n == nil || n.Node == nil {
		return Decision{TaskID: t.ID, Reason: reasonMissing, Explanation: "The container instance was not found."}
	}
	if at.Status != statusActive {
		return Decision{TaskID: t.ID, Reason: reasonInactive, ClosestInstanceID: at.ID,
			Explanation: fmt.Sprintf("The (container-instance %s) is %s.", at.ID, at.Status)}
	}
	if f := firstRefusal(machineFilters, &question{task: t}, &instance{node: n}); f != nil {
		return Decision{TaskID: t.ID, Reason: f.reason, ClosestInstanceID: at.ID,
			Explanation: fmt.Sprintf("The (container-instance %s) %s", at.ID, f.text)}
	}
	s.hold(t, n.id, true)
	return Decision{TaskID: t.ID, InstanceID: at.ID, NodeID: n.id, Reason: "the instance was asked for"}
}

func none(t *model.Task) Decision {
	if t.LaunchType == types.LaunchTypeFargate {
		return Decision{TaskID: t.ID, Reason: reasonFargate, Explanation: noInstances}
	}
	return Decision{TaskID: t.ID, Reason: noInstances, Explanation: noInstances}
}

// patience is how often something may be freed before all of more than few instances are asked again why a task does not fit that
// still fits nowhere. Till then the sentence stays as it is while it is true.
const (
	few      = 500
	patience = 100
)

// refusal is why the last task of a class fitted nowhere.
type refusal struct {
	Decision
	closest *node   // nil: there is no instance
	filter  *filter // that refused it
	asked   int     // when all instances were asked
	frees   int     // when nothing was last seen to fit
}

func (r *refusal) of(t *model.Task) Decision {
	d := r.Decision
	d.TaskID = t.ID
	return d
}

// holds tells whether the sentence is still true.
func (r *refusal) holds(q *question, v *view) bool {
	i := v.pool.of[r.closest]
	return i != nil && i.active() && q.cluster.instance(i.node).ID == r.ClosestInstanceID && r.filter.refuses(q, i)
}

// explain says why nothing fits: each instance is refused by the first filter that it fails, and the closest is the one that
// got furthest.
func (q *question) explain(v *view) *refusal {
	counts := make([]int, len(filters))
	var closest *instance
	furthest := -1
	for _, i := range v.pool.list {
		if !i.active() {
			continue
		}
		for n := range filters {
			if !filters[n].refuses(q, i) {
				continue
			}
			counts[n]++
			if n > furthest || (n == furthest && nearer(i.node, closest.node)) {
				furthest, closest = n, i
			}
			break
		}
	}
	if closest == nil {
		return &refusal{Decision: none(q.task)}
	}
	id := q.cluster.instance(closest.node).ID
	d := Decision{TaskID: q.task.ID, Reason: filters[furthest].reason, ClosestInstanceID: id,
		Explanation: fmt.Sprintf("The closest matching (container-instance %s) %s", id, filters[furthest].text)}
	for n, count := range counts {
		if count > 0 {
			d.Refusals = append(d.Refusals, Refusal{Reason: filters[n].reason, Count: count})
		}
	}
	return &refusal{Decision: d, closest: closest.node, filter: &filters[furthest]}
}

// nearer tells which of two machines that fail the same filter is emptier.
func nearer(a, b *node) bool {
	if a.load != b.load {
		return a.load < b.load
	}
	return a.id < b.id
}
