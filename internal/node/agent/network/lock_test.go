package network

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestALockThatAnybodyMayHoldBlocksNobody: what lies in a folder for all is no lock of ours.
func TestALockThatAnybodyMayHoldBlocksNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: locks are where only root may make them")
	}
	t.Setenv("TMPDIR", t.TempDir())
	f, err := os.Create(filepath.Join(os.TempDir(), "berth-network.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		unlock, err := lockMachine()
		if err == nil {
			unlock()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a lock in the folder for temporary files holds up the start")
	}
}
