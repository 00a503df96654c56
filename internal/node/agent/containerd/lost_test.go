package containerd

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
	proc "github.com/berthdev/berth/internal/node/process"
	"github.com/berthdev/berth/internal/node/recovery/note"
	"github.com/berthdev/berth/internal/timeouts"
)

// A container whose shim has just died is not called ended before containerd has had the time to say how; one of an earlier boot is.
func TestLostContainers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "exits"), 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &Runtime{c: Config{StateDir: dir}, limits: machine{bootID: "now"}, lost: map[string]time.Time{}}
		look := func(id, boot string) agent.ContainerState {
			s := agent.ContainerState{ID: id, Status: agent.ContainerCreated}
			r.describeLost(&s, labels{boot: boot})
			return s
		}
		for _, id := range []string{"told", "untold"} {
			if err := note.Begin(r.note(id), proc.ID{}); err != nil {
				t.Fatal(err)
			}
			if got := look(id, "now"); got.Status != agent.ContainerRunning {
				t.Errorf("%s, just lost: %+v", id, got)
			}
		}
		if got := look("untold", "before"); got.Status != agent.ContainerExited || got.ExitCode != lostExit {
			t.Errorf("of an earlier boot: %+v", got)
		}
		if got := look("new", "now"); got.Status != agent.ContainerCreated {
			t.Errorf("never begun: %+v", got)
		}
		time.Sleep(timeouts.ShimCleanup)
		if err := note.End(r.note("told"), note.Note{ExitCode: 137}); err != nil {
			t.Fatal(err)
		}
		if got := look("told", "now"); got.Status != agent.ContainerExited || got.ExitCode != 137 {
			t.Errorf("told: %+v", got)
		}
		if got := look("untold", "now"); got.Status != agent.ContainerRunning {
			t.Errorf("while containerd cleans up: %+v", got)
		}
		time.Sleep(timeouts.ShimLost)
		if got := look("untold", "now"); got.Status != agent.ContainerExited || got.ExitCode != lostExit {
			t.Errorf("never told: %+v", got)
		}
	})
}
