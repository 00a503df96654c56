package ecs

import (
	"slices"

	"github.com/berthdev/berth/internal/plan/placement"
	"github.com/berthdev/berth/internal/store"
)

// placementState reads everything that placement in a cluster looks at: nodes are shared by all clusters, so tasks of all of them
// count.
func placementState(r store.Reader, cluster string) *placement.State {
	return placement.NewState(
		slices.Collect(store.Nodes.Scan(r, "")),
		store.InstancesOf(r, cluster),
		slices.Collect(store.Tasks.By(r, store.ByState, store.TaskLive)))
}
