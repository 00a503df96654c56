package fake

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
)

// The host ports that are chosen for a mapping without one.
const (
	firstPort = 49153
	lastPort  = 65535
)

// Network gives out addresses and host ports, and connects nothing.
type Network struct {
	faults
	subnet netip.Prefix

	mu       sync.Mutex
	networks map[string]*network
	next     netip.Addr
}

type network struct {
	spec agent.NetworkSpec
	info agent.NetworkInfo
}

// Setup implements agent.Network.
func (n *Network) Setup(ctx context.Context, spec agent.NetworkSpec) (agent.NetworkInfo, error) {
	if err := n.take("Setup"); err != nil {
		return agent.NetworkInfo{}, err
	}
	if err := ctx.Err(); err != nil {
		return agent.NetworkInfo{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.networks[spec.ID]; old != nil {
		return clone(old.info), nil
	}
	info := agent.NetworkInfo{NetnsPath: "/run/fake/netns/" + spec.ID}
	if spec.Mode != types.NetworkModeNone {
		addr, err := n.address()
		if err != nil {
			return agent.NetworkInfo{}, err
		}
		b := addr.As4()
		info.IPv4, info.Gateway = addr.String(), n.subnet.Masked().Addr().Next().String()
		info.MAC = fmt.Sprintf("02:be:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
	}
	for _, p := range spec.Ports {
		port, err := n.publish(p)
		if err != nil {
			delete(n.networks, spec.ID)
			return agent.NetworkInfo{}, err
		}
		p.HostPort = port
		info.Ports = append(info.Ports, p)
		// Known to publish before the next of the same spec.
		n.networks[spec.ID] = &network{spec: spec, info: info}
	}
	n.networks[spec.ID] = &network{spec: spec, info: info}
	return clone(info), nil
}

func clone(i agent.NetworkInfo) agent.NetworkInfo {
	i.Ports = slices.Clone(i.Ports)
	return i
}

// address returns a free address of the subnet; an address is used again as late as possible.
func (n *Network) address() (netip.Addr, error) {
	first := n.subnet.Masked().Addr().Next().Next()
	used := map[string]bool{}
	for _, net := range n.networks {
		used[net.info.IPv4] = true
	}
	for range len(used) + 2 {
		addr := n.next
		if !n.subnet.Contains(addr) || !n.subnet.Contains(addr.Next()) { // the last one is the broadcast address
			addr = first
		}
		n.next = addr.Next()
		if !used[addr.String()] {
			return addr, nil
		}
	}
	return netip.Addr{}, &agent.Error{Name: "ContainerNetworkingError", Message: "no address is left in " + n.subnet.String()}
}

// publish takes the host port of p, or a free one.
func (n *Network) publish(p agent.PortMapping) (int32, error) {
	used := map[int32]string{}
	for id, net := range n.networks {
		for _, q := range net.info.Ports {
			if q.Protocol == p.Protocol {
				used[q.HostPort] = id
			}
		}
	}
	if p.HostPort != 0 {
		if by, taken := used[p.HostPort]; taken {
			return 0, &agent.Error{Name: "ContainerNetworkingError", Message: fmt.Sprintf("host port %d is taken by %s", p.HostPort, by)}
		}
		return p.HostPort, nil
	}
	for port := int32(firstPort); port <= lastPort; port++ {
		if _, taken := used[port]; !taken {
			return port, nil
		}
	}
	return 0, &agent.Error{Name: "ContainerNetworkingError", Message: "no host port is left"}
}

// Teardown implements agent.Network.
func (n *Network) Teardown(ctx context.Context, id string) error {
	if err := n.take("Teardown"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.networks, id)
	return ctx.Err()
}

// List implements agent.Network. The ids are sorted.
func (n *Network) List(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.networks)), nil
}

// connects tells whether the namespace at path has an interface.
func (n *Network) connects(path string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, net := range n.networks {
		if net.info.NetnsPath == path {
			return net.info.IPv4 != ""
		}
	}
	return false
}
