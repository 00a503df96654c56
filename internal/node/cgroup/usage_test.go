package cgroup

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// fixture writes files below a hierarchy's folder, by the cgroup's path and the file's name.
func fixture(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		put(t, filepath.Join(root, name), data)
	}
}

func TestUsageOnV1(t *testing.T) {
	tr := tree(t, Hybrid, "cpu", "cpuacct", "memory", "pids", "blkio", "unified")
	fixture(t, tr.hierarchies["cpuacct"], map[string]string{
		"b/t/c/cpuacct.usage": "3500000000\n", "b/t/c/cpuacct.usage_percpu": "3000000000 500000000 \n",
		"b/t/c/cpuacct.stat": "user 300\nsystem 45\n",
	})
	fixture(t, tr.hierarchies["cpu"], map[string]string{"b/t/c/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 7000000\n"})
	fixture(t, tr.hierarchies["memory"], map[string]string{
		"b/t/c/memory.usage_in_bytes": "1048576\n", "b/t/c/memory.max_usage_in_bytes": "2097152\n", "b/t/c/memory.failcnt": "3\n",
		"b/t/c/memory.stat": "cache 4096\nrss 8192\nhierarchical_memory_limit 67108864\ntotal_cache 4096\n",
		"b/f/memory.stat":   "rss 1\nhierarchical_memory_limit 9223372036854771712\n",
	})
	fixture(t, tr.hierarchies["pids"], map[string]string{"b/t/c/pids.current": "5\n", "b/t/c/pids.max": "16384\n", "b/f/pids.max": "max\n"})
	fixture(t, tr.hierarchies["blkio"], map[string]string{
		"b/t/c/blkio.throttle.io_service_bytes_recursive": "254:0 Read 4096\n254:0 Write 0\n254:0 Total 4096\nTotal 4096\n",
		"b/t/c/blkio.throttle.io_serviced":                "254:0 Read 1\nTotal 1\n",
	})
	got, err := tr.Usage("/b/t/c")
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{
		CPU: CPUUsage{Total: 3500 * time.Millisecond, User: 3 * time.Second, System: 450 * time.Millisecond,
			PerCPU: []time.Duration{3 * time.Second, 500 * time.Millisecond}, Periods: 10, ThrottledPeriods: 4, Throttled: 7 * time.Millisecond},
		Memory: MemoryUsage{Usage: 1 << 20, Peak: 2 << 20, Limit: 64 << 20, Failures: 3,
			Stat: map[string]uint64{"cache": 4096, "rss": 8192, "hierarchical_memory_limit": 64 << 20, "total_cache": 4096}},
		IO: IOUsage{Bytes: []IOCount{{254, 0, "Read", 4096}, {254, 0, "Write", 0}, {254, 0, "Total", 4096}},
			Operations: []IOCount{{254, 0, "Read", 1}}},
		Pids: PidsUsage{Current: 5, Limit: 16384},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if got, err := tr.Usage("/b/f"); err != nil || got.Memory.Limit != 0 || got.Pids.Limit != 0 {
		t.Errorf("without bounds: %+v %v", got, err)
	}
	if _, err := tr.Usage("/b/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cgroup that is gone: %v", err)
	}
}

func TestUsageOnV2(t *testing.T) {
	tr := tree(t, V2, "unified")
	fixture(t, tr.hierarchies["unified"], map[string]string{
		"b/t/c/cpu.stat": "usage_usec 3500000\nuser_usec 3000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\n" +
			"throttled_usec 7000\nnr_bursts 0\n",
		"b/t/c/memory.current": "1048576\n", "b/t/c/memory.peak": "2097152\n", "b/t/c/memory.max": "max\n",
		"b/t/memory.max": "67108864\n", "b/memory.max": "134217728\n",
		"b/t/c/memory.stat":   "anon 8192\nfile 4096\npgfault 77\n",
		"b/t/c/memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n",
		"b/t/c/pids.current":  "5\n", "b/t/c/pids.max": "16384\n", "b/f/pids.max": "max\n", "b/f/memory.max": "max\n",
		"b/t/c/io.stat": "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n259:1 \ngarbage rbytes=1\n",
	})
	got, err := tr.Usage("/b/t/c")
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{
		CPU: CPUUsage{Total: 3500 * time.Millisecond, User: 3 * time.Second, System: 500 * time.Millisecond, Periods: 10,
			ThrottledPeriods: 4, Throttled: 7 * time.Millisecond},
		Memory: MemoryUsage{Usage: 1 << 20, Peak: 2 << 20, Limit: 64 << 20, Failures: 2,
			Stat: map[string]uint64{"anon": 8192, "file": 4096, "pgfault": 77}},
		IO: IOUsage{Bytes: []IOCount{{254, 0, "read", 4096}, {254, 0, "write", 8192}},
			Operations: []IOCount{{254, 0, "read", 1}, {254, 0, "write", 2}}},
		Pids: PidsUsage{Current: 5, Limit: 16384},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if got, err := tr.Usage("/b/f"); err != nil || got.Memory.Limit != 128<<20 || got.Pids.Limit != 0 {
		t.Errorf("with the bound of its parent only: %+v %v", got, err)
	}
	if _, err := tr.Usage("/b/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cgroup that is gone: %v", err)
	}
}
