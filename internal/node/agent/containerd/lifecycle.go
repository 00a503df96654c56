package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/node/agent"
	proc "github.com/berthdev/berth/internal/node/process"
	"github.com/berthdev/berth/internal/node/recovery/note"
	"github.com/berthdev/berth/internal/timeouts"
)

// Start implements agent.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	ctx = r.context(ctx)
	if err := note.Begin(r.note(id), r.created(ctx, id)); err != nil {
		return fmt.Errorf("note that container %s starts: %w", id, err)
	}
	_, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id})
	if err == nil {
		return nil
	}
	err = errgrpc.ToNative(err)
	if errdefs.IsNotFound(err) {
		if n, _ := note.Read(r.note(id)); n.Exited {
			return nil // it ran, and a containerd that came back has cleaned up after it
		}
		return &agent.Error{Name: "CannotStartContainerError", Message: "start container " + id + ": it was not created"}
	}
	if p, gerr := r.process(ctx, id); gerr == nil {
		ran := p.Status == apitask.Status_STOPPED && strings.Contains(err.Error(), "cannot start a stopped process")
		if ran || runs(p) {
			return nil
		}
	}
	return failure("CannotStartContainerError", "start container "+id, err)
}

// created returns the process of a container that was created: runc has made it, and it becomes the container's.
func (r *Runtime) created(ctx context.Context, id string) proc.ID {
	r.mu.Lock()
	pid := r.pids[id]
	r.mu.Unlock()
	if pid == 0 { // an earlier Runtime created it
		if p, err := r.process(ctx, id); err == nil {
			pid = p.Pid
		}
	}
	p, _ := proc.Inspect(int(pid)) // without it the note says only that the container was begun
	return p
}

func (r *Runtime) kill(ctx context.Context, id string, sig syscall.Signal) error {
	_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(sig), All: sig == syscall.SIGKILL})
	return errgrpc.ToNative(err)
}

// Delete implements agent.Runtime.
func (r *Runtime) Delete(ctx context.Context, id string) error { return r.delete(ctx, id, 0) }

// delete deletes a container; creations says how many of those in flight are the caller's own.
func (r *Runtime) delete(ctx context.Context, id string, creations int) error {
	ctx = r.context(ctx)
	known, err := r.labelsOf(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return failure("CannotStopContainerError", "find container "+id, err)
	}
	if err := r.deleteTask(ctx, id); err != nil {
		return failure("CannotStopContainerError", "end container "+id, err)
	}
	if err := r.deleteRest(ctx, id, known.taskID); err != nil {
		return failure("CannotStopContainerError", "end container "+id, err)
	}
	if err := r.client.SnapshotService(r.c.Snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return failure("CannotStopContainerError", "remove the file system of container "+id, err)
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return failure("CannotStopContainerError", "remove container "+id, err)
	}
	r.noteDeletion()
	r.forget(id)
	if err := note.Remove(r.note(id)); err != nil {
		return fmt.Errorf("remove the note of container %s: %w", id, err)
	}
	if err := os.Remove(r.stdin(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the standard input of container %s: %w", id, err)
	}
	if known.taskID != "" {
		r.removeCgroups(known.taskID, id, creations)
	}
	return nil
}

// deleteTask kills the container's processes and removes its task from runc and the shim. Killing comes first: a shim that is
// told to delete a container that was never started waits ten seconds for its output, and for that time answers nobody.
// A caller that goes away does not interrupt it: containerd would keep a shim that has no task any more.
func (r *Runtime) deleteTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeouts.DeleteCall)
	defer cancel()
	shimEnded := false
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		p, err := r.process(ctx, id)
		if errdefs.IsDeadlineExceeded(err) && ctx.Err() == nil {
			if err := r.endShim(ctx, id); err != nil {
				return err
			}
			shimEnded = true // and containerd finds the connection broken, or begins anew without the shim
			if err := wait(ctx, 200*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if err == nil && p.Status == apitask.Status_CREATED {
			err = note.Remove(r.note(id)) // it never ran, and has no end: whoever finds it half deleted makes it anew
		}
		if err == nil && p.Status != apitask.Status_STOPPED {
			err = r.end(ctx, id)
		}
		// Not found may mean that the shim has no task, but is still there: what an interrupted deletion leaves.
		if err == nil || errdefs.IsNotFound(err) {
			_, err = r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
			err = errgrpc.ToNative(err)
		}
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		away := passing(err) && !shimEnded && !shimGone(err) && !errdefs.IsDeadlineExceeded(err)
		if _, final := errors.AsType[*agent.Error](err); final || ctx.Err() != nil || away {
			return err
		}
		r.log.Debug("a container cannot be deleted yet", "container", id, "error", err)
		_ = wait(ctx, pause)
	}
}

// wait returns when d has passed, or ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// deleteRest removes what runc still has of a container that containerd no longer knows, and kills its processes.
func (r *Runtime) deleteRest(ctx context.Context, id, taskID string) error {
	state := filepath.Join(r.c.StateDir, "runc", r.c.Namespace, id)
	if _, err := os.Stat(state); err == nil {
		ctx, cancel := context.WithTimeout(ctx, timeouts.DeleteCall)
		defer cancel()
		out, err := exec.CommandContext(ctx, r.c.Runc, "--root", filepath.Dir(state), "delete", "--force", id).CombinedOutput()
		if err != nil {
			r.log.Warn("runc cannot delete the rest of a container", "container", id, "error", err, "output", string(out))
		}
	}
	if taskID == "" {
		return nil
	}
	for _, pid := range r.cgroup.Processes(r.containerCgroup(taskID, id)) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}

// end kills the container's processes and waits for its first one.
func (r *Runtime) end(ctx context.Context, id string) error {
	if err := r.Signal(ctx, id, syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.SignalCall)
	defer cancel()
	_, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id})
	return errgrpc.ToNative(err)
}

// removeCgroups removes the container's cgroup, where runc has left it, and the task's with its last container.
func (r *Runtime) removeCgroups(taskID, id string, creations int) {
	if err := r.cgroup.Remove(r.containerCgroup(taskID, id)); err != nil {
		r.log.Warn("a cgroup is left over", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.creating[taskID] > creations || len(r.cgroup.Children(r.taskCgroup(taskID))) > 0 {
		return
	}
	if err := r.cgroup.Remove(r.taskCgroup(taskID)); err != nil {
		r.log.Warn("a task's cgroup is left over", "error", err)
	}
}

// purgedAtOnce is how many containers Purge deletes side by side.
const purgedAtOnce = 16

// Purge deletes every container of this instance and what they left behind: `berth down`. The first error is returned after
// all were tried.
func (r *Runtime) Purge(ctx context.Context) error {
	ctx = r.context(ctx)
	all, err := r.List(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(purgedAtOnce) // one that is stuck holds up no other
	for i, c := range all {
		g.Go(func() error {
			errs[i] = r.Delete(ctx, c.ID)
			return nil
		})
	}
	_ = g.Wait()
	for _, task := range r.cgroup.Children(r.c.CgroupParent) {
		if len(r.cgroup.Processes(r.taskCgroup(task))) == 0 {
			errs = append(errs, r.cgroup.Remove(r.taskCgroup(task)))
		}
	}
	if errors.Join(errs...) != nil {
		return errors.Join(errs...)
	}
	errs = append(errs, os.RemoveAll(filepath.Join(r.c.StateDir, "exits")), os.MkdirAll(filepath.Join(r.c.StateDir, "exits"), 0o700))
	return errors.Join(errs...)
}
