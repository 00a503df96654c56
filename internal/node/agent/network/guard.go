package network

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/plan/secgroups"
	"github.com/berthdev/berth/internal/timeouts"
)

// Security groups hold for tasks in awsvpc mode. Tasks in bridge and host mode speak from their machine, as on an EC2 instance: they are
// where the machines are members, and what reaches them is not filtered.

// guard is what the servers said last, and what of it is enforced.
type guard struct {
	told     model.Guard
	known    bool          // something was said since, or before, the start
	machines []netip.Addr  // of other machines
	news     chan struct{} // closed when more is known
}

// guardFile keeps what was said over a restart of the agent: the rules may have to be made anew before a server is reached.
func (n *Network) guardFile() string { return filepath.Join(n.c.RunDir, "groups.json") }

func (n *Network) loadGuard() {
	n.guard.news = make(chan struct{})
	data, err := os.ReadFile(n.guardFile())
	if err == nil && json.Unmarshal(data, &n.guard.told) == nil {
		n.guard.known = true
	}
}

// SetGroups has these security groups enforced from now on.
func (n *Network) SetGroups(g model.Guard) error {
	if !n.c.Groups {
		return nil
	}
	if data, err := json.Marshal(g); err == nil {
		if err := writeFile(n.guardFile(), data); err != nil {
			n.log.Warn("the security groups are not remembered over a restart", "error", err)
		}
	}
	n.mu.Lock()
	n.guard.told, n.guard.known = g, true
	close(n.guard.news)
	n.guard.news = make(chan struct{})
	n.mu.Unlock()
	return n.enforce()
}

// SetMachines says from which addresses other machines speak.
func (n *Network) SetMachines(all []netip.Addr) error {
	if !n.c.Groups {
		return nil
	}
	n.mu.Lock()
	same := slices.Equal(n.guard.machines, all)
	n.guard.machines = slices.Clone(all)
	n.mu.Unlock()
	if same {
		return nil
	}
	return n.enforce()
}

// enforce makes the rules be what is known.
func (n *Network) enforce() error {
	n.mu.Lock()
	known := n.c.Groups && n.guard.known
	n.mu.Unlock()
	if !known { // the servers may be older than security groups
		return nil
	}
	n.enforcing.Lock() // so that an older state does not replace a newer one
	defer n.enforcing.Unlock()
	return n.shield.level(secgroups.Build(n.guarded()))
}

// guarded is what the rules are made from.
func (n *Network) guarded() secgroups.Input {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := secgroups.Input{Tasks: map[netip.Addr][]string{}, Groups: n.guard.told.Groups, VPCs: n.guard.told.VPCs, Machines: append([]netip.Addr{n.gateway}, n.guard.machines...)}
	for _, r := range n.records {
		switch {
		case !r.Addr.IsValid() || r.leaving:
		case r.Mode == types.NetworkModeAwsvpc:
			in.Tasks[r.Addr] = n.guard.told.Tasks[r.TaskID].Groups
		default:
			in.Machines = append(in.Machines, r.Addr)
		}
	}
	return in
}

// awaitGroups waits until the groups and the subnet ("": one of the default VPC) of a task are known.
func (n *Network) awaitGroups(ctx context.Context, spec agent.NetworkSpec) (subnet string, err error) {
	if !n.c.Groups || spec.Mode != types.NetworkModeAwsvpc {
		return "", nil
	}
	timeout := time.NewTimer(timeouts.GroupsWait)
	defer timeout.Stop()
	for {
		n.mu.Lock()
		task, known := n.guard.told.Tasks[spec.TaskID]
		news, silent := n.guard.news, !n.guard.known
		n.mu.Unlock()
		if known {
			return task.Subnet, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return "", ctx.Err()
		case <-timeout.C:
			if silent { // the servers may be older than security groups
				return "", nil
			}
			return "", &agent.Error{Name: "ResourceInitializationError", Message: "no server has said which security groups the task has"}
		}
	}
}
