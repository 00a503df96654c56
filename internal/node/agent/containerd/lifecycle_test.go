package containerd

import (
	"syscall"
	"testing"

	"github.com/berthdev/berth/internal/node/agent"
)

func TestLifeOfAContainer(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	s := n.container(image, `echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done`)
	for range 2 { // each step may be repeated
		if err := n.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := n.state(t, s.ID); got.Status != agent.ContainerCreated {
		t.Fatalf("after Create: %+v", got)
	}
	for range 2 {
		if err := n.Start(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := n.state(t, s.ID)
	if got.Status != agent.ContainerRunning || got.PID == 0 || got.TaskID != s.TaskID || got.Name != "main" ||
		got.Labels["com.example"] != "x" {
		t.Fatalf("after Start: %+v", got)
	}
	waitFor(t, "the first line", func() bool { return read(t, s.Stdout) == "out" && read(t, s.Stderr) == "err" })
	if err := n.Signal(t.Context(), s.ID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit := n.exit(t, s.ID)
	if exit.ExitCode != 7 || exit.Status != agent.ContainerExited || exit.FinishedAt.IsZero() || exit.OOMKilled ||
		exit.TaskID != s.TaskID {
		t.Fatalf("exit: %+v", exit)
	}
	if got, _ := n.state(t, s.ID); got.Status != agent.ContainerExited || got.ExitCode != 7 ||
		!got.FinishedAt.Equal(exit.FinishedAt) {
		t.Fatalf("listed after exit: %+v", got)
	}
	for range 2 {
		if err := n.Delete(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got, found := n.state(t, s.ID); found {
		t.Fatalf("after Delete: %+v", got)
	}
	if err := n.Signal(t.Context(), s.ID, syscall.SIGTERM); err != nil {
		t.Fatalf("signal to a container that is gone: %v", err)
	}
	if n.tree.Exists(n.taskCgroup(s.TaskID)) {
		t.Error("the task's cgroup is left over")
	}
}
