//go:build linux

package cgroup

import (
	"fmt"
	"io/fs"
	"time"
)

// Working is the memory that cannot be freed by dropping caches that nobody used lately.
func (m MemoryUsage) Working() uint64 {
	idle := m.Stat["total_inactive_file"] // v1
	if idle == 0 {
		idle = m.Stat["inactive_file"]
	}
	if idle > m.Usage {
		return 0
	}
	return m.Usage - idle
}

// Brief reads CPU time and memory alone, from two or three files: Usage reads a dozen. Errors: fs.ErrNotExist when no hierarchy has path.
func (t *Tree) Brief(path string) (cpu time.Duration, memory MemoryUsage, err error) {
	if !t.Exists(path) {
		return 0, memory, fmt.Errorf("cgroup %s: %w", path, fs.ErrNotExist)
	}
	var r reader
	if t.Layout == V2 {
		r.in(t.dir("", path))
		cpu = time.Duration(r.table("cpu.stat")["usage_usec"]) * time.Microsecond
		memory.Usage, memory.Stat = r.number("memory.current"), r.table("memory.stat")
		return cpu, memory, r.err
	}
	if r.in(t.dir("cpuacct", path)) != "" {
		cpu = time.Duration(r.number("cpuacct.usage"))
	}
	if r.in(t.dir("memory", path)) != "" {
		memory.Usage, memory.Stat = r.number("memory.usage_in_bytes"), r.table("memory.stat")
	}
	return cpu, memory, r.err
}

// Process returns one of the processes of path itself, 0 when it has none.
func (t *Tree) Process(path string) int {
	for _, d := range t.dirs(path) {
		if pids := readInts(d + "/cgroup.procs"); len(pids) > 0 {
			return int(pids[0])
		}
	}
	return 0
}
