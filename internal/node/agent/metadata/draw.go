package metadata

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

// drawing draws a task's view as the shapes. full: version 4, else 3, which knows less of networks.
type drawing struct {
	view *agent.View
	full bool
	cfg  *Config
}

func (d drawing) task(tags bool) taskShape {
	t, o := d.view.Task, &d.view.Observed
	s := taskShape{
		Cluster: t.Cluster, TaskARN: t.ARN, Family: t.Family, Revision: strconv.Itoa(t.Revision),
		DesiredStatus: d.desired(), KnownStatus: d.known(), Limits: d.limits(),
		PullStartedAt: when(o.PullStartedAt), PullStoppedAt: when(o.PullStoppedAt), ExecutionStoppedAt: when(o.ExecutionStoppedAt),
		AvailabilityZone: d.cfg.AvailabilityZone, LaunchType: string(t.LaunchType), ServiceName: t.Service,
		FaultInjectionEnabled: deref(d.view.Definition.EnableFaultInjection),
	}
	if t.LaunchType == types.LaunchTypeFargate {
		s.Cluster = strings.Replace(strings.TrimSuffix(t.ARN, "/"+t.ID), ":task/", ":cluster/", 1)
	}
	if tags {
		s.TaskTags = map[string]string{}
		for _, tag := range t.Tags {
			s.TaskTags[deref(tag.Key)] = deref(tag.Value)
		}
	}
	for i := range d.view.Containers {
		s.Containers = append(s.Containers, d.container(deref(d.view.Containers[i].Name)))
	}
	return s
}

func (d drawing) desired() string {
	if d.view.Stopping {
		return string(model.Stopped)
	}
	return string(model.Running)
}

// known is the task's status as the ECS agent counts: NONE, CREATED, RUNNING, STOPPED.
func (d drawing) known() string {
	o := &d.view.Observed
	switch {
	case o.Status == model.Stopped:
		return "STOPPED"
	case !o.StartedAt.IsZero():
		return "RUNNING"
	case slices.ContainsFunc(o.Containers, func(c model.Container) bool { return c.RuntimeID != "" }):
		return "CREATED"
	}
	return "NONE"
}

// limits are the task's own, nil when it has none.
func (d drawing) limits() *limitsShape {
	t, def := d.view.Task, &d.view.Definition
	var s limitsShape
	if n := number(t.Overrides.Cpu, def.Cpu); n > 0 {
		s.CPU = new(float64(n) / 1024)
	}
	if n := number(t.Overrides.Memory, def.Memory); n > 0 {
		s.Memory = new(n)
	}
	if s == (limitsShape{}) {
		return nil
	}
	return &s
}

func (d drawing) container(name string) containerShape {
	def := d.definition(name)
	t := d.view.Task
	s := containerShape{
		Name: name, Image: deref(def.Image), DesiredStatus: d.desired(), KnownStatus: "NONE", Type: "NORMAL",
		Limits: limitsShape{CPU: new(float64(def.Cpu))}, Volumes: d.volumes(def), Networks: d.networks(name),
		Labels: map[string]string{
			"com.amazonaws.ecs.cluster": t.Cluster, "com.amazonaws.ecs.container-name": name, "com.amazonaws.ecs.task-arn": t.ARN,
			"com.amazonaws.ecs.task-definition-family": t.Family, "com.amazonaws.ecs.task-definition-version": strconv.Itoa(t.Revision),
		},
	}
	for k, v := range def.DockerLabels {
		s.Labels[k] = v
	}
	if def.Memory != nil {
		s.Limits.Memory = new(int64(*def.Memory))
	}
	if l := def.LogConfiguration; l != nil && d.full {
		s.LogDriver, s.LogOptions = string(l.LogDriver), l.Options
	}
	if n, ok := d.view.Restarts[name]; ok && d.full {
		s.RestartCount = &n
	}
	d.observed(&s, def)
	return s
}

// observed fills in what the agent sees of the container.
func (d drawing) observed(s *containerShape, def *types.ContainerDefinition) {
	t := d.view.Task
	i := slices.IndexFunc(d.view.Observed.Containers, func(c model.Container) bool { return c.Name == s.Name })
	if i < 0 {
		return
	}
	o := &d.view.Observed.Containers[i]
	s.DockerID, s.ImageID, s.ExitCode = o.RuntimeID, o.ImageDigest, o.ExitCode
	if s.DockerID == "" {
		s.DockerID = t.ID + "-" + s.Name // it is being created
	}
	id := strings.ReplaceAll(o.ID, "-", "")
	s.DockerName = fmt.Sprintf("ecs-%s-%d-%s-%s", t.Family, t.Revision, s.Name, id[:min(20, len(id))])
	s.StartedAt, s.FinishedAt = when(o.StartedAt), when(o.FinishedAt)
	s.CreatedAt = s.StartedAt
	if d.full {
		s.ContainerARN = strings.Replace(t.ARN, ":task/", ":container/", 1) + "/" + o.ID
	}
	switch {
	case o.Status == model.Running, o.Status == model.Stopped:
		s.KnownStatus = string(o.Status)
	case o.RuntimeID != "":
		s.KnownStatus = "CREATED"
	case o.ImageDigest != "":
		s.KnownStatus = "PULLED"
	}
	if def.HealthCheck != nil {
		s.Health = &healthShape{Status: string(o.Health)}
	}
	s.Ports = d.ports(def, o)
}

func (d drawing) ports(def *types.ContainerDefinition, o *model.Container) []portShape {
	var all []portShape
	for _, b := range o.NetworkBindings {
		all = append(all, portShape{
			ContainerPort: deref(b.ContainerPort), HostPort: deref(b.HostPort), Protocol: string(b.Protocol), HostIP: deref(b.BindIP),
		})
	}
	if d.view.Task.NetworkMode == types.NetworkModeAwsvpc {
		for _, m := range def.PortMappings {
			port := deref(m.ContainerPort)
			all = append(all, portShape{ContainerPort: port, HostPort: port, Protocol: string(m.Protocol)})
		}
	}
	return all
}

func (d drawing) networks(name string) []networkShape {
	mode := d.view.Task.NetworkMode
	n := networkShape{NetworkMode: string(mode)}
	info, ok := d.view.Networks[name]
	if !ok || info.IPv4 == "" {
		return []networkShape{n}
	}
	n.IPv4Addresses = []string{info.IPv4}
	if mode == types.NetworkModeAwsvpc && d.full {
		n.AttachmentIndex, n.MACAddress = new(0), info.MAC
		n.PrivateDNSName = "ip-" + strings.ReplaceAll(info.IPv4, ".", "-") + ".ec2.internal"
		if d.cfg.Subnet.IsValid() {
			n.IPv4SubnetCIDRBlock = d.cfg.Subnet.Masked().String()
			n.SubnetGatewayIPv4 = fmt.Sprintf("%s/%d", info.Gateway, d.cfg.Subnet.Bits())
		}
	}
	return []networkShape{n}
}

func (d drawing) volumes(def *types.ContainerDefinition) []volumeShape {
	var all []volumeShape
	for _, m := range def.MountPoints {
		all = append(all, volumeShape{DockerName: deref(m.SourceVolume), Destination: deref(m.ContainerPath)})
	}
	return all
}

func (d drawing) definition(name string) *types.ContainerDefinition {
	i := slices.IndexFunc(d.view.Containers, func(c types.ContainerDefinition) bool { return deref(c.Name) == name })
	if i < 0 {
		return &types.ContainerDefinition{}
	}
	return &d.view.Containers[i]
}

// when is a time as clients see it, nil for none.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

func number(candidates ...*string) int64 {
	for _, s := range candidates {
		if n, err := strconv.ParseInt(deref(s), 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
