package ecs

import (
	"slices"

	"github.com/berthdev/berth/internal/plan/placement"
	"github.com/berthdev/berth/internal/store"
)

// placementState reads everything that placement looks at: nodes are shared by all clusters, so tasks of all of them count.
func placementState(r store.Reader) *placement.State {
	return placement.NewState(
		slices.Collect(store.Nodes.Scan(r, "")),
		slices.Collect(store.Instances.Scan(r, "")),
		slices.Collect(store.Tasks.By(r, store.ByState, store.TaskLive)))
}
