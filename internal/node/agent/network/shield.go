package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/plan/secgroups"
)

// shield is the table that holds security groups: beside the other, as it changes when a task comes anywhere, and that one hardly ever.
// Both must let a packet pass. It is changed in transactions, each of which happens whole or not at all, and what was allowed once
// (conntrack's established) is not looked at again.
type shield struct {
	id       string
	gateway  netip.Addr
	metadata uint16

	mu   sync.Mutex // one transaction at a time
	conn *nftables.Conn
	have *secgroups.Table // what the kernel holds; nil: not known
}

func (s *shield) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "berth-sg-" + s.id}
}

// level makes the kernel hold want: by what changed, or all of it anew when that is not known or does not fit.
func (s *shield) level(want secgroups.Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have != nil {
		changes := secgroups.Diff(*s.have, want)
		if changes.Empty() {
			return nil
		}
		if err := s.change(changes); err == nil {
			s.have = &want
			return nil
		}
	}
	s.have = nil
	if err := s.anew(want); err != nil {
		return fmt.Errorf("install the rules of security groups: %w", err)
	}
	s.have = &want
	return nil
}

// forget has the next level make everything anew.
func (s *shield) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = nil
}

// anew replaces the whole table.
func (s *shield) anew(want secgroups.Table) error {
	t := s.table()
	s.conn.AddTable(t) // so that there is one to delete
	s.conn.DelTable(t)
	s.conn.AddTable(t)
	for _, name := range []string{"in", "out"} {
		if err := s.conn.AddSet(s.way(t, name), nil); err != nil {
			return err
		}
	}
	s.base(t)
	return s.change(secgroups.Diff(secgroups.Table{}, want))
}

// way is the map from a task's address to the chain of what goes to it, or comes from it.
func (s *shield) way(t *nftables.Table, name string) *nftables.Set {
	return &nftables.Set{Table: t, Name: name, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeVerdict}
}

func (s *shield) set(t *nftables.Table, name string) *nftables.Set {
	return &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeIPAddr}
}

// base adds the chains that packets come through.
func (s *shield) base(t *nftables.Table) {
	f := firewall{id: s.id, conn: s.conn}
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return s.conn.AddChain(&nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook,
			Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter - 10)})
	}
	from, to := f.tasks(expr.MetaKeyIIFNAME, true), f.tasks(expr.MetaKeyOIFNAME, true)
	in, out := judge(16, s.way(t, "in")), judge(12, s.way(t, "out"))
	forward := chain("forward", nftables.ChainHookForward)
	f.rule(forward, known(), verdict(expr.VerdictAccept))
	f.rule(forward, from, out)
	f.rule(forward, to, in)
	// What a task says to its machine: metadata and names are nobody's to forbid.
	input := chain("input", nftables.ChainHookInput)
	f.rule(input, known(), verdict(expr.VerdictAccept))
	gateway := destination(netip.PrefixFrom(s.gateway, 32))
	for _, p := range []struct {
		protocol byte
		port     uint16
	}{{unix.IPPROTO_UDP, 53}, {unix.IPPROTO_TCP, 53}, {unix.IPPROTO_TCP, s.metadata}} {
		if p.port != 0 {
			f.rule(input, from, gateway, toPort(p.protocol, p.port), verdict(expr.VerdictAccept))
		}
	}
	f.rule(input, from, out)
	// What the machine says to a task: a load balancer's requests, and those of tasks without an address of their own.
	output := chain("output", nftables.ChainHookOutput)
	f.rule(output, known(), verdict(expr.VerdictAccept))
	f.rule(output, to, in)
}

// judge sends a packet through the chain of the address at an offset of its header. Who has none is no task of awsvpc mode.
func judge(offset uint32, way *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Lookup{SourceRegister: reg1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: way.Name}}
}

// atATime is how many elements one message of netlink carries: an attribute has 64 KiB at most.
const atATime = 500

// change carries changes out, all or none.
func (s *shield) change(c secgroups.Changes) error {
	t := s.table()
	for _, x := range c.Add {
		if x.New {
			if err := s.conn.AddSet(s.set(t, x.Name), nil); err != nil {
				return err
			}
		}
		if err := each(x.Addrs, func(e []nftables.SetElement) error { return s.conn.SetAddElements(s.set(t, x.Name), e) }); err != nil {
			return err
		}
	}
	for _, x := range c.Chains {
		s.chain(t, x)
	}
	for _, way := range []struct {
		name    string
		changes []secgroups.MapChange
	}{{"in", c.In}, {"out", c.Out}} {
		if err := s.lead(t, way.name, way.changes); err != nil {
			return err
		}
	}
	for _, x := range c.Remove {
		if err := each(x.Addrs, func(e []nftables.SetElement) error { return s.conn.SetDeleteElements(s.set(t, x.Name), e) }); err != nil {
			return err
		}
	}
	for _, name := range c.Dropped {
		s.conn.FlushChain(&nftables.Chain{Table: t, Name: name})
		s.conn.DelChain(&nftables.Chain{Table: t, Name: name})
	}
	for _, name := range c.Gone {
		s.conn.DelSet(s.set(t, name))
	}
	return s.conn.Flush()
}

// each cuts addresses into messages.
func each(all []netip.Addr, f func([]nftables.SetElement) error) error {
	for part := range slices.Chunk(all, atATime) {
		var elements []nftables.SetElement
		for _, a := range part {
			elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
		}
		if err := f(elements); err != nil {
			return err
		}
	}
	return nil
}

// chain makes a chain, or gives it other rules.
func (s *shield) chain(t *nftables.Table, x secgroups.ChainChange) {
	c := &nftables.Chain{Table: t, Name: x.Name}
	if x.New {
		s.conn.AddChain(c)
	} else {
		s.conn.FlushChain(c)
	}
	peer, allow := uint32(12), expr.VerdictReturn
	if x.Name[:3] == "out" {
		peer = 16
	}
	f := firewall{id: s.id, conn: s.conn}
	for _, r := range x.Rules {
		if r.Drop {
			f.rule(c, matching(r, peer), verdict(expr.VerdictDrop))
			continue
		}
		f.rule(c, matching(r, peer), verdict(allow))
	}
	f.rule(c, verdict(expr.VerdictDrop))
}

// matching is what a rule matches; the other end's address is at the offset peer.
func matching(r secgroups.Rule, peer uint32) (all []expr.Any) {
	switch {
	case r.Drop:
		return append(address(peer, r.Peer), &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: peer, Len: 4},
			&expr.Lookup{SourceRegister: reg1, SetName: r.Set, Invert: true})
	case r.Set != "":
		all = append(all, &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: peer, Len: 4},
			&expr.Lookup{SourceRegister: reg1, SetName: r.Set})
	case r.Peer.IsValid():
		all = append(all, address(peer, r.Peer)...)
	}
	if r.Protocol < 0 {
		return all
	}
	all = append(all, protocol(byte(r.Protocol))...)
	if r.Protocol == secgroups.ICMP {
		for i, v := range []int32{r.From, r.To} { // type and code
			if v >= 0 {
				all = append(all, &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: uint32(i), Len: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{byte(v)}})
			}
		}
		return all
	}
	if r.From < 0 {
		return all
	}
	port := func(p int32) []byte { return binary.BigEndian.AppendUint16(nil, uint16(p)) }
	return append(all, &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: reg1, FromData: port(r.From), ToData: port(r.To)})
}

// lead has addresses go to chains.
func (s *shield) lead(t *nftables.Table, name string, changes []secgroups.MapChange) error {
	var add, remove []nftables.SetElement
	for _, x := range changes {
		if x.Was != "" {
			remove = append(remove, leads(x.Addr, x.Was))
		}
		if x.Chain != "" {
			add = append(add, leads(x.Addr, x.Chain))
		}
	}
	for part := range slices.Chunk(remove, atATime) {
		if err := s.conn.SetDeleteElements(s.way(t, name), part); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(add, atATime) {
		if err := s.conn.SetAddElements(s.way(t, name), part); err != nil {
			return err
		}
	}
	return nil
}

func leads(a netip.Addr, chain string) nftables.SetElement {
	return nftables.SetElement{Key: a.AsSlice(), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// missing tells whether another program took the table away.
func (s *shield) missing() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables, err := s.conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == s.table().Name }), nil
}

// remove deletes the table.
func (s *shield) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = nil
	s.conn.AddTable(s.table())
	s.conn.DelTable(s.table())
	if err := s.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the table of security groups: %w", err)
	}
	return nil
}
