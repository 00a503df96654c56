// Package discovery decides which instances the Cloud Map services of ECS's services hold: a task is found by name once it runs, and not any
// more before it is told to stop. It is pure.
package discovery

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Input is everything that Plan looks at: one service of ECS.
type Input struct {
	Cluster, Service string
	Region           string
	Registries       map[string][]types.ServiceRegistry // by "ecs-svc/<digits>" of the deployment
	Names            map[string]*model.DiscoveryService // by ARN: those of Cloud Map that exist
	Tasks            []Task                             // those that have not ended
	Instances        []*model.DiscoveryInstance         // that the service's tasks have
	Now              time.Time
	// Limit bounds how many instances the actions change; 0: no bound.
	Limit int
}

// Task is a task and where it is.
type Task struct {
	*model.Task
	ContainerChecks bool // its containers' own health is checked
	Lost            bool // its machine is
	Zone            string
	NodeAddress     string // of its machine
}

// Action is one thing to do, as data.
type Action interface{ action() }

// Register stores an instance, new or changed.
type Register struct {
	Instance *model.DiscoveryInstance
	Reason   string
}

// Deregister removes one.
type Deregister struct {
	Instance *model.DiscoveryInstance
	Reason   string
}

func (Register) action()   {}
func (Deregister) action() {}

// Plan returns what is to be done, in the order of the instances' keys, what goes before what comes.
func Plan(in Input) []Action {
	want := map[string]*model.DiscoveryInstance{}
	for _, t := range in.Tasks {
		if !found(t) {
			continue
		}
		for _, r := range in.Registries[t.Deployment] {
			if i := instance(in, t, r); i != nil {
				want[i.Key()] = i
			}
		}
	}
	var actions []Action
	have := map[string]*model.DiscoveryInstance{}
	for _, i := range slices.SortedFunc(slices.Values(in.Instances), func(a, b *model.DiscoveryInstance) int { return cmp.Compare(a.Key(), b.Key()) }) {
		if have[i.Key()] = i; want[i.Key()] == nil {
			actions = append(actions, Deregister{i, "its task does not run, or is about to stop"})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		i, old := want[key], have[key]
		switch {
		case old == nil:
			actions = append(actions, Register{i, "its task runs"})
		case !maps.Equal(old.Attributes, i.Attributes) || old.Unhealthy != i.Unhealthy:
			i.At = old.At
			actions = append(actions, Register{i, "its task is not as it was"})
		}
	}
	if in.Limit > 0 && len(actions) > in.Limit {
		actions = actions[:in.Limit]
	}
	return actions
}

// found tells whether a task may be found: it runs where somebody can reach it, and nobody wants it to stop.
func found(t Task) bool {
	return t.Observed.Status == model.Running && t.StopRequest == nil && t.Desired != model.Stopped && !t.Lost
}

// instance is what a task is in one registry; nil while it has no address there. With a network interface of its own (awsvpc) it is the
// interface's address; else its machine's, and the host's port.
func instance(in Input, t Task, r types.ServiceRegistry) *model.DiscoveryInstance {
	if r.RegistryArn == nil || in.Names[*r.RegistryArn] == nil {
		return nil
	}
	name := in.Names[*r.RegistryArn]
	i := &model.DiscoveryInstance{Service: name.ID, ID: t.ID, Owner: in.Cluster + "/" + in.Service, At: in.Now, Attributes: map[string]string{
		model.AttributeHealth: "HEALTHY", "AVAILABILITY_ZONE": t.Zone, "REGION": in.Region, "ECS_CLUSTER_NAME": in.Cluster,
		"ECS_SERVICE_NAME": in.Service, "ECS_TASK_DEFINITION_FAMILY": t.Family}}
	if i.Attributes["AVAILABILITY_ZONE"] == "" {
		delete(i.Attributes, "AVAILABILITY_ZONE")
	}
	port := int32(0)
	if r.Port != nil {
		port = *r.Port
	} else if r.ContainerPort != nil {
		port = *r.ContainerPort
	}
	if t.NetworkMode == types.NetworkModeAwsvpc {
		if t.Observed.Interface == nil || t.Observed.Interface.IPv4 == "" {
			return nil
		}
		i.Attributes[model.AttributeIPv4] = t.Observed.Interface.IPv4
	} else {
		if r.ContainerName == nil || r.ContainerPort == nil || t.NodeAddress == "" {
			return nil
		}
		if port = t.HostPort(*r.ContainerName, *r.ContainerPort); port == 0 {
			return nil
		}
		i.Attributes[model.AttributeIPv4] = t.NodeAddress
	}
	if port != 0 {
		i.Attributes[model.AttributePort] = strconv.Itoa(int(port))
	}
	i.Unhealthy = name.Custom && t.ContainerChecks && t.Observed.Health != types.HealthStatusHealthy
	return i
}
