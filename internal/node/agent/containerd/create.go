package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/recovery/note"
	"github.com/berthdev/berth/internal/timeouts"
)

// Create implements agent.Runtime. A container that is half made, by a Create that was interrupted, is made anew.
func (r *Runtime) Create(ctx context.Context, spec agent.ContainerSpec) error {
	ctx = r.context(ctx)
	if done, err := r.exists(ctx, spec.ID); done || err != nil {
		return failure("CannotCreateContainerError", "create container "+spec.Name, err)
	}
	r.mu.Lock()
	r.creating[spec.TaskID]++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.creating[spec.TaskID]--; r.creating[spec.TaskID] == 0 {
			delete(r.creating, spec.TaskID)
		}
	}()
	err := r.create(ctx, spec)
	if err != nil {
		// Nothing of it may stay: a shim, a mount or a snapshot would leak when nobody asks for it again.
		if derr := r.delete(context.WithoutCancel(ctx), spec.ID, 1); derr != nil && !passing(derr) {
			r.log.Warn("a container that could not be created is left over", "container", spec.ID, "error", derr)
		}
		r.removeCgroups(spec.TaskID, spec.ID, 1)
	}
	return err
}

// exists tells whether the container is there with its task. The rest of one without a task is removed.
func (r *Runtime) exists(ctx context.Context, id string) (bool, error) {
	if p, err := r.process(ctx, id); err == nil {
		if _, begun := note.Read(r.note(id)); !begun && p.Status == apitask.Status_STOPPED {
			return false, r.Delete(ctx, id) // it was being deleted
		}
		return true, nil
	} else if !errdefs.IsNotFound(err) {
		return false, err
	}
	if _, err := r.client.ContainerService().Get(ctx, id); err == nil {
		return false, r.Delete(ctx, id)
	} else if !errdefs.IsNotFound(err) {
		return false, err
	}
	return false, nil
}

func (r *Runtime) create(ctx context.Context, spec agent.ContainerSpec) error {
	const name = "CannotCreateContainerError"
	image, err := r.client.ImageService().Get(ctx, spec.Image.Ref)
	if errdefs.IsNotFound(err) {
		return cannotCreate("the image %s is not on this machine; it was removed after it was pulled", spec.Image.Ref)
	}
	if err != nil {
		return failure(name, "find the image "+spec.Image.Ref, err)
	}
	config, err := imageConfigOf(ctx, r.client.ContentStore(), r.images, image.Target)
	if err != nil {
		return failure(name, "read the image "+spec.Image.Ref, err)
	}
	if err := r.limitTask(spec); err != nil {
		return &agent.Error{Name: name, Message: err.Error()}
	}
	rootfs, err := r.prepareSnapshot(ctx, spec.ID, config)
	if err != nil {
		return failure(name, "prepare the file system of container "+spec.Name, err)
	}
	if err := r.limitDisk(spec, rootfs); err != nil {
		return failure(name, "bound the disk of container "+spec.Name, err)
	}
	user, err := r.lookUpUser(ctx, config, firstOf(deref(spec.Definition.User), config.User), rootfs)
	if err != nil {
		return failure(name, "container "+spec.Name, err)
	}
	oci, warnings, err := ociSpec(blueprint{spec: spec, image: config, user: user, machine: r.limits, pids: r.c.PidsLimit, bounded: r.boundsDisk(spec),
		note:   r.note(spec.ID),
		cgroup: r.containerCgroup(spec.TaskID, spec.ID), init: r.c.Init})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		r.log.Warn("container is given less than it asks for", "container", spec.ID, "reason", w)
	}
	record, err := r.record(spec, image.Name, oci)
	if err != nil {
		return failure(name, "describe container "+spec.Name, err)
	}
	if _, err := r.client.ContainerService().Create(ctx, record); err != nil && !errdefs.IsAlreadyExists(err) {
		return failure(name, "create container "+spec.Name, err)
	}
	r.remember(spec)
	return r.createTask(ctx, spec, rootfs)
}

// limitTask makes the cgroup that bounds the task as a whole. Without a bound on its CPU the task weighs what its containers
// weigh together.
func (r *Runtime) limitTask(spec agent.ContainerSpec) error {
	parent := r.taskCgroup(spec.TaskID)
	limits := cgroup.Limits{MemoryBytes: spec.TaskMemory * megabyte, Pids: r.limits.taskPids(r.c.PidsLimit)}
	if spec.TaskCPU > 0 {
		limits.CPUShares = cpuShares(spec.TaskCPU)
		limits.CPUQuota = max(spec.TaskCPU*cgroup.CPUPeriod/1024, 1000)
	} else {
		limits.CPUShares = cpuShares(r.cgroup.Shares(parent, spec.ID) + cpuShares(int64(spec.Definition.Cpu)))
	}
	if err := r.cgroup.Create(parent, limits); err != nil {
		return fmt.Errorf("limit task %s to %d CPU units and %d MiB: %w", spec.TaskID, spec.TaskCPU, spec.TaskMemory, err)
	}
	return nil
}

const snapshotRoot = "containerd.io/gc.root"

// prepareSnapshot makes the container's writable layer. It is a root of containerd's garbage collector, because it is there
// before the container's record; Delete removes it.
func (r *Runtime) prepareSnapshot(ctx context.Context, id string, image imageConfig) ([]mount.Mount, error) {
	sn := r.client.SnapshotService(r.c.Snapshotter)
	mounts, err := sn.Prepare(ctx, id, image.chainID, withLabels(map[string]string{snapshotRoot: "berth", labelName: id}))
	if errdefs.IsAlreadyExists(err) {
		if err := sn.Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		mounts, err = sn.Prepare(ctx, id, image.chainID, withLabels(map[string]string{snapshotRoot: "berth", labelName: id}))
	}
	return mounts, err
}

// record is what containerd stores of the container. The labels of the user's definition are an extension, because containerd
// bounds the length of its own.
func (r *Runtime) record(spec agent.ContainerSpec, image string, oci any) (containers.Container, error) {
	encoded, err := typeurl.MarshalAnyToProto(oci)
	if err != nil {
		return containers.Container{}, err
	}
	options, err := typeurl.MarshalAnyToProto(r.options())
	if err != nil {
		return containers.Container{}, err
	}
	own, err := json.Marshal(spec.Labels)
	if err != nil {
		return containers.Container{}, err
	}
	return containers.Container{
		ID:          spec.ID,
		Labels:      map[string]string{labelTask: spec.TaskID, labelName: spec.Name, labelBoot: r.limits.bootID, labelRun: spec.Run},
		Image:       image,
		Runtime:     containers.RuntimeInfo{Name: runtimeName, Options: options},
		Spec:        encoded,
		SnapshotKey: spec.ID,
		Snapshotter: r.c.Snapshotter,
		Extensions:  map[string]typeurl.Any{extLabels: rawJSON(own)},
	}, nil
}

// createTask has runc make the container's namespaces and cgroup; its process waits to be started. Stdout and stderr are plain
// files: the shim appends to whatever a path without a scheme names.
func (r *Runtime) createTask(ctx context.Context, spec agent.ContainerSpec, rootfs []mount.Mount) error {
	const name = "CannotStartContainerError" // what Docker and so ECS call a failure of runc
	request := &tasks.CreateTaskRequest{ContainerID: spec.ID, Terminal: deref(spec.Definition.PseudoTerminal),
		Stdout: spec.Stdout, Stderr: spec.Stderr, RuntimePath: r.c.Shim, Rootfs: mount.ToProto(rootfs)}
	for _, path := range []string{spec.Stdout, spec.Stderr} {
		if err := makeFile(path); err != nil {
			return &agent.Error{Name: name, Message: fmt.Sprintf("make the log file of container %s: %v", spec.Name, err)}
		}
	}
	if request.Terminal {
		request.Stderr = ""
	}
	if deref(spec.Definition.Interactive) {
		request.Stdin = r.stdin(spec.ID)
		if err := unix.Mkfifo(request.Stdin, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
			return &agent.Error{Name: name, Message: fmt.Sprintf("make the standard input of container %s: %v", spec.Name, err)}
		}
	}
	// containerd loses track of a shim whose start is interrupted, so a caller that goes away does not interrupt it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeouts.CreateWait)
	defer cancel()
	made, err := r.client.TaskService().Create(ctx, request)
	if err != nil {
		return failure(name, "start container "+spec.Name, errgrpc.ToNative(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pids[spec.ID] = made.Pid
	return nil
}

// stdin is a pipe that nobody writes to: an interactive container finds its standard input open and empty.
func (r *Runtime) stdin(id string) string { return filepath.Join(r.c.StateDir, "stdin", id) }

func makeFile(path string) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}
