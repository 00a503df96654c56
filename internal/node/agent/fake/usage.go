package fake

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/cgroup"
)

// The fake machine, and what a container on it uses: load is its share of one CPU, flow what it receives in a second.
const (
	cpus     = 4
	memory   = 16 << 30
	load     = 0.05
	resident = 8 << 20
	flow     = 1000
)

// Usage implements agent.Runtime. A container's use grows with the time since its start.
func (r *Runtime) Usage(ctx context.Context, id string) (agent.Usage, error) {
	if err := cmp.Or(r.take("Usage"), ctx.Err()); err != nil {
		return agent.Usage{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return agent.Usage{}, ErrClosed
	}
	c := r.containers[id]
	if c == nil || c.state.Status != agent.ContainerRunning {
		return agent.Usage{}, fmt.Errorf("measure container %s: %w", id, agent.ErrNotRunning)
	}
	u := agent.Usage{At: r.cfg.Now(), Machine: agent.MachineUsage{CPUs: cpus, Memory: memory}}
	age := u.At.Sub(c.begun)
	u.Machine.CPU = u.At.Sub(r.made) * cpus
	// Its start alone takes a millisecond.
	u.CPU = cgroup.CPUUsage{Total: time.Millisecond + time.Duration(float64(age)*load)}
	u.CPU.User = u.CPU.Total
	u.Memory = cgroup.MemoryUsage{Usage: resident, Peak: resident, Stat: map[string]uint64{"anon": resident}}
	if m := c.spec.Definition.Memory; m != nil {
		u.Memory.Limit = uint64(*m) << 20
	}
	u.Pids.Current = 1
	if path := c.spec.NetnsPath; path != "" && r.network.connects(path) {
		n := uint64(age.Seconds() * flow)
		count := agent.InterfaceCount{Bytes: n, Packets: n / 100}
		u.Networks = map[string]agent.InterfaceUsage{"eth0": {Received: count, Sent: count}}
	}
	return u, nil
}
