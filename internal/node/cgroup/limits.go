//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Limits bound a cgroup. A zero field leaves the kernel's default.
type Limits struct {
	CPUShares   int64 // relative weight, in v1's scale: 2–262144, 1024 is the default
	CPUQuota    int64 // microseconds of CPU time in each CPUPeriod
	MemoryBytes int64 // hard
	Pids        int64
}

// CPUPeriod is the period of CPU quotas in microseconds.
const CPUPeriod = 100_000

// limited are the controllers that Create makes path in.
var limited = []string{"cpu", "memory", "pids"}

// Create makes path with its parents and sets its limits. It may be repeated.
// A limit whose controller the machine lacks is an error.
func (t *Tree) Create(path string, l Limits) error {
	if t.Layout == V2 {
		if err := t.createV2(path); err != nil {
			return err
		}
	} else {
		for _, c := range limited {
			if d := t.dir(c, path); d != "" {
				if err := os.MkdirAll(d, 0o755); err != nil {
					return fmt.Errorf("make cgroup: %w", err)
				}
			}
		}
	}
	return t.limit(path, l)
}

// createV2 makes path and hands the controllers down to it, as far as the machine has them.
func (t *Tree) createV2(path string) error {
	dir := t.hierarchies["unified"]
	wanted := slices.DeleteFunc(t.Controllers(), func(c string) bool {
		return !slices.Contains([]string{"cpu", "memory", "pids", "io", "cpuset"}, c)
	})
	for _, name := range strings.Split(strings.Trim(filepath.Clean("/"+path), "/"), "/") {
		handDown(dir, wanted, dir == t.hierarchies["unified"], write)
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

func (t *Tree) limit(path string, l Limits) error {
	type setting struct{ controller, file, value string }
	var all []setting
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	v2 := t.Layout == V2
	if l.CPUShares > 0 {
		if v2 {
			all = append(all, setting{"cpu", "cpu.weight", n(Weight(l.CPUShares))})
		} else {
			all = append(all, setting{"cpu", "cpu.shares", n(l.CPUShares)})
		}
	}
	if l.CPUQuota > 0 {
		if v2 {
			all = append(all, setting{"cpu", "cpu.max", n(l.CPUQuota) + " " + n(CPUPeriod)})
		} else {
			all = append(all, setting{"cpu", "cpu.cfs_period_us", n(CPUPeriod)}, setting{"cpu", "cpu.cfs_quota_us", n(l.CPUQuota)})
		}
	}
	if l.MemoryBytes > 0 {
		file := "memory.limit_in_bytes"
		if v2 {
			file = "memory.max"
		}
		all = append(all, setting{"memory", file, n(l.MemoryBytes)})
	}
	if l.Pids > 0 {
		all = append(all, setting{"pids", "pids.max", n(l.Pids)})
	}
	for _, s := range all {
		d := t.dir(s.controller, path)
		if d == "" {
			return fmt.Errorf("this machine's kernel has no %s controller; enable it (see berth doctor)", s.controller)
		}
		if err := write(d, s.file, s.value); err != nil {
			return fmt.Errorf("limit cgroup %s: %w", path, err)
		}
	}
	t.noSwap(path, l)
	return nil
}

// noSwap keeps a bounded cgroup out of swap where the kernel accounts for it, so that the bound is one on memory.
func (t *Tree) noSwap(path string, l Limits) {
	if l.MemoryBytes <= 0 {
		return
	}
	if t.Layout == V2 {
		_ = write(t.dir("memory", path), "memory.swap.max", "0")
		return
	}
	_ = write(t.dir("memory", path), "memory.memsw.limit_in_bytes", strconv.FormatInt(l.MemoryBytes, 10))
}

// Weight is v2's cpu.weight (1–10000, 100 is the default) for v1's cpu.shares (2–262144, 1024 is the default), converted as runc
// does it for containers.
func Weight(shares int64) int64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return int64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// sharesOf is the inverse of Weight.
func sharesOf(weight int64) int64 {
	weight = min(max(weight, 1), 10000)
	l := (math.Sqrt(125*125+4*612*(math.Log10(float64(weight))+7.0/34)) - 125) / 2
	return int64(math.Round(math.Pow(2, l)))
}

// Shares returns the weights of the cgroups directly below path in v1's scale, but for the one named except.
func (t *Tree) Shares(path, except string) int64 {
	var sum int64
	d := t.dir("cpu", path)
	if d == "" {
		return 0
	}
	entries, _ := os.ReadDir(d)
	for _, e := range entries {
		if !e.IsDir() || e.Name() == except {
			continue
		}
		file := "cpu.shares"
		if t.Layout == V2 {
			file = "cpu.weight"
		}
		for _, v := range readInts(filepath.Join(d, e.Name(), file)) {
			if t.Layout == V2 {
				v = sharesOf(v)
			}
			sum += v
		}
	}
	return sum
}

// Join moves a process into path, which is made when it is missing. Its cpuset, devices and I/O stay those of its caller.
func (t *Tree) Join(path string, pid int) error {
	if err := t.Create(path, Limits{}); err != nil {
		return err
	}
	in := []string{"unified"}
	if t.Layout != V2 {
		in = []string{"name=systemd", "unified", "cpu", "memory", "pids", "freezer"}
	}
	var errs []error
	for _, c := range in {
		d := t.dir(c, path)
		if d == "" {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := write(d, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// OOMKills returns how many processes of path the kernel has killed for want of memory. On v2 those below path count too.
func (t *Tree) OOMKills(path string) (int64, error) {
	file := "memory.oom_control"
	if t.Layout == V2 {
		file = "memory.events"
	}
	d := t.dir("memory", path)
	if d == "" {
		return 0, errors.New("no memory controller")
	}
	data, err := os.ReadFile(filepath.Join(d, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == "oom_kill" {
			return strconv.ParseInt(v, 10, 64)
		}
	}
	return 0, nil
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readInts(file string) []int64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var all []int64
	for _, f := range strings.Fields(string(data)) {
		if n, err := strconv.ParseInt(f, 10, 64); err == nil {
			all = append(all, n)
		}
	}
	return all
}
