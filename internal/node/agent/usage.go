package agent

import (
	"context"
	"errors"
	"time"

	"github.com/berthdev/berth/internal/node/cgroup"
)

// ErrNotRunning says that a container cannot be measured, or talked to: it has not started, has ended, or is not known.
var ErrNotRunning = errors.New("the container does not run")

// Usage is what a container has used from its start to the moment At.
type Usage struct {
	At time.Time
	cgroup.Usage
	Machine MachineUsage
	// Networks counts by the name of the interface in the container's namespace, without the loopback. It is nil in network modes
	// host and none. Containers of an awsvpc task share its interfaces and so their counts.
	Networks map[string]InterfaceUsage
}

// MachineUsage is what a container's CPU time is compared with.
type MachineUsage struct {
	CPU    time.Duration // of all CPUs since boot, idle time included
	CPUs   int           // online
	Memory uint64        // bytes; the bound of a container that has none of its own
}

// InterfaceUsage counts what passed a network interface, as the container sees it.
type InterfaceUsage struct {
	Received, Sent InterfaceCount
}

// InterfaceCount counts one direction.
type InterfaceCount struct {
	Bytes, Packets, Errors, Dropped uint64
}

// Usage measures the container with this runtime id. Errors: those of Runtime.Usage.
func (a *Agent) Usage(ctx context.Context, runtimeID string) (Usage, error) {
	return a.cfg.Runtime.Usage(ctx, runtimeID)
}
