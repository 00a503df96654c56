package containerd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

// Usage implements agent.Runtime: it reads the container's cgroup and the counters of its network namespace.
func (r *Runtime) Usage(ctx context.Context, id string) (agent.Usage, error) {
	ctx = r.context(ctx)
	known, err := r.labelsOf(ctx, id)
	if errdefs.IsNotFound(err) {
		return agent.Usage{}, fmt.Errorf("measure container %s: %w", id, agent.ErrNotRunning)
	}
	if err != nil {
		return agent.Usage{}, fmt.Errorf("find container %s: %w", id, err)
	}
	process, err := r.process(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && !runs(process) {
		return agent.Usage{}, fmt.Errorf("measure container %s: %w", id, agent.ErrNotRunning)
	}
	if err != nil {
		return agent.Usage{}, fmt.Errorf("find the process of container %s: %w", id, err)
	}
	u := agent.Usage{At: time.Now()}
	if u.Usage, err = r.cgroup.Usage(r.containerCgroup(known.taskID, id)); err == nil {
		u.Networks, err = networkUsage("/proc", process.Pid)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // it has just ended
		return agent.Usage{}, fmt.Errorf("measure container %s: %w", id, agent.ErrNotRunning)
	}
	if err == nil {
		u.Machine, err = machineUsage("/proc")
	}
	if err != nil {
		return agent.Usage{}, fmt.Errorf("measure container %s: %w", id, err)
	}
	return u, nil
}

// networkUsage reads the counters of the network namespace of a process, nil when it is the machine's own. proc is /proc.
func networkUsage(proc string, pid uint32) (map[string]agent.InterfaceUsage, error) {
	dir := filepath.Join(proc, strconv.FormatUint(uint64(pid), 10))
	own, err := os.Readlink(filepath.Join(proc, "self/ns/net"))
	if err != nil {
		return nil, fmt.Errorf("find the machine's network namespace: %w", err)
	}
	theirs, err := os.Readlink(filepath.Join(dir, "ns/net"))
	if err != nil || theirs == own {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, "net/dev"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readNetDev(f)
}

// readNetDev reads /proc/<pid>/net/dev: two lines of headings, then "<name>: " and 8 counters each of what was received and sent.
func readNetDev(from io.Reader) (map[string]agent.InterfaceUsage, error) {
	var all map[string]agent.InterfaceUsage
	for scan := bufio.NewScanner(from); ; {
		if !scan.Scan() {
			return all, scan.Err()
		}
		name, rest, ok := strings.Cut(strings.TrimSpace(scan.Text()), ":")
		f := strings.Fields(rest)
		if !ok || len(f) < 12 || name == "lo" {
			continue
		}
		var n [12]uint64
		for i := range n {
			n[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		if all == nil {
			all = map[string]agent.InterfaceUsage{}
		}
		all[name] = agent.InterfaceUsage{
			Received: agent.InterfaceCount{Bytes: n[0], Packets: n[1], Errors: n[2], Dropped: n[3]},
			Sent:     agent.InterfaceCount{Bytes: n[8], Packets: n[9], Errors: n[10], Dropped: n[11]},
		}
	}
}

// machineUsage reads the machine's CPU time and memory. proc is /proc.
func machineUsage(proc string) (agent.MachineUsage, error) {
	var m agent.MachineUsage
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(stat)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			m.CPUs++
			continue
		}
		// user, nice, system, idle, iowait, irq and softirq, as Docker adds them; the time of guests is in that of user.
		for _, s := range f[1:min(len(f), 8)] {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return m, fmt.Errorf("read /proc/stat: %w", err)
			}
			m.CPU += time.Duration(n) * (time.Second / 100)
		}
	}
	info, err := os.ReadFile(filepath.Join(proc, "meminfo"))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(f[1], 10, 54)
			if err != nil {
				return m, fmt.Errorf("read /proc/meminfo: %w", err)
			}
			m.Memory = kib << 10
		}
	}
	return m, nil
}
