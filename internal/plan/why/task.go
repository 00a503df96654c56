package why

import (
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Task is what is known of a task.
type Task struct {
	ID, Cluster, Service string
	Family               string
	Revision             int
	Status               model.TaskStatus
	Desired              model.TaskStatus // RUNNING or STOPPED
	StopCode             types.TaskStopCode
	Reason               string // stoppedReason
	Health               types.HealthStatus
	Placed               bool
	NodeLost             bool
	MemoryMiB            int64 // of the whole task, 0: no limit
	CPU                  int64
	Containers           []Container
	Targets              []Target // that it is behind
	Refused              string   // why it has no place: a code of placement, such as RESOURCE:MEMORY

	CreatedAt, PullStartedAt, PullStoppedAt, StartedAt, StoppingAt, StoppedAt time.Time
}

// Container is what is known of one of its containers.
type Container struct {
	Name, Image string
	Status      model.TaskStatus
	ExitCode    *int32
	Reason      string
	Health      types.HealthStatus
	MemoryMiB   int64 // 0: the task's
	StopTimeout int   // seconds, 0: the default
	Essential   bool
	HasCheck    bool
	Group       string // its log group, "" without one
	Last        string // its last line, "" when nobody looked
}

// Of is what is known of a stored task. def may be nil.
func Of(t *model.Task, def *types.TaskDefinition, node *model.Node) Task {
	o := &t.Observed
	out := Task{ID: t.ID, Cluster: t.Cluster, Service: t.Service, Family: t.Family, Revision: t.Revision, Status: t.LastStatus(), Desired: model.Running,
		StopCode: t.StopCode(), Reason: t.StoppedReason(), Health: o.Health, Placed: t.NodeID != "", NodeLost: node.Lost(),
		MemoryMiB: t.Needs.Memory, CPU: t.Needs.CPU, CreatedAt: t.CreatedAt, PullStartedAt: o.PullStartedAt, PullStoppedAt: o.PullStoppedAt,
		StartedAt: o.StartedAt, StoppingAt: o.StoppingAt, StoppedAt: o.StoppedAt}
	if t.StopRequest != nil || t.Desired == model.Stopped {
		out.Desired = model.Stopped
	}
	if !t.StoppingAt.IsZero() {
		out.StoppingAt = t.StoppingAt
	}
	for i := range o.Containers {
		c := &o.Containers[i]
		out.Containers = append(out.Containers, defined(Container{Name: c.Name, Image: c.Image, Status: c.Status, ExitCode: c.ExitCode, Reason: c.Reason,
			Health: c.Health}, def))
	}
	return out
}

// OfAPI is what ECS's API tells of a task. def may be nil.
func OfAPI(t types.Task, def *types.TaskDefinition) Task {
	out := Task{ID: model.ARNTail(str(t.TaskArn)), Cluster: model.ARNTail(str(t.ClusterArn)), Status: model.TaskStatus(str(t.LastStatus)),
		Desired: model.TaskStatus(str(t.DesiredStatus)), StopCode: t.StopCode, Reason: str(t.StoppedReason), Health: t.HealthStatus,
		Placed: t.ContainerInstanceArn != nil || t.LaunchType == types.LaunchTypeFargate, NodeLost: t.Connectivity == types.ConnectivityDisconnected,
		CreatedAt: at(t.CreatedAt), PullStartedAt: at(t.PullStartedAt), PullStoppedAt: at(t.PullStoppedAt), StartedAt: at(t.StartedAt),
		StoppingAt: at(t.StoppingAt), StoppedAt: at(t.StoppedAt)}
	out.Service, _ = strings.CutPrefix(str(t.Group), "service:")
	if out.Service == str(t.Group) {
		out.Service = ""
	}
	family, revision, _ := strings.Cut(model.ARNTail(str(t.TaskDefinitionArn)), ":")
	out.Family = family
	out.Revision, _ = strconv.Atoi(revision)
	out.MemoryMiB, _ = strconv.ParseInt(str(t.Memory), 10, 64)
	out.CPU, _ = strconv.ParseInt(str(t.Cpu), 10, 64)
	for i := range t.Containers {
		c := &t.Containers[i]
		out.Containers = append(out.Containers, defined(Container{Name: str(c.Name), Image: str(c.Image), Status: model.TaskStatus(str(c.LastStatus)),
			ExitCode: c.ExitCode, Reason: str(c.Reason), Health: c.HealthStatus}, def))
	}
	return out
}

// defined adds what the task definition says of the container.
func defined(c Container, def *types.TaskDefinition) Container {
	c.Essential = true
	if def == nil {
		return c
	}
	for i := range def.ContainerDefinitions {
		d := &def.ContainerDefinitions[i]
		if str(d.Name) != c.Name {
			continue
		}
		if d.Memory != nil {
			c.MemoryMiB = int64(*d.Memory)
		}
		if d.StopTimeout != nil {
			c.StopTimeout = int(*d.StopTimeout)
		}
		if d.Essential != nil {
			c.Essential = *d.Essential
		}
		c.HasCheck = d.HealthCheck != nil
		if d.LogConfiguration != nil {
			c.Group = d.LogConfiguration.Options["awslogs-group"]
		}
		if c.Image == "" {
			c.Image = str(d.Image)
		}
	}
	return c
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// ended tells that nothing of the task runs any more, or that it is on its way there.
func (t *Task) ending() bool {
	return t.Status == model.Stopped || t.Desired == model.Stopped || t.StopCode != ""
}
