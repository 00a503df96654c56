package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

// Setup implements agent.Network. What a Setup that was interrupted left is removed and made anew; what exists whole is repaired
// where another program took the table or the ports' rules away.
func (n *Network) Setup(ctx context.Context, spec agent.NetworkSpec) (agent.NetworkInfo, error) {
	if err := check(spec); err != nil {
		return agent.NetworkInfo{}, err
	}
	defer n.lock(spec.ID)()
	n.mu.Lock()
	r := n.records[spec.ID]
	n.mu.Unlock()
	if r != nil && r.Done && n.intact(r) {
		if err := n.publish(r); err != nil {
			return agent.NetworkInfo{}, err
		}
		return n.info(r), nil
	}
	if r != nil {
		if err := n.teardown(spec.ID); err != nil {
			return agent.NetworkInfo{}, err
		}
	}
	if err := removeNamespace(n.NetnsPath(spec.ID)); err != nil {
		return agent.NetworkInfo{}, err
	}
	subnet, err := n.awaitGroups(ctx, spec)
	if err != nil {
		return agent.NetworkInfo{}, err
	}
	r, err = n.begin(ctx, spec, subnet)
	if err != nil {
		return agent.NetworkInfo{}, err
	}
	err = n.enforce() // before the first packet
	if err == nil {
		err = n.make(r)
	}
	if err != nil {
		return agent.NetworkInfo{}, errors.Join(err, n.teardown(spec.ID))
	}
	return n.info(r), nil
}

func check(spec agent.NetworkSpec) error {
	bad := func(format string, args ...any) error {
		return &agent.Error{Name: "ContainerNetworkingError", Message: fmt.Sprintf(format, args...)}
	}
	switch spec.Mode {
	case types.NetworkModeAwsvpc, types.NetworkModeBridge, types.NetworkModeNone:
	default:
		return bad("the network mode %s has no namespace of its own", spec.Mode)
	}
	if spec.ID == "" || len(spec.ID) > 128 || spec.ID != cleanName(spec.ID) {
		return bad("%q cannot be the name of a network", spec.ID)
	}
	if len(spec.Ports) > 0 && spec.Mode != types.NetworkModeBridge {
		return bad("ports are published in the network mode bridge only")
	}
	for _, p := range spec.Ports {
		if p.ContainerPort < 1 || p.ContainerPort > 65535 || p.HostPort < 0 || p.HostPort > 65535 {
			return bad("the ports %d and %d cannot be mapped: ports are 1–65535", p.ContainerPort, p.HostPort)
		}
		if _, ok := protocolNumber(p.Protocol); !ok {
			return bad("the protocol %q cannot be published; use tcp or udp", p.Protocol)
		}
	}
	return nil
}

// cleanName is name without what a file's name cannot hold.
func cleanName(name string) string {
	if name == "." || name == ".." {
		return ""
	}
	return string(slices.DeleteFunc([]rune(name), func(c rune) bool { return c == '/' || c == 0 }))
}

// begin writes down what the network will be given.
func (n *Network) begin(ctx context.Context, spec agent.NetworkSpec, subnet string) (*record, error) {
	r := &record{ID: spec.ID, TaskID: spec.TaskID, Mode: spec.Mode}
	if spec.Mode != types.NetworkModeNone {
		addr, err := n.await(ctx, spec.ID, subnet)
		if err != nil {
			return nil, err
		}
		r.Addr = addr
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range spec.Ports {
		chosen, err := n.holdPort(p, r.ID)
		if err != nil {
			n.release(r)
			n.vacate(r.Addr)
			return nil, err
		}
		r.Ports = append(r.Ports, chosen)
	}
	if err := n.save(r); err != nil {
		n.release(r)
		n.vacate(r.Addr)
		return nil, fmt.Errorf("network: write down what %s is given: %w", r.ID, err)
	}
	n.records[r.ID] = r
	return r, nil
}

func (n *Network) make(r *record) error {
	var inside func(*netlink.Handle, int) error
	if r.Mode != types.NetworkModeNone {
		inside = func(in *netlink.Handle, ns int) error { return n.connect(r, in, ns) }
	}
	if err := makeNamespace(n.NetnsPath(r.ID), inside); err != nil {
		return err
	}
	if err := n.reach(r); err != nil {
		return err
	}
	if err := n.publish(r); err != nil {
		return err
	}
	n.mu.Lock()
	r.Done = true
	n.mu.Unlock()
	return n.save(r)
}

// connect makes a veth pair from this machine to eth0 inside the namespace ns, whose netlink is in.
func (n *Network) connect(r *record, in *netlink.Handle, ns int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.vethName(r.Addr), n.mtu, macOf(n.gateway)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: macOf(r.Addr),
		PeerMTU: uint32(n.mtu)}
	err := n.link.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) { // of a run that crashed
		if old, lerr := n.link.LinkByName(attrs.Name); lerr == nil {
			_ = n.link.LinkDel(old)
		}
		err = n.link.LinkAdd(veth)
	}
	if err != nil {
		return fmt.Errorf("make the veth %s: %w", attrs.Name, err)
	}
	// This end first: the kernel lets the end that comes second send at once, and the other one when it is next looked at.
	if err := n.link.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set the veth %s up: %w", attrs.Name, err)
	}
	eth0, err := in.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	return n.address(r, in, eth0)
}

// address gives the task's end of the veth its address. The gateway alone is on its link: all that it sends goes there.
func (n *Network) address(r *record, in *netlink.Handle, eth0 netlink.Link) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: r.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := in.AddrAdd(eth0, addr); err != nil {
		return fmt.Errorf("give eth0 the address %s: %w", r.Addr, err)
	}
	if err := in.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("set eth0 up: %w", err)
	}
	index, gateway := eth0.Attrs().Index, n.gateway.AsSlice()
	neighbour := &netlink.Neigh{LinkIndex: index, State: unix.NUD_PERMANENT, IP: gateway, HardwareAddr: macOf(n.gateway)}
	if err := in.NeighSet(neighbour); err != nil {
		return fmt.Errorf("tie the gateway to its hardware address: %w", err)
	}
	onLink := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}}
	if err := in.RouteAdd(onLink); err != nil {
		return fmt.Errorf("add the gateway's route: %w", err)
	}
	if err := in.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway}); err != nil {
		return fmt.Errorf("add the default route: %w", err)
	}
	return nil
}

// route leads the task's traffic, and no other, over its device: the machine asks nobody on the link for a hardware address, and
// speaks no IPv6 there. It may be repeated.
func (n *Network) route(r *record, veth netlink.Link) error {
	name := veth.Attrs().Name
	if err := setSysctls(name); err != nil {
		return err
	}
	if err := n.link.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set the veth %s up: %w", name, err)
	}
	task := &netlink.Neigh{LinkIndex: veth.Attrs().Index, State: unix.NUD_PERMANENT, IP: r.Addr.AsSlice(), HardwareAddr: macOf(r.Addr)}
	if err := n.link.NeighSet(task); err != nil {
		return fmt.Errorf("tie %s to its hardware address: %w", r.Addr, err)
	}
	route := &netlink.Route{LinkIndex: veth.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: n.gateway.AsSlice(),
		Dst: &net.IPNet{IP: r.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := n.link.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to the veth %s: %w", r.Addr, name, err)
	}
	return nil
}

// intact tells whether a network's namespace and device are there, and puts the way to the latter in order.
func (n *Network) intact(r *record) bool {
	return isNamespace(n.NetnsPath(r.ID)) && n.reach(r) == nil
}

// reach makes the way to the network's device, which is there.
func (n *Network) reach(r *record) error {
	if r.Mode == types.NetworkModeNone {
		return nil
	}
	name := n.vethName(r.Addr)
	l, err := n.link.LinkByName(name)
	if isGone(err) {
		l, err = n.adopt(r, name)
	}
	if err != nil {
		return fmt.Errorf("find the veth %s: %w", name, err)
	}
	return n.route(r, l)
}

// adopt takes the device of a task that an earlier version of Berth connected off the bridge. The task takes all addresses of the
// subnet for its neighbours, and the gateway for the bridge; this machine answers for them.
func (n *Network) adopt(r *record, name string) (netlink.Link, error) {
	sum := sha256.Sum256([]byte(r.ID))
	l, err := n.link.LinkByName(("v" + n.c.ID + hex.EncodeToString(sum[:]))[:15])
	if err != nil {
		return nil, err
	}
	err = errors.Join(n.link.LinkSetDown(l), n.link.LinkSetNoMaster(l), n.link.LinkSetName(l, name),
		n.link.LinkSetHardwareAddr(l, macOf(n.gateway)))
	if err == nil {
		err = errors.Join(os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/proxy_arp", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/neigh/"+name+"/proxy_delay", []byte("0"), 0)) // else an answer may wait for 0.8 s
	}
	if err = errors.Join(err, n.link.LinkSetUp(l)); err != nil {
		return nil, err
	}
	return n.link.LinkByName(name)
}

func (n *Network) info(r *record) agent.NetworkInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	info := agent.NetworkInfo{NetnsPath: n.NetnsPath(r.ID), Ports: slices.Clone(r.Ports)}
	if r.Addr.IsValid() {
		info.IPv4, info.Gateway, info.MAC = r.Addr.String(), n.gateway.String(), macOf(r.Addr).String()
	}
	return info
}

// Teardown implements agent.Network.
func (n *Network) Teardown(ctx context.Context, id string) error {
	if id == "" || id != cleanName(id) {
		return nil // Setup never made it
	}
	defer n.lock(id)()
	return n.teardown(id)
}

func (n *Network) teardown(id string) error {
	n.mu.Lock()
	r := n.records[id]
	n.mu.Unlock()
	if r == nil {
		return removeNamespace(n.NetnsPath(id))
	}
	n.mu.Lock()
	r.leaving = true // the rules may be made anew meanwhile
	n.mu.Unlock()
	if err := n.unpublish(r); err != nil {
		return fmt.Errorf("take back the ports of %s: %w", id, err)
	}
	if r.Addr.IsValid() {
		if l, err := n.link.LinkByName(n.vethName(r.Addr)); err == nil {
			err = n.link.LinkDel(l)
			if err != nil && !isGone(err) {
				return fmt.Errorf("remove the veth of %s: %w", id, err)
			}
		}
		n.forgetFlows(r)
	}
	if err := removeNamespace(n.NetnsPath(id)); err != nil {
		return err
	}
	if err := n.drop(id); err != nil {
		return err
	}
	return n.enforce()
}

// forgetFlows makes the kernel forget UDP flows to an address that is free now: their packets would go to who has it next.
func (n *Network) forgetFlows(r *record) {
	if !slices.ContainsFunc(r.Ports, func(p agent.PortMapping) bool { return p.Protocol == "udp" }) {
		return
	}
	filter := &netlink.ConntrackFilter{}
	if filter.AddIP(netlink.ConntrackReplySrcIP, net.IP(r.Addr.AsSlice())) != nil {
		return
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter); err != nil {
		n.log.Warn("flows to a stopped container may linger for some seconds", "address", r.Addr, "error", err)
	}
}

// List implements agent.Network.
func (n *Network) List(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]string, 0, len(n.records))
	for id := range n.records {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

var (
	metadataAddr = netip.AddrFrom4([4]byte{169, 254, 170, 2})
	loopback     = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
)
