package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pid that was given to another process does not name the first one any more.
func TestAnotherProcessIsNotMistaken(t *testing.T) {
	own, err := Inspect(os.Getpid())
	if err != nil || !own.Alive() {
		t.Fatal(own, err)
	}
	other := ID{PID: own.PID, Started: own.Started + 1}
	if other.Alive() || other.State() != "" {
		t.Error("another start time, and it is taken for this process")
	}
	if _, known := other.ExitCode(); known {
		t.Error("an exit code of a process that is not there")
	}
}

// The exit code of a process is known before its parent has waited for it.
func TestExitCodeOfAZombie(t *testing.T) {
	for script, want := range map[string]int32{"exit 7": 7, "kill -9 $$": 137, "true": 0} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "read x; "+script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		id, err := Inspect(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if _, known := id.ExitCode(); known {
			t.Errorf("%s: it has a code while it runs", script)
		}
		in.Write([]byte("\n"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := id.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if code, known := id.ExitCode(); !known || code != want {
			t.Errorf("%s: %d %v, want %d", script, code, known, want)
		}
		_ = cmd.Wait()
	}
}

func TestWaitAndSignal(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Inspect(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := id.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a process that runs: %v", err)
	}
	id.Signal(unix.SIGKILL)
	if err := id.Wait(t.Context()); err != nil || id.Alive() {
		t.Errorf("waiting for a killed process: %v", err)
	}
	_ = cmd.Wait()
}
