package placement

import (
	"github.com/berthdev/berth/internal/model"
)

// The codes of failures[].reason.
const (
	reasonAgent    = "AGENT"
	reasonCPU      = "RESOURCE:CPU"
	reasonMemory   = "RESOURCE:MEMORY"
	reasonPorts    = "RESOURCE:PORTS"
	reasonENI      = "RESOURCE:ENI"
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
	refuses func(i *instance, k *class, t *model.Task) bool
}

// filters are all requirements in the order in which they are checked: an instance that fails a later one came nearer.
var filters = []filter{
	{reasonAgent, `encountered error "AGENT".`, func(i *instance, _ *class, _ *model.Task) bool { return !i.node.Connected }},
	{reasonDistinct, `encountered error "` + reasonDistinct + `".`, func(i *instance, k *class, _ *model.Task) bool {
		return k.refusesDistinct(i)
	}},
	{reasonMemberOf, `encountered error "` + reasonMemberOf + `".`, func(i *instance, k *class, _ *model.Task) bool {
		return k.refusesMember(i)
	}},
	{reasonCPU, "has insufficient CPU units available.", func(i *instance, _ *class, t *model.Task) bool {
		return i.node.freeCPU < t.Needs.CPU
	}},
	{reasonMemory, "has insufficient memory available.", func(i *instance, _ *class, t *model.Task) bool {
		return i.node.freeMemory < t.Needs.Memory
	}},
	{reasonPorts, "is already using a port required by your task.", refusesPorts},
	{reasonENI, `encountered error "RESOURCE:ENI".`, refusesENI},
}

// machineFilters are the requirements that hold also when the client names the instance.
var machineFilters = []filter{filters[0], filters[3], filters[4], filters[5], filters[6]}

func refusesPorts(i *instance, _ *class, t *model.Task) bool {
	for _, p := range t.Needs.Ports {
		if i.node.ports[p] {
			return true
		}
	}
	return false
}

func refusesENI(i *instance, _ *class, t *model.Task) bool { return i.node.freeENIs < t.Needs.ENIs }

func firstRefusal(fs []filter, i *instance, k *class, t *model.Task) *filter {
	for n := range fs {
		if fs[n].refuses(i, k, t) {
			return &fs[n]
		}
	}
	return nil
}
