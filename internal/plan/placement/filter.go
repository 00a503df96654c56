package placement

// The codes of failures[].reason.
const (
	reasonAgent    = "AGENT"
	reasonCPU      = "RESOURCE:CPU"
	reasonMemory   = "RESOURCE:MEMORY"
	reasonPorts    = "RESOURCE:PORTS"
	reasonENI      = "RESOURCE:ENI"
	reasonGPU      = "RESOURCE:GPU"
	reasonFargate  = "RESOURCE:FARGATE"
	reasonMissing  = "MISSING"
	reasonInactive = "INACTIVE"
	reasonDistinct = "distinctInstance placement constraint unsatisfied."
	reasonMemberOf = "MemberOf placement constraint unsatisfied."
)

const noInstances = "No Container Instances were found in your cluster."

// filter is one requirement. text follows the name of the instance in the explanation.
type filter struct {
	reason  string
	text    string
	refuses func(q *question, i *instance) bool
}

// filters are all requirements in the order in which they are checked: an instance that fails a later one came nearer.
var filters = []filter{
	{reasonAgent, `encountered error "AGENT".`, func(_ *question, i *instance) bool { return !i.node.connected() }},
	{reasonDistinct, `encountered error "` + reasonDistinct + `".`, (*question).refusesDistinct},
	{reasonMemberOf, `encountered error "` + reasonMemberOf + `".`, func(q *question, i *instance) bool {
		return !q.view.entries[i.at].matches || q.refusesDynamic(i)
	}},
	{reasonCPU, "has insufficient CPU units available.", func(q *question, i *instance) bool {
		return i.node.freeCPU < q.task.Needs.CPU
	}},
	{reasonMemory, "has insufficient memory available.", func(q *question, i *instance) bool {
		return i.node.freeMemory < q.task.Needs.Memory
	}},
	{reasonPorts, "is already using a port required by your task.", (*question).refusesPorts},
	{reasonENI, `encountered error "RESOURCE:ENI".`, (*question).refusesENI},
	{reasonGPU, "has insufficient GPU resource available.", (*question).refusesGPU},
}

// machineFilters are the requirements that hold also when the client names the instance.
var machineFilters = []filter{filters[0], filters[3], filters[4], filters[5], filters[6], filters[7]}

func firstRefusal(fs []filter, q *question, i *instance) *filter {
	for n := range fs {
		if fs[n].refuses(q, i) {
			return &fs[n]
		}
	}
	return nil
}
