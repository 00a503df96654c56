package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berthdev/berth/internal/node/agent"
	proc "github.com/berthdev/berth/internal/node/process"
	"github.com/berthdev/berth/internal/node/recovery/note"
	"github.com/berthdev/berth/internal/timeouts"
)

// What is here needs neither containerd nor the shim nor runc: a container must end when they do not answer.

// Signal implements agent.Runtime. When the shim does not send the signal in time, it is sent directly. After a SIGKILL it returns
// when the container's processes have ended; the error is an *agent.Error, CannotStopContainerError, when the kernel does not end them.
func (r *Runtime) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	call, cancel := context.WithTimeout(r.context(ctx), timeouts.SignalCall)
	defer cancel()
	err := r.kill(call, id, sig)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	group := r.containerCgroup(r.taskOf(id), id)
	if err == nil || errdefs.IsNotFound(err) {
		if sig == syscall.SIGKILL {
			return r.emptied(ctx, group)
		}
		return nil
	}
	r.log.Warn("the shim of a container does not send a signal; sending it directly", "container", id, "signal", sig, "error", err)
	if sig == syscall.SIGKILL {
		return r.force(ctx, id)
	}
	if first, ok := r.first(id, group); ok {
		first.Signal(sig)
		return nil
	}
	return failure("CannotStopContainerError", fmt.Sprintf("send %v to container %s", sig, id), err)
}

// force kills the container's processes by its cgroup, and notes and tells its end when it was begun and nobody else does.
func (r *Runtime) force(ctx context.Context, id string) error {
	group := r.containerCgroup(r.taskOf(id), id)
	if err := r.emptied(ctx, group); err != nil {
		return err
	}
	if n, begun := note.Read(r.note(id)); begun && !n.Exited {
		l := r.knownLabels(id)
		code := int32(128 + syscall.SIGKILL)
		if known, ok := n.Process.ExitCode(); ok {
			code = known
		}
		r.send(agent.ContainerState{ID: id, TaskID: r.taskOf(id), Name: l.name, Run: l.run, Labels: l.own, Status: agent.ContainerExited,
			ExitCode: code, FinishedAt: time.Now()})
	}
	return nil
}

// emptied kills what is in a cgroup until nothing is left there.
func (r *Runtime) emptied(ctx context.Context, group string) error {
	deadline := time.Now().Add(timeouts.KillWait)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left := r.cgroup.Processes(group)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return stuck(left)
		}
		if pause > 2*time.Millisecond { // the shim's SIGKILL has had a moment
			r.cgroup.Kill(group)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// stuck is the error of a container whose processes were sent SIGKILL and do not end.
func stuck(pids []int) error {
	var names []string
	for _, pid := range pids[:min(len(pids), 3)] {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		name := fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(string(comm)))
		if id, err := proc.Inspect(pid); err == nil && id.State() == "D" {
			name += ", which waits in the kernel"
		}
		names = append(names, name)
	}
	return &agent.Error{Name: "CannotStopContainerError", Message: fmt.Sprintf(
		"%d of its processes did not end %v after SIGKILL: %s", len(pids), timeouts.KillWait, strings.Join(names, ", "))}
}

// first returns the process of a container that its signals are for: the one that was started, else the first of its namespace.
func (r *Runtime) first(id, group string) (proc.ID, bool) {
	all := r.cgroup.Processes(group)
	n, _ := note.Read(r.note(id))
	if slices.Contains(all, n.Process.PID) && n.Process.Alive() {
		return n.Process, true
	}
	for _, pid := range all {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "NSpid:" && f[len(f)-1] == "1" {
				p, err := proc.Inspect(pid)
				return p, err == nil
			}
		}
	}
	return proc.ID{}, false
}

// over tells of a container that was begun, and whose shim does not answer, whether its process has ended, and with which code.
func (r *Runtime) over(id string, n note.Note) (code int32, ended bool) {
	if n.Process.PID != 0 {
		if n.Process.Alive() {
			return 0, false
		}
		if code, known := n.Process.ExitCode(); known {
			return code, true
		}
		return lostExit, true
	}
	return lostExit, len(r.cgroup.Processes(r.containerCgroup(r.taskOf(id), id))) == 0
}

// taskOf returns a container's task without asking containerd.
func (r *Runtime) taskOf(id string) string {
	if l := r.knownLabels(id); l.taskID != "" {
		return l.taskID
	}
	task, _, _ := strings.Cut(id, "-")
	return task
}

func (r *Runtime) knownLabels(id string) labels {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.labels[id]
}

// errShared says that a shim that hangs is still needed.
var errShared = errors.New("its shim does not answer, and other containers of its task run: it is removed when they have ended")

// endShim ends a container of which the shim says nothing: it kills the container's processes and, when nothing of the task runs
// any more, the shim. containerd then cleans up.
func (r *Runtime) endShim(ctx context.Context, id string) error {
	if err := r.force(ctx, id); err != nil {
		return err
	}
	task := r.taskOf(id)
	if len(r.cgroup.Processes(r.taskCgroup(task))) > 0 {
		return errShared
	}
	for _, shim := range r.shimsOf(task) {
		r.log.Warn("ending a shim that does not answer", "task", task, "process", shim.PID)
		shim.Signal(syscall.SIGKILL)
		if err := shim.Wait(ctx); err != nil {
			return fmt.Errorf("end the shim of task %s (process %d): %w", task, shim.PID, err)
		}
	}
	return nil
}

// shimsOf returns the shims of a task: they are named after the first of its containers.
func (r *Runtime) shimsOf(task string) []proc.ID {
	return proc.Named(func(args []string) bool {
		value := func(flag string) string {
			if i := slices.Index(args, flag); i > 0 && i+1 < len(args) {
				return args[i+1]
			}
			return ""
		}
		return value("-namespace") == r.c.Namespace && strings.HasPrefix(value("-id"), task+"-") && value("-address") == r.c.Socket
	})
}
