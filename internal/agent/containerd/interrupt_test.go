package containerd

import (
	"context"
	"syscall"
	"testing"
	"time"
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
