package ecs

import (
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/placement"
	"github.com/berthdev/berth/internal/store"
)

// placer chooses instances; what it has chosen counts in its later choices. placement.State is the real one.
type placer interface {
	// Place chooses an instance of the cluster.
	Place(cluster string, t *model.Task) placement.Decision
	// PlaceOn checks one instance.
	PlaceOn(instanceID string, t *model.Task) placement.Decision
}

// newPlacer reads everything that placement looks at: nodes are shared by all clusters, so tasks of all of them count.
func newPlacer(r store.Reader) placer {
	var state any = placement.NewState(
		slices.Collect(store.Nodes.Scan(r, "")),
		slices.Collect(store.Instances.Scan(r, "")),
		slices.Collect(store.Tasks.By(r, store.ByState, store.TaskLive)))
	return state.(placer)
}
