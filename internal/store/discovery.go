package store

import "github.com/berthdev/berth/internal/model"

// PutInstance stores an instance of a Cloud Map service and counts the change.
func PutInstance(tx Tx, i *model.DiscoveryInstance) {
	DiscoveryInstances.Put(tx, i)
	countInstances(tx, i.Service)
}

// DeleteInstance removes an instance of a Cloud Map service and counts the change.
func DeleteInstance(tx Tx, i *model.DiscoveryInstance) {
	DiscoveryInstances.Delete(tx, i.Key())
	countInstances(tx, i.Service)
}

func countInstances(tx Tx, service string) {
	n := &model.DiscoveryRevision{Service: service, N: 1}
	if old, ok := DiscoveryRevisions.Get(tx, service); ok {
		n.N = old.N + 1
	}
	DiscoveryRevisions.Put(tx, n)
}
