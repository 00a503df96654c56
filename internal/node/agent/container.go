package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// phase is how far a container has come. It only rises, but for a restart by the container's own policy.
type phase int

const (
	waiting  phase = iota // for its image, network, log and dependencies
	creating              // Runtime.Create is under way
	created
	starting // Runtime.Start is under way
	running
	exited // or never to run
)

// container is one container of a task. Only the task's goroutine touches it.
type container struct {
	def types.ContainerDefinition // after overrides
	id  string                    // the runtime's
	obs *model.Container          // in the task's Observed
	rec *containerRecord
	// made: the runtime may hold the container, so it must be deleted.
	made  bool
	phase phase

	pulling, pulled bool
	network         step // of its own namespace; done from the start where it has none
	logs            step
	logFiles        LogFiles
	ran             bool // a process was started, now or before
	lost            bool // it ran, and an earlier agent's runtime no longer knows it

	tries       int             // how often its start was tried again, see startAgain
	startedFrom time.Time       // when this agent called Start; zero when an earlier one did
	listed      int64           // the agent's last list before Start was called: only later ones can tell of this run
	early       *ContainerState // its exit, when it was seen before Start returned
	signaled    bool            // the stop signal was sent by this agent
	finish      step            // of its log, after its exit
	shipping    bool            // the log is still being carried after finish gave up waiting

	startTimer *time.Timer // its startTimeout
	stopProbes context.CancelFunc
}

// step is a piece of work that is done once.
type step int

const (
	todo step = iota
	busy
	done
)

func (c *container) name() string { return deref(c.def.Name) }

func (c *container) essential() bool { return c.def.Essential == nil || *c.def.Essential }

// stopTimeout is how long the container may take to end after its stop signal.
func (c *container) stopTimeout() time.Duration {
	if c.def.StopTimeout != nil {
		return time.Duration(*c.def.StopTimeout) * time.Second
	}
	return timeouts.StopDefault
}

// maxID bounds a runtime id: containerd's identifiers have at most 76 characters.
const maxID = 76

// runtimeID is the runtime's id of a container, and its network's: <task id>-<name>. The end of a long name gives way to a hash
// of the whole.
func runtimeID(taskID, name string) string {
	id := taskID + "-" + name
	if len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return id[:maxID-9] + "-" + hex.EncodeToString(sum[:4])
}

// containersOf makes the task's containers from its definition and overrides.
func containersOf(task *model.Task, def *types.TaskDefinition) []*container {
	var all []*container
	for i := range def.ContainerDefinitions {
		d := overridden(def.ContainerDefinitions[i], task.Overrides)
		all = append(all, &container{def: d, id: runtimeID(task.ID, deref(d.Name))})
	}
	afterRouter(all)
	return all
}

// overridden applies the container's overrides to a copy of its definition.
func overridden(def types.ContainerDefinition, o types.TaskOverride) types.ContainerDefinition {
	for i := range o.ContainerOverrides {
		over := &o.ContainerOverrides[i]
		if deref(over.Name) != deref(def.Name) {
			continue
		}
		if len(over.Command) > 0 {
			def.Command = over.Command
		}
		if over.Cpu != nil {
			def.Cpu = *over.Cpu
		}
		if over.Memory != nil {
			def.Memory = over.Memory
		}
		if over.MemoryReservation != nil {
			def.MemoryReservation = over.MemoryReservation
		}
		if len(over.ResourceRequirements) > 0 {
			def.ResourceRequirements = over.ResourceRequirements
		}
		def.EnvironmentFiles = append(slices.Clone(def.EnvironmentFiles), over.EnvironmentFiles...)
		def.Environment = append(slices.Clone(def.Environment), over.Environment...)
	}
	return def
}

// taskSize is the task's own cpu (units) and memory (MiB): the override's, else the definition's, else 0.
func taskSize(task *model.Task, def *types.TaskDefinition) (cpu, memory int64) {
	return firstNumber(task.Overrides.Cpu, def.Cpu), firstNumber(task.Overrides.Memory, def.Memory)
}

// fargateDisk is the ephemeral storage of a Fargate task that asks for none, GiB.
const fargateDisk = 20

// taskDisk is the task's ephemeral storage in bytes: the override's, else the definition's, else Fargate's, else 0.
func taskDisk(task *model.Task, def *types.TaskDefinition) int64 {
	gib := int32(0)
	switch {
	case task.Overrides.EphemeralStorage != nil:
		gib = task.Overrides.EphemeralStorage.SizeInGiB
	case def.EphemeralStorage != nil:
		gib = def.EphemeralStorage.SizeInGiB
	case task.LaunchType == types.LaunchTypeFargate:
		gib = fargateDisk
	}
	return int64(gib) << 30
}

func firstNumber(candidates ...*string) int64 {
	for _, s := range candidates {
		if n, err := strconv.ParseInt(deref(s), 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// signals are the names that a STOPSIGNAL may have, without "SIG".
var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "ABRT": syscall.SIGABRT, "KILL": syscall.SIGKILL,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "ALRM": syscall.SIGALRM, "TERM": syscall.SIGTERM, "CONT": syscall.SIGCONT,
	"STOP": syscall.SIGSTOP, "TSTP": syscall.SIGTSTP, "WINCH": syscall.SIGWINCH, "IO": syscall.SIGIO, "PWR": syscall.SIGPWR,
	"PIPE": syscall.SIGPIPE, "SYS": syscall.SIGSYS, "TRAP": syscall.SIGTRAP, "VTALRM": syscall.SIGVTALRM, "PROF": syscall.SIGPROF,
}

// stopSignal reads an image's STOPSIGNAL, a name or a number; SIGTERM when it is empty or unknown.
func stopSignal(s string) syscall.Signal {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return syscall.Signal(n)
	}
	if len(s) > 3 && s[:3] == "SIG" {
		s = s[3:]
	}
	if sig, ok := signals[s]; ok {
		return sig
	}
	if n, ok := realtimeSignal(s); ok {
		return n
	}
	return syscall.SIGTERM
}

// realtimeSignal reads RTMIN+n and RTMAX-n; systemd images use RTMIN+3.
func realtimeSignal(s string) (syscall.Signal, bool) {
	const rtmin, rtmax = 34, 64
	for prefix, base := range map[string]int{"RTMIN": rtmin, "RTMAX": rtmax} {
		if len(s) < len(prefix) || s[:len(prefix)] != prefix {
			continue
		}
		n := 0
		if rest := s[len(prefix):]; rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				return 0, false
			}
		}
		if sig := base + n; sig >= rtmin && sig <= rtmax {
			return syscall.Signal(sig), true
		}
	}
	return 0, false
}

// deref is *p, or the zero value for nil.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
