package overlay

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent/network"
)

// filter is the instance's nftables table for what comes from other machines: VXLAN has no sender that could be believed, so packets
// on its port are taken from addresses of the fleet only, before anything looks into them. It also keeps TCP's segments as small as the
// way to the other machine takes.
type filter struct {
	id   string
	conn *nftables.Conn
}

func openFilter(id string) (*filter, error) {
	conn, err := nftables.New(nftables.AsLasting())
	return &filter{id, conn}, err
}

func (f *filter) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "berth-net-" + f.id}
}

// peers is the set of the addresses of the fleet of one IP version.
func (f *filter) peers(v6 bool) *nftables.Set {
	if v6 {
		return &nftables.Set{Table: f.table(), Name: "peers6", KeyType: nftables.TypeIP6Addr}
	}
	return &nftables.Set{Table: f.table(), Name: "peers4", KeyType: nftables.TypeIPAddr}
}

// ensure makes the table unless it is whole.
func (f *filter) ensure() error {
	chains, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	here := 0
	for _, c := range chains {
		if c.Table.Name == f.table().Name {
			rules, err := f.conn.GetRules(c.Table, c)
			if err == nil && len(rules) == map[string]int{"strangers": 3, "segments": 2}[c.Name] {
				here++
			}
		}
	}
	if here == 2 {
		return nil
	}
	t := f.table()
	f.conn.AddTable(t)
	f.conn.DelTable(t)
	f.conn.AddTable(t)
	for _, v6 := range []bool{false, true} {
		if err := f.conn.AddSet(f.peers(v6), nil); err != nil {
			return err
		}
	}
	strangers := f.conn.AddChain(&nftables.Chain{Table: t, Name: "strangers", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	f.rule(strangers, toPort(), from(f.peers(false)), verdict(expr.VerdictAccept))
	f.rule(strangers, toPort(), from(f.peers(true)), verdict(expr.VerdictAccept))
	f.rule(strangers, toPort(), []expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop))
	segments := f.conn.AddChain(&nftables.Chain{Table: t, Name: "segments", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityMangle})
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		f.rule(segments, f.device(key), clamp())
	}
	return f.conn.Flush()
}

func (f *filter) rule(c *nftables.Chain, parts ...[]expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: slices.Concat(parts...)})
}

// read is whose packets are taken.
func (f *filter) read() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for _, v6 := range []bool{false, true} {
		elements, err := f.conn.GetSetElements(f.peers(v6))
		if err != nil {
			continue // and all of it is added
		}
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				all[a] = true
			}
		}
	}
	return all
}

// atOnce is how many elements one message holds, which has a bound of 64 KiB.
const atOnce = 512

// set has packets of these machines taken and of no others. have is kept as what is done.
func (f *filter) set(have, want map[netip.Addr]bool) error {
	put, extra := missing(have, want)
	change := func(all map[netip.Addr]bool, queue func(*nftables.Set, []nftables.SetElement) error, done func(netip.Addr)) error {
		for _, v6 := range []bool{false, true} {
			var family []netip.Addr
			for a := range all {
				if a.Is6() == v6 {
					family = append(family, a)
				}
			}
			for some := range slices.Chunk(family, atOnce) {
				var elements []nftables.SetElement
				for _, a := range some {
					elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
				}
				if err := queue(f.peers(v6), elements); err != nil {
					return err
				}
				if err := f.conn.Flush(); err != nil && !errors.Is(err, unix.EEXIST) {
					return err
				}
				for _, a := range some {
					done(a)
				}
			}
		}
		return nil
	}
	err := change(put, f.conn.SetAddElements, func(a netip.Addr) { have[a] = true })
	return errors.Join(err, change(extra, f.conn.SetDeleteElements, func(a netip.Addr) { delete(have, a) }))
}

// remove deletes the table.
func (f *filter) remove() error {
	f.conn.AddTable(f.table())
	f.conn.DelTable(f.table())
	return f.conn.Flush()
}

const reg1 = 1

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// device matches what comes from, or goes to, the overlay.
func (f *filter) device(key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte(network.OverlayPrefix(f.id))}}
}

// toPort matches what is for the overlay's port.
func toPort() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binary.BigEndian.AppendUint16(nil, Port)}}
}

// from matches packets whose sender is in the set.
func from(peers *nftables.Set) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if peers.KeyType == nftables.TypeIP6Addr {
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{family}},
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Lookup{SourceRegister: reg1, SetName: peers.Name, SetID: peers.ID}}
}

// clamp has both ends of a TCP connection that is being opened send no larger segments than the route takes.
func clamp() []expr.Any {
	const optionMSS, synRST, syn = 2, 0x06, 0x02
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{synRST}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{syn}},
		&expr.Rt{Register: reg1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: reg1, DestRegister: reg1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: reg1, Type: optionMSS, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt}}
}
