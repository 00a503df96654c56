package containerd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/recovery/note"
	"github.com/berthdev/berth/internal/timeouts"
)

// List implements agent.Runtime. The shims of different tasks are asked side by side, so that one that hangs holds up no other.
func (r *Runtime) List(ctx context.Context) ([]agent.ContainerState, error) {
	ctx = r.context(ctx)
	all, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q", labelTask))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	states := make([]agent.ContainerState, len(all))
	byTask := map[string][]int{}
	for i, c := range all {
		l := labelsFrom(c)
		states[i] = agent.ContainerState{ID: c.ID, TaskID: l.taskID, Name: l.name, Run: l.run, Labels: l.own, Status: agent.ContainerCreated}
		byTask[l.taskID] = append(byTask[l.taskID], i)
	}
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(listedAtOnce)
	for task, own := range byTask {
		g.Go(func() error { return r.look(asking, task, all, states, own) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(states, func(a, b agent.ContainerState) int { return strings.Compare(a.ID, b.ID) })
	return states, nil
}

// listedAtOnce is how many shims are asked at the same time. Each that hangs takes timeouts.ShimState.
const listedAtOnce = 32

// look fills the states of a task's containers, which own lists.
func (r *Runtime) look(ctx context.Context, task string, all []containers.Container, states []agent.ContainerState, own []int) error {
	silent := false
	for _, i := range own {
		var p *apitask.Process
		var err error
		if !silent {
			p, err = r.process(ctx, all[i].ID)
			silent = errdefs.IsDeadlineExceeded(err) && ctx.Err() == nil
		}
		switch {
		case silent:
			r.describeHung(&states[i])
			states[i].Silent = states[i].Status == agent.ContainerRunning
		case err == nil:
			r.lostSince(all[i].ID, false)
			r.describe(&states[i], p)
		case errdefs.IsNotFound(err):
			r.describeLost(&states[i], labelsFrom(all[i]))
		default:
			return fmt.Errorf("look at container %s: %w", all[i].ID, err)
		}
	}
	r.sayHung(task, silent)
	return nil
}

// sayHung says when a task's shim stops to answer, and when it answers again.
func (r *Runtime) sayHung(task string, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if silent && !r.hung[task] {
		r.hung[task] = true
		r.log.Error("the shim of a task does not answer; its containers are taken for running while their processes do", "task", task)
	}
	if !silent && r.hung[task] {
		delete(r.hung, task)
		r.log.Info("the shim of a task answers again, or is gone", "task", task)
	}
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
	case p.Status == apitask.Status_UNKNOWN: // the connection broke: containerd is about to clean up, and tells the end
		if n, begun := note.Read(r.note(s.ID)); n.Exited {
			describeEnd(s, n)
		} else if begun {
			s.Status = agent.ContainerRunning
		}
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

// describeHung fills s of a container whose shim does not say how it is. Once begun it counts as running until its process has
// ended: what is wrongly taken for ended would be replaced while it goes on.
func (r *Runtime) describeHung(s *agent.ContainerState) {
	n, begun := note.Read(r.note(s.ID))
	if n.Exited {
		describeEnd(s, n)
		return
	}
	if !begun {
		return
	}
	if s.Status = agent.ContainerRunning; n.Process.PID != 0 {
		s.PID = uint32(n.Process.PID)
	}
	if code, ended := r.over(s.ID, n); ended {
		s.Status, s.PID, s.ExitCode, s.FinishedAt = agent.ContainerExited, 0, code, time.Now()
		s.OOMKilled = r.oomKilled(s.TaskID, s.ID, code)
		r.send(*s)
	}
}

// describeEnd fills s by the note of the container's end.
func describeEnd(s *agent.ContainerState, n note.Note) {
	s.Status, s.ExitCode, s.FinishedAt, s.OOMKilled = agent.ContainerExited, n.ExitCode, n.FinishedAt, n.OOMKilled
}

const lostExit = 255 // of a container whose end nobody saw; Docker's value

// describeLost fills s of a container that has no task: it ran before the machine was restarted, its shim died, or it is not
// yet wholly created. A shim that has just died leaves no trace until containerd has cleaned up after it, and noted the end: until
// then the container counts as running, but not for ever.
func (r *Runtime) describeLost(s *agent.ContainerState, l labels) {
	n, begun := note.Read(r.note(s.ID))
	switch {
	case n.Exited:
		describeEnd(s, n)
	case begun && l.boot == r.limits.bootID && time.Since(r.lostSince(s.ID, true)) < timeouts.ShimLost:
		s.Status = agent.ContainerRunning
	case begun || l.boot != r.limits.bootID:
		s.Status, s.ExitCode, s.FinishedAt = agent.ContainerExited, lostExit, time.Now()
	}
}

// lostSince notes whether a container has no task, and returns since when.
func (r *Runtime) lostSince(id string, lost bool) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !lost {
		delete(r.lost, id)
		return time.Time{}
	}
	if _, known := r.lost[id]; !known {
		r.lost[id] = time.Now()
	}
	return r.lost[id]
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
