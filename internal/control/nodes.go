package control

import (
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// leaveClusters forgets what clients said of container instances of clusters that are no more.
func (p *pass) leaveClusters() {
	for _, i := range slices.Collect(store.Instances.Scan(p.tx, "")) {
		if c, ok := store.Clusters.Get(p.tx, i.Cluster); !ok || c.Status != "ACTIVE" {
			store.Instances.Delete(p.tx, i.Key())
		}
	}
}

// endLost ends the tasks of nodes that have been lost for longer than the grace. Their containers may still run there: a node
// that comes back does not find the tasks among its assignments, and removes them.
func (p *pass) endLost() {
	for n := range store.Nodes.Scan(p.tx, "") {
		if n.Connected || n.LostAt.IsZero() {
			continue
		}
		if at := n.LostAt.Add(p.LostGrace); p.now.Before(at) {
			p.look(at)
			continue
		}
		for _, t := range slices.Collect(store.Tasks.By(p.tx, store.ByNode, n.ID)) {
			if t.Ended() {
				continue
			}
			p.end(t, types.TaskStopCodeInfrastructureHealth, fmt.Sprintf("Host EC2 (instance %s) stopped/terminated.", model.EC2ID(n.ID)))
			p.say("task ended with its node", "task", t.ID, "node", n.ID)
		}
	}
}

// end makes a task STOPPED that no agent will report of.
func (p *pass) end(old *model.Task, code types.TaskStopCode, reason string) {
	t := *old
	t.Desired, t.Released = model.Stopped, true
	if t.StoppingAt.IsZero() {
		t.StoppingAt = p.now
	}
	o := &t.Observed
	o.Status, o.StoppedAt = model.Stopped, p.now
	if o.StoppingAt.IsZero() {
		o.StoppingAt = p.now
	}
	if o.ExecutionStoppedAt.IsZero() && !o.StartedAt.IsZero() {
		o.ExecutionStoppedAt = p.now
	}
	if o.StopCode == "" && t.StopRequest == nil {
		o.StopCode, o.StoppedReason = code, reason
	}
	o.Containers = slices.Clone(o.Containers)
	for i := range o.Containers {
		o.Containers[i].Status = model.Stopped
	}
	if o.Interface != nil {
		gone := *o.Interface
		gone.Status = "DELETED"
		o.Interface = &gone
	}
	t.Version++
	store.Tasks.Put(p.tx, &t)
}
