package control

import (
	"slices"

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
