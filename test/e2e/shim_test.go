package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
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
	said, longest := map[string]int{}, time.Duration(0)
	for round := range 3 {
		before := b.tasks("web")
		victim := before[round%len(before)]
		pids := b.shims(victim)
		if len(pids) != 1 {
			t.Fatalf("shims of %s: %v", victim, pids)
		}
		tr := startTraffic(address)
		slow := asksSlowly(address, 20) // some are in flight in the task that dies
		time.Sleep(500 * time.Millisecond)
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		for range cap(slow) {
			if a := <-slow; a.took > 3*time.Second {
				t.Errorf("a request of one second in flight took %s: %s", a.took, a.said)
			} else if strings.HasPrefix(a.said, "Get ") {
				t.Errorf("a request in flight was answered by nobody: %s", a.said)
			} else {
				said[a.said]++
				longest = max(longest, a.took)
			}
		}
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
	t.Logf("requests of one second in flight: %v, the longest took %s", said, longest.Round(10*time.Millisecond))
	if said["502"] == 0 && longest < 1300*time.Millisecond { // nothing was broken off, nor asked of the other task then
		t.Error("none was in flight in a task that died")
	}
}

type slowAnswer struct {
	said string
	took time.Duration
}

// asksSlowly asks n times for an answer that takes a second.
func asksSlowly(address string, n int) chan slowAnswer {
	all := make(chan slowAnswer, n)
	for range n {
		go func() {
			began := time.Now()
			client := http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			res, err := client.Get(address + "/slow?for=1s")
			if err != nil {
				all <- slowAnswer{err.Error(), time.Since(began)}
				return
			}
			defer res.Body.Close()
			_, _ = io.Copy(io.Discard, res.Body)
			all <- slowAnswer{strconv.Itoa(res.StatusCode), time.Since(began)}
		}()
	}
	return all
}
