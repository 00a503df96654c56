// Package view draws stored nouns as the shapes that ECS's clients read. It is pure: every shape is computed from its
// arguments, and nothing in it aliases what may change.
package view

import (
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/model"
)

const (
	// ZoneAttribute is the node attribute that says its availability zone.
	ZoneAttribute = "ecs.availability-zone"
	// platformFamily is what Fargate reports of a Linux task.
	platformFamily = "Linux"
	// defaultEphemeral is Fargate's ephemeral storage when a definition asks for none, in GiB.
	defaultEphemeral = 20
)

// Task draws a task without its tags. def may be nil when the definition was deleted since, and node when the task is not placed.
func Task(scope model.Scope, t *model.Task, def *types.TaskDefinition, node *model.Node) types.Task {
	if def == nil {
		def = &types.TaskDefinition{}
	}
	out := types.Task{
		TaskArn: &t.ARN, ClusterArn: new(scope.ClusterARN(t.Cluster)), TaskDefinitionArn: &t.TaskDefinition,
		LastStatus: new(string(t.LastStatus())), DesiredStatus: new(string(DesiredStatus(t))),
		LaunchType: t.LaunchType, Group: &t.Group, Version: t.Version,
		CapacityProviderName: some(t.CapacityProvider), StartedBy: some(t.StartedBy),
		Cpu: new(strconv.FormatInt(t.Needs.CPU, 10)), Memory: new(strconv.FormatInt(t.Needs.Memory, 10)),
		EnableExecuteCommand: t.EnableExecuteCommand, HealthStatus: health(t.Observed.Health),
		Attachments: attachments(t), Attributes: taskAttributes(node),
		AvailabilityZone: new(Zone(scope, node)),
		Overrides:        overrides(t, def), InferenceAccelerators: []types.InferenceAccelerator{}, Tags: []types.Tag{},
		StopCode: t.StopCode(), StoppedReason: some(t.StoppedReason()),
	}
	times(&out, t)
	if node.Lost() && !t.Ended() {
		out.Connectivity, out.ConnectivityAt = types.ConnectivityDisconnected, at(node.Life.Since)
	}
	if t.LaunchType == types.LaunchTypeFargate {
		out.PlatformVersion, out.PlatformFamily = some(t.PlatformVersion), new(platformFamily)
		size := ephemeral(t, def)
		out.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: size}
		out.FargateEphemeralStorage = &types.TaskEphemeralStorage{SizeInGiB: size}
	} else if t.InstanceID != "" {
		out.ContainerInstanceArn = new(scope.InstanceARN(t.Cluster, t.InstanceID))
	}
	for i := range t.Observed.Containers {
		out.Containers = append(out.Containers, container(scope, t, &t.Observed.Containers[i], def))
	}
	return out
}

// DesiredStatus is the status that clients see a task strive for: a task that was asked to stop strives for STOPPED at once, even
// before control acts on it.
func DesiredStatus(t *model.Task) model.TaskStatus {
	if t.StopRequest != nil || t.Desired == model.Stopped || t.Ended() {
		return model.Stopped
	}
	return model.Running
}

// Zone is the availability zone of a node: the one it says, else the region's first.
func Zone(scope model.Scope, node *model.Node) string {
	if node != nil && node.Attributes[ZoneAttribute] != "" {
		return node.Attributes[ZoneAttribute]
	}
	return scope.Region + "a"
}

func times(out *types.Task, t *model.Task) {
	o := &t.Observed
	out.CreatedAt, out.PullStartedAt, out.PullStoppedAt = at(t.CreatedAt), at(o.PullStartedAt), at(o.PullStoppedAt)
	out.StartedAt, out.ExecutionStoppedAt, out.StoppedAt = at(o.StartedAt), at(o.ExecutionStoppedAt), at(o.StoppedAt)
	out.StoppingAt = at(t.StoppingAt)
	if out.StoppingAt == nil {
		out.StoppingAt = at(o.StoppingAt)
	}
	if out.ConnectivityAt = at(o.ConnectivityAt); out.ConnectivityAt != nil {
		out.Connectivity = types.ConnectivityConnected
	}
}

func attachments(t *model.Task) []types.Attachment {
	n := t.Observed.Interface
	if n == nil {
		return []types.Attachment{}
	}
	a := types.Attachment{Id: &n.AttachmentID, Type: new("ElasticNetworkInterface"), Status: &n.Status}
	for _, d := range []struct{ name, value string }{
		{"subnetId", n.SubnetID}, {"networkInterfaceId", n.ENIID}, {"macAddress", n.MAC}, {"privateIPv4Address", n.IPv4},
	} {
		if d.value != "" {
			a.Details = append(a.Details, types.KeyValuePair{Name: new(d.name), Value: new(d.value)})
		}
	}
	return []types.Attachment{a}
}

// architectures are ECS's names of Go's.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "arm64"}

func taskAttributes(node *model.Node) []types.Attribute {
	if node == nil || architectures[node.Arch] == "" {
		return []types.Attribute{}
	}
	return []types.Attribute{{Name: new("ecs.cpu-architecture"), Value: new(architectures[node.Arch])}}
}

func ephemeral(t *model.Task, def *types.TaskDefinition) int32 {
	switch {
	case t.Overrides.EphemeralStorage != nil:
		return t.Overrides.EphemeralStorage.SizeInGiB
	case def.EphemeralStorage != nil:
		return def.EphemeralStorage.SizeInGiB
	}
	return defaultEphemeral
}

// overrides has one entry for each container, also for those that nothing was overridden of.
func overrides(t *model.Task, def *types.TaskDefinition) *types.TaskOverride {
	o := t.Overrides
	o.ContainerOverrides = []types.ContainerOverride{}
	o.InferenceAcceleratorOverrides = append([]types.InferenceAcceleratorOverride{}, o.InferenceAcceleratorOverrides...)
	for i := range t.Observed.Containers {
		name := t.Observed.Containers[i].Name
		entry := types.ContainerOverride{Name: new(name)}
		if asked := containerOverride(t, name); asked != nil {
			entry = *asked
		}
		o.ContainerOverrides = append(o.ContainerOverrides, entry)
	}
	return &o
}

func containerOverride(t *model.Task, name string) *types.ContainerOverride {
	i := slices.IndexFunc(t.Overrides.ContainerOverrides, func(o types.ContainerOverride) bool {
		return o.Name != nil && *o.Name == name
	})
	if i < 0 {
		return nil
	}
	return &t.Overrides.ContainerOverrides[i]
}

func container(scope model.Scope, t *model.Task, c *model.Container, def *types.TaskDefinition) types.Container {
	out := types.Container{
		ContainerArn: new(scope.ContainerARN(t.Cluster, t.ID, c.ID)), TaskArn: &t.ARN, Name: &c.Name,
		Image: some(c.Image), ImageDigest: some(c.ImageDigest), RuntimeId: some(c.RuntimeID),
		LastStatus: new(string(c.Status)), ExitCode: c.ExitCode, Reason: some(c.Reason),
		NetworkInterfaces: []types.NetworkInterface{}, Cpu: new("0"),
	}
	if c.RuntimeID != "" || c.Status != model.Pending { // of a container that does not exist yet AWS says neither
		out.NetworkBindings, out.HealthStatus = append([]types.NetworkBinding{}, c.NetworkBindings...), health(c.Health)
	}
	if n := t.Observed.Interface; n != nil && n.IPv4 != "" {
		out.NetworkInterfaces = append(out.NetworkInterfaces,
			types.NetworkInterface{AttachmentId: &n.AttachmentID, PrivateIpv4Address: &n.IPv4})
	}
	if d := taskdef.Container(def, c.Name); d != nil {
		out.Cpu = new(strconv.Itoa(int(d.Cpu)))
		out.Memory, out.MemoryReservation = digits(d.Memory), digits(d.MemoryReservation)
	}
	if t.EnableExecuteCommand {
		out.ManagedAgents = []types.ManagedAgent{managedAgent(c)}
	}
	if o := containerOverride(t, c.Name); o != nil {
		for _, f := range []struct {
			to   **string
			from *int32
		}{{&out.Cpu, o.Cpu}, {&out.Memory, o.Memory}, {&out.MemoryReservation, o.MemoryReservation}} {
			if f.from != nil {
				*f.to = digits(f.from)
			}
		}
	}
	return out
}

// managedAgent is ECS Exec as AWS shows it, as an agent in the container: it is there when the container runs.
func managedAgent(c *model.Container) types.ManagedAgent {
	a := types.ManagedAgent{Name: types.ManagedAgentNameExecuteCommandAgent, LastStatus: new("PENDING")}
	switch c.Status {
	case model.Running:
		a.LastStatus, a.LastStartedAt = new("RUNNING"), at(c.StartedAt)
	case model.Stopped:
		a.LastStatus = new("STOPPED")
	}
	return a
}

func health(h types.HealthStatus) types.HealthStatus {
	if h == "" {
		return types.HealthStatusUnknown
	}
	return h
}

// some is nil for "".
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// at is nil for the zero time.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func digits(n *int32) *string {
	if n == nil {
		return nil
	}
	return new(strconv.Itoa(int(*n)))
}
