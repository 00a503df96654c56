// Package task makes tasks: the one constructor that RunTask, StartTask and the controller share, so that a task is the same
// whoever starts it. It is pure; time and ids are arguments.
package task

import (
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// PlatformVersion is the Fargate platform version that LATEST means.
const PlatformVersion = "1.4.0"

// Spec is a task to make. Scope, Cluster, Definition, Now and NewID are required.
type Spec struct {
	Scope      model.Scope
	Cluster    string // name
	Definition *model.TaskDefinition
	Now        time.Time
	// NewID returns a fresh id of 32 hexadecimal digits. It is called once for the task when ID is "", once for each
	// container, and twice for an awsvpc task's interface.
	NewID func() string

	ID                   string // of the task; "" asks NewID
	Service              string // owning service's name, "" for a standalone task
	Deployment           string // "ecs-svc/<digits>", "" for a standalone task
	Group                string // "" means service:<name> or family:<family>
	StartedBy            string // "" means Deployment
	LaunchType           types.LaunchType
	CapacityProvider     string
	PlatformVersion      string // Fargate only; "" and LATEST mean PlatformVersion
	NetworkConfiguration *types.NetworkConfiguration
	Overrides            types.TaskOverride
	Constraints          []types.PlacementConstraint // the request's or the service's; the definition's come before them
	Strategy             []types.PlacementStrategy
	EnableExecuteCommand bool
	VolumeConfigurations []types.TaskVolumeConfiguration
	Tags                 []types.Tag
}

// New makes a task that is wanted but placed nowhere yet: Desired RUNNING, Observed PROVISIONING (awsvpc) or PENDING with every
// container PENDING. Whoever places it sets InstanceID, NodeID and PlacedAt.
func New(s Spec) *model.Task {
	def := &s.Definition.Definition
	t := &model.Task{
		ID: s.ID, Cluster: s.Cluster,
		TaskDefinition: s.Scope.TaskDefinitionARN(s.Definition.Family, s.Definition.Revision),
		Family:         s.Definition.Family, Revision: s.Definition.Revision,
		Group: s.Group, StartedBy: s.StartedBy, Service: s.Service, Deployment: s.Deployment,
		LaunchType: s.LaunchType, CapacityProvider: s.CapacityProvider,
		NetworkMode: def.NetworkMode, NetworkConfiguration: s.NetworkConfiguration,
		Overrides:   s.Overrides,
		Constraints: constraints(def, s.Constraints), Strategy: slices.Clone(s.Strategy),
		EnableExecuteCommand: s.EnableExecuteCommand, VolumeConfigurations: s.VolumeConfigurations,
		Tags: slices.Clone(s.Tags), CreatedAt: s.Now, Needs: Needs(def, s.Overrides),
		Desired: model.Running, Version: 1,
	}
	if t.ID == "" {
		t.ID = s.NewID()
	}
	if t.LaunchType == "" {
		t.LaunchType = types.LaunchTypeEc2
	}
	if t.LaunchType == types.LaunchTypeFargate {
		t.PlatformVersion = ResolvePlatformVersion(s.PlatformVersion)
	}
	if t.NetworkMode == "" {
		t.NetworkMode = types.NetworkModeBridge
	}
	if t.Group == "" {
		t.Group = defaultGroup(s)
	}
	if t.StartedBy == "" {
		t.StartedBy = s.Deployment
	}
	t.ARN = s.Scope.TaskARN(s.Cluster, t.ID)
	t.Observed = observed(def, t, s.NewID)
	return t
}

// ResolvePlatformVersion returns the version that runs when v was asked for.
func ResolvePlatformVersion(v string) string {
	if v == "" || v == "LATEST" {
		return PlatformVersion
	}
	return v
}

func defaultGroup(s Spec) string {
	if s.Service != "" {
		return "service:" + s.Service
	}
	return "family:" + s.Definition.Family
}

func constraints(def *types.TaskDefinition, asked []types.PlacementConstraint) []types.PlacementConstraint {
	var all []types.PlacementConstraint
	for _, c := range def.PlacementConstraints {
		all = append(all, types.PlacementConstraint{Type: types.PlacementConstraintType(c.Type), Expression: c.Expression})
	}
	return append(all, asked...)
}

// observed is what holds before any agent has seen the task.
func observed(def *types.TaskDefinition, t *model.Task, newID func() string) model.Observed {
	o := model.Observed{Status: model.Pending, Health: types.HealthStatusUnknown}
	for i := range def.ContainerDefinitions {
		c := &def.ContainerDefinitions[i]
		o.Containers = append(o.Containers, model.Container{
			Name: value(c.Name), ID: UUID(newID()), Image: value(c.Image),
			Status: model.Pending, Health: types.HealthStatusUnknown,
		})
	}
	if t.NetworkMode == types.NetworkModeAwsvpc {
		o.Status = model.Provisioning
		o.Interface = &model.NetworkInterface{
			AttachmentID: UUID(newID()), ENIID: "eni-" + newID()[:17], SubnetID: subnet(t.NetworkConfiguration),
			Status: "PRECREATED",
		}
	}
	return o
}

// subnet is the first subnet that was asked for: Berth has one network, so a choice among subnets means nothing.
func subnet(n *types.NetworkConfiguration) string {
	if n == nil || n.AwsvpcConfiguration == nil || len(n.AwsvpcConfiguration.Subnets) == 0 {
		return ""
	}
	return n.AwsvpcConfiguration.Subnets[0]
}

// UUID writes 32 hexadecimal digits as 8-4-4-4-12; anything else is returned as it is.
func UUID(hex string) string {
	if len(hex) != 32 {
		return hex
	}
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

// Needs is what a task of the definition takes from an instance: the task's own cpu and memory where given, else the sums over
// its containers (memoryReservation where set, else memory), with the overrides applied.
func Needs(def *types.TaskDefinition, o types.TaskOverride) model.Resources {
	var cpu, memory int64
	var ports []model.HostPort
	gpus := 0
	for i := range def.ContainerDefinitions {
		c := &def.ContainerDefinitions[i]
		containerCPU, hard, soft := int64(c.Cpu), wide(c.Memory), wide(c.MemoryReservation)
		if over := override(o, value(c.Name)); over != nil {
			containerCPU = prefer(over.Cpu, containerCPU)
			hard = prefer(over.Memory, hard)
			soft = prefer(over.MemoryReservation, soft)
		}
		cpu += containerCPU
		if soft > 0 {
			memory += soft
		} else {
			memory += hard
		}
		gpus += gpusOf(c, o)
		ports = append(ports, hostPorts(def.NetworkMode, c.PortMappings)...)
	}
	needs := model.Resources{CPU: cpu, Memory: memory, Ports: ports, GPUs: gpus}
	needs.CPU = taskLevel(o.Cpu, def.Cpu, cpu)
	needs.Memory = taskLevel(o.Memory, def.Memory, memory)
	if def.NetworkMode == types.NetworkModeAwsvpc {
		needs.ENIs = 1
	}
	return needs
}

// gpusOf is how many GPUs a container asks for.
func gpusOf(c *types.ContainerDefinition, o types.TaskOverride) (n int) {
	asked := c.ResourceRequirements
	if over := override(o, value(c.Name)); over != nil && len(over.ResourceRequirements) > 0 {
		asked = over.ResourceRequirements
	}
	for _, r := range asked {
		if r.Type == types.ResourceTypeGpu {
			count, err := strconv.Atoi(value(r.Value))
			if err == nil && count > 0 {
				n += count
			}
		}
	}
	return n
}

// hostPorts lists the fixed ports of the machine that mappings take; an awsvpc task has its own.
func hostPorts(mode types.NetworkMode, mappings []types.PortMapping) []model.HostPort {
	if mode == types.NetworkModeAwsvpc || mode == types.NetworkModeNone {
		return nil
	}
	var ports []model.HostPort
	for _, m := range mappings {
		port := deref(m.HostPort)
		if mode == types.NetworkModeHost && port == 0 {
			port = deref(m.ContainerPort)
		}
		if port == 0 {
			continue
		}
		protocol := m.Protocol
		if protocol == "" {
			protocol = types.TransportProtocolTcp
		}
		if p := (model.HostPort{Port: port, Protocol: string(protocol)}); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

func override(o types.TaskOverride, container string) *types.ContainerOverride {
	for i := range o.ContainerOverrides {
		if value(o.ContainerOverrides[i].Name) == container {
			return &o.ContainerOverrides[i]
		}
	}
	return nil
}

// taskLevel returns the first of the normalised strings that is a number above 0, else sum.
func taskLevel(override, defined *string, sum int64) int64 {
	for _, s := range []*string{override, defined} {
		if n, err := strconv.ParseInt(value(s), 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return sum
}

func prefer(p *int32, other int64) int64 {
	if p != nil {
		return int64(*p)
	}
	return other
}

func wide(p *int32) int64 { return int64(deref(p)) }

func deref(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
