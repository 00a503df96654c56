package overlay

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

func TestChecksums(t *testing.T) {
	peers := []model.Peer{{Node: "a"}, {Node: "b"}}
	for name, c := range map[string]struct {
		on      bool // at first
		off     string
		with    string // who answers without offload, and with it
		want    string
		wantOff bool
	}{
		"all answer":                       {off: "ab", with: "ab", want: "done"},
		"the card spoils them":             {off: "ab", want: "done", wantOff: true},
		"it does so for one":               {off: "ab", with: "a", want: "done", wantOff: true},
		"nobody answers":                   {want: "later", wantOff: true},
		"one is away":                      {off: "a", with: "a", want: "later"},
		"on, and all answer":               {on: true, off: "ab", with: "ab", want: "done"},
		"on, and one is lost by it":        {on: true, off: "ab", with: "a", want: "done", wantOff: true},
		"on, and one is away for a reason": {on: true, off: "a", with: "a", want: "later"},
	} {
		t.Run(name, func(t *testing.T) {
			on := c.on
			check := checker{good: map[string]bool{}, get: func() (bool, error) { return on, nil }, set: func(v bool) error { on = v; return nil },
				answers: func(p model.Peer) bool {
					who := c.off
					if on {
						who = c.with
					}
					return len(who) > 0 && (who[0] == p.Node[0] || who[len(who)-1] == p.Node[0])
				}}
			done, err := check.check(peers)
			if got := map[bool]string{true: "done", false: "later"}[done]; err != nil || got != c.want || on == c.wantOff {
				t.Errorf("%s, offload %v, %v", got, on, err)
			}
		})
	}
}

func TestSample(t *testing.T) {
	var peers []model.Peer
	for i := range 20 {
		peers = append(peers, model.Peer{Node: fmt.Sprintf("%02d", i)})
	}
	asked := map[string]int{}
	for i := range 20 {
		self := fmt.Sprintf("%02d", i)
		for _, p := range sample(self, append(append([]model.Peer{}, peers[:i]...), peers[i+1:]...)) {
			asked[p.Node]++
		}
	}
	for _, p := range peers {
		if asked[p.Node] != sampled {
			t.Errorf("%s is asked %d times", p.Node, asked[p.Node])
		}
	}
}

// Two machines find out that they may leave checksums to the hardware; a task is not answered.
func TestMachinesTestEachOther(t *testing.T) {
	r := newRig(t, 2, 1500)
	r.join()
	a, b := r.machines[0], r.machines[1]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.do(func() {
		l, err := b.overlay.listen()
		must(t, err)
		go b.overlay.serveTests(ctx, l)
	})
	task := a.task("a")
	if got, err := fromTask(t, task, fmt.Sprintf("%s:4569", b.network.Gateway()), 10); err == nil && got != "" {
		t.Errorf("a task was answered with %q", got)
	}
	a.do(func() {
		c := a.overlay.newChecker()
		if on, err := c.get(); on || err != nil {
			t.Errorf("offload is %v before anybody was asked (%v)", on, err)
		}
		began := time.Now()
		done, err := c.check([]model.Peer{b.peer})
		on, _ := c.get()
		if !done || err != nil || !on || c.broken {
			t.Errorf("done %v, offload %v, broken %v, %v", done, on, c.broken, err)
		}
		t.Logf("it took %s", time.Since(began))
	})
}
