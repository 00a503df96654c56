package containerd

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/daemon"
)

// shims returns the shim processes of this node.
func (n *node) shims(t testing.TB) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		args := strings.Split(string(cmdline), "\x00")
		if strings.Contains(args[0], "shim") && slices.Contains(args, n.config.Namespace) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// pair starts two containers of one task.
func (n *node) pair(t testing.TB, image agent.Image) (a, b agent.ContainerSpec) {
	a = n.container(image, `echo started; trap 'exit 3' TERM; while :; do sleep 0.05; done`)
	b = n.container(image, `while :; do sleep 0.05; done`, func(s *agent.ContainerSpec) {
		s.TaskID, s.ID = a.TaskID,
			a.TaskID+"-two"
	})
	n.start(t, a)
	n.start(t, b)
	return a, b
}

// The containers of a task share a shim, which outlives the first of them, takes new ones, and ends with the last.
func TestContainersOfATaskShareAShim(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	a, b := n.pair(t, image)
	if got := n.shims(t); len(got) != 1 {
		t.Fatalf("%d shims for one task", len(got))
	}
	if err := n.Delete(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if got, _ := n.state(t, b.ID); got.Status != agent.ContainerRunning {
		t.Fatalf("deleting the first container left the second %+v", got)
	}
	third := n.container(image, `exit 6`, func(s *agent.ContainerSpec) { s.TaskID, s.ID = a.TaskID, a.TaskID+"-three" })
	if state, _, _ := n.runs(t, third); state.ExitCode != 6 {
		t.Errorf("a container made later: %+v", state)
	}
	if _, out, err := n.Exec(t.Context(), b.ID, []string{"/bin/echo", "hi"}); err != nil || out != "hi\n" {
		t.Errorf("exec after the first container is gone: %q %v", out, err)
	}
	if err := n.Signal(t.Context(), b.ID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := n.exit(t, b.ID); exit.ExitCode != 137 {
		t.Errorf("%+v", exit)
	}
	if err := n.Delete(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the shim's end", func() bool { return len(n.shims(t)) == 0 })
}

// A shim that is killed takes its containers with it; their end is told and they can be deleted.
func TestShimIsKilled(t *testing.T) {
	n := newNode(t)
	a, b := n.pair(t, n.busybox(t, nil))
	for _, pid := range n.shims(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	ended := map[string]bool{}
	for len(ended) < 2 {
		var s agent.ContainerState
		select {
		case s = <-n.Exits():
		case <-time.After(20 * time.Second):
			t.Fatalf("only %v ended", ended)
		}
		if s.ExitCode != 137 || s.TaskID != a.TaskID {
			t.Errorf("%+v", s)
		}
		ended[s.ID] = true
	}
	for _, s := range []agent.ContainerSpec{a, b} {
		if got, found := n.state(t, s.ID); !found || got.Status != agent.ContainerExited || got.ExitCode != 137 {
			t.Errorf("listed: %v %+v", found, got)
		}
		if err := n.Delete(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	if n.tree.Exists(n.taskCgroup(a.TaskID)) {
		t.Error("the task's cgroup is left over")
	}
}

// kill -9 of containerd: it is started again, containers keep their processes, exits in between are found, new exits are told.
func TestContainerdIsKilled(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	a, b := n.pair(t, image)
	before, _ := n.state(t, a.ID)
	ctx, stop := context.WithCancel(t.Context())
	supervised := make(chan error, 1)
	go func() { supervised <- n.daemon.Supervise(ctx) }()
	for round := range 3 {
		old := n.daemon.PID()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "containerd's restart", func() bool {
			_, err := n.List(t.Context())
			return err == nil && n.daemon.PID() != old
		})
		if got, found := n.state(t, a.ID); !found || got.PID != before.PID || got.Status != agent.ContainerRunning {
			t.Fatalf("after kill %d: %+v, was %+v", round, got, before)
		}
	}
	late := n.container(image, "exit 4") // it may end before the subscription is back
	n.start(t, late)
	if exit := n.exit(t, late.ID); exit.ExitCode != 4 {
		t.Errorf("%+v", exit)
	}
	if err := n.Signal(t.Context(), a.ID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit := n.exit(t, a.ID); exit.ExitCode != 3 {
		t.Errorf("%+v", exit)
	}
	if got := read(t, a.Stdout); got != "started" {
		t.Errorf("output %q", got)
	}
	for _, s := range []agent.ContainerSpec{a, b} {
		if err := n.Delete(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	stop()
	<-supervised
}

// What ends while containerd is away is in the list afterwards, with its exit code.
func TestExitWhileContainerdIsAway(t *testing.T) {
	n := newNode(t)
	s := n.container(n.busybox(t, nil), `trap 'exit 5' USR1; echo ready; while :; do sleep 0.02; done`)
	n.start(t, s)
	got, _ := n.state(t, s.ID)
	waitFor(t, "the trap", func() bool { return read(t, s.Stdout) == "ready" })
	if err := n.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.List(t.Context()); err == nil {
		t.Fatal("listed without containerd")
	}
	if err := syscall.Kill(int(got.PID), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the process's end", func() bool { _, err := os.Stat(procStatus(got.PID)); return err != nil })
	if err := n.daemon.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the exit in the list", func() bool {
		all, err := n.List(t.Context())
		return err == nil && len(all) == 1 && all[0].Status == agent.ContainerExited && all[0].ExitCode == 5
	})
}

func procStatus(pid uint32) string { return "/proc/" + strconv.Itoa(int(pid)) + "/status" }

// A new Runtime, as after kill -9 of berth, manages what the old one started.
func TestRuntimeIsRestarted(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	a, b := n.pair(t, image)
	half := n.container(image, "true")
	if err := n.Create(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-n.Exits(); open {
		t.Error("the channel of exits is not closed")
	}
	fresh, err := New(n.config)
	if err != nil {
		t.Fatal(err)
	}
	n.Runtime, n.store.r = fresh, fresh
	for id, want := range map[string]agent.ContainerStatus{a.ID: agent.ContainerRunning, b.ID: agent.ContainerRunning,
		half.ID: agent.ContainerCreated} {
		if got, _ := n.state(t, id); got.Status != want || got.Labels["com.example"] != "x" {
			t.Errorf("%s: %+v, want %s", id, got, want)
		}
	}
	waitFor(t, "the first line", func() bool { return read(t, a.Stdout) == "started" })
	if err := n.Signal(t.Context(), a.ID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the exit", func() bool {
		got, _ := n.state(t, a.ID)
		return got.Status == agent.ContainerExited && got.ExitCode == 3
	})
	for _, id := range []string{a.ID, b.ID, half.ID} {
		if err := n.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// What is left of a Create that was interrupted is created anew.
func TestInterruptedCreate(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	for name, interrupt := range map[string]func(s agent.ContainerSpec) error{
		"after the snapshot": func(s agent.ContainerSpec) error {
			ctx := n.context(t.Context())
			config, err := n.imageOf(ctx, s)
			if err == nil {
				_, err = n.prepareSnapshot(ctx, s.ID, config)
			}
			return err
		},
		"after the record": func(s agent.ContainerSpec) error {
			ctx := n.context(t.Context())
			record, err := n.record(s, s.Image.Ref, &specs.Spec{})
			if err == nil {
				_, err = n.client.ContainerService().Create(ctx, record)
			}
			return err
		},
	} {
		s := n.container(image, "exit 8")
		if err := interrupt(s); err != nil {
			t.Fatal(name, err)
		}
		if state, _, _ := n.runs(t, s); state.ExitCode != 8 {
			t.Errorf("%s: %+v", name, state)
		}
	}
}

func (n *node) imageOf(ctx context.Context, s agent.ContainerSpec) (imageConfig, error) {
	image, err := n.client.ImageService().Get(ctx, s.Image.Ref)
	if err != nil {
		return imageConfig{}, err
	}
	return imageConfigOf(ctx, n.client.ContentStore(), n.images, image.Target)
}

// Another config, as after an upgrade, replaces containerd and leaves the containers alone.
func TestContainerdIsReplaced(t *testing.T) {
	n := newNode(t)
	s := n.container(n.busybox(t, nil), "sleep 600")
	n.start(t, s)
	before, _ := n.state(t, s.ID)
	old := n.daemon.PID()
	if err := n.daemon.Start(t.Context()); err != nil || n.daemon.PID() != old {
		t.Fatalf("starting again what runs: %v, process %d was %d", err, n.daemon.PID(), old)
	}
	next, err := daemon.New(n.daemonConfig(func(c *daemon.Config) { c.MemoryBytes = 100 << 20 }), n.config.Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.daemon = next
	if n.daemon.PID() == old {
		t.Error("containerd still runs with the old config")
	}
	if got, _ := n.state(t, s.ID); got.PID != before.PID || got.Status != agent.ContainerRunning {
		t.Errorf("%+v, was %+v", got, before)
	}
}

// A shim that answers nobody hides neither its own containers nor those of others: they are taken for running.
func TestShimHangs(t *testing.T) {
	n := newNode(t)
	a, b := n.pair(t, n.busybox(t, nil))
	for _, pid := range n.shims(t) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
	}
	c, _ := n.pair(t, n.busybox(t, nil))
	all, err := n.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, s := range all {
		if s.Status == agent.ContainerRunning {
			running++
		}
	}
	if running != 4 {
		t.Errorf("of %s, %s and %s: %+v", a.ID, b.ID, c.ID, all)
	}
}
