// Package placement chooses the container instance that a task runs on. It is pure: the state and the tasks are values, and the
// same values give the same answer.
package placement

import (
	"github.com/berthdev/berth/internal/model"
)

// State is what placement knows: the nodes, their memberships in clusters and what is placed on them. Place changes it as it
// places, so that a batch is consistent. Not safe for concurrent use.
type State struct {
	nodes     []*model.Node
	instances []*model.Instance
	tasks     []*model.Task
}

// NewState builds a State from every node, every instance and every task that has not ended.
func NewState(nodes []*model.Node, instances []*model.Instance, tasks []*model.Task) *State {
	return &State{nodes: nodes, instances: instances, tasks: tasks}
}

// Decision is where one task goes, or why it goes nowhere.
type Decision struct {
	TaskID     string
	InstanceID string // "" when nothing fits
	NodeID     string
	// Reason says why this instance, or is the code of failures[].reason: RESOURCE:CPU, RESOURCE:MEMORY, RESOURCE:PORTS,
	// RESOURCE:ENI, AGENT, ATTRIBUTE, MemberOf placement constraint unsatisfied., … (ecs.md 1.5).
	Reason string
	// ClosestInstanceID is the instance that came nearest when nothing fits, "" when the cluster has none.
	ClosestInstanceID string
	// Explanation, when nothing fits, is the sentence that follows "Reason: " in the service event, such as
	// "No Container Instances were found in your cluster." or
	// "The closest matching (container-instance <id>) has insufficient memory available.".
	Explanation string
}
