package network

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules is the instance's nftables table:
//
//	map tcp, map udp     host port -> address . port
//	prerouting (nat)     169.254.170.2:80 from the bridge -> the metadata server; published ports -> their containers
//	output (nat)         the same ports for this machine's own programs
//	postrouting (nat)    what leaves by another link, comes from 127.0.0.1, or turns round on the bridge is masqueraded
//	guard (filter)       nothing from the bridge may reach this machine's 127.0.0.0/8
type rules struct {
	id       string
	bridge   string
	subnet   netip.Prefix
	gateway  netip.Addr
	metadata uint16
	mu       sync.Mutex // one change at a time
}

// publication is a host port and where it leads.
type publication struct {
	protocol string
	port     uint16
	to       netip.Addr
	toPort   uint16
}

func (r *rules) table() *nftables.Table {
	return &nftables.Table{Name: "berth-" + r.id, Family: nftables.TableFamilyIPv4}
}

func (r *rules) ports(protocol string) *nftables.Set {
	return &nftables.Set{Table: r.table(), Name: protocol, IsMap: true, KeyType: nftables.TypeInetService,
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// install replaces the table in one transaction, so that no packet sees half of it.
func (r *rules) install(published []publication) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := r.table()
	c.AddTable(t) // so that the next line finds one
	c.DelTable(t)
	t = c.AddTable(t)
	sets := map[string]*nftables.Set{}
	for _, protocol := range []string{"tcp", "udp"} {
		s := r.ports(protocol)
		s.Table = t
		if err := c.AddSet(s, elements(published, protocol)); err != nil {
			return err
		}
		sets[protocol] = s
	}
	dstnat, srcnat, raw := nftables.ChainPriorityNATDest, nftables.ChainPriorityNATSource, nftables.ChainPriorityRaw
	accept := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook, Priority: priority, Policy: &accept})
	}
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, dstnat)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, dstnat)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, srcnat)
	guard := chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, raw)
	add := func(ch *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: all})
	}
	if r.metadata != 0 {
		add(pre, r.fromBridge(), destination(netip.MustParsePrefix("169.254.170.2/32")), layer4(unix.IPPROTO_TCP), port(80),
			dnatTo(r.gateway, r.metadata))
	}
	for _, ch := range []*nftables.Chain{pre, out} {
		for _, protocol := range []string{"tcp", "udp"} {
			add(ch, local(), layer4(protocols[protocol]), dnatBy(sets[protocol]))
		}
	}
	add(post, source(r.subnet), r.outOf(expr.CmpOpNeq), masquerade())
	add(post, source(netip.MustParsePrefix("127.0.0.0/8")), r.outOf(expr.CmpOpEq), masquerade())
	add(post, source(r.subnet), r.outOf(expr.CmpOpEq), translated(), masquerade())
	add(guard, r.fromBridge(), destination(netip.MustParsePrefix("127.0.0.0/8")), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	return c.Flush()
}

func elements(all []publication, protocol string) (out []nftables.SetElement) {
	for _, p := range all {
		if p.protocol != protocol {
			continue
		}
		to := append(p.to.AsSlice(), 0, 0, 0, 0)
		binary.BigEndian.PutUint16(to[4:], p.toPort)
		out = append(out, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p.port), Val: to})
	}
	return out
}

func (r *rules) publish(all []publication) error {
	return r.change(all, (*nftables.Conn).SetAddElements)
}

// unpublish takes ports back; the container may be gone already, the elements are not.
func (r *rules) unpublish(all []publication) error {
	return r.change(all, func(c *nftables.Conn, s *nftables.Set, e []nftables.SetElement) error {
		for i := range e {
			e[i].Val = nil
		}
		return c.SetDeleteElements(s, e)
	})
}

func (r *rules) change(all []publication, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(all) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	for _, protocol := range []string{"tcp", "udp"} {
		if e := elements(all, protocol); len(e) > 0 {
			if err := do(c, r.ports(protocol), e); err != nil {
				return err
			}
		}
	}
	return ignoreMissing(c.Flush())
}

// remove deletes the table.
func (r *rules) remove() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(r.table())
	return ignoreMissing(c.Flush())
}
