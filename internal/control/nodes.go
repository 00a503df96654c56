package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// EC2ID is the EC2 instance id that a node shows in every cluster: "i-" and 17 hexadecimal digits.
func EC2ID(node string) string {
	sum := sha256.Sum256([]byte(node))
	return "i-" + hex.EncodeToString(sum[:])[:17]
}

// joinNodes makes every node a container instance of every active cluster, and takes the instances of inactive clusters away.
func (p *pass) joinNodes() {
	active := map[string]bool{}
	var clusters []*model.Cluster
	for c := range store.Clusters.Scan(p.tx, "") {
		if c.Status == "ACTIVE" {
			active[c.Name] = true
			clusters = append(clusters, c)
		}
	}
	joined := map[string]bool{}
	var gone []string
	for i := range store.Instances.Scan(p.tx, "") {
		if !active[i.Cluster] {
			gone = append(gone, i.Key())
			continue
		}
		joined[i.Cluster+"/"+i.NodeID] = true
	}
	for _, key := range gone {
		store.Instances.Delete(p.tx, key)
	}
	for _, n := range slices.Collect(store.Nodes.Scan(p.tx, "")) {
		for _, c := range clusters {
			if joined[c.Name+"/"+n.ID] {
				continue
			}
			id := p.NewID()
			store.Instances.Put(p.tx, &model.Instance{ID: id, ARN: p.Scope.InstanceARN(c.Name, id), Cluster: c.Name, NodeID: n.ID,
				EC2ID: EC2ID(n.ID), RegisteredAt: p.now, Status: "ACTIVE", Version: 1})
			p.say("node joined cluster", "node", n.ID, "cluster", c.Name, "instance", id)
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
			p.end(t, types.TaskStopCodeInfrastructureHealth, fmt.Sprintf("Host EC2 (instance %s) stopped/terminated.", EC2ID(n.ID)))
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
