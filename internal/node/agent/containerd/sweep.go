package containerd

import (
	"context"
	"errors"
)

// Sweep removes the cgroups of tasks that have no container any more, which a kill between the end of a container and that of its
// cgroup leaves, and the disk quotas of tasks whose files are gone. It may run at any time.
func (r *Runtime) Sweep(ctx context.Context) error {
	return errors.Join(r.sweepDisk(), r.sweepCgroups(ctx))
}

func (r *Runtime) sweepCgroups(ctx context.Context) error {
	candidates := r.cgroup.Children(r.c.CgroupParent) // before the list: what is made from here on is none
	if len(candidates) == 0 {
		return nil
	}
	all, err := r.List(ctx)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, c := range all {
		used[c.TaskID] = true
	}
	var errs []error
	for _, task := range candidates {
		if !used[task] {
			errs = append(errs, r.sweepTask(task))
		}
	}
	return errors.Join(errs...)
}

func (r *Runtime) sweepTask(task string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.creating[task] > 0 || len(r.cgroup.Processes(r.taskCgroup(task))) > 0 {
		return nil
	}
	return r.cgroup.Remove(r.taskCgroup(task))
}
