package containerd

import (
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/cgroup"
)

// machine is what this machine allows, asked once.
type machine struct {
	bounding  uint64 // capabilities that a container can be given at most, by bit
	swap      bool   // swap can be limited
	resources bool   // CAP_SYS_RESOURCE: hard limits can be raised
	nofile    uint64 // hard limit of this process
	bootID    string
}

func inspectMachine(log *slog.Logger, tree *cgroup.Tree) machine {
	m := machine{bounding: boundingSet(), bootID: "unknown"}
	m.resources = m.bounding&(1<<unix.CAP_SYS_RESOURCE) != 0
	if !m.resources {
		log.Warn("CAP_SYS_RESOURCE is missing: ulimits above this process's own hard limits are lowered to them")
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		m.nofile = limit.Max
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		m.bootID = strings.TrimSpace(string(id))
	}
	m.swap = tree.Layout == cgroup.V2
	if !m.swap {
		_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
		m.swap = err == nil
	}
	return m
}

// boundingSet is this process's, which containerd shares: CapBnd of /proc/self/status.
func boundingSet() uint64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return n
		}
	}
	return 0
}
