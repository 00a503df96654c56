package view

import (
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// agentPorts are the ports that ECS reports as reserved on every instance.
var agentPorts = []int32{22, 2375, 2376, 51678, 51679, 51680}

// Instance draws a container instance without its tags. tasks are the ones on its node that have not ended, in whichever
// cluster: all clusters share the node. balanced are the ports that load balancers have there.
func Instance(scope model.Scope, i *model.Instance, node *model.Node, tasks []*model.Task, balanced []int32) types.ContainerInstance {
	if node == nil {
		node = &model.Node{}
	}
	out := types.ContainerInstance{
		ContainerInstanceArn: &i.ARN, Ec2InstanceId: &i.EC2ID, Status: &i.Status, Version: i.Version,
		AgentConnected: node.Agent(), RegisteredAt: at(i.RegisteredAt),
		VersionInfo: &types.VersionInfo{AgentVersion: some(node.Version), DockerVersion: some(node.RuntimeVersion)},
		Attributes:  InstanceAttributes(scope, i, node), Attachments: []types.Attachment{}, Tags: []types.Tag{},
	}
	var used model.Resources
	for _, t := range tasks {
		used.CPU += t.Needs.CPU
		used.Memory += t.Needs.Memory
		used.Ports = append(used.Ports, takenPorts(t)...)
		if t.Cluster != i.Cluster || t.InstanceID != i.ID {
			continue
		}
		if t.Observed.Status == model.Running {
			out.RunningTasksCount++
		} else if t.Observed.Status.Before(model.Running) {
			out.PendingTasksCount++
		}
	}
	out.RegisteredResources = resources(node.CPU, node.Memory, node.ReservedPorts, nil)
	out.RemainingResources = resources(node.CPU-used.CPU, node.Memory-used.Memory, slices.Concat(node.ReservedPorts, balanced), used.Ports)
	return out
}

// takenPorts are the host ports of a task: the fixed ones it needs and the dynamic ones its agent chose.
func takenPorts(t *model.Task) []model.HostPort {
	ports := slices.Clone(t.Needs.Ports)
	for _, c := range t.Observed.Containers {
		for _, b := range c.NetworkBindings {
			if b.HostPort != nil {
				ports = append(ports, model.HostPort{Port: *b.HostPort, Protocol: string(b.Protocol)})
			}
		}
	}
	return ports
}

func resources(cpu, memory int64, reserved []int32, taken []model.HostPort) []types.Resource {
	tcp, udp := slices.Concat(agentPorts, reserved), []int32{}
	for _, p := range taken {
		if p.Protocol == string(types.TransportProtocolUdp) {
			udp = append(udp, p.Port)
		} else {
			tcp = append(tcp, p.Port)
		}
	}
	return []types.Resource{
		{Name: new("CPU"), Type: new("INTEGER"), IntegerValue: int32(cpu)},
		{Name: new("MEMORY"), Type: new("INTEGER"), IntegerValue: int32(memory)},
		{Name: new("PORTS"), Type: new("STRINGSET"), StringSetValue: portSet(tcp)},
		{Name: new("PORTS_UDP"), Type: new("STRINGSET"), StringSetValue: portSet(udp)},
	}
}

// portSet is each port once, in numeric order.
func portSet(ports []int32) []string {
	slices.Sort(ports)
	set := []string{}
	for _, p := range slices.Compact(ports) {
		set = append(set, strconv.Itoa(int(p)))
	}
	return set
}

// InstanceAttributes lists the node's own attributes by name, then those that PutAttributes added.
func InstanceAttributes(scope model.Scope, i *model.Instance, node *model.Node) []types.Attribute {
	own := map[string]string{}
	if node != nil {
		maps.Copy(own, node.Attributes)
		if a := architectures[node.Arch]; a != "" && own["ecs.cpu-architecture"] == "" {
			own["ecs.cpu-architecture"] = a
		}
	}
	if own[ZoneAttribute] == "" {
		own[ZoneAttribute] = Zone(scope, node)
	}
	var list []types.Attribute
	for _, name := range slices.Sorted(maps.Keys(own)) {
		list = append(list, types.Attribute{Name: new(name), Value: some(own[name])})
	}
	for _, a := range i.Attributes {
		list = append(list, types.Attribute{Name: a.Name, Value: a.Value})
	}
	return list
}
