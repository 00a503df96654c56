package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/log"

	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/process"
	"github.com/berthdev/berth/internal/node/recovery"
	"github.com/berthdev/berth/internal/timeouts"
)

// oomScore protects containerd and the shims it starts from the kernel's OOM killer; containers get 0 again.
const oomScore = -500

// Run runs containerd until ctx is done. Containers keep running when it ends. It logs to stderr.
// It fails at once when another process already runs on the same State.
func Run(ctx context.Context, c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	conf := c.server()
	if err := log.SetLevel(conf.Debug.Level); err != nil {
		return err
	}
	if err := server.CreateTopLevelDirectories(conf); err != nil {
		return fmt.Errorf("make containerd's folders: %w", err)
	}
	unlock, err := lock(c)
	if err != nil {
		return err
	}
	defer unlock()
	settle(ctx, c)
	if err := mount.SetTempMountLocation(filepath.Join(c.Root, "tmpmounts")); err != nil {
		return fmt.Errorf("make containerd's mount folder: %w", err)
	}
	if _, err := mount.CleanupTempMounts(0); err != nil {
		log.G(ctx).WithError(err).Warn("left-over mounts could not be removed")
	}
	for _, snapshotter := range []string{"overlayfs", "native"} {
		if err := recovery.SweepSnapshots(ctx, filepath.Join(c.Root, "io.containerd.snapshotter.v1."+snapshotter)); err != nil {
			log.G(ctx).WithError(err).Warn("left-over snapshots could not be removed")
		}
	}
	if err := os.MkdirAll(filepath.Dir(c.Socket), 0o700); err != nil {
		return fmt.Errorf("make the folder of containerd's socket: %w", err)
	}
	go keep(ctx, c)
	ward := recovery.NewWard(c.shims())
	if err := ward.Admit(ctx); err != nil {
		log.G(ctx).WithError(err).Warn("a shim that does not answer could not be set aside; containerd may be slow to start")
	}
	work := useSteady(ward)
	s, err := server.New(ctx, conf)
	if err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	defer s.Stop()
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("serve containerd: %w", err)
	}
	s.Wait()
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	go recovery.NewStrays(c.shims()).Run(over)
	if err := ward.Wait(ctx); err != nil {
		return nil
	}
	return again(ctx, work)
}

// again begins containerd anew as the same process, so that it takes back what it started without. What it has begun it finishes
// first; its callers try again.
func again(ctx context.Context, work *inFlight) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.ContainerdDrain)
	defer cancel()
	work.drain(ctx)
	if err := syscall.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
		return fmt.Errorf("begin containerd anew: %w", err)
	}
	return nil
}

// settle makes the process one that outlives its caller and uses little memory. What the machine denies is logged: containerd
// works without.
func settle(ctx context.Context, c Config) {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(c.MemoryBytes)
	if c.Cgroup != "" {
		tree, err := cgroup.Detect()
		if err == nil {
			err = tree.Join(c.Cgroup, os.Getpid())
		}
		if err != nil {
			log.G(ctx).WithError(err).Warn("containerd stays in the cgroup of its caller, and may end with it")
		}
	}
	err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0)
	if err != nil {
		log.G(ctx).WithError(err).Warn("containerd is not protected from the OOM killer (CAP_SYS_RESOURCE is missing)")
	}
}

// lock makes sure that one containerd runs on a State and leaves the process's record there. The lock ends with the process.
func lock(c Config) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.State, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another containerd runs on %s", c.State), f.Close())
	}
	id, err := process.Inspect(os.Getpid())
	if err == nil {
		err = record{ID: id, Fingerprint: c.fingerprint()}.save(c)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
