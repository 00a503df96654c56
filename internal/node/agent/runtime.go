package agent

import (
	"context"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// Runtime runs containers on this machine. agent/containerd is the real one; agent/fake keeps containers in memory.
// Every call is idempotent: Create of a container that exists, Start of one that runs, Signal and Delete of one that is gone
// are no errors, so that an agent that lost its memory may simply try again.
type Runtime interface {
	// Create makes the container of spec without starting its process. The image must be present (Images.Pull).
	// Errors: *Error with a Name of ecs.md 1.3 (CannotCreateContainerError, …).
	Create(ctx context.Context, spec ContainerSpec) error
	// Start starts the process of a created container.
	Start(ctx context.Context, id string) error
	// Signal sends sig to the container's first process; SIGKILL goes to all its processes, and then it returns when they have
	// ended. Errors: *Error named CannotStopContainerError when they do not end, which is final: Delete is to be tried later.
	Signal(ctx context.Context, id string, sig syscall.Signal) error
	// Exec runs a command in a running container and waits for it: a health check. output is at most 4 KiB.
	Exec(ctx context.Context, id string, command []string) (exit int, output string, err error)
	// Interact runs a command in a running container that somebody talks to, and returns its exit code (128+n after signal n). When ctx
	// ends first, the command is killed and ctx's error returned. Errors: ErrNotRunning.
	Interact(ctx context.Context, id string, i Interaction) (exit int, err error)
	// Delete removes the container, its process (killed), its snapshot and its cgroup.
	Delete(ctx context.Context, id string) error
	// List returns every container of this instance of Berth, running or not.
	List(ctx context.Context) ([]ContainerState, error)
	// Usage measures a container whose process runs. Nothing is measured while nobody asks.
	// Errors: ErrNotRunning; anything else means that it could not be measured.
	Usage(ctx context.Context, id string) (Usage, error)
	// Exits returns the channel on which the state of a container is sent soon after its process ends. It may miss exits
	// while the runtime itself restarts; List finds those. Closed when the runtime is closed.
	Exits() <-chan ContainerState
}

// Images brings images to this machine.
type Images interface {
	// Pull makes ref present, by the agent's pull behaviour: from the node's own image store when it was imported or built
	// there, else from its registry.
	// Errors: *Error named CannotPullContainerError with the sentence for the user.
	Pull(ctx context.Context, ref string) (Image, error)
	// PullAs is Pull from a registry that asks who is there.
	PullAs(ctx context.Context, ref string, as model.RegistryLogin) (Image, error)
}

// Image is an image present on this machine.
type Image struct {
	Ref        string // as the runtime knows it
	Digest     string // sha256:… of the manifest that was asked for
	StopSignal string // the image's STOPSIGNAL, "" for SIGTERM
	// HealthCheck is not read from images: ECS ignores a Dockerfile's HEALTHCHECK.
}

// Network gives tasks their network. Every call is idempotent.
type Network interface {
	// Setup makes a network namespace and connects it. Returns what was connected, also when it existed already.
	Setup(ctx context.Context, spec NetworkSpec) (NetworkInfo, error)
	// Teardown removes what Setup made for id; a missing id is no error.
	Teardown(ctx context.Context, id string) error
	// List returns the ids that Setup made and Teardown has not removed.
	List(ctx context.Context) ([]string, error)
}

// NetworkSpec asks for one namespace. In awsvpc mode a task has one, with the task's id; in bridge mode each container has
// one, with the container's runtime id; host mode has none; mode none has one without an interface.
type NetworkSpec struct {
	ID     string
	TaskID string
	Mode   types.NetworkMode // awsvpc, bridge or none
	Ports  []PortMapping     // bridge only
}

// PortMapping publishes a container port on the machine.
type PortMapping struct {
	ContainerPort int32
	HostPort      int32  // 0: Setup chooses one from 49153–65535 (or the kernel's ephemeral range)
	Protocol      string // tcp or udp
}

// NetworkInfo is what Setup connected.
type NetworkInfo struct {
	NetnsPath string
	IPv4      string // "" for mode none
	Gateway   string
	MAC       string
	Ports     []PortMapping // with the host ports chosen
}

// ContainerSpec is a container, complete: nothing is left to look up.
type ContainerSpec struct {
	ID     string // the runtime's id: <task id>-<container name>, at most 76 characters
	Run    string // tells this run of the container from earlier and later ones with the same id; its states carry it
	TaskID string
	Name   string
	Image  Image
	// Definition is the container definition after overrides. Create reads command, entryPoint, workingDirectory, user, cpu,
	// memory, memoryReservation, ulimits, readonlyRootFilesystem, privileged, linuxParameters, dockerSecurityOptions,
	// systemControls, hostname, pseudoTerminal and interactive from it; everything else is in the fields below.
	Definition types.ContainerDefinition
	Env        []string // KEY=value, complete; the image's own variables come before them
	Mounts     []Mount
	// NetnsPath is the namespace to join; "" means the machine's own.
	NetnsPath string
	Hostname  string
	// TaskCPU (CPU units) and TaskMemory (MiB) bound the task as a whole; 0 means no bound. All containers of a task share
	// the parent cgroup that carries them.
	TaskCPU    int64
	TaskMemory int64
	// TaskDisk (bytes) bounds what all containers of the task write to their own files and to the task's volumes together, where the
	// file system can; 0 means no bound.
	TaskDisk int64
	PIDMode  types.PidMode
	IPCMode  types.IpcMode
	GPUs     []string // numbers of the machine's, which the container is given
	// Stdout and Stderr are files that the shim appends the container's output to, within LogBound.
	Stdout, Stderr string
	LogBound       bound.Bound
	Labels         map[string]string
}

// Mount is a bind mount, a tmpfs or an NFS export.
type Mount struct {
	Type        string // bind, tmpfs or nfs
	Source      string // on this machine (bind), or host:/path (nfs)
	Port        string // nfs only; "" for the usual one
	Destination string
	ReadOnly    bool
	TaskScoped  bool     // Source goes with the task, and counts against its TaskDisk; bind only
	Options     []string // tmpfs only
}

// ContainerState is what a runtime knows of one container.
type ContainerState struct {
	ID         string
	TaskID     string
	Name       string
	Run        string // the ContainerSpec's; "" when it was made without one
	Status     ContainerStatus
	PID        uint32
	ExitCode   int32
	FinishedAt time.Time
	OOMKilled  bool
	Silent     bool // it runs, and what the runtime asks about it, its shim, does not answer
	Labels     map[string]string
}

// ContainerStatus is a runtime's view of a container.
type ContainerStatus string

// The statuses of a container.
const (
	ContainerCreated ContainerStatus = "created"
	ContainerRunning ContainerStatus = "running"
	ContainerExited  ContainerStatus = "exited"
)

// LogSink takes the lines of a container whose log driver is awslogs: the log store of this process, or servers elsewhere.
type LogSink interface {
	// Prepare checks that the stream can be written, making group and stream as the options allow.
	// Errors: *Error named ResourceInitializationError.
	Prepare(ctx context.Context, group, stream string, createGroup bool) error
	// Position tells up to where the lines of a source are stored: a sender that begins anew goes on from there.
	Position(ctx context.Context, group, stream, source string) (model.LogPosition, error)
	// Append adds lines and returns after they are stored. A batch that is sent again adds nothing.
	Append(ctx context.Context, batch model.LogBatch) error
}

// LogEvent is one line of a container's output.
type LogEvent = model.LogEvent

// Error is a failure with the name that users of ECS know, such as CannotPullContainerError.
type Error = model.TaskError
