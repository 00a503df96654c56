//go:build linux

// Package cgroup makes, limits and removes control groups by writing the kernel's files, on cgroup v1, hybrid and v2 alike.
// runc makes the cgroups of containers; this package makes their parents, which carry what a task as a whole may use.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/timeouts"
)

// Layout is how the machine mounts its cgroups.
type Layout string

// The layouts. In Hybrid the controllers are on v1 hierarchies and an empty v2 hierarchy is mounted beside them.
const (
	V1     Layout = "v1"
	Hybrid Layout = "hybrid"
	V2     Layout = "v2"
)

// Tree is the machine's cgroups.
type Tree struct {
	Layout Layout
	// hierarchies maps a controller to the folder its hierarchy is mounted at; on v1 also "name=systemd", and "unified" in a
	// hybrid layout. On v2 the only entry is "unified".
	hierarchies map[string]string
}

// Detect reads the machine's layout.
func Detect() (*Tree, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		return nil, fmt.Errorf("no cgroups at /sys/fs/cgroup: %w", err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return &Tree{Layout: V2, hierarchies: map[string]string{"unified": "/sys/fs/cgroup"}}, nil
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &Tree{Layout: V1, hierarchies: map[string]string{}}
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		t.addMount(scan.Text())
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	if t.hierarchies["unified"] != "" {
		t.Layout = Hybrid
	}
	if len(t.hierarchies) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted under /sys/fs/cgroup")
	}
	return t, nil
}

var controllers = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls",
	"net_prio", "perf_event", "rdma", "misc", "name=systemd"}

// addMount notes a line of mountinfo: "<id> <parent> <dev> <root> <mount point> <options> … - <type> <source> <super options>".
func (t *Tree) addMount(line string) {
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Fields(before), strings.Fields(after)
	if !ok || len(head) < 5 || len(tail) < 3 || !strings.HasPrefix(head[4], "/sys/fs/cgroup/") {
		return
	}
	switch tail[0] {
	case "cgroup2":
		t.hierarchies["unified"] = head[4]
	case "cgroup":
		for _, opt := range strings.Split(tail[2], ",") {
			if slices.Contains(controllers, opt) && t.hierarchies[opt] == "" {
				t.hierarchies[opt] = head[4]
			}
		}
	}
}

// Controllers returns the resource controllers that can be used, sorted.
func (t *Tree) Controllers() []string {
	var found []string
	if t.Layout == V2 {
		data, _ := os.ReadFile(filepath.Join(t.hierarchies["unified"], "cgroup.controllers"))
		found = strings.Fields(string(data))
	} else {
		for c := range t.hierarchies {
			if c != "unified" && c != "name=systemd" {
				found = append(found, c)
			}
		}
	}
	slices.Sort(found)
	return found
}

// dir is where path is in the hierarchy of a controller, "" when the machine lacks it.
func (t *Tree) dir(controller, path string) string {
	if t.Layout == V2 {
		controller = "unified"
	}
	mount := t.hierarchies[controller]
	if mount == "" {
		return ""
	}
	return filepath.Join(mount, path)
}

// dirs returns path's folder in each hierarchy.
func (t *Tree) dirs(path string) []string {
	var all []string
	for _, mount := range t.hierarchies {
		if d := filepath.Join(mount, path); !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return all
}

// Exists tells whether path exists in any hierarchy.
func (t *Tree) Exists(path string) bool {
	return slices.ContainsFunc(t.dirs(path), func(d string) bool { _, err := os.Stat(d); return err == nil })
}

// Children returns the names of the cgroups directly below path, in any hierarchy, sorted.
func (t *Tree) Children(path string) []string {
	var names []string
	for _, d := range t.dirs(path) {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return names
}

// Remove removes path and all cgroups below it, which must hold no process. A missing path is no error.
func (t *Tree) Remove(path string) error {
	if strings.Trim(filepath.Clean("/"+path), "/") == "" {
		return errors.New("refusing to remove the root cgroup")
	}
	var errs []error
	for _, d := range t.dirs(path) {
		if err := removeTree(d); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeTree removes cgroup folders from the leaves up: their files cannot be unlinked, and need not be.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// A process that was just killed may be in its cgroup a moment longer.
	for deadline := time.Now().Add(timeouts.CgroupBusy); ; {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Processes returns the processes in path and below it.
func (t *Tree) Processes(path string) []int {
	var pids []int
	for _, d := range t.dirs(path) {
		_ = filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil
			}
			for _, pid := range readInts(filepath.Join(p, "cgroup.procs")) {
				if !slices.Contains(pids, int(pid)) {
					pids = append(pids, int(pid))
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return pids
}
