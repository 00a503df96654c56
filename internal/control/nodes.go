package control

import (
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// cluster forgets what clients said of container instances of a cluster that is no more.
func (p *pass) cluster(name string) {
	if c, ok := store.Clusters.Get(p.tx, name); ok && c.Status == active {
		return
	}
	for _, i := range slices.Collect(store.Instances.By(p.tx, store.ByCluster, name)) {
		if p.full() || p.probing() {
			return
		}
		store.Instances.Delete(p.tx, i.Key())
	}
}

// node ends the tasks of a node that has been lost for longer than the grace. Their containers may still run there: a node that comes
// back does not find the tasks among its assignments, and removes them.
func (p *pass) node(id string) {
	n, ok := store.Nodes.Get(p.tx, id)
	if !ok || n.Connected || n.LostAt.IsZero() {
		return
	}
	if at := n.LostAt.Add(p.LostGrace); p.now.Before(at) {
		p.look(at)
		return
	}
	for _, t := range slices.Collect(store.Tasks.By(p.tx, store.ByNode, n.ID)) {
		if t.Ended() {
			continue
		}
		if p.full() || p.probing() {
			return
		}
		store.Tasks.Put(p.tx, p.ended(t, types.TaskStopCodeInfrastructureHealth,
			fmt.Sprintf("Host EC2 (instance %s) stopped/terminated.", model.EC2ID(n.ID))))
		p.say("task ended with its node", "task", t.ID, "node", n.ID)
	}
}
