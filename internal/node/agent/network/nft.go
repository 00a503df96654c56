package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// elements are all that is published. n.mu is held.
func (n *Network) elements() []element {
	var all []element
	for _, r := range n.records {
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

// install replaces the whole table in one transaction: at no time is there half a table.
func (f *firewall) install(bridge string, subnet netip.Prefix, gateway netip.Addr, metadata uint16, published []element) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.build(bridge, subnet, gateway, metadata, published); err != nil {
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
	err = f.build("brth-probe", subnet, subnet.Addr().Next(), 1, []element{{unix.IPPROTO_TCP, 1, subnet.Addr().Next(), 1}})
	if err == nil {
		conn.DelTable(f.table())
		err = conn.Flush()
	}
	return errors.Join(err, conn.CloseLasting())
}

// build queues the transaction that makes the table anew.
func (f *firewall) build(bridge string, subnet netip.Prefix, gateway netip.Addr, metadata uint16, published []element) error {
	t := f.table()
	f.conn.AddTable(t) // so that there is one to delete
	f.conn.DelTable(t)
	f.conn.AddTable(t)
	ports := f.ports(t)
	if err := f.conn.AddSet(ports, encode(published)); err != nil {
		return err
	}
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return f.conn.AddChain(&nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	}
	rule := func(c *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		f.conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: all})
	}
	pre := chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	if metadata != 0 {
		rule(pre, device(expr.MetaKeyIIFNAME, bridge, true), destination(netip.PrefixFrom(metadataAddr, 32)), port80(),
			dnat(gateway, metadata))
	}
	rule(pre, local(), publishedPort(ports))
	rule(out, local(), publishedPort(ports))
	// route_localnet, which published ports need, must not open the machine's own loopback to tasks.
	guard := f.conn.AddChain(&nftables.Chain{Table: t, Name: "guard", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	rule(guard, device(expr.MetaKeyIIFNAME, bridge, true), destination(loopback), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	// What programs of this machine send to 127.0.0.1, and what a task sends to a published port, must come back the same way.
	rule(post, source(loopback), device(expr.MetaKeyOIFNAME, bridge, true), masquerade())
	rule(post, source(subnet), device(expr.MetaKeyOIFNAME, bridge, true), wasDNAT(), masquerade())
	rule(post, source(subnet), device(expr.MetaKeyOIFNAME, bridge, false), masquerade())
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

func device(key expr.MetaKey, name string, equal bool) []expr.Any {
	op := expr.CmpOpEq
	if !equal {
		op = expr.CmpOpNeq
	}
	return []expr.Any{&expr.Meta{Key: key, Register: reg1}, &expr.Cmp{Op: op, Register: reg1, Data: ifname(name)}}
}

func destination(p netip.Prefix) []expr.Any { return address(16, p) }
func source(p netip.Prefix) []expr.Any      { return address(12, p) }

// address compares an address of the IPv4 header, which is at offset.
func address(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: p.Masked().Addr().AsSlice()}}
}

func port80() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{0, 80}}}
}

func dnat(a netip.Addr, port uint16) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: reg32at0, Data: a.AsSlice()},
		&expr.Immediate{Register: reg32at1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg32at0, RegProtoMin: reg32at1, Specified: true}}
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

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }
