package placement

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Place chooses an instance of the cluster for the task and counts the task as placed there. A task that fits nowhere changes
// nothing.
func (s *State) Place(cluster string, t *model.Task) Decision {
	c := s.clusters[cluster]
	if c == nil {
		return none(t)
	}
	k := s.class(c, t)
	if k.err != nil {
		return Decision{TaskID: t.ID, Reason: reasonMemberOf, Explanation: k.err.Error()}
	}
	if k.refused != nil { // the state only fills: what did not fit does not fit now
		d := *k.refused
		d.TaskID = t.ID
		return d
	}
	best := s.best(c, k, t)
	if best == nil {
		d := s.explain(c, k, t)
		if !k.dynamic() {
			k.refused = &d
		}
		return d
	}
	s.hold(best, t)
	return Decision{TaskID: t.ID, InstanceID: best.ID, NodeID: best.NodeID, Reason: k.why()}
}

// PlaceOn places the task on one instance (StartTask): only what the machine cannot do is checked, no constraint and no strategy.
func (s *State) PlaceOn(instanceID string, t *model.Task) Decision {
	i := s.instances[instanceID]
	if i == nil {
		return Decision{TaskID: t.ID, Reason: reasonMissing, Explanation: "The container instance was not found."}
	}
	if i.Status != statusActive {
		return Decision{TaskID: t.ID, Reason: reasonInactive, ClosestInstanceID: i.ID,
			Explanation: fmt.Sprintf("The (container-instance %s) is %s.", i.ID, i.Status)}
	}
	if f := firstRefusal(machineFilters, i, nil, t); f != nil {
		return Decision{TaskID: t.ID, Reason: f.reason, ClosestInstanceID: i.ID,
			Explanation: fmt.Sprintf("The (container-instance %s) %s", i.ID, f.text)}
	}
	s.hold(i, t)
	return Decision{TaskID: t.ID, InstanceID: i.ID, NodeID: i.NodeID, Reason: "the instance was asked for"}
}

// hold counts the task as placed on the instance.
func (s *State) hold(i *instance, t *model.Task) {
	i.node.hold(t)
	i.hold(t)
}

func none(t *model.Task) Decision {
	if t.LaunchType == types.LaunchTypeFargate {
		return Decision{TaskID: t.ID, Reason: reasonFargate, Explanation: noInstances}
	}
	return Decision{TaskID: t.ID, Reason: noInstances, Explanation: noInstances}
}

// best is the feasible instance with the best score, nil when there is none. Of equally good ones the first by id is taken.
func (s *State) best(c *cluster, k *class, t *model.Task) *instance {
	var best *instance
	for _, i := range c.instances {
		if i.Status != statusActive || !i.node.Connected || i.node.freeCPU < t.Needs.CPU || i.node.freeMemory < t.Needs.Memory {
			continue
		}
		if best != nil && !k.better(i, best, t) {
			continue
		}
		if k.refuses(i) || refusesPorts(i, k, t) || refusesENI(i, k, t) {
			continue
		}
		best = i
	}
	return best
}

// explain says why nothing fits: each instance is refused by the first filter that it fails, and the closest is the one that
// got furthest.
func (s *State) explain(c *cluster, k *class, t *model.Task) Decision {
	counts := make([]int, len(filters))
	var closest *instance
	furthest := -1
	for _, i := range c.instances {
		if i.Status != statusActive {
			continue
		}
		for n := range filters {
			if !filters[n].refuses(i, k, t) {
				continue
			}
			counts[n]++
			if n > furthest || (n == furthest && nearer(i, closest)) {
				furthest, closest = n, i
			}
			break
		}
	}
	if closest == nil {
		return none(t)
	}
	d := Decision{TaskID: t.ID, Reason: filters[furthest].reason, ClosestInstanceID: closest.ID,
		Explanation: fmt.Sprintf("The closest matching (container-instance %s) %s", closest.ID, filters[furthest].text)}
	for n, count := range counts {
		if count > 0 {
			d.Refusals = append(d.Refusals, Refusal{Reason: filters[n].reason, Count: count})
		}
	}
	return d
}

// nearer tells which of two instances that fail the same filter is emptier.
func nearer(a, b *instance) bool {
	if a.node.load != b.node.load {
		return a.node.load < b.node.load
	}
	return a.ID < b.ID
}
