package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/agent"
	"github.com/berthdev/berth/internal/model"
)

// candidates are the subnets that are tried in turn: that of AWS's default VPC, then 10.88.0.0/16 and those above it.
func candidates() []netip.Prefix {
	all := []netip.Prefix{netip.MustParsePrefix("172.31.0.0/16")}
	for i := 88; i < 128; i++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
	}
	return all
}

// chooseSubnet returns the subnet of an earlier start, the one that was asked for, or the first that is free.
func chooseSubnet(c Config) (netip.Prefix, error) {
	file := filepath.Join(c.StateDir, "subnet")
	if data, err := os.ReadFile(file); err == nil {
		if p, err := netip.ParsePrefix(string(data)); err == nil && (!c.Subnet.IsValid() || p == c.Subnet) {
			return p, nil
		}
	}
	p := c.Subnet
	if !p.IsValid() {
		used, err := usedPrefixes()
		if err != nil {
			return p, fmt.Errorf("list this machine's routes: %w", err)
		}
		for _, candidate := range candidates() {
			if !overlaps(used, candidate) {
				p = candidate
				break
			}
		}
	}
	if !p.IsValid() {
		return p, errors.New("every subnet from 10.88.0.0/16 to 10.127.0.0/16 is in use on this machine: no address is left for tasks")
	}
	return p, os.WriteFile(file, []byte(p.String()), 0o600)
}

// usedPrefixes are the destinations of all routes but the default ones.
func usedPrefixes() (used []netip.Prefix, err error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, err := netip.ParsePrefix(r.Dst.String()); err == nil && p.Bits() > 0 {
			used = append(used, p)
		}
	}
	return used, nil
}

func overlaps(used []netip.Prefix, p netip.Prefix) bool {
	for _, u := range used {
		if u.Overlaps(p) {
			return true
		}
	}
	return false
}

// freeAddress returns the next address that nobody has. It needs the lock.
func (n *Network) freeAddress() (netip.Addr, error) {
	taken := map[netip.Addr]bool{n.gateway: true}
	for _, r := range n.records {
		taken[r.IPv4] = true
	}
	for a := n.last.Next(); ; a = a.Next() {
		if !n.subnet.Contains(a.Next()) { // a is the broadcast address, or beyond
			a = n.gateway
		}
		if !taken[a] {
			n.last = a
			return a, nil
		}
		if a == n.last {
			return netip.Addr{}, &agent.Error{Name: "ContainerNetworkingError", Message: fmt.Sprintf("every address of %s is in use", n.subnet)}
		}
	}
}

// macOf makes a locally administered address of an IPv4 address, so that it is as unique as that one.
func macOf(a netip.Addr) string {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0xbe, b[0], b[1], b[2], b[3]}.String()
}

// The range of dynamic host ports (ecs.md 1.6).
const (
	firstDynamic = 49153
	lastDynamic  = 65535
)

// hostPort returns the fixed port that is asked for, if it is free, or a free dynamic one. It needs the lock.
func (n *Network) hostPort(p agent.PortMapping) (int32, error) {
	if p.HostPort != 0 {
		if n.ports[model.HostPort{Port: p.HostPort, Protocol: p.Protocol}] != "" || !bindable(p.HostPort, p.Protocol) {
			return 0, &agent.Error{Name: "CannotStartContainerError", Message: fmt.Sprintf("host port %d/%s is in use by another program",
				p.HostPort, p.Protocol)}
		}
		return p.HostPort, nil
	}
	start := rand.Int32N(lastDynamic - firstDynamic)
	for i := range int32(lastDynamic - firstDynamic) {
		port := firstDynamic + (start+i)%(lastDynamic-firstDynamic)
		if n.ports[model.HostPort{Port: port, Protocol: p.Protocol}] == "" && bindable(port, p.Protocol) {
			return port, nil
		}
	}
	return 0, &agent.Error{Name: "CannotStartContainerError", Message: "no dynamic host port is free"}
}

// bindable tells whether nothing on this machine has the port.
func bindable(port int32, protocol string) bool {
	address := ":" + strconv.Itoa(int(port))
	if protocol == "udp" {
		c, err := net.ListenPacket("udp4", address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}
