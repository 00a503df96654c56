package overlay

import (
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/berthdev/berth/internal/model"
)

// Wanted is what the overlay is to be.
type Wanted struct {
	Self    model.Peer
	Peers   []model.Peer // itself may be among them
	Encrypt bool         // by WireGuard instead of VXLAN
}

// What goes around a packet of a task on its way to another machine, in bytes.
const (
	vxlanOverhead = 50 // IPv4, UDP, VXLAN, Ethernet
	ipv6Overhead  = 20 // more than IPv4
)

// route leads a block to a peer.
type route struct {
	via netip.Addr // the peer's end of the overlay
	mtu int
}

// tables are the kernel's entries that make the overlay, or are to.
type tables struct {
	routes     map[netip.Prefix]route
	neighbours map[netip.Addr]string // hardware address, by the peer's end of the overlay
	fdb        map[string]netip.Addr // the machine's address, by hardware address
	allowed    map[netip.Addr]bool   // machines whose packets are taken
}

func newTables() tables {
	return tables{map[netip.Prefix]route{}, map[netip.Addr]string{}, map[string]netip.Addr{}, map[netip.Addr]bool{}}
}

// end is a machine's end of the overlay: the first address of its first block, which no task has.
func end(p model.Peer) netip.Addr { return p.Blocks[0].Addr() }

// hardwareAddr is that of a machine's end of the overlay: made from its address, so that nobody need ask for it.
func hardwareAddr(end netip.Addr) net.HardwareAddr {
	b := end.As4()
	return net.HardwareAddr{0x0e, 0x58, b[0], b[1], b[2], b[3]}
}

// mtu is that of the machine's device.
func mtu(p model.Peer) int {
	if p.MTU < 576 {
		return 1500
	}
	return p.MTU
}

func overhead(p model.Peer) int {
	if p.Address.Is6() {
		return vxlanOverhead + ipv6Overhead
	}
	return vxlanOverhead
}

// usable are the peers that can be led to, in the order of their ids; why says of each other one why not.
func usable(w Wanted) (peers []model.Peer, why map[string]string) {
	why = map[string]string{}
	taken := newRanges(w.Self.Blocks)
	all := slices.Clone(w.Peers)
	slices.SortFunc(all, func(a, b model.Peer) int {
		switch {
		case a.Node < b.Node:
			return -1
		case a.Node > b.Node:
			return 1
		}
		return 0
	})
	for _, p := range all {
		p.Address = p.Address.Unmap()
		if p.Node == w.Self.Node {
			continue
		}
		switch reason := w.refuses(p); {
		case reason != "":
			why[p.Node] = reason
		default:
			own := slices.DeleteFunc(slices.Clone(p.Blocks), func(b netip.Prefix) bool {
				return !b.Addr().Is4() || taken.overlaps(b)
			})
			if len(own) < len(p.Blocks) {
				why[p.Node] = "some of its addresses are another machine's as well"
			}
			if len(own) == 0 || own[0] != p.Blocks[0] {
				continue
			}
			p.Blocks = own
			taken.add(own)
			peers = append(peers, p)
		}
	}
	return peers, why
}

// refuses says why a machine cannot be led to; "" when it can, as far as its own row tells.
func (w Wanted) refuses(p model.Peer) string {
	own := w.Self.Address.Unmap()
	switch p.Address = p.Address.Unmap(); {
	case !p.Address.IsValid() || p.Address.IsLoopback() || p.Address.IsUnspecified():
		return "no address of it is known at which other machines reach it"
	case p.Address.Is4() != own.Is4():
		return "its address " + p.Address.String() + " is of the other IP version than this machine's"
	case p.Address == own:
		return "it says that it has this machine's address, " + p.Address.String()
	case !w.Encrypt && (public(p.Address) || public(own)):
		return "its address or this machine's is public (" + p.Address.String() + ", " + w.Self.Address.String() +
			"), and what tasks say would be readable on the way: start a server with --encrypt, or give the machines addresses of a private network"
	case len(p.Blocks) == 0:
		return "it has no block of addresses yet"
	}
	return ""
}

// Carrier names what carries the traffic of the machine's tasks to others, as their rows tell: vxlan, wireguard, or "" while there is no
// other machine that it can be led to.
func (w Wanted) Carrier() string {
	for _, p := range w.Peers {
		if p.Node == w.Self.Node || w.refuses(p) != "" {
			continue
		}
		if !w.Encrypt {
			return "vxlan"
		}
		if _, err := hexKey(p.Key); err == nil {
			return "wireguard"
		}
	}
	return ""
}

// shared are addresses that are not private and yet no part of the internet: those of carriers' NAT (RFC 6598), of documentation and of
// benchmarks (RFC 5737, 2544), and IPv6's for documentation.
var shared = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}

// public tells whether an address is one of the internet: VXLAN, which hides nothing, does not go there.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(shared, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ranges are blocks that are taken, of which nearly all have the same size.
type ranges struct {
	blocks map[netip.Prefix]bool
	odd    []netip.Prefix // of another size
}

func newRanges(all []netip.Prefix) *ranges {
	r := &ranges{blocks: map[netip.Prefix]bool{}}
	r.add(all)
	return r
}

func (r *ranges) add(all []netip.Prefix) {
	for _, b := range all {
		if r.blocks[b] = true; b.Bits() != model.BlockBits {
			r.odd = append(r.odd, b)
		}
	}
}

func (r *ranges) overlaps(b netip.Prefix) bool {
	if b.Bits() != model.BlockBits {
		for o := range r.blocks {
			if o.Overlaps(b) {
				return true
			}
		}
	}
	return r.blocks[b] || slices.ContainsFunc(r.odd, b.Overlaps)
}

// vxlanTables are the entries for the peers.
func vxlanTables(self model.Peer, peers []model.Peer) tables {
	t := newTables()
	for _, p := range peers {
		at, mac := end(p), hardwareAddr(end(p)).String()
		t.neighbours[at], t.fdb[mac], t.allowed[p.Address] = mac, p.Address, true
		for _, b := range p.Blocks {
			t.routes[b] = route{at, min(mtu(self), mtu(p)) - overhead(p)}
		}
	}
	return t
}

// missing are the entries of want that are not in have, or are different there; and extra those of have that want does not know.
func missing[K comparable, V comparable](have, want map[K]V) (put, extra map[K]V) {
	put, extra = map[K]V{}, map[K]V{}
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			put[k] = v
		}
	}
	for k, v := range have {
		if _, ok := want[k]; !ok {
			extra[k] = v
		}
	}
	return put, extra
}

// sortedKeys are m's keys by their texts, so that work has an order.
func sortedKeys[K interface {
	comparable
	String() string
}, V any](m map[K]V) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int {
		switch x, y := a.String(), b.String(); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
}
