package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
)

// ensureDevice makes the device as self wants it. made tells that it is new, and so has no entries.
func (o *Overlay) ensureDevice(self model.Peer) (made bool, err error) {
	name := deviceName(o.c.ID)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, mtu(self)-overhead(self), hardwareAddr(end(self))
	want := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: VNI, Port: Port, SrcAddr: o.local(self.Address)}
	l, err := o.link.LinkByName(name)
	switch {
	case err == nil && fits(l, want):
		o.device = l.Attrs().Index
		if l.Attrs().Flags&unix.IFF_UP == 0 {
			made = true // the kernel dropped the routes
			err = o.link.LinkSetUp(l)
		}
		return made, err
	case err == nil:
		if err := o.link.LinkDel(l); err != nil && !gone(err) {
			return false, fmt.Errorf("overlay: remove the device %s, which is not as it should be: %w", name, err)
		}
	case !gone(err):
		return false, fmt.Errorf("overlay: find the device %s: %w", name, err)
	}
	if err := o.link.LinkAdd(want); errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("overlay: another device of this machine uses VXLAN %d on port %d; it may be that of another instance of Berth, of which one at a time can reach other machines",
			VNI, Port)
	} else if errors.Is(err, unix.EADDRINUSE) {
		return false, fmt.Errorf("overlay: another program of this machine has the UDP port %d, by which tasks of other machines are reached; stop it", Port)
	} else if err != nil {
		return false, fmt.Errorf("overlay: make the device %s: %w", name, err)
	}
	if l, err = o.link.LinkByName(name); err != nil {
		return false, fmt.Errorf("overlay: find the device %s: %w", name, err)
	}
	if err := setChecksums(name, false); err != nil { // until it is known to be safe: see selftest.go
		return false, fmt.Errorf("overlay: turn checksum offload of %s off: %w", name, err)
	}
	if err := setUp(o.link, l); err != nil {
		return false, err
	}
	o.device, o.have.routes, o.have.neighbours, o.have.fdb = l.Attrs().Index, map[netip.Prefix]route{}, map[netip.Addr]string{}, map[string]netip.Addr{}
	o.log.Info("made the device that leads to tasks of other machines", "device", name, "address", self.Address, "mtu", attrs.MTU)
	return true, nil
}

// setUp sets a device up that speaks no IPv6, and believes nothing that it hears of routes.
func setUp(link *netlink.Handle, l netlink.Link) error {
	name := l.Attrs().Name
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/accept_redirects", []byte("0"), 0); err != nil {
		return fmt.Errorf("overlay: have redirects ignored on %s: %w", name, err)
	}
	// Kernels without IPv6 lack the file.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("overlay: keep %s without IPv6: %w", name, err)
	}
	if err := link.LinkSetUp(l); err != nil {
		return fmt.Errorf("overlay: set %s up: %w", name, err)
	}
	return nil
}

// local is the address that the device sends from: self's, where this machine has it; behind NAT it has not.
func (o *Overlay) local(self netip.Addr) net.IP {
	family := netlink.FAMILY_V4
	if self.Is6() {
		family = netlink.FAMILY_V6
	}
	addrs, _ := o.link.AddrList(nil, family)
	for _, a := range addrs {
		if have, ok := netip.AddrFromSlice(a.IP); ok && have.Unmap() == self {
			return self.AsSlice()
		}
	}
	if self.Is6() {
		return net.IPv6unspecified
	}
	return nil
}

// fits tells whether the device l is as want; the device's MTU may be changed by people.
func fits(l netlink.Link, want *netlink.Vxlan) bool {
	v, ok := l.(*netlink.Vxlan)
	return ok && v.VxlanId == want.VxlanId && v.Port == want.Port && !v.Learning && v.HardwareAddr.String() == want.HardwareAddr.String() &&
		v.MTU == want.MTU && (v.SrcAddr.Equal(want.SrcAddr) || len(v.SrcAddr) == 0 && len(want.SrcAddr) == 0)
}

// read learns from the kernel which entries the device has.
func (o *Overlay) read() error {
	allowed := o.have.allowed
	o.have = newTables()
	o.have.allowed = allowed
	routes, err := dump(func() ([]netlink.Route, error) {
		return o.link.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: o.device}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return fmt.Errorf("overlay: list routes: %w", err)
	}
	for _, r := range routes {
		if to, ok := prefixOf(r.Dst); ok {
			via, _ := netip.AddrFromSlice(r.Gw)
			if !r.Src.Equal(o.c.Gateway.AsSlice()) {
				r.MTU = -1 // it is to be made anew
			}
			o.have.routes[to] = route{via.Unmap(), r.MTU}
		}
	}
	neighbours, err := dump(func() ([]netlink.Neigh, error) { return o.link.NeighList(o.device, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("overlay: list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 && !a.Unmap().IsMulticast() {
			o.have.neighbours[a.Unmap()] = n.HardwareAddr.String()
		}
	}
	fdb, err := dump(func() ([]netlink.Neigh, error) { return o.link.NeighList(o.device, unix.AF_BRIDGE) })
	if err != nil {
		return fmt.Errorf("overlay: list forwarding entries: %w", err)
	}
	for _, n := range fdb {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			o.have.fdb[n.HardwareAddr.String()] = a.Unmap()
		}
	}
	return nil
}

// dump lists until what is listed does not change meanwhile.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range 10 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil // the next look finds what is missing
}

// apply makes the entries that are missing, and removes those that nobody wants. A way is complete before it is led to, and is led to
// no more before it goes.
func (o *Overlay) apply(want tables) error {
	var errs []error
	try := func(err error, ok func()) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		ok()
	}
	put, extra := missing(o.have.routes, want.routes)
	for _, b := range sortedKeys(extra) {
		err := o.link.RouteDel(&netlink.Route{LinkIndex: o.device, Dst: ipNet(b)})
		if gone(err) {
			err = nil
		}
		try(wrap(err, "remove the route to %s", b), func() { delete(o.have.routes, b) })
	}
	newFDB, oldFDB := missing(o.have.fdb, want.fdb)
	newNeighbours, oldNeighbours := missing(o.have.neighbours, want.neighbours)
	for mac, at := range newFDB {
		try(wrap(o.setFDB(mac, at), "forward %s to %s", mac, at), func() { o.have.fdb[mac] = at })
	}
	for a, mac := range newNeighbours {
		try(wrap(o.link.NeighSet(o.neighbour(a, mac)), "tie %s to its hardware address", a), func() { o.have.neighbours[a] = mac })
	}
	for _, b := range sortedKeys(put) {
		r := put[b]
		to := &netlink.Route{LinkIndex: o.device, Dst: ipNet(b), Src: o.c.Gateway.AsSlice(), MTU: r.mtu, Scope: netlink.SCOPE_LINK}
		if r.via.IsValid() {
			to.Gw, to.Flags, to.Scope = r.via.AsSlice(), int(netlink.FLAG_ONLINK), netlink.SCOPE_UNIVERSE
		}
		err := o.link.RouteReplace(to)
		try(wrap(err, "route %s to %s", b, r.via), func() { o.have.routes[b] = r })
	}
	for a, mac := range oldNeighbours {
		try(wrap(ignoreGone(o.link.NeighDel(o.neighbour(a, mac))), "forget the neighbour %s", a), func() { delete(o.have.neighbours, a) })
	}
	for mac, at := range oldFDB {
		try(wrap(ignoreGone(o.link.NeighDel(o.forwarding(mac, at))), "forward %s no more", mac), func() { delete(o.have.fdb, mac) })
	}
	if len(errs) > 3 {
		errs = append(errs[:3:3], fmt.Errorf("and %d more", len(errs)-3))
	}
	return errors.Join(errs...)
}

// setFDB forwards what is for mac to the machine at, and to no other.
func (o *Overlay) setFDB(mac string, at netip.Addr) error {
	return o.link.NeighSet(o.forwarding(mac, at))
}

func (o *Overlay) neighbour(a netip.Addr, mac string) *netlink.Neigh {
	hw, _ := net.ParseMAC(mac)
	return &netlink.Neigh{LinkIndex: o.device, State: unix.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: hw}
}

func (o *Overlay) forwarding(mac string, at netip.Addr) *netlink.Neigh {
	hw, _ := net.ParseMAC(mac)
	return &netlink.Neigh{LinkIndex: o.device, Family: unix.AF_BRIDGE, State: unix.NUD_PERMANENT | unix.NUD_NOARP, Flags: unix.NTF_SELF,
		IP: at.AsSlice(), HardwareAddr: hw}
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("overlay: %s: %w", fmt.Sprintf(format, args...), err)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}

// MTU is that of the device that has the address; 0 when none has.
func MTU(address netip.Addr) int {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0
	}
	for _, a := range addrs {
		if have, ok := netip.AddrFromSlice(a.IP); ok && have.Unmap() == address.Unmap() {
			if l, err := netlink.LinkByIndex(a.LinkIndex); err == nil {
				return l.Attrs().MTU
			}
		}
	}
	return 0
}
