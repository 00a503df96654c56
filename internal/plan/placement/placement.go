// Package placement chooses the container instance that a task runs on. It is pure: the state and the tasks are values, and the
// same values give the same answer.
//
// A State is kept: it takes in each change of a cluster, a node, a container instance or a task, and is then the same as one built
// from the result. What a strategy asks for is kept in order beside it (see view), so that a choice looks at few machines of many
// and still finds the best of all: nothing is sampled.
package placement

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
	// Refusals count, when nothing fits, how many instances each requirement refused first, in the order of the checks.
	Refusals []Refusal
}

// Refusal is how many instances were refused for one reason.
type Refusal struct {
	Reason string
	Count  int
}

// The statuses of a cluster and of a container instance.
const (
	statusActive   = "ACTIVE"
	statusInactive = "INACTIVE"
)

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
