package control

import (
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/store"
)

// where is where a task is.
func (p *pass) where(t *model.Task) deploy.Place {
	var at deploy.Place
	at.Node, _ = store.Nodes.Get(p.tx, t.NodeID)
	at.Instance, _ = store.InstanceOn(p.tx, t.Cluster, t.NodeID)
	at.FreeCPU, at.FreeMemory = p.Places.Free(t.NodeID)
	return at
}
