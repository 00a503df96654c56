package containerd

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/berthdev/berth/internal/node/agent"
)

// TaskUse implements agent.Gauge: it reads the task's cgroup and the counters of its network namespaces, and asks neither containerd nor a
// shim.
func (r *Runtime) TaskUse(taskID string, containers []string) (use agent.TaskUse, err error) {
	cpu, memory, err := r.cgroup.Brief(r.taskCgroup(taskID))
	if err != nil {
		return use, err
	}
	use.CPU, use.Memory = cpu, memory.Working()
	seen := map[string]bool{}
	for _, id := range containers {
		pid := r.cgroup.Process(r.containerCgroup(taskID, id))
		if pid == 0 { // on v2 its processes are in the leaf
			pid = r.cgroup.Process(filepath.Join(r.containerCgroup(taskID, id), "init"))
		}
		if pid == 0 {
			continue
		}
		namespace, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
		if err != nil || seen[namespace] {
			continue
		}
		seen[namespace] = true
		networks, err := networkUsage("/proc", uint32(pid))
		if err != nil {
			continue // it has just ended
		}
		for _, n := range networks {
			use.Received += n.Received.Bytes
			use.Sent += n.Sent.Bytes
		}
	}
	return use, nil
}
