package control

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// loss is a verdict that a node is lost, and when this control saw it first. What waits for the end of a lease, or of a grace, counts
// from there, by the monotonic clock: a later leader counts anew, and never too short.
type loss struct {
	since time.Time // of the verdict
	seen  time.Time
}

// lostSince is when this control first saw the node lost; false when it is not.
func (p *pass) lostSince(n *model.Node) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !n.Lost() {
		if n != nil {
			delete(p.lost, n.ID)
		}
		return time.Time{}, false
	}
	l, ok := p.lost[n.ID]
	if !ok || !l.since.Equal(n.Life.Since) {
		l = loss{since: n.Life.Since, seen: p.now}
		p.lost[n.ID] = l
	}
	return l.seen, true
}

// machine is the node that a task is on; nil: nobody knows it.
func (p *pass) machine(t *model.Task) *model.Node {
	n, ok := p.nodes[t.NodeID]
	if !ok {
		n, _ = store.Nodes.Get(p.tx, t.NodeID)
		p.nodes[t.NodeID] = n
	}
	return n
}

// replaced tells whether the service's task counts as lost: its machine is, and the service does not wait for it, or has waited until
// the node must have stopped it.
func (p *pass) replaced(s *model.Service, t *model.Task) bool {
	seen, lost := p.lostSince(p.machine(t))
	if !lost || t.Ended() {
		return false
	}
	wants := model.OnPartitionOf(s.Tags)
	if wants.Wait {
		return false
	}
	if wants.Fence == 0 {
		return true
	}
	stop := timeouts.StopDefault
	if def, _ := p.definition(t.Family, t.Revision); def != nil {
		stop = model.StopTime(&def.Definition, timeouts.StopDefault, timeouts.StopLongest)
	}
	if at := seen.Add(wants.Fence + stop + timeouts.FenceMargin); p.now.Before(at) {
		p.look(at)
		return false
	}
	return true
}

// bury ends a task whose machine is lost. Its containers may still run there: a node that comes back does not find the task among its
// assignments, and stops it.
func (p *pass) bury(v *scene, t *model.Task, reason string) {
	v.put(p, p.ended(t, types.TaskStopCodeInfrastructureHealth, hostLost(t.NodeID)))
	p.say("task ended with its node", "task", t.ID, "node", t.NodeID, "reason", reason)
}

func hostLost(node string) string {
	return fmt.Sprintf("Host EC2 (instance %s) stopped/terminated.", model.EC2ID(node))
}

// node looks after a lost node: tasks of no service, for which nobody else does, are ended after the grace; and when it has been lost
// for long it is forgotten with all that is told of it.
func (p *pass) node(id string) {
	n, ok := store.Nodes.Get(p.tx, id)
	if !ok {
		p.endTasks(&model.Node{ID: id}, true) // somebody removed it
		return
	}
	seen, lost := p.lostSince(n)
	if !lost {
		return
	}
	forgotten := !p.now.Before(n.Life.Since.Add(p.Forget)) && !p.now.Before(seen.Add(p.LostGrace))
	if at := seen.Add(p.LostGrace); p.now.Before(at) {
		p.look(at)
	} else if p.endTasks(n, forgotten); p.full() || p.probing() {
		return
	}
	if !forgotten {
		p.look(n.Life.Since.Add(p.Forget))
		return
	}
	p.forgetNode(n)
}

// endTasks ends the lost node's tasks of no service, or all.
func (p *pass) endTasks(n *model.Node, all bool) {
	for _, t := range slices.Collect(store.Tasks.By(p.tx, store.ByNode, n.ID)) {
		if t.Ended() || !all && p.looksAfter(t) {
			continue
		}
		if p.full() || p.probing() {
			return
		}
		store.Tasks.Put(p.tx, p.ended(t, types.TaskStopCodeInfrastructureHealth, hostLost(n.ID)))
		p.say("task ended with its node", "task", t.ID, "node", n.ID)
	}
}

// looksAfter tells whether a service looks after the task.
func (p *pass) looksAfter(t *model.Task) bool {
	s, ok := store.Services.Get(p.tx, t.Cluster+"/"+t.Service)
	return t.Service != "" && ok && s.Status != inactive
}

// forgetNode removes a node. A machine that comes back joins anew.
func (p *pass) forgetNode(n *model.Node) {
	for _, i := range slices.Collect(store.Instances.By(p.tx, store.ByNode, n.ID)) {
		if p.full() {
			return
		}
		store.Instances.Delete(p.tx, i.Key())
	}
	store.Nodes.Delete(p.tx, n.ID)
	p.say("node forgotten", "node", n.ID, "host", n.Hostname, "reason", fmt.Sprintf("it has been lost for %s", p.Forget))
}
