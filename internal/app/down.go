package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent/containerd"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/daemon"
	"github.com/berthdev/berth/internal/node/embedded"
	"github.com/berthdev/berth/internal/node/overlay"
	"github.com/berthdev/berth/internal/serve/edge"
	"github.com/berthdev/berth/internal/timeouts"
)

// DownConfig is what `berth down` was told.
type DownConfig struct {
	DataDir string
	Purge   bool // delete the data too
	Now     bool // kill tasks instead of asking them to end
}

// Down is `berth down`: it stops the server, the load balancers, the tasks, containerd and the network of an instance, in this order.
// What is stopped already is no error, and it may be interrupted and repeated. What does not end holds up nothing else; the error names it.
func Down(ctx context.Context, c DownConfig, out io.Writer) error {
	in, err := LoadInstance(c.DataDir)
	if errors.Is(err, ErrNoInstance) {
		if c.Purge {
			return removeIfOurs(c.DataDir)
		}
		return err
	}
	if err != nil {
		return err
	}
	if err := in.stopServer(ctx, out); err != nil {
		return err
	}
	var left error
	if in.Runtime == "containerd" {
		left = edge.Stop(ctx, in.edgeConfig(Config{}))
		if left = errors.Join(left, in.stopMachine(ctx, c.Now, out)); ctx.Err() != nil {
			return left
		}
	}
	if left == nil {
		fmt.Fprintln(out, "Berth is down")
	}
	if c.Purge {
		fmt.Fprintf(out, "deleting %s\n", in.dir)
		left = errors.Join(left, os.RemoveAll(in.dir))
	}
	return left
}

// removeIfOurs does not delete a directory that was never Berth's.
func removeIfOurs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) == 0 {
		return os.Remove(dir)
	}
	return errors.Join(err, fmt.Errorf("%s holds no Berth; it is left alone", dir))
}

// stopServer ends `berth up` by SIGTERM, and by SIGKILL when that takes more than 15 s.
func (in *Instance) stopServer(ctx context.Context, out io.Writer) error {
	pid := in.serverPID()
	if pid == 0 {
		return nil
	}
	fmt.Fprintf(out, "stopping the server (process %d)\n", pid)
	sig := syscall.SIGTERM
	for deadline := time.Now().Add(timeouts.ServerStop); in.serverPID() == pid; {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the server (process %d): %w", pid, err)
		}
		if time.Now().After(deadline) {
			sig = syscall.SIGKILL
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// stopMachine removes everything of the instance from this machine but its data. containerd is started when it does not run: only
// it knows what there is to remove.
func (in *Instance) stopMachine(ctx context.Context, now bool, out io.Writer) error {
	if _, err := os.Stat(in.Path("containerd")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	binaries, err := embedded.Unpack(in.Path("bin"))
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", filepath.Dir(binaries.Shim)+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	d, err := daemon.New(in.daemonConfig(), log)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return err
	}
	left := in.endTasks(ctx, now, binaries, out, log)
	if ctx.Err() != nil {
		return errors.Join(left, ctx.Err())
	}
	fmt.Fprintln(out, "stopping containerd and the network")
	return errors.Join(left, d.Stop(ctx), overlay.RemoveAll(in.ID), network.RemoveAll(in.networkConfig(log)), in.removeCgroups(), unmountBelow(in.RunDir()),
		os.RemoveAll(in.RunDir()))
}

// endTasks stops the tasks, and removes what they leave. The error names what did not end.
func (in *Instance) endTasks(ctx context.Context, now bool, binaries embedded.Binaries, out io.Writer, log *slog.Logger) error {
	snapshotter, _ := daemon.Snapshotter(in.Path("containerd"))
	r, err := containerd.New(containerd.Config{Socket: in.ContainerdSocket(), Namespace: in.Namespace(), Snapshotter: snapshotter, Runc: binaries.Runc,
		Shim: binaries.Shim, StateDir: filepath.Join(in.RunDir(), "runtime"), CgroupParent: in.cgroup(), Log: log})
	if err != nil {
		return err
	}
	defer r.Close()
	if !now {
		left, err := in.stopTasks(ctx, r, out, log)
		if err != nil {
			return err
		}
		for _, name := range left {
			fmt.Fprintf(out, "  task %s has not ended; going on without it\n", name)
		}
	}
	fmt.Fprintln(out, "removing containers")
	if err := r.Purge(ctx); err != nil {
		return fmt.Errorf("these are left: %w; berth down removes them when they have ended", err)
	}
	return nil
}

func (in *Instance) removeCgroups() error {
	tree, err := cgroup.Detect()
	if err != nil {
		return err
	}
	var errs []error
	for _, group := range []string{in.cgroup(), in.cgroup() + "-build", in.cgroup() + "-containerd", in.cgroup() + "-proxy"} {
		errs = append(errs, removeCgroup(tree, group))
	}
	return errors.Join(errs...)
}

// removeCgroup ends what still runs in a cgroup of the instance, such as a shim whose start was interrupted, and removes it.
func removeCgroup(tree *cgroup.Tree, group string) (err error) {
	for range 50 {
		if !tree.Exists(group) {
			return nil
		}
		for _, pid := range tree.Processes(group) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d of cgroup %s: %w", pid, group, err)
			}
		}
		if err = tree.Remove(group); err == nil {
			return nil
		}
		<-time.After(100 * time.Millisecond)
	}
	return err
}

// unmountBelow unmounts what is still mounted below dir, the deepest first.
func unmountBelow(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", mounts[i], err))
		}
	}
	return errors.Join(errs...)
}
