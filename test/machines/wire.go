package machines

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridge is the switch's device in its namespace; a machine's port is p-<name>, its own end eth0.
const bridge = "sw0"

func port(name string) string { return "p-" + name }

// inNetwork calls f with a handle on a process's network namespace, and the namespace's descriptor.
func inNetwork(p Process, f func(h *netlink.Handle, ns int) error) error {
	ns, err := netns.GetFromPid(p.PID)
	if err != nil {
		return fmt.Errorf("network of process %d: %w", p.PID, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h, int(ns))
}

func (l *Lab) makeSwitch() error {
	first, _, err := l.launch(filepath.Join(l.Dir, "switch"), unix.CLONE_NEWNET, "switch")
	if err != nil {
		return fmt.Errorf("the switch: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Switch = first
	if err := l.save(); err != nil {
		return err
	}
	return inNetwork(first, func(h *netlink.Handle, _ int) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridge
		br := &netlink.Bridge{LinkAttrs: attrs}
		if err := errors.Join(h.LinkAdd(br), h.LinkSetUp(br)); err != nil {
			return fmt.Errorf("the switch: %w", err)
		}
		if !l.state.Uplink {
			return nil
		}
		here, err := netns.Get()
		if err != nil {
			return err
		}
		defer here.Close()
		name := "bm-" + l.state.ID
		if err := plug(h, br, "p-uplink", name, int(here)); err != nil {
			return err
		}
		own, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer own.Close()
		return address(own, name, Gateway)
	})
}

// plug makes a cable from the switch to a device in another namespace.
func plug(h *netlink.Handle, br netlink.Link, portName, name string, ns int) error {
	if old, err := h.LinkByName(portName); err == nil { // of a boot that has just ended
		if err := h.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = portName, br.Attrs().Index
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(ns)}
	if err := h.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable %s: %w", portName, err)
	}
	return h.LinkSetUp(cable)
}

func address(h *netlink.Handle, name string, a netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	ip := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(Subnet.Bits(), 32)}}
	return errors.Join(h.AddrAdd(link, ip), h.LinkSetUp(link))
}

// wire puts a machine that has just started on the switch; l.mu is held.
func (l *Lab) wire(m *Machine) error {
	return inNetwork(m.First, func(its *netlink.Handle, ns int) error {
		err := inNetwork(l.state.Switch, func(h *netlink.Handle, _ int) error {
			br, err := h.LinkByName(bridge)
			if err != nil {
				return err
			}
			return plug(h, br, port(m.Name), "eth0", ns)
		})
		if err != nil {
			return err
		}
		lo, err := its.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := errors.Join(its.LinkSetUp(lo), address(its, "eth0", m.Address)); err != nil || !l.state.Uplink {
			return err
		}
		return its.RouteAdd(&netlink.Route{Gw: Gateway.AsSlice()})
	})
}

// Cut ends all traffic between two machines, both ways, without a word to either.
func (l *Lab) Cut(a, b *Machine) error {
	return l.drops(func(d [][2]string) [][2]string {
		return append(d, [2]string{a.Name, b.Name}, [2]string{b.Name, a.Name})
	})
}

// CutOneWay ends the traffic from one machine to another; the other way still works.
func (l *Lab) CutOneWay(from, to *Machine) error {
	return l.drops(func(d [][2]string) [][2]string { return append(d, [2]string{from.Name, to.Name}) })
}

// Isolate cuts a machine from all others, and from this machine.
func (l *Lab) Isolate(m *Machine) error {
	return l.drops(func(d [][2]string) [][2]string { return append(d, [2]string{m.Name, ""}, [2]string{"", m.Name}) })
}

// Heal ends all cuts.
func (l *Lab) Heal() error {
	return l.drops(func([][2]string) [][2]string { return nil })
}

// HealBetween ends the cuts between two machines, one-way ones too.
func (l *Lab) HealBetween(a, b *Machine) error {
	return l.drops(func(d [][2]string) [][2]string {
		return slices.DeleteFunc(d, func(c [2]string) bool {
			return c == [2]string{a.Name, b.Name} || c == [2]string{b.Name, a.Name}
		})
	})
}

// drops replaces the cuts in the switch, all at once.
func (l *Lab) drops(change func([][2]string) [][2]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Drops = change(l.state.Drops)
	if err := l.save(); err != nil {
		return err
	}
	ns, err := netns.GetFromPid(l.state.Switch.PID)
	if err != nil {
		return fmt.Errorf("the switch: %w", err)
	}
	defer ns.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: "cuts", Family: nftables.TableFamilyBridge}
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	chain := c.AddChain(&nftables.Chain{Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	for _, d := range l.state.Drops {
		var when []expr.Any
		for i, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			if d[i] != "" {
				name := make([]byte, unix.IFNAMSIZ)
				copy(name, port(d[i]))
				when = append(when, &expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name})
			}
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(when, &expr.Verdict{Kind: expr.VerdictDrop})})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cut in the switch: %w", err)
	}
	return nil
}
