package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Every process of a cgroup and below is killed, also those that are frozen.
func TestKill(t *testing.T) {
	tr, err := Detect()
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root and cgroups")
	}
	group := fmt.Sprintf("/berth-killtest-%d", os.Getpid())
	for _, sub := range []string{group, group + "/a", group + "/b"} {
		if err := tr.Create(sub, Limits{}); err != nil {
			t.Skip("cgroups cannot be made:", err)
		}
		for _, d := range tr.dirs(sub) {
			_ = os.MkdirAll(d, 0o755)
		}
	}
	defer func() {
		if err := tr.Remove(group); err != nil {
			t.Error(err)
		}
	}()
	for i := range 4 {
		cmd := exec.CommandContext(t.Context(), "sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = cmd.Wait() }()
		if err := tr.Join(group+"/"+string("ab"[i%2]), cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(tr.Processes(group)); n != 4 {
		t.Fatalf("%d processes in the cgroup", n)
	}
	if d := tr.dir("freezer", group+"/a"); tr.Layout != V2 && d != "" {
		if err := os.WriteFile(filepath.Join(d, "freezer.state"), []byte("FROZEN"), 0); err != nil {
			t.Fatal(err)
		}
	}
	tr.Kill(group)
	for deadline := time.Now().Add(10 * time.Second); len(tr.Processes(group)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v are left", tr.Processes(group))
		}
		<-time.After(5 * time.Millisecond)
	}
	tr.Kill(group + "/none") // not there
}
