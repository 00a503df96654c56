//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Kill sends SIGKILL to every process in path and below it, once. What is frozen there is thawed, so that it can die. A missing path
// is no error; neither are processes that do not die, which Processes tells.
func (t *Tree) Kill(path string) {
	if t.Layout == V2 {
		dir := t.dir("", path)
		if write(dir, "cgroup.kill", "1") == nil { // the kernel takes those that are being made meanwhile too
			return
		}
		_ = write(dir, "cgroup.freeze", "1") // before 5.14
		t.signalAll(path)
		_ = write(dir, "cgroup.freeze", "0")
		return
	}
	if dir := t.dir("freezer", path); dir != "" {
		_ = write(dir, "freezer.state", "FROZEN") // so that none is made while the others are killed
		defer t.thaw(dir)
	}
	t.signalAll(path)
}

// thaw lets the processes of a freezer's folder and below go on.
func (t *Tree) thaw(dir string) {
	_ = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = write(p, "freezer.state", "THAWED")
		}
		return nil
	})
}

func (t *Tree) signalAll(path string) {
	for _, pid := range t.Processes(path) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if slices.Contains(t.Processes(path), pid) { // the descriptor is of this process, and not of a later one with its number
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
}
