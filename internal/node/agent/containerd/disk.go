package containerd

import (
	"strings"

	"github.com/containerd/containerd/v2/core/mount"

	"github.com/berthdev/berth/internal/node/agent"
)

// limitDisk counts the container's writable layer and the task's volumes against the task's bound. It comes before the first mount:
// what overlayfs makes for itself must be counted too, because a file is not moved between what counts and what does not.
func (r *Runtime) limitDisk(spec agent.ContainerSpec, rootfs []mount.Mount) error {
	if !r.boundsDisk(spec) {
		return nil
	}
	dirs := writableLayer(rootfs)
	for _, m := range spec.Mounts {
		if m.TaskScoped {
			dirs = append(dirs, m.Source)
		}
	}
	return r.c.Quotas.Assign(spec.TaskID, spec.TaskDisk, dirs...)
}

func (r *Runtime) boundsDisk(spec agent.ContainerSpec) bool {
	return r.c.Quotas != nil && spec.TaskDisk > 0
}

// writableLayer are the directories that overlayfs writes to.
func writableLayer(rootfs []mount.Mount) (dirs []string) {
	for _, m := range rootfs {
		if m.Type == "bind" { // an image without layers
			dirs = append(dirs, m.Source)
		}
		for _, o := range m.Options {
			for _, key := range []string{"upperdir=", "workdir="} {
				if dir, ok := strings.CutPrefix(o, key); ok {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	return dirs
}

func (r *Runtime) sweepDisk() error {
	if r.c.Quotas == nil {
		return nil
	}
	return r.c.Quotas.Sweep()
}
