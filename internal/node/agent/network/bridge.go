package network

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

func (n *Network) subnetFile() string { return filepath.Join(n.c.StateDir, "subnet.json") }

type storedSubnet struct {
	Subnet netip.Prefix `json:"subnet"`
}

// ensureBridge makes the bridge with the gateway's address. The blocks or the subnet of earlier runs are kept unless something else on
// the machine has taken them and no task uses them.
func (n *Network) ensureBridge() error {
	if err := os.MkdirAll(n.c.StateDir, 0o700); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	unlock, err := lockMachine()
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.chooseAddresses(); err != nil {
		return err
	}
	name := BridgeName(n.c.ID)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, n.machineMTU(), macOf(n.gateway)
	n.mtu = attrs.MTU
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(false)}
	if err := n.link.LinkAdd(bridge); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the bridge %s: %w", name, err)
	}
	link, err := n.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", name, err)
	}
	existing, ok := link.(*netlink.Bridge)
	if !ok {
		return fmt.Errorf("the device %s is not a bridge; remove it", name)
	}
	n.bridge = existing
	return n.levelBridge()
}

// levelBridge gives the bridge the gateway's address, and leads what nobody of this node's addresses has there, which is refused at
// once (see refuseDead).
func (n *Network) levelBridge() error {
	n.mu.Lock()
	var blocks []netip.Prefix
	for _, b := range n.blocks {
		blocks = append(blocks, b.prefix)
	}
	n.mu.Unlock()
	name := n.bridge.Name
	home := netip.PrefixFrom(n.gateway, max(n.blockBits(), 0))
	addr := &netlink.Addr{IPNet: ipNet(home)}
	if err := n.link.AddrReplace(n.bridge, addr); err != nil {
		return fmt.Errorf("give the bridge %s the address %s: %w", name, n.gateway, err)
	}
	if err := n.link.LinkSetUp(n.bridge); err != nil {
		return fmt.Errorf("set the bridge %s up: %w", name, err)
	}
	addrs, err := n.link.AddrList(n.bridge, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	for _, a := range addrs { // of an earlier version, whose subnet was wider
		if old, ok := prefixOf(a.IPNet); ok && old != home {
			if err := n.link.AddrDel(n.bridge, &a); err != nil && !isGone(err) {
				return fmt.Errorf("take the address %s from the bridge %s: %w", old, name, err)
			}
		}
	}
	return n.levelRoutes(blocks, home.Masked())
}

// levelRoutes leads the blocks to the bridge, and no other network. home is led there by the bridge's address.
func (n *Network) levelRoutes(blocks []netip.Prefix, home netip.Prefix) error {
	routes, err := n.link.RouteList(n.bridge, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the routes of %s: %w", n.bridge.Name, err)
	}
	for _, r := range routes {
		to, ok := prefixOf(r.Dst)
		if ok && to != home && !slices.Contains(blocks, to) {
			if err := n.link.RouteDel(&r); err != nil && !isGone(err) && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("remove the route to %s: %w", to, err)
			}
		}
	}
	for _, b := range blocks {
		if b == home {
			continue
		}
		route := &netlink.Route{LinkIndex: n.bridge.Index, Scope: netlink.SCOPE_LINK, Src: n.gateway.AsSlice(), Dst: ipNet(b)}
		if err := n.link.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s to the bridge %s: %w", b, n.bridge.Name, err)
		}
	}
	return nil
}

// blockBits is the size of the block that holds the gateway.
func (n *Network) blockBits() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.blockOf(n.gateway); b != nil {
		return b.prefix.Bits()
	}
	return 32
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, size := n.Mask.Size()
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, ones), ok && addr.Is4() && size == 32
}

// lockDir is where only root may make files, and so hold locks.
const lockDir = "/run/berth"

// lockMachine keeps instances that start at the same time from choosing the same subnet.
func lockMachine() (unlock func(), err error) {
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(lockDir, "network.lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("network: lock: %w", err), f.Close())
	}
	return func() { f.Close() }, nil
}

// chooseAddresses says from which blocks, or from which subnet, addresses are given, and what the gateway's is.
func (n *Network) chooseAddresses() error {
	taken, err := n.takenPrefixes()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	stored, ok := readBlocks(n.c.StateDir)
	if !ok && len(n.c.Blocks) > 0 {
		stored, ok = storedBlocks{Gateway: n.c.Blocks[0].Addr().Next(), Blocks: n.c.Blocks}, true
	}
	if ok && (len(n.byAddr) > 0 || !overlapsAny(blockAt(stored.Gateway), taken)) {
		n.gateway, n.subnet = stored.Gateway, netip.PrefixFrom(stored.Gateway, subnetBits).Masked()
		n.setBlocks(stored.Blocks, stored.Subnets)
		return n.saveBlocks()
	}
	if err := os.Remove(blocksFile(n.c.StateDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network: %w", err)
	}
	if err := n.chooseSubnet(taken); err != nil {
		return err
	}
	n.gateway = n.subnet.Addr().Next()
	n.setBlocks([]netip.Prefix{n.subnet}, nil)
	data, err := json.Marshal(storedSubnet{n.subnet})
	if err != nil {
		return err
	}
	return writeFile(n.subnetFile(), data)
}

func (n *Network) chooseSubnet(taken []netip.Prefix) error {
	if data, err := os.ReadFile(n.subnetFile()); err == nil {
		var s storedSubnet
		readable := json.Unmarshal(data, &s) == nil && s.Subnet.IsValid()
		wanted := !n.c.Subnet.IsValid() || n.c.Subnet.Contains(s.Subnet.Addr()) && n.c.Subnet.Bits() <= s.Subnet.Bits()
		if readable && (len(n.byAddr) > 0 || wanted && !overlapsAny(s.Subnet, taken)) {
			n.subnet = s.Subnet
			return nil
		}
	}
	from := pools
	if n.c.Subnet.IsValid() {
		from = []netip.Prefix{n.c.Subnet.Masked()}
	}
	var ok bool
	if n.subnet, ok = pick(from, taken, n.neighbourhood()); ok {
		return nil
	}
	return fmt.Errorf("network: nothing of %v is free: this machine has routes to all of it; give Berth a network of its own with --vpc-cidr",
		from)
}

// pools are searched in this order; the first is AWS's default VPC.
var pools = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/16"), netip.MustParsePrefix("172.29.0.0/16"), netip.MustParsePrefix("10.0.0.0/8")}

const subnetBits = 20

// pick is the first subnet of a pool that overlaps nothing taken. Pools in which the machine's own neighbours live come last: some of
// them, such as name servers, are reached by the default route, and a subnet of ours would hide them.
func pick(from, taken, neighbourhood []netip.Prefix) (netip.Prefix, bool) {
	for _, near := range []bool{false, true} {
		for _, pool := range from {
			if overlapsAny(pool, neighbourhood) != near {
				continue
			}
			if s, ok := freeSubnet(pool, max(subnetBits, pool.Bits()), slices.Concat(taken, neighbourhood)); ok {
				return s, true
			}
		}
	}
	return netip.Prefix{}, false
}

// neighbourhood are the machine's name servers, and its addresses where its default route leads.
func (n *Network) neighbourhood() []netip.Prefix {
	var all []netip.Prefix
	routes, _ := n.link.RouteList(nil, netlink.FAMILY_V4)
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		l, err := n.link.LinkByIndex(r.LinkIndex)
		if err != nil {
			continue
		}
		addrs, _ := n.link.AddrList(l, netlink.FAMILY_V4)
		for _, a := range addrs {
			if addr, ok := netip.AddrFromSlice(a.IP.To4()); ok {
				ones, _ := a.Mask.Size()
				all = append(all, netip.PrefixFrom(addr, ones).Masked())
			}
		}
	}
	data, _ := os.ReadFile(n.resolvConf)
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if addr, err := netip.ParseAddr(f[1]); err == nil && addr.Is4() && !addr.IsLoopback() {
				all = append(all, netip.PrefixFrom(addr, 32))
			}
		}
	}
	return all
}

// freeSubnet is the first subnet of pool that overlaps nothing taken.
func freeSubnet(pool netip.Prefix, bits int, taken []netip.Prefix) (netip.Prefix, bool) {
	if bits < pool.Bits() || bits > 30 || !pool.Addr().Is4() {
		return netip.Prefix{}, false
	}
	for s := netip.PrefixFrom(pool.Masked().Addr(), bits); pool.Contains(s.Addr()); {
		if !overlapsAny(s, taken) {
			return s, true
		}
		next, ok := after(s)
		if !ok {
			break
		}
		s = next
	}
	return netip.Prefix{}, false
}

// after is the subnet that follows s.
func after(s netip.Prefix) (netip.Prefix, bool) {
	a := s.Addr().As4()
	v := uint64(a[0])<<24 | uint64(a[1])<<16 | uint64(a[2])<<8 | uint64(a[3])
	v += 1 << (32 - s.Bits())
	if v > 0xffffffff {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), s.Bits()), true
}

func overlapsAny(s netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if s.Overlaps(t) {
			return true
		}
	}
	return false
}

// takenPrefixes are the routes and addresses of the machine, but for the default route and those of our own devices.
func (n *Network) takenPrefixes() ([]netip.Prefix, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	own := map[int]bool{}
	for _, l := range links {
		own[l.Attrs().Index] = n.own(l)
	}
	var taken []netip.Prefix
	add := func(ipnet *net.IPNet) {
		if p, ok := prefixOf(ipnet); ok && p.Bits() > 0 {
			taken = append(taken, p.Masked())
		}
	}
	routes, err := n.link.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: 0}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if !own[r.LinkIndex] {
			add(r.Dst)
		}
	}
	addrs, err := n.link.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if !own[a.LinkIndex] {
			add(a.IPNet)
		}
	}
	return taken, nil
}

// machineMTU is that of the device with the default route, so that tasks do not send what must be cut up on its way.
func (n *Network) machineMTU() int {
	routes, err := n.link.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 1500
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if l, err := n.link.LinkByIndex(r.LinkIndex); err == nil && l.Attrs().MTU >= 576 {
			return min(l.Attrs().MTU, 9000)
		}
	}
	return 1500
}

// macOf derives a device's hardware address from its IPv4 address: neighbours need not learn anew when an address is reused.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// recordName is the file of a network's record: ids are safe as names, but short ones are not assured to be.
func recordName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%x.json", sum[:12])
}
