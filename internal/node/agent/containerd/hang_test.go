package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/cgroup"
)

// freezeShims stops the shims of this node's tasks, and lets them go on at the test's end.
func (n *node) freezeShims(t *testing.T) (pids []int) {
	pids = n.shims(t)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	}
	return pids
}

// A shim that hangs keeps containerd from nothing, whether it is killed or replaced: it serves at once with the other shims, the
// containers of the hung one run on and are listed as running, and when the shim answers it is all as it was.
func TestContainerdStartsThoughAShimHangs(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	a, b := n.pair(t, image)
	before, _ := n.state(t, a.ID)
	hung := n.freezeShims(t)
	c, d := n.pair(t, image)
	for round := range 2 {
		if err := syscall.Kill(n.daemon.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "containerd's end", func() bool { return n.daemon.PID() == 0 })
		begun := time.Now()
		if err := n.daemon.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("round %d: containerd served after %v", round, took)
		}
		begun = time.Now()
		for _, s := range []agent.ContainerSpec{a, b, c, d} {
			if got, found := n.state(t, s.ID); !found || got.Status != agent.ContainerRunning || got.Silent != (s.TaskID == a.TaskID) {
				t.Errorf("round %d, %s: %v %+v", round, s.ID, found, got)
			}
		}
		if took := time.Since(begun); took > 4*time.Second { // four lists; the hung one is known and not asked
			t.Errorf("round %d: four lists took %v", round, took)
		}
		if _, out, err := n.Exec(t.Context(), c.ID, []string{"/bin/echo", "hi"}); err != nil || out != "hi\n" {
			t.Errorf("round %d: exec beside a hung shim: %q %v", round, out, err)
		}
	}
	pid := n.daemon.PID()
	for _, shim := range hung {
		if err := syscall.Kill(shim, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the shim's return", func() bool {
		_, out, err := n.Exec(t.Context(), a.ID, []string{"/bin/echo", "back"})
		return err == nil && out == "back\n"
	})
	if got, _ := n.state(t, a.ID); got.PID != before.PID || got.Status != agent.ContainerRunning || got.Silent {
		t.Errorf("%+v, was %+v", got, before)
	}
	if got, _ := n.state(t, d.ID); got.Status != agent.ContainerRunning {
		t.Errorf("another task's container: %+v", got)
	}
	if n.daemon.PID() != pid {
		t.Error("containerd became another process")
	}
	if err := n.Signal(t.Context(), a.ID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit := n.exit(t, a.ID); exit.ExitCode != 3 {
		t.Errorf("%+v", exit)
	}
}

// A container whose shim hangs gets its signals, ends with its own exit code or by SIGKILL, is told of, and leaves nothing, whether
// containerd knew the shim before it hung or started without it.
func TestStopThoughTheShimHangs(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		n := newNode(t)
		image := n.busybox(t, nil)
		polite, rude := n.pair(t, image) // the second ignores SIGTERM as the first of its namespace
		waitFor(t, "the trap", func() bool { return read(t, polite.Stdout) == "started" })
		n.freezeShims(t)
		if restarted {
			if err := n.daemon.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := n.daemon.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if err := n.Signal(t.Context(), polite.ID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the end of the polite one", func() bool {
			got, _ := n.state(t, polite.ID)
			return got.Status == agent.ContainerExited
		})
		if exit := n.exit(t, polite.ID); exit.ExitCode != 3 {
			t.Errorf("restarted %v: %+v", restarted, exit)
		}
		if err := n.Delete(t.Context(), polite.ID); !errors.Is(err, errShared) {
			t.Errorf("restarted %v: deleting one whose hung shim has another container: %v", restarted, err)
		}
		if got, _ := n.state(t, rude.ID); got.Status != agent.ContainerRunning {
			t.Errorf("restarted %v: the other is %+v", restarted, got)
		}
		if err := n.Signal(t.Context(), rude.ID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if exit := n.exit(t, rude.ID); exit.ExitCode != 137 {
			t.Errorf("restarted %v: %+v", restarted, exit)
		}
		for _, s := range []agent.ContainerSpec{polite, rude} {
			if err := n.Delete(t.Context(), s.ID); err != nil {
				t.Errorf("restarted %v: %v", restarted, err)
			}
		}
		t.Logf("restarted %v: stopped and deleted within %v", restarted, time.Since(begun).Round(time.Millisecond))
		if left := n.shims(t); len(left) != 0 {
			t.Errorf("restarted %v: shims %v are left", restarted, left)
		}
		if n.tree.Exists(n.taskCgroup(rude.TaskID)) {
			t.Errorf("restarted %v: the task's cgroup is left", restarted)
		}
		waitFor(t, "the bundles' end", func() bool {
			left, _ := filepath.Glob(n.run + "/containerd/io.containerd.runtime.v2.task/*/*")
			hidden, _ := filepath.Glob(n.run + "/containerd/io.containerd.runtime.v2.task/*/.*")
			return len(left)+len(hidden) == 0
		})
	}
}

// holdInKernel keeps a task's processes from ending, as a file system that hangs would, until the test calls release.
func (n *node) holdInKernel(t *testing.T, task string) (release func()) {
	t.Helper()
	dir, file, on, off := "/sys/fs/cgroup/freezer"+n.taskCgroup(task), "freezer.state", "FROZEN", "THAWED"
	if n.tree.Layout == cgroup.V2 {
		t.Skip("a frozen process of v2 can be killed")
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(on), 0); err != nil {
		t.Skip("no freezer:", err)
	}
	release = func() { _ = os.WriteFile(filepath.Join(dir, file), []byte(off), 0) }
	t.Cleanup(release)
	return release
}

// A container whose processes the kernel does not end is called stuck, in bounded time and by name, and can be deleted later.
func TestWhatCannotBeKilledIsSaid(t *testing.T) {
	n := newNode(t)
	s := n.container(n.busybox(t, nil), "echo ready; sleep 600")
	n.start(t, s)
	waitFor(t, "the process", func() bool { return read(t, s.Stdout) == "ready" })
	release := n.holdInKernel(t, s.TaskID)
	begun := time.Now()
	err := n.Signal(t.Context(), s.ID, syscall.SIGKILL)
	stuck, ok := errors.AsType[*agent.Error](err)
	if !ok || stuck.Name != "CannotStopContainerError" || !strings.Contains(stuck.Message, "(sleep)") && !strings.Contains(stuck.Message, "(sh)") {
		t.Fatalf("%v, want CannotStopContainerError that names the process", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Delete(ctx, s.ID); err == nil {
		t.Error("it was deleted while it was there")
	}
	release()
	waitFor(t, "the deletion", func() bool { return n.Delete(t.Context(), s.ID) == nil })
	if n.tree.Exists(n.taskCgroup(s.TaskID)) {
		t.Error("the task's cgroup is left")
	}
}
