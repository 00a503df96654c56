package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Tasks need the machine to forward packets, which the kernel allows for all devices or none. A machine that forwarded nothing before
// Berth must not become a router between the devices that it had: those are "outside", and the table drops what goes from one of
// them to another. Devices that come later are outside when they lead to a network by themselves (a card, a VLAN); those of Docker,
// libvirt and their like are not, as they bring rules of their own.

const forwardFile = "/proc/sys/net/ipv4/ip_forward"

// forwarding is written down when Berth has turned forwarding on, and means nothing after a reboot.
type forwarding struct {
	Outside []string `json:"outside"` // the devices that were there
}

func (n *Network) forwardingFile() string { return filepath.Join(n.c.RunDir, "forwarding.json") }

func (n *Network) readForwarding() (f forwarding, ours bool) {
	data, err := os.ReadFile(n.forwardingFile())
	return f, err == nil && json.Unmarshal(data, &f) == nil
}

// setSysctls lets programs of the machine reach published ports as 127.0.0.1 over a device, and has the machine believe nothing that
// it hears there of routes, and speak no IPv6.
func setSysctls(name string) error {
	for key, value := range map[string]string{"route_localnet": "1", "accept_redirects": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/"+key, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s of %s: %w", key, name, err)
		}
	}
	// Kernels without IPv6 lack the file.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep %s without IPv6: %w", name, err)
	}
	return nil
}

func (n *Network) ensureForwarding() error {
	on, err := forwards()
	if err != nil {
		return err
	}
	known, ours := n.readForwarding()
	if !on {
		links, err := n.links()
		if err != nil {
			return err
		}
		known, ours = forwarding{}, true
		for _, l := range links {
			if name := l.Attrs().Name; name != "lo" && !strings.HasPrefix(name, "brth-") && !n.own(l) {
				known.Outside = append(known.Outside, name)
			}
		}
		data, err := json.Marshal(known)
		if err != nil {
			return err
		}
		if err := writeFile(n.forwardingFile(), data); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	if ours {
		if n.outside, err = n.outsiders(known); err != nil {
			return err
		}
	}
	if on {
		return nil
	}
	// The rules come first: at no time is the machine a router.
	if err := n.install(); err != nil {
		return err
	}
	if err := os.WriteFile(forwardFile, []byte("1"), 0); err != nil {
		return fmt.Errorf("set net.ipv4.ip_forward to 1, without which tasks reach nothing: %w", err)
	}
	n.log.Info("set net.ipv4.ip_forward to 1, so that tasks reach the network; nothing else is forwarded", "between", known.Outside)
	return nil
}

func forwards() (bool, error) {
	data, err := os.ReadFile(forwardFile)
	if err != nil {
		return false, fmt.Errorf("read ip_forward: %w", err)
	}
	return strings.TrimSpace(string(data)) == "1", nil
}

// outsiders are the devices that the machine had, and those that lead outside by themselves.
func (n *Network) outsiders(known forwarding) ([]string, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(known.Outside)
	for _, l := range links {
		if leadsOutside(l) {
			all = append(all, l.Attrs().Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// leadsOutside tells a card and what is made of cards from what programs make for themselves.
func leadsOutside(l netlink.Link) bool {
	switch l.Type() {
	case "device":
		return l.Attrs().Name != "lo"
	case "vlan", "bond", "team":
		return true
	}
	return false
}

// own tells whether a device is this instance's.
func (n *Network) own(l netlink.Link) bool {
	name := l.Attrs().Name
	return name == BridgeName(n.c.ID) || strings.HasPrefix(name, OverlayPrefix(n.c.ID)) || l.Type() == "veth" && strings.HasPrefix(name, DevicePrefix(n.c.ID))
}

// links are the machine's devices.
func (n *Network) links() ([]netlink.Link, error) {
	links, err := n.link.LinkList()
	for range 10 { // devices came or went while they were listed
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		links, err = n.link.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return links, nil
}

// restoreForwarding turns forwarding off again if it was Berth who turned it on, and nobody came who may need it.
func (n *Network) restoreForwarding() error {
	known, ours := n.readForwarding()
	if !ours {
		return nil
	}
	links, err := n.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() != "veth" && name != "lo" && !n.own(l) && !leadsOutside(l) && !slices.Contains(known.Outside, name) {
			n.log.Info("net.ipv4.ip_forward stays 1: another program may need it", "device", name)
			return os.Remove(n.forwardingFile())
		}
	}
	if err := os.WriteFile(forwardFile, []byte("0"), 0); err != nil {
		return fmt.Errorf("set net.ipv4.ip_forward back to 0: %w", err)
	}
	return os.Remove(n.forwardingFile())
}
