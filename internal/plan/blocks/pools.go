package blocks

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Zones are the letters of the zones that have a subnet of their own in each range: its first sixteenths, in this order. The other
// sixteenths are every zone's.
var Zones = []string{"a", "b", "c"}

// Pools are where the blocks of nodes of a zone ("us-east-1b") come from: the zone's subnets of all ranges, and then what is no zone's.
// A range in which a sixteenth has no room for a block is every zone's as a whole.
func Pools(ranges []netip.Prefix, zone string) []netip.Prefix {
	var own, shared []netip.Prefix
	for _, r := range ranges {
		if r.Bits()+4 > Bits {
			shared = append(shared, r)
			continue
		}
		for i, s := range Sixteenths(r) {
			switch {
			case i >= len(Zones):
				shared = append(shared, s)
			case strings.HasSuffix(zone, Zones[i]):
				own = append(own, s)
			}
		}
	}
	return append(own, shared...)
}

// Sixteenths are the parts of an IPv4 range, in the order of their addresses.
func Sixteenths(r netip.Prefix) []netip.Prefix {
	all := []netip.Prefix{netip.PrefixFrom(r.Masked().Addr(), r.Bits()+4)}
	for len(all) < 16 {
		s, _ := next(all[len(all)-1])
		all = append(all, s)
	}
	return all
}

// next is the prefix of the same size that follows p.
func next(p netip.Prefix) (netip.Prefix, bool) {
	a := p.Addr().As4()
	v := uint64(binary.BigEndian.Uint32(a[:])) + 1<<(32-p.Bits())
	if v > 0xffffffff {
		return netip.Prefix{}, false
	}
	binary.BigEndian.PutUint32(a[:], uint32(v))
	return netip.PrefixFrom(netip.AddrFrom4(a), p.Bits()), true
}

// CheckRanges says what is wrong with the ranges of a VPC. The names of tasks' devices carry the last three bytes of their addresses,
// so ranges must differ in those.
func CheckRanges(ranges []netip.Prefix) error {
	for i, r := range ranges {
		if !r.Addr().Is4() || r != r.Masked() || r.Bits() < 10 || r.Bits() > 24 || !r.Addr().IsPrivate() {
			return fmt.Errorf("the range %s must be a private IPv4 network from /10 to /24, such as 10.32.0.0/11", r)
		}
		for _, o := range ranges[:i] {
			if r.Overlaps(o) {
				return fmt.Errorf("the ranges %s and %s overlap", o, r)
			}
			if tail(r).Overlaps(tail(o)) {
				return fmt.Errorf("the ranges %s and %s hold addresses that differ in their first number only; choose another second number", o, r)
			}
		}
	}
	return nil
}

// tail is r without its first byte.
func tail(r netip.Prefix) netip.Prefix {
	a := r.Addr().As4()
	a[0] = 0
	return netip.PrefixFrom(netip.AddrFrom4(a), r.Bits())
}
