package cgroup

import (
	"testing"
	"time"
)

func TestBrief(t *testing.T) {
	v1 := tree(t, Hybrid, "cpuacct", "memory")
	fixture(t, v1.hierarchies["cpuacct"], map[string]string{"b/t/cpuacct.usage": "3500000000\n", "b/t/c/cgroup.procs": "17\n18\n"})
	fixture(t, v1.hierarchies["memory"], map[string]string{"b/t/memory.usage_in_bytes": "1048576\n", "b/t/memory.stat": "inactive_file 1\ntotal_inactive_file 48576\n"})
	cpu, memory, err := v1.Brief("/b/t")
	if err != nil || cpu != 3500*time.Millisecond || memory.Working() != 1000000 {
		t.Errorf("v1: %v, %+v, %v", cpu, memory, err)
	}
	if pid := v1.Process("/b/t/c"); pid != 17 {
		t.Errorf("process %d", pid)
	}
	if _, _, err := v1.Brief("/b/gone"); err == nil {
		t.Error("a cgroup that is gone is measured")
	}
	if w := (MemoryUsage{Usage: 5, Stat: map[string]uint64{"inactive_file": 9}}).Working(); w != 0 {
		t.Errorf("more cache than memory: %d", w)
	}
}
