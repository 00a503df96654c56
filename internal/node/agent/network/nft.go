package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// firewall is the instance's nftables table: NAT for what tasks send out, for published ports, and for the metadata address.
type firewall struct {
	id   string
	mu   sync.Mutex // one transaction at a time
	conn *nftables.Conn

	gateway  netip.Addr // as last installed; under mu, like all that follows
	metadata uint16
	refused  map[string]bool // chains of others that take no rules from us
}

func (f *firewall) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "berth-" + f.id}
}

// ports is the map (protocol, host port) -> (address, port).
func (f *firewall) ports(t *nftables.Table) *nftables.Set {
	key, _ := nftables.ConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	data, _ := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return &nftables.Set{Table: t, Name: "ports", IsMap: true, Concatenation: true, KeyType: key, DataType: data}
}

// element is one published port.
type element struct {
	protocol byte
	hostPort uint16
	addr     netip.Addr
	port     uint16
}

func elementsOf(r *record) []element {
	var all []element
	for _, p := range r.Ports {
		protocol, _ := protocolNumber(p.Protocol)
		all = append(all, element{protocol, uint16(p.HostPort), r.Addr, uint16(p.ContainerPort)})
	}
	return all
}

// elements are all that is published.
func (n *Network) elements() []element {
	var all []element
	for _, r := range n.recorded() {
		all = append(all, elementsOf(r)...)
	}
	return all
}

// encode pads each part to 4 bytes, as the kernel wants concatenations.
func encode(all []element) []nftables.SetElement {
	var encoded []nftables.SetElement
	for _, e := range all {
		key, val := make([]byte, 8), make([]byte, 8)
		key[0] = e.protocol
		binary.BigEndian.PutUint16(key[4:], e.hostPort)
		addr := e.addr.As4()
		copy(val, addr[:])
		binary.BigEndian.PutUint16(val[4:], e.port)
		encoded = append(encoded, nftables.SetElement{Key: key, Val: val})
	}
	return encoded
}

// rules are what the table is made from.
type rules struct {
	blocks    []netip.Prefix
	gateway   netip.Addr
	metadata  uint16
	published func() []element // asked when nobody else changes the table
	outside   []string
}

// install replaces the whole table in one transaction: at no time is there half a table.
func (f *firewall) install(r rules) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gateway, f.metadata = r.gateway, r.metadata
	if err := f.build(r); err != nil {
		return err
	}
	return f.conn.Flush()
}

// Probe asks the kernel for every kind of rule that a Network needs, in a transaction that leaves nothing behind.
func Probe() error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	f := firewall{conn: conn, id: "probe"}
	subnet := netip.MustParsePrefix("192.0.2.0/24")
	err = f.build(rules{blocks: []netip.Prefix{subnet}, gateway: subnet.Addr().Next(), metadata: 1, outside: []string{"probe"},
		published: func() []element { return []element{{unix.IPPROTO_TCP, 1, subnet.Addr().Next(), 1}} }})
	if err == nil {
		conn.DelTable(f.table())
		err = conn.Flush()
	}
	return errors.Join(err, conn.CloseLasting())
}

// build queues the transaction that makes the table anew.
func (f *firewall) build(r rules) error {
	t := f.table()
	f.conn.AddTable(t) // so that there is one to delete
	f.conn.DelTable(t)
	f.conn.AddTable(t)
	ports := f.ports(t)
	if err := f.conn.AddSet(ports, encode(r.published())); err != nil {
		return err
	}
	blocks, err := f.addBlocks(t, r.blocks)
	if err != nil {
		return err
	}
	f.translate(t, ports, blocks, r)
	return f.filter(t, r)
}

// refuseDead answers at once for addresses that no task has, or has any more: they are routed to the bridge, to which nobody is
// connected. Whoever speaks to a task that was killed learns of it with the next packet.
func (f *firewall) refuseDead(chains ...*nftables.Chain) {
	dead := []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: append([]byte(BridgeName(f.id)), 0)}}
	for _, c := range chains {
		f.rule(c, dead, protocol(unix.IPPROTO_TCP), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		f.rule(c, dead, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 1}})
	}
}

func (f *firewall) rule(c *nftables.Chain, parts ...[]expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: slices.Concat(parts...)})
}

// translate adds the chains that change addresses.
func (f *firewall) translate(t *nftables.Table, ports, blocks *nftables.Set, r rules) {
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return f.conn.AddChain(&nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	}
	pre := chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	from, to := f.tasks(expr.MetaKeyIIFNAME, true), f.tasks(expr.MetaKeyOIFNAME, true)
	if r.metadata != 0 {
		f.rule(pre, from, destination(netip.PrefixFrom(metadataAddr, 32)), toPort(unix.IPPROTO_TCP, 80),
			dnat(r.gateway, r.metadata))
	}
	f.rule(pre, local(), publishedPort(ports))
	f.rule(out, local(), publishedPort(ports))
	// What programs of this machine send to 127.0.0.1, and what a task sends to a published port, must come back the same way.
	f.rule(post, source(loopback), to, snat(r.gateway))
	f.rule(post, sourceIn(blocks), to, wasDNAT(), snat(r.gateway))
	// Tasks of other machines, and those machines, see who speaks to them.
	f.rule(post, sourceIn(blocks), f.tasks(expr.MetaKeyOIFNAME, false), f.overlay(expr.MetaKeyOIFNAME, false), masquerade())
}

// filter adds the chains that drop: tasks are reached by what they have asked for, by each other and by their published ports only.
func (f *firewall) filter(t *nftables.Table, r rules) error {
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return f.conn.AddChain(&nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: priority})
	}
	from, to := f.tasks(expr.MetaKeyIIFNAME, true), f.tasks(expr.MetaKeyOIFNAME, true)
	guard := chain("guard", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	f.rule(guard, from, astray(), verdict(expr.VerdictDrop))
	// route_localnet, which published ports need, must not open the machine's own loopback to tasks.
	f.rule(guard, from, destination(loopback), verdict(expr.VerdictDrop))
	// What comes from other machines is theirs, and what this machine keeps for its own tasks is not for them.
	f.rule(guard, f.overlay(expr.MetaKeyIIFNAME, true), astray(), verdict(expr.VerdictDrop))
	f.rule(guard, f.overlay(expr.MetaKeyIIFNAME, true), destination(loopback), verdict(expr.VerdictDrop))
	input := chain("input", nftables.ChainHookInput, nftables.ChainPriorityFilter)
	f.rule(input, f.overlay(expr.MetaKeyIIFNAME, true), known(), verdict(expr.VerdictAccept))
	f.rule(input, f.overlay(expr.MetaKeyIIFNAME, true), protocol(unix.IPPROTO_ICMP), verdict(expr.VerdictAccept))
	f.rule(input, f.overlay(expr.MetaKeyIIFNAME, true), toPort(unix.IPPROTO_TCP, SelfTestPort), verdict(expr.VerdictAccept))
	f.rule(input, f.overlay(expr.MetaKeyIIFNAME, true), verdict(expr.VerdictDrop))
	forward := chain("forward", nftables.ChainHookForward, nftables.ChainPriorityFilter)
	output := chain("output-filter", nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	f.refuseDead(forward, output)
	overlay := f.overlay(expr.MetaKeyIIFNAME, true)
	f.rule(forward, overlay, to, verdict(expr.VerdictAccept))
	f.rule(forward, overlay, verdict(expr.VerdictDrop)) // a machine is nobody's router
	f.rule(forward, from, verdict(expr.VerdictAccept))
	f.rule(forward, to, known(), verdict(expr.VerdictAccept))
	f.rule(forward, to, wasDNAT(), verdict(expr.VerdictAccept))
	f.rule(forward, to, verdict(expr.VerdictDrop))
	// A task that asks for its own published port is sent back on its link, and must not be told that there is a shorter way.
	f.rule(output, to, redirect(), verdict(expr.VerdictDrop))
	if len(r.outside) == 0 {
		return nil
	}
	outside := &nftables.Set{Table: t, Name: "outside", KeyType: nftables.TypeIFName}
	var elements []nftables.SetElement
	for _, name := range r.outside {
		elements = append(elements, nftables.SetElement{Key: ifname(name)})
	}
	if err := f.conn.AddSet(outside, elements); err != nil {
		return err
	}
	in := func(key expr.MetaKey) []expr.Any {
		return []expr.Any{&expr.Meta{Key: key, Register: reg1}, &expr.Lookup{SourceRegister: reg1, SetName: outside.Name, SetID: outside.ID}}
	}
	f.rule(forward, in(expr.MetaKeyIIFNAME), in(expr.MetaKeyOIFNAME), verdict(expr.VerdictDrop))
	return nil
}

// add publishes ports; one that is published already with the same target stays.
func (f *firewall) add(all []element) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.conn.SetAddElements(f.ports(f.table()), encode(all)); err != nil {
		return err
	}
	return f.conn.Flush()
}

// delete takes ports back one by one, so that one that is gone does not keep the others.
func (f *firewall) delete(all []element) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, e := range encode(all) {
		err := f.conn.SetDeleteElements(f.ports(f.table()), []nftables.SetElement{{Key: e.Key}})
		if err == nil {
			err = f.conn.Flush()
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove deletes the table and what passForward added elsewhere.
func (f *firewall) remove() error {
	errs := []error{f.unpassForward()}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.AddTable(f.table())
	f.conn.DelTable(f.table())
	if err := f.conn.Flush(); err != nil {
		errs = append(errs, fmt.Errorf("remove the nftables table: %w", err))
	}
	return errors.Join(errs...)
}

// The expressions that rules are made from, as `nft --debug=netlink` shows them.

const (
	reg1     = 1 // 16 bytes: registers 8 to 11 of 4 bytes each
	reg32at0 = 8
	reg32at1 = 9
)

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// tasks matches packets from, or to, the devices of tasks; or those that are not.
func (f *firewall) tasks(key expr.MetaKey, equal bool) []expr.Any {
	op := expr.CmpOpEq
	if !equal {
		op = expr.CmpOpNeq
	}
	return []expr.Any{&expr.Meta{Key: key, Register: reg1}, &expr.Cmp{Op: op, Register: reg1, Data: []byte(DevicePrefix(f.id))}}
}

// overlay matches packets from, or to, the device that leads to other machines' tasks; or those that are not.
func (f *firewall) overlay(key expr.MetaKey, equal bool) []expr.Any {
	op := expr.CmpOpEq
	if !equal {
		op = expr.CmpOpNeq
	}
	return []expr.Any{&expr.Meta{Key: key, Register: reg1}, &expr.Cmp{Op: op, Register: reg1, Data: []byte(OverlayPrefix(f.id))}}
}

// addBlocks adds the set of the node's addresses.
func (f *firewall) addBlocks(t *nftables.Table, blocks []netip.Prefix) (*nftables.Set, error) {
	set := &nftables.Set{Table: t, Name: "blocks", Interval: true, KeyType: nftables.TypeIPAddr}
	var elements []nftables.SetElement
	for _, b := range blocks {
		elements = append(elements, nftables.SetElement{Key: b.Addr().AsSlice()})
		if end, ok := after(b); ok {
			elements = append(elements, nftables.SetElement{Key: end.Addr().AsSlice(), IntervalEnd: true})
		}
	}
	return set, f.conn.AddSet(set, elements)
}

func sourceIn(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Lookup{SourceRegister: reg1, SetName: set.Name, SetID: set.ID}}
}

// astray matches packets whose source is not routed to the device that they came from.
func astray() []expr.Any {
	return []expr.Any{&expr.Fib{Register: reg1, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: make([]byte, 4)}}
}

func destination(p netip.Prefix) []expr.Any { return address(16, p) }
func source(p netip.Prefix) []expr.Any      { return address(12, p) }

// address compares an address of the IPv4 header, which is at offset.
func address(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: p.Masked().Addr().AsSlice()}}
}

func toPort(number byte, port uint16) []expr.Any {
	return append(protocol(number),
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binary.BigEndian.AppendUint16(nil, port)})
}

func dnat(a netip.Addr, port uint16) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: reg32at0, Data: a.AsSlice()},
		&expr.Immediate{Register: reg32at1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg32at0, RegProtoMin: reg32at1, Specified: true}}
}

func snat(a netip.Addr) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: reg32at0, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg32at0}}
}

// local matches packets to an address of this machine.
func local() []expr.Any {
	return []expr.Any{&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}
}

// publishedPort sends what is for a published port to its container: meta l4proto . th dport looked up in the map.
func publishedPort(ports *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg32at0},
		&expr.Payload{DestRegister: reg32at1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg32at0, DestRegister: reg32at0, IsDestRegSet: true, SetName: ports.Name, SetID: ports.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg32at0, RegProtoMin: reg32at1, Specified: true}}
}

// wasDNAT matches connections whose destination was rewritten.
func wasDNAT() []expr.Any {
	const statusDNAT = 1 << 5 // IPS_DST_NAT
	return []expr.Any{&expr.Ct{Register: reg1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(statusDNAT),
			Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)}}
}

// known matches packets of connections that were let through before.
func known() []expr.Any {
	return []expr.Any{&expr.Ct{Register: reg1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)}}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{number}}}
}

// redirect matches ICMP redirects.
func redirect() []expr.Any {
	const icmpRedirect = 5
	return append(protocol(unix.IPPROTO_ICMP), []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{icmpRedirect}}}...)
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }
