package containerd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/recovery/note"
)

// List implements agent.Runtime.
func (r *Runtime) List(ctx context.Context) ([]agent.ContainerState, error) {
	ctx = r.context(ctx)
	// Tasks first: a container made in between is then listed without its task, as one that is being created.
	running, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", errgrpc.ToNative(err))
	}
	byID := map[string]*apitask.Process{}
	for _, p := range running.Tasks {
		byID[p.ID] = p
	}
	all, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q", labelTask))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	states := make([]agent.ContainerState, 0, len(all))
	hung := map[string]bool{} // tasks whose shim does not answer
	for _, c := range all {
		l := labelsFrom(c)
		s := agent.ContainerState{ID: c.ID, TaskID: l.taskID, Name: l.name, Labels: l.own, Status: agent.ContainerCreated}
		p := byID[c.ID]
		if p == nil && !hung[l.taskID] {
			p, err = r.ask(ctx, c.ID)
			hung[l.taskID] = errdefs.IsDeadlineExceeded(err) && ctx.Err() == nil
			if err != nil && !hung[l.taskID] {
				return nil, fmt.Errorf("look at task %s: %w", c.ID, err)
			}
		}
		switch {
		case p != nil:
			r.describe(&s, p)
		case hung[l.taskID]:
			r.describeHung(&s)
		default:
			r.describeLost(&s, l)
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b agent.ContainerState) int { return strings.Compare(a.ID, b.ID) })
	return states, nil
}

// ask returns the task of a container that the list left out, nil when there is none: containerd leaves out a task whose shim was
// slow to answer, and one that was started while it made the list.
func (r *Runtime) ask(ctx context.Context, id string) (*apitask.Process, error) {
	if _, begun := note.Read(r.note(id)); !begun {
		return nil, nil // not started, so far
	}
	p, err := r.process(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	return p, err
}

// process returns the task of a container. The error is one of errdefs, NotFound without a task.
func (r *Runtime) process(ctx context.Context, id string) (*apitask.Process, error) {
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return nil, errgrpc.ToNative(err)
	}
	return got.Process, nil
}

// runs tells whether a task's process has started and not ended.
func runs(p *apitask.Process) bool {
	return p.Status == apitask.Status_RUNNING || p.Status == apitask.Status_PAUSED || p.Status == apitask.Status_PAUSING
}

// describe fills s from the container's task.
func (r *Runtime) describe(s *agent.ContainerState, p *apitask.Process) {
	switch {
	case runs(p):
		s.Status, s.PID = agent.ContainerRunning, p.Pid
	case p.Status == apitask.Status_UNKNOWN:
		r.describeHung(s)
	case p.Status == apitask.Status_STOPPED:
		if _, begun := note.Read(r.note(s.ID)); !begun {
			return // killed before it was started
		}
		s.Status, s.ExitCode, s.FinishedAt = agent.ContainerExited, int32(p.ExitStatus), p.ExitedAt.AsTime()
		s.OOMKilled = r.oomKilled(s.TaskID, s.ID, s.ExitCode)
	default:
		s.Status, s.PID = agent.ContainerCreated, p.Pid
	}
}

// describeHung fills s of a container whose shim does not say how it is. Once begun it counts as running until an end is noted: what
// is wrongly taken for ended would be replaced while it goes on.
func (r *Runtime) describeHung(s *agent.ContainerState) {
	n, begun := note.Read(r.note(s.ID))
	switch {
	case n.Exited:
		describeEnd(s, n)
	case begun:
		s.Status = agent.ContainerRunning
	}
	r.log.Warn("the shim of a container does not answer", "container", s.ID, "taken for", s.Status)
}

// describeEnd fills s by the note of the container's end.
func describeEnd(s *agent.ContainerState, n note.Note) {
	s.Status, s.ExitCode, s.FinishedAt, s.OOMKilled = agent.ContainerExited, n.ExitCode, n.FinishedAt, n.OOMKilled
}

const lostExit = 255 // of a container whose end nobody saw; Docker's value

// describeLost fills s of a container that has no task: it ran before the machine was restarted, its shim died, or it is not
// yet wholly created.
func (r *Runtime) describeLost(s *agent.ContainerState, l labels) {
	n, begun := note.Read(r.note(s.ID))
	switch {
	case n.Exited:
		describeEnd(s, n)
	case begun || l.boot != r.limits.bootID:
		s.Status, s.ExitCode, s.FinishedAt = agent.ContainerExited, lostExit, time.Now()
	}
}

// oomKilled tells whether the kernel killed a process of the container for want of memory, by the counter of its cgroup, and the
// container ended badly.
func (r *Runtime) oomKilled(taskID, id string, exit int32) bool {
	if exit == 0 {
		return false
	}
	if n, err := r.cgroup.OOMKills(r.containerCgroup(taskID, id)); err == nil {
		return n > 0
	}
	n, _ := note.Read(r.note(id))
	return n.OOMKilled
}
