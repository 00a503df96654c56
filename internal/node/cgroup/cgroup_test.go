package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a Tree over plain folders that stand for the kernel's.
func tree(t *testing.T, layout Layout, hierarchies ...string) *Tree {
	t.Helper()
	root := t.TempDir()
	tr := &Tree{Layout: layout, hierarchies: map[string]string{}}
	for _, h := range hierarchies {
		dir := filepath.Join(root, h)
		if layout == V2 {
			dir = root
			put(t, filepath.Join(root, "cgroup.controllers"), "cpuset cpu io memory hugetlb pids")
			put(t, filepath.Join(root, "cgroup.subtree_control"), "")
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		tr.hierarchies[h] = dir
	}
	return tr
}

func put(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLimitsOnV2(t *testing.T) {
	tr := tree(t, V2, "unified")
	root := tr.hierarchies["unified"]
	task := filepath.Join(root, "berth-x", "t")
	for _, dir := range []string{filepath.Join(root, "berth-x"), task} { // files that the kernel makes
		for _, f := range []string{"cgroup.subtree_control", "cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max",
			"cgroup.procs"} {
			put(t, filepath.Join(dir, f), "")
		}
	}
	if err := tr.Create("/berth-x/t", Limits{CPUShares: 1024, CPUQuota: 25000, MemoryBytes: 512 << 20, Pids: 7}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpu.weight": "100", "cpu.max": "25000 100000", "memory.max": "536870912",
		"memory.swap.max": "0", "pids.max": "7"} {
		if got := get(t, filepath.Join(task, file)); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if got := get(t, filepath.Join(root, "berth-x", "cgroup.subtree_control")); !strings.HasPrefix(got, "+") {
		t.Errorf("no controller was handed down: %q", got)
	}
	put(t, filepath.Join(task, "memory.events"), "low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n")
	if n, err := tr.OOMKills("/berth-x/t"); err != nil || n != 3 {
		t.Errorf("%d OOM kills, %v", n, err)
	}
	if err := tr.Join("/berth-x/t", 42); err != nil || get(t, filepath.Join(task, "cgroup.procs")) != "42" {
		t.Error(err)
	}
}

func TestLimitsOnV1(t *testing.T) {
	tr := tree(t, Hybrid, "cpu", "memory", "pids", "unified", "name=systemd")
	task := func(c string) string { return filepath.Join(tr.hierarchies[c], "berth-x", "t") }
	for c, files := range map[string][]string{"cpu": {"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"},
		"memory": {"memory.limit_in_bytes"}, "pids": {"pids.max"}} {
		for _, f := range files {
			put(t, filepath.Join(task(c), f), "")
		}
	}
	if err := tr.Create("/berth-x/t", Limits{CPUShares: 256, CPUQuota: 25000, MemoryBytes: 1 << 20, Pids: 7}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{task("cpu") + "/cpu.shares": "256", task("cpu") + "/cpu.cfs_quota_us": "25000",
		task("memory") + "/memory.limit_in_bytes": "1048576", task("pids") + "/pids.max": "7"} {
		if got := get(t, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	put(t, filepath.Join(task("memory"), "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
	if n, err := tr.OOMKills("/berth-x/t"); err != nil || n != 1 {
		t.Errorf("%d OOM kills, %v", n, err)
	}
	put(t, filepath.Join(task("cpu"), "a", "cpu.shares"), "300\n")
	put(t, filepath.Join(task("cpu"), "b", "cpu.shares"), "200\n")
	if all, but := tr.Shares("/berth-x/t", ""), tr.Shares("/berth-x/t", "a"); all != 500 || but != 200 {
		t.Errorf("shares %d, without a %d", all, but)
	}
}

func TestLimitThatTheMachineLacks(t *testing.T) {
	tr := tree(t, V1, "memory")
	if err := tr.Create("/x", Limits{Pids: 1}); err == nil || !strings.Contains(err.Error(), "no pids controller") {
		t.Errorf("%v, want an error that names the controller", err)
	}
}

func TestMountinfo(t *testing.T) {
	tr := &Tree{hierarchies: map[string]string{}}
	for _, line := range []string{
		"30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw",
		"31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
		"32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd",
		"33 24 0:29 / /elsewhere/memory rw - cgroup cgroup rw,memory",
		"34 24 0:30 / /sys/fs/cgroup/memory rw shared:4 master:1 - cgroup cgroup rw,memory",
		"garbage", "35 24 0:31 / /sys/fs/cgroup/x rw - tmpfs",
	} {
		tr.addMount(line)
	}
	want := map[string]string{"unified": "/sys/fs/cgroup/unified", "cpu": "/sys/fs/cgroup/cpu,cpuacct",
		"cpuacct":      "/sys/fs/cgroup/cpu,cpuacct",
		"name=systemd": "/sys/fs/cgroup/systemd", "memory": "/sys/fs/cgroup/memory"}
	for k, v := range want {
		if tr.hierarchies[k] != v {
			t.Errorf("%s at %q, want %q", k, tr.hierarchies[k], v)
		}
	}
	if len(tr.hierarchies) != len(want) {
		t.Errorf("%v", tr.hierarchies)
	}
	if got := tr.Controllers(); !slices.Equal(got, []string{"cpu", "cpuacct", "memory"}) {
		t.Errorf("controllers %v", got)
	}
}

func TestRemove(t *testing.T) {
	tr := tree(t, V1, "cpu", "memory")
	for _, h := range []string{"cpu", "memory"} {
		if err := os.MkdirAll(filepath.Join(tr.hierarchies[h], "a", "b", "c"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := tr.Children("/a"); !slices.Equal(got, []string{"b"}) || !tr.Exists("/a/b/c") {
		t.Errorf("children %v", got)
	}
	for range 2 {
		if err := tr.Remove("/a"); err != nil {
			t.Fatal(err)
		}
	}
	if tr.Exists("/a") {
		t.Error("it is still there")
	}
	for _, root := range []string{"", "/", "/.", "a/.."} {
		if err := tr.Remove(root); err == nil {
			t.Errorf("removing %q was not refused", root)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[int64]int64{2: 1, 1024: 100, 262144: 10000, 0: 1, 1 << 40: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("%d shares weigh %d, want %d", shares, got, want)
		}
	}
	for _, shares := range []int64{2, 99, 256, 512, 1024, 4096, 262144} {
		if got := sharesOf(Weight(shares)); got < shares*9/10-1 || got > shares*11/10+1 {
			t.Errorf("%d shares become %d there and back", shares, got)
		}
	}
}
