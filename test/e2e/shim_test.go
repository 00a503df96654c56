package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shims are the processes of a task's shim.
func (b *berth) shims(task string) []int {
	return processes("containerd-shim-runc-v2", task[strings.LastIndexByte(task, '/')+1:])
}

// When the shim of a task behind a load balancer dies, its containers die with it: nobody who asks through the load balancer meanwhile
// waits for a network that is gone, and the task is replaced.
func TestADeadShimHangsNoRequest(t *testing.T) {
	b := start(t)
	address, _ := b.shop()
	for round := range 3 {
		before := b.tasks("web")
		victim := before[round%len(before)]
		pids := b.shims(victim)
		if len(pids) != 1 {
			t.Fatalf("shims of %s: %v", victim, pids)
		}
		tr := startTraffic(address)
		time.Sleep(500 * time.Millisecond)
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		b.reaches(victim, "STOPPED")
		b.stable("web")
		t.Logf("the task was replaced after %s", time.Since(killed).Round(100*time.Millisecond))
		time.Sleep(2 * time.Second)
		for _, f := range tr.end(t, fmt.Sprint("kill -9 of a shim, ", round)) {
			t.Errorf("a request failed %s after the kill: %v", f.at.Sub(killed).Round(time.Millisecond), f.err)
		}
		for kind, c := range tr.kinds {
			if c.slowest > 3*time.Second {
				t.Errorf("%s: a request took %s", kind, c.slowest)
			}
		}
		if after := b.tasks("web"); len(after) != 2 || slices.Contains(after, victim) {
			t.Errorf("tasks %v, before %v", after, before)
		}
	}
}
