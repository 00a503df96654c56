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
	"github.com/berthdev/berth/internal/serve/edge"
	"github.com/berthdev/berth/internal/timeouts"
)

// Down is `berth down`: it stops the server, the load balancers, the tasks, containerd and the network of the
// instance in dir, in this order. With purge it deletes the data too. What is stopped already is no error.
func Down(ctx context.Context, dir string, purge bool, out io.Writer) error {
	in, err := LoadInstance(dir)
	if errors.Is(err, ErrNoInstance) {
		if purge {
			return removeIfOurs(dir)
		}
		return err
	}
	if err != nil {
		return err
	}
	if err := in.stopServer(ctx, out); err != nil {
		return err
	}
	if in.Runtime == "containerd" {
		if err := edge.Stop(ctx, in.edgeConfig(Config{})); err != nil {
			return err
		}
		if err := in.stopMachine(ctx, out); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "Berth is down")
	if purge {
		fmt.Fprintf(out, "deleting %s\n", dir)
		return os.RemoveAll(dir)
	}
	return nil
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
func (in *Instance) stopMachine(ctx context.Context, out io.Writer) error {
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
	fmt.Fprintln(out, "stopping tasks")
	if err := in.purgeTasks(ctx, binaries, log); err != nil {
		return fmt.Errorf("stop tasks: %w", err)
	}
	fmt.Fprintln(out, "stopping containerd and the network")
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return errors.Join(network.RemoveAll(in.networkConfig(log)), in.removeCgroups(), unmountBelow(in.RunDir()), os.RemoveAll(in.RunDir()))
}

func (in *Instance) purgeTasks(ctx context.Context, binaries embedded.Binaries, log *slog.Logger) error {
	snapshotter, _ := daemon.Snapshotter(in.Path("containerd"))
	r, err := containerd.New(containerd.Config{Socket: in.ContainerdSocket(), Namespace: in.Namespace(), Snapshotter: snapshotter, Runc: binaries.Runc,
		Shim: binaries.Shim, StateDir: filepath.Join(in.RunDir(), "runtime"), CgroupParent: in.cgroup(), Log: log})
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Purge(ctx)
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
