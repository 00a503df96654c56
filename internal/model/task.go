package model

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TaskStatus is a rung of a task's ladder. A task's status only rises.
type TaskStatus string

// The ladder, lowest first (ECS developer guide, "Amazon ECS task lifecycle").
const (
	Provisioning   TaskStatus = "PROVISIONING"
	Pending        TaskStatus = "PENDING"
	Activating     TaskStatus = "ACTIVATING"
	Running        TaskStatus = "RUNNING"
	Deactivating   TaskStatus = "DEACTIVATING"
	Stopping       TaskStatus = "STOPPING"
	Deprovisioning TaskStatus = "DEPROVISIONING"
	Stopped        TaskStatus = "STOPPED"
)

var rungs = map[TaskStatus]int{
	Provisioning: 1, Pending: 2, Activating: 3, Running: 4, Deactivating: 5, Stopping: 6, Deprovisioning: 7, Stopped: 8,
}

// Rung is the status's place on the ladder, from 1; 0 for an unknown status.
func (s TaskStatus) Rung() int { return rungs[s] }

// Before tells whether s lies below t on the ladder.
func (s TaskStatus) Before(t TaskStatus) bool { return s.Rung() < t.Rung() }

// Task is one run of a task definition. Its fields fall into three groups, each with one writer.
type Task struct {
	// ---- What was asked: written once, by whoever makes the task (RunTask, StartTask, or control for a service). ----

	ID                   string // 32 hexadecimal digits
	ARN                  string
	Cluster              string // name
	TaskDefinition       string // ARN
	Family               string
	Revision             int
	Group                string // what clients see; never used to decide ownership
	StartedBy            string
	Service              string // name of the owning service in Cluster, "" for a standalone task
	Deployment           string // "ecs-svc/<digits>" of the owning deployment
	LaunchType           types.LaunchType
	CapacityProvider     string
	PlatformVersion      string
	NetworkMode          types.NetworkMode
	NetworkConfiguration *types.NetworkConfiguration
	Overrides            types.TaskOverride
	Constraints          []types.PlacementConstraint // task definition's and request's together
	Strategy             []types.PlacementStrategy
	EnableExecuteCommand bool
	VolumeConfigurations []types.TaskVolumeConfiguration
	Tags                 []types.Tag
	CreatedAt            time.Time
	Needs                Resources

	// StopRequest asks that the task end. Written once: by StopTask, by control for its own reasons, or by the API when a
	// service is deleted by force. Nil while nobody asked.
	StopRequest *StopRequest

	// ProtectedUntil is until when neither scaling in, a deployment nor a draining instance ends this task of a service. Written by
	// UpdateTaskProtection.
	ProtectedUntil time.Time `json:",omitzero"`

	// ---- What is desired: written by control (RunTask and StartTask place in the transaction that makes the task). ----

	InstanceID string // of the container instance; "" until placed
	NodeID     string
	PlacedAt   time.Time
	// Desired is RUNNING or STOPPED. It becomes STOPPED when control acts on StopRequest, or when the task ends by itself.
	Desired    TaskStatus
	StoppingAt time.Time
	// Released tells the agent that it may signal the containers: the task has left its target groups and is drained.
	Released bool
	// Accounted: control has counted this ended task for its deployment.
	Accounted bool
	// SeenHealthy: control has seen this task healthy, which reset the BreakerCount of its deployment.
	SeenHealthy bool `json:",omitempty"`

	// ---- What is observed: the agent's last report, whole. While no node holds the task, control writes it. ----

	Observed Observed
	// Version rises with each change of the task that clients can see.
	Version int64
}

// Protected tells whether the task is protected from its service at that time.
func (t *Task) Protected(now time.Time) bool { return now.Before(t.ProtectedUntil) }

// Key is the task's id.
func (t *Task) Key() string { return t.ID }

// StopRequest says that a task is to end and why.
type StopRequest struct {
	Code   types.TaskStopCode
	Reason string // becomes the task's stoppedReason, verbatim
	At     time.Time
	// Kill: do not wait for target groups to drain (the node is lost, or the task never ran).
	Kill bool
}

// Resources is what a task takes from an instance.
type Resources struct {
	CPU    int64 // CPU units
	Memory int64 // MiB
	// Ports are fixed host ports; a dynamic port (hostPort 0) is the agent's choice and not listed.
	Ports []HostPort
	ENIs  int // 1 for awsvpc
	GPUs  int `json:",omitempty"`
}

// HostPort is a port of the machine.
type HostPort struct {
	Port     int32
	Protocol string // tcp or udp
}

// Observed is what an agent saw of a task. Reports are whole: a later one replaces an earlier one.
type Observed struct {
	// Seq rises with each report of one task; an older report is dropped.
	Seq                int64
	Status             TaskStatus
	Containers         []Container
	Interface          *NetworkInterface // awsvpc only
	Health             types.HealthStatus
	PullStartedAt      time.Time
	PullStoppedAt      time.Time
	StartedAt          time.Time
	StoppingAt         time.Time
	ExecutionStoppedAt time.Time
	StoppedAt          time.Time
	ConnectivityAt     time.Time
	// StopCode and StoppedReason are set when the task ended by itself or failed to start; a StopRequest's beat them unless
	// the end came first.
	StopCode      types.TaskStopCode
	StoppedReason string
}

// Container is what an agent saw of one container of a task.
type Container struct {
	Name            string
	ID              string // UUID of the container's ARN, made with the task
	RuntimeID       string // containerd's id; "" until created
	Image           string
	ImageDigest     string
	Status          TaskStatus // PENDING, RUNNING or STOPPED
	Health          types.HealthStatus
	ExitCode        *int32
	Reason          string
	Silent          bool // it runs, and its shim does not answer
	NetworkBindings []types.NetworkBinding
	StartedAt       time.Time
	FinishedAt      time.Time
}

// NetworkInterface is a task's own network interface (awsvpc).
type NetworkInterface struct {
	AttachmentID string // UUID
	ENIID        string // "eni-" and 17 hexadecimal digits
	SubnetID     string
	MAC          string
	IPv4         string
	// Status is PRECREATED, ATTACHED or DELETED.
	Status string
}

// LastStatus is the status clients see: the agent's, or DEACTIVATING while control drains a running task before the agent
// is told to stop it.
func (t *Task) LastStatus() TaskStatus {
	if t.Desired == Stopped && !t.Released && t.Observed.Status == Running {
		return Deactivating
	}
	return t.Observed.Status
}

// HostPort is the port of the machine at which a container's TCP port is reached, 0 while there is none.
func (t *Task) HostPort(container string, port int32) int32 {
	if t.NetworkMode == types.NetworkModeHost {
		return port
	}
	c, ok := t.Container(container)
	if !ok {
		return 0
	}
	for _, b := range c.NetworkBindings {
		if b.ContainerPort != nil && *b.ContainerPort == port && b.HostPort != nil && b.Protocol != types.TransportProtocolUdp {
			return *b.HostPort
		}
	}
	return 0
}

// Ended tells whether the task's containers are gone for good.
func (t *Task) Ended() bool { return t.Observed.Status == Stopped }

// StopCode is the code clients see, "" while the task is not ending.
func (t *Task) StopCode() types.TaskStopCode {
	code, _ := t.stop()
	return code
}

// StoppedReason is the sentence clients see, "" while the task is not ending.
func (t *Task) StoppedReason() string {
	_, reason := t.stop()
	return reason
}

// stop returns what came first: the task's own end or the request that it end. An agent that stops a task because it was
// told to leaves its own code and reason empty.
func (t *Task) stop() (types.TaskStopCode, string) {
	if t.Observed.StopCode != "" || t.StopRequest == nil {
		return t.Observed.StopCode, t.Observed.StoppedReason
	}
	return t.StopRequest.Code, t.StopRequest.Reason
}

// Container returns the observed container of that name.
func (t *Task) Container(name string) (Container, bool) {
	for _, c := range t.Observed.Containers {
		if c.Name == name {
			return c, true
		}
	}
	return Container{}, false
}

// Assignment is one task as a node must have it. A node's assignments are a set: a task that is no longer in it is removed.
type Assignment struct {
	Task       *Task // Observed is the last report the server holds; an agent that lost its own memory starts from it
	Definition types.TaskDefinition
	// Stop: end the task (Desired is STOPPED and Released).
	Stop bool
	// Fence, when it is not 0, is how long the task may run without a server that is in contact with the leader.
	Fence time.Duration `json:",omitzero"`
}

// Report is an agent's view of one of its tasks.
type Report struct {
	TaskID   string
	Observed Observed
}
