package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"

	"github.com/berthdev/berth/internal/node/agent"
)

// Creations that are interrupted at any moment, by their caller or by kill -9 of containerd, leave nothing when their containers
// are deleted: no shim that nobody knows.
func TestInterruptedCreations(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	supervised := make(chan error, 1)
	go func() { supervised <- n.daemon.Supervise(ctx) }()
	for i := range 14 {
		s := n.container(image, "sleep 600")
		moment, cancel := context.WithTimeout(t.Context(), time.Duration(i)*6*time.Millisecond)
		if i%2 == 1 {
			pid := n.daemon.PID()
			time.AfterFunc(time.Duration(i)*5*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			moment = t.Context()
		}
		if err := n.Create(moment, s); err == nil {
			_ = n.Start(moment, s.ID) // containerd may be gone
		}
		cancel()
		waitFor(t, "the container's deletion", func() bool { return n.Delete(t.Context(), s.ID) == nil })
		waitFor(t, "containerd", func() bool { _, err := n.List(t.Context()); return err == nil && n.daemon.PID() != 0 })
	}
	stop()
	<-supervised
	waitFor(t, "the end of all shims", func() bool { return len(n.shims(t)) == 0 })
	if left := n.tree.Children(n.config.CgroupParent); len(left) != 1 { // the daemon's own
		t.Errorf("cgroups %v are left over", left)
	}
	all, err := n.client.ContainerService().List(n.context(t.Context()))
	if err != nil || len(all) != 0 {
		t.Errorf("containers %v are left over, %v", all, err)
	}
}

// kill -9 of containerd at any moment of a container's creation or start: asked again, as the agent does, the container is there and
// runs once, and its exit code is its own.
func TestContainerdIsKilledInAStart(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	supervised := make(chan error, 1)
	go func() { supervised <- n.daemon.Supervise(ctx) }()
	const rounds = 24
	for i := range rounds {
		s := n.container(image, `trap 'exit 7' TERM; echo ran; while :; do sleep 0.02; done`)
		if i%2 == 1 {
			s = n.container(image, `echo ran; exit 7`)
		}
		pid := n.daemon.PID()
		kill := time.AfterFunc(time.Duration(i)*4*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		n.insist(t, "create", func() error { return n.Create(t.Context(), s) })
		n.insist(t, "start", func() error { return n.Start(t.Context(), s.ID) })
		kill.Stop()
		waitFor(t, "its output", func() bool { return strings.HasPrefix(read(t, s.Stdout), "ran") })
		if i%2 == 0 {
			n.insist(t, "signal", func() error {
				all, err := n.List(t.Context())
				if err != nil {
					return err
				}
				if len(all) != 1 || all[0].Status != agent.ContainerRunning {
					t.Errorf("round %d: %+v", i, all)
				}
				return n.Signal(t.Context(), s.ID, syscall.SIGTERM)
			})
		}
		waitFor(t, "its end", func() bool {
			all, err := n.List(t.Context())
			return err == nil && len(all) == 1 && all[0].Status == agent.ContainerExited
		})
		if got, _ := n.state(t, s.ID); got.ExitCode != 7 {
			t.Errorf("round %d: exit code %d", i, got.ExitCode)
		}
		if out := read(t, s.Stdout); out != "ran" {
			t.Errorf("round %d: output %q", i, out)
		}
		n.insist(t, "delete", func() error { return n.Delete(t.Context(), s.ID) })
	}
	stop()
	<-supervised
	waitFor(t, "the end of all shims", func() bool { return len(n.shims(t)) == 0 })
}

// insist repeats what may fail because containerd is being restarted; what is final for the agent ends the test.
func (n *node) insist(t *testing.T, what string, op func() error) {
	t.Helper()
	for begun := time.Now(); ; <-time.After(50 * time.Millisecond) {
		err := op()
		if err == nil {
			return
		}
		if _, final := errors.AsType[*agent.Error](err); final || time.Since(begun) > 20*time.Second {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// A container that is killed before it was started, by a deletion that got no further, has no end to report and is made anew.
func TestKilledBeforeItsStart(t *testing.T) {
	n := newNode(t)
	s := n.container(n.busybox(t, nil), `echo ran; exit 7`)
	if err := n.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := n.kill(n.context(t.Context()), s.ID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of its process", func() bool {
		got, err := n.client.TaskService().Get(n.context(t.Context()), &tasks.GetRequest{ContainerID: s.ID})
		return err == nil && got.Process.Status == apitask.Status_STOPPED
	})
	if got, ok := n.state(t, s.ID); !ok || got.Status != agent.ContainerCreated {
		t.Errorf("killed before its start: %+v", got)
	}
	if err := n.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-n.Exits():
		if e.ExitCode != 7 {
			t.Errorf("exit code %d", e.ExitCode)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no exit is reported")
	}
}

// A deletion that is interrupted after the shim has forgotten the container, and before the shim has ended, is finished by the next.
func TestInterruptedDeletion(t *testing.T) {
	n := newNode(t)
	s := n.container(n.busybox(t, nil), "sleep 600")
	n.start(t, s)
	if err := n.end(n.context(t.Context()), s.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.shimDelete(t, s.ID); err != nil {
		t.Fatal(err)
	}
	if len(n.shims(t)) != 1 {
		t.Fatal("the shim is gone already")
	}
	if err := n.Delete(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the shim's end", func() bool { return len(n.shims(t)) == 0 })
}

// shimDelete does the first half of what containerd does to delete a task: it tells the shim.
func (n *node) shimDelete(t *testing.T, id string) error {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(n.run, "containerd", "io.containerd.runtime.v2.task", n.config.Namespace, id,
		"bootstrap.json"))
	if err != nil {
		return err
	}
	var boot struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal(data, &boot); err != nil {
		return err
	}
	conn, err := net.Dial("unix", strings.TrimPrefix(boot.Address, "unix://"))
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	_, err = taskapi.NewTTRPCTaskClient(client).Delete(n.context(t.Context()), &taskapi.DeleteRequest{ID: id})
	return err
}
