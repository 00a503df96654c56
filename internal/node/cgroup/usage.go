//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what the processes of a cgroup, and of those below it, have used since the cgroup was made. What the machine does not
// count is zero.
type Usage struct {
	CPU    CPUUsage
	Memory MemoryUsage
	IO     IOUsage
	Pids   PidsUsage
}

// CPUUsage is CPU time, and how often a quota held processes back.
type CPUUsage struct {
	Total, User, System time.Duration
	PerCPU              []time.Duration // nil on v2, which does not count it
	Periods             uint64          // in which a quota was in force
	ThrottledPeriods    uint64          // of them, in which it was used up
	Throttled           time.Duration
}

// MemoryUsage is memory in bytes, caches included.
type MemoryUsage struct {
	Usage    uint64
	Peak     uint64            // 0 where the kernel does not keep it
	Limit    uint64            // the tightest on the way up to the root; 0: none
	Failures uint64            // how often the limit was in the way: v1 counts every hit, v2 those that ended in an OOM kill
	Stat     map[string]uint64 // memory.stat, as the kernel names its fields
}

// IOUsage is what went to and came from block devices.
type IOUsage struct {
	Bytes, Operations []IOCount
}

// IOCount is one kind of operation on one device. Op is as Docker's clients know it: Read, Write, Sync, Async, Discard and Total on
// v1, read and write on v2.
type IOCount struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// PidsUsage counts processes and threads.
type PidsUsage struct {
	Current, Limit uint64 // Limit 0: none
}

// Usage reads what path has used. Errors: fs.ErrNotExist when no hierarchy has it.
func (t *Tree) Usage(path string) (Usage, error) {
	if !t.Exists(path) {
		return Usage{}, fmt.Errorf("cgroup %s: %w", path, fs.ErrNotExist)
	}
	if t.Layout == V2 {
		return t.usageV2(path)
	}
	return t.usageV1(path)
}

func (t *Tree) usageV1(path string) (Usage, error) {
	var u Usage
	var r reader
	if r.in(t.dir("cpuacct", path)) != "" {
		u.CPU.Total = time.Duration(r.number("cpuacct.usage"))
		for _, n := range r.numbers("cpuacct.usage_percpu") {
			u.CPU.PerCPU = append(u.CPU.PerCPU, time.Duration(n))
		}
		stat := r.table("cpuacct.stat")
		u.CPU.User, u.CPU.System = ticks(stat["user"]), ticks(stat["system"])
	}
	if r.in(t.dir("cpu", path)) != "" {
		stat := r.table("cpu.stat")
		u.CPU.Periods, u.CPU.ThrottledPeriods = stat["nr_periods"], stat["nr_throttled"]
		u.CPU.Throttled = time.Duration(stat["throttled_time"])
	}
	if r.in(t.dir("memory", path)) != "" {
		m := &u.Memory
		m.Usage, m.Peak, m.Failures = r.number("memory.usage_in_bytes"), r.number("memory.max_usage_in_bytes"), r.number("memory.failcnt")
		m.Stat = r.table("memory.stat")
		if m.Limit = m.Stat["hierarchical_memory_limit"]; m.Limit >= unlimitedV1 {
			m.Limit = 0
		}
	}
	if r.in(t.dir("pids", path)) != "" {
		u.Pids = PidsUsage{Current: r.number("pids.current"), Limit: r.number("pids.max")}
	}
	if r.in(t.dir("blkio", path)) != "" {
		u.IO.Bytes = r.blkio("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes")
		u.IO.Operations = r.blkio("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced")
	}
	return u, r.err
}

// unlimitedV1 is below what v1 writes for no limit: the greatest int64, rounded down to a page.
const unlimitedV1 = 1 << 62

func (t *Tree) usageV2(path string) (Usage, error) {
	var u Usage
	var r reader
	r.in(t.dir("", path))
	stat := r.table("cpu.stat")
	us := func(name string) time.Duration { return time.Duration(stat[name]) * time.Microsecond }
	u.CPU = CPUUsage{Total: us("usage_usec"), User: us("user_usec"), System: us("system_usec"), Periods: stat["nr_periods"],
		ThrottledPeriods: stat["nr_throttled"], Throttled: us("throttled_usec")}
	u.Memory = MemoryUsage{Usage: r.number("memory.current"), Peak: r.number("memory.peak"),
		Failures: r.table("memory.events")["oom"], Stat: r.table("memory.stat")}
	u.Pids = PidsUsage{Current: r.number("pids.current"), Limit: r.number("pids.max")}
	u.IO = r.ioStat()
	for up := filepath.Clean("/" + path); up != "/"; up = filepath.Dir(up) {
		r.in(t.dir("", up))
		if n := r.number("memory.max"); n > 0 && (u.Memory.Limit == 0 || n < u.Memory.Limit) {
			u.Memory.Limit = n
		}
	}
	return u, r.err
}

// ticks is a time in the unit of the kernel's interfaces for users, USER_HZ, which is 100 on every architecture Go runs on.
func ticks(n uint64) time.Duration { return time.Duration(n) * (time.Second / 100) }

// reader reads a cgroup's files. A file that is not there, because the kernel lacks it or the cgroup is being removed, has nothing
// in it; the first other error is kept in err.
type reader struct {
	dir string
	err error
}

// in has r read in dir from here on.
func (r *reader) in(dir string) string {
	r.dir = dir
	return dir
}

func (r *reader) text(file string) string {
	data, err := os.ReadFile(filepath.Join(r.dir, file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) && r.err == nil {
		r.err = fmt.Errorf("read cgroup: %w", err)
	}
	return string(data)
}

// number reads a file of one number; "max", which says that there is no bound, is 0.
func (r *reader) number(file string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(r.text(file)), 10, 64)
	return n
}

func (r *reader) numbers(file string) []uint64 {
	var all []uint64
	for _, f := range strings.Fields(r.text(file)) {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

// table reads lines of "<name> <number>".
func (r *reader) table(file string) map[string]uint64 {
	all := map[string]uint64{}
	for line := range strings.Lines(r.text(file)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			all[name] = n
		}
	}
	return all
}

// blkio reads lines of "<major>:<minor> <Op> <number>" from the first file that is there.
func (r *reader) blkio(files ...string) []IOCount {
	for _, file := range files {
		text := r.text(file)
		if text == "" {
			continue
		}
		var all []IOCount
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) != 3 { // the last line is a total of all devices
				continue
			}
			if c, ok := ioCount(f[0], f[1], f[2]); ok {
				all = append(all, c)
			}
		}
		return all
	}
	return nil
}

// ioStat reads io.stat: "<major>:<minor> rbytes=<n> wbytes=<n> rios=<n> wios=<n> …".
func (r *reader) ioStat() IOUsage {
	var u IOUsage
	for line := range strings.Lines(r.text("io.stat")) {
		f := strings.Fields(line)
		for i := 1; i < len(f); i++ {
			name, value, _ := strings.Cut(f[i], "=")
			into, op := &u.Bytes, "read"
			switch name {
			case "rbytes":
			case "wbytes":
				op = "write"
			case "rios":
				into = &u.Operations
			case "wios":
				into, op = &u.Operations, "write"
			default:
				continue
			}
			if c, ok := ioCount(f[0], op, value); ok {
				*into = append(*into, c)
			}
		}
	}
	return u
}

func ioCount(device, op, value string) (IOCount, bool) {
	major, minor, ok := strings.Cut(device, ":")
	var errs [3]error
	c := IOCount{Op: op}
	c.Major, errs[0] = strconv.ParseUint(major, 10, 64)
	c.Minor, errs[1] = strconv.ParseUint(minor, 10, 64)
	c.Value, errs[2] = strconv.ParseUint(value, 10, 64)
	return c, ok && errs == [3]error{}
}
