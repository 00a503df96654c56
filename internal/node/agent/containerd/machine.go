package containerd

import (
	"errors"
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
	pids      int64 // processes and threads that the machine can have
	recursive bool  // mounts can be made read-only with all that is below them
	apparmor  bool  // the profile is loaded
}

// taskPids is what a task may have: wanted, but no more than a quarter of what the machine has, where that is known.
func (m machine) taskPids(wanted int64) int64 {
	if m.pids <= 0 {
		return wanted
	}
	return max(min(wanted, m.pids/4), 64)
}

// machinePids is the smaller one of the kernel's two bounds.
func machinePids() int64 {
	var least int64
	for _, name := range []string{"pid_max", "threads-max"} {
		data, err := os.ReadFile("/proc/sys/kernel/" + name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// mountsRecursive tells whether the kernel has mount_setattr (5.12).
func mountsRecursive() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM)
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
	m.pids, m.recursive = machinePids(), mountsRecursive()
	if !m.recursive {
		log.Warn("this kernel has no mount_setattr: what is mounted below a read-only volume can be written; Linux 5.12 has it")
	}
	m.apparmor = loadProfile(log)
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
