package store

import (
	"github.com/berthdev/berth/internal/model"
)

// A container instance is a row only once a client has changed something of it; these functions show it either way.

const (
	activeStatus   = "ACTIVE"
	inactiveStatus = "INACTIVE"
)

// InstancesOf lists the container instances of a cluster, deregistered ones too, in the order of their nodes. A cluster that is not
// active has none.
func InstancesOf(r Reader, cluster string) []*model.Instance {
	c, ok := Clusters.Get(r, cluster)
	if !ok || c.Status != activeStatus {
		return nil
	}
	rows := map[string]*model.Instance{}
	for i := range Instances.By(r, ByCluster, cluster) {
		rows[i.NodeID] = i
	}
	var all []*model.Instance
	for n := range Nodes.Scan(r, "") {
		if i := shown(n, c, rows[n.ID]); i != nil {
			all = append(all, i)
		}
	}
	return all
}

// InstanceOn is the container instance that a node is in a cluster.
func InstanceOn(r Reader, cluster, node string) (*model.Instance, bool) {
	c, ok := Clusters.Get(r, cluster)
	n, known := Nodes.Get(r, node)
	if !ok || !known || c.Status != activeStatus {
		return nil, false
	}
	i := shown(n, c, stored(r, cluster, node))
	return i, i != nil
}

// InstanceByID finds a container instance of a cluster, deregistered or not.
func InstanceByID(r Reader, cluster, id string) (*model.Instance, bool) {
	row, ok := Instances.Get(r, cluster+"/"+id)
	if ok {
		return InstanceOn(r, cluster, row.NodeID)
	}
	node := model.InstanceNode(id, cluster)
	if node == "" {
		return nil, false
	}
	i, ok := InstanceOn(r, cluster, node)
	return i, ok && i.ID == id
}

// stored is the row of a node in a cluster, nil when there is none.
func stored(r Reader, cluster, node string) *model.Instance {
	for i := range Instances.By(r, ByNode, node) {
		if i.Cluster == cluster {
			return i
		}
	}
	return nil
}

// shown is what a node is in an active cluster, nil when it is no member. row may be nil.
func shown(n *model.Node, c *model.Cluster, row *model.Instance) *model.Instance {
	switch {
	case row != nil && (row.Status == inactiveStatus || n.Member(c.Name)):
		return row
	case row != nil || !n.Member(c.Name):
		return nil
	}
	return n.Instance(c)
}
