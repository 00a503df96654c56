package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// In a container the root holds processes: they are moved to a leaf, also the one that was made meanwhile, and controllers are handed
// down. `make test-cgroup2` shows the same with the kernel's own EBUSY.
func TestRootThatHoldsProcesses(t *testing.T) {
	root := t.TempDir()
	procs := filepath.Join(root, "cgroup.procs")
	put(t, procs, "1\n42\n")
	inRoot, inLeaf := []string{"1", "42"}, []string(nil)
	var on []string
	handDown(root, []string{"cpu", "memory"}, true, func(dir, file, value string) error {
		switch {
		case value == "+cpu" && len(inRoot) > 0:
			t.Fatal("the root became one of threads") // the kernel takes it, and then refuses processes in children
		case file == "cgroup.subtree_control" && len(inRoot) > 0:
			return fmt.Errorf("write: %w", unix.EBUSY)
		case file == "cgroup.subtree_control":
			on = append(on, value)
		case dir == filepath.Join(root, leaf) && file == "cgroup.procs":
			if value == "42" { // it forked before it was moved
				inRoot = append(inRoot, "43")
			}
			inRoot = slices.DeleteFunc(inRoot, func(p string) bool { return p == value })
			inLeaf = append(inLeaf, value)
			text := ""
			for _, p := range inRoot {
				text += p + "\n"
			}
			put(t, procs, text)
		default:
			t.Errorf("wrote %s to %s of %s", value, file, dir)
		}
		return nil
	})
	if !slices.Equal(on, []string{"+memory", "+cpu"}) || !slices.Equal(inLeaf, []string{"1", "42", "43"}) {
		t.Errorf("handed down %v with %v in the leaf", on, inLeaf)
	}
}
