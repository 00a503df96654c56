package secgroups

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

// packet is the first one of a connection.
type packet struct {
	from, to netip.Addr
	protocol int
	port     int32
}

// passes is what the filter does with a packet, by the table alone.
func (t Table) passes(p packet) bool {
	judge := func(chain string, ok bool, peer netip.Addr) bool {
		for _, r := range t.Chains[chain] {
			_, excepted := slices.BinarySearchFunc(t.Sets[r.Set], peer, netip.Addr.Compare)
			if ok && r.Drop && r.Peer.Contains(peer) && !excepted {
				return false
			}
		}
		return !ok || slices.ContainsFunc(t.Chains[chain], func(r Rule) bool {
			if r.Drop || r.Protocol >= 0 && r.Protocol != p.protocol || r.From >= 0 && r.Protocol != ICMP && (p.port < r.From || p.port > r.To) {
				return false
			}
			if r.Set != "" {
				_, in := slices.BinarySearchFunc(t.Sets[r.Set], peer, netip.Addr.Compare)
				return in
			}
			return !r.Peer.IsValid() || r.Peer.Contains(peer)
		})
	}
	out, filtered := t.Out[p.from]
	in, guarded := t.In[p.to]
	return judge(out, filtered, p.to) && judge(in, guarded, p.from)
}

// allowed is what AWS's documentation says, without a table.
func allowed(in Input, p packet) bool {
	judge := func(groups []string, egress bool, peer netip.Addr) bool {
		own, known := false, false
		for _, g := range groups {
			known = known || in.Groups[g].VPC != ""
			own = own || slices.ContainsFunc(in.VPCs[in.Groups[g].VPC], func(p netip.Prefix) bool { return p.Contains(peer) })
		}
		for _, ranges := range in.VPCs {
			if known && !own && !slices.Contains(in.Machines, peer) && slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(peer) }) {
				return false
			}
		}
		for _, g := range groups {
			for _, r := range in.Groups[g].Rules {
				number := map[string]int{"tcp": 6, "udp": 17, "-1": -1}[r.Protocol]
				if r.Egress != egress || number >= 0 && (number != p.protocol || p.port < r.From || p.port > r.To) {
					continue
				}
				if r.CIDR != "" && netip.MustParsePrefix(r.CIDR).Contains(peer) || r.Group != "" && memberOf(in, r.Group, peer) {
					return true
				}
			}
		}
		return false
	}
	from, ours := in.Tasks[p.from]
	to, mine := in.Tasks[p.to]
	return (!ours || judge(from, true, p.to)) && (!mine || judge(to, false, p.from))
}

func memberOf(in Input, group string, a netip.Addr) bool {
	g := in.Groups[group]
	return slices.Contains(g.Members, a) || g.Machines && slices.Contains(in.Machines, a) || slices.Contains(in.Tasks[a], group)
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }

func tcp(port int32, egress bool, cidr, group string) model.SecurityGroupRule {
	return model.SecurityGroupRule{Egress: egress, Protocol: "tcp", From: port, To: port, CIDR: cidr, Group: group}
}

var everything = model.SecurityGroupRule{Egress: true, Protocol: "-1", From: -1, To: -1, CIDR: "0.0.0.0/0"}

func TestAService(t *testing.T) {
	web, lb, db, machine := addr(10), addr(1), addr(20), addr(1)
	in := Input{Machines: []netip.Addr{machine}, Tasks: map[netip.Addr][]string{web: {"web"}, db: {"db"}, addr(30): nil},
		Groups: map[string]model.Group{
			"web": {ID: "web", Rules: []model.SecurityGroupRule{tcp(80, false, "", "alb"), tcp(9000, false, "10.0.0.40/30", ""), everything}},
			"db":  {ID: "db", Rules: []model.SecurityGroupRule{tcp(5432, false, "", "web"), tcp(443, true, "10.0.0.0/24", "")}},
			"alb": {ID: "alb", Machines: true},
		}}
	table := Build(in)
	for _, c := range []struct {
		from, to netip.Addr
		protocol int
		port     int32
		want     bool
	}{
		{lb, web, TCP, 80, true}, {lb, web, TCP, 81, false}, {lb, web, UDP, 80, false}, {db, web, TCP, 80, false},
		{addr(41), web, TCP, 9000, true}, {addr(44), web, TCP, 9000, false},
		{web, db, TCP, 5432, true}, {lb, db, TCP, 5432, false}, {addr(99), db, TCP, 5432, false},
		{web, netip.MustParseAddr("1.1.1.1"), UDP, 53, true}, {db, netip.MustParseAddr("1.1.1.1"), UDP, 53, false},
		{db, addr(77), TCP, 443, true}, {db, netip.MustParseAddr("1.1.1.1"), TCP, 443, false},
		{web, addr(30), TCP, 80, false}, {addr(30), web, TCP, 80, false}, // whose groups are not known
		{addr(98), addr(99), TCP, 1, true}, // nobody's here
	} {
		if got := table.passes(packet{c.from, c.to, c.protocol, c.port}); got != c.want {
			t.Errorf("%s -> %s %d/%d passes: %v", c.from, c.to, c.protocol, c.port, got)
		}
	}
	if got := Needed(map[string][]string{"t": {"db"}}, func(g string) []model.SecurityGroupRule { return in.Groups[g].Rules }); !slices.Equal(got, []string{"db", "web"}) {
		t.Errorf("%v are needed", got)
	}
}

func TestWhatNoPacketMatches(t *testing.T) {
	for _, r := range []model.SecurityGroupRule{{Protocol: "tcp", CIDR6: "::/0"}, {Protocol: "icmpv6", CIDR: "0.0.0.0/0"}, {Protocol: "58", CIDR: "0.0.0.0/0"},
		{Protocol: "tcp", PrefixList: "pl-1"}, {Protocol: "x", CIDR: "0.0.0.0/0"}} {
		if rule, ok := ruleOf(r); ok {
			t.Errorf("%+v became %+v", r, rule)
		}
	}
	if r, ok := ruleOf(model.SecurityGroupRule{Protocol: "icmp", From: 8, To: -1, CIDR: "0.0.0.0/0"}); !ok || r.From != 8 || r.To != -1 || r.Peer.IsValid() {
		t.Errorf("%+v", r)
	}
}

// input draws what a machine may know.
func input(t *rapid.T) Input {
	groups := []string{"a", "b", "c", "d"}
	in := Input{Tasks: map[netip.Addr][]string{}, Groups: map[string]model.Group{}, Machines: []netip.Addr{addr(1), addr(2)}}
	if rapid.Bool().Draw(t, "two VPCs") {
		in.VPCs = map[string][]netip.Prefix{"v": {netip.MustParsePrefix("10.0.0.0/29")}, "w": {netip.MustParsePrefix("10.0.0.8/29"), netip.MustParsePrefix("10.1.0.0/16")}}
	}
	rule := rapid.Custom(func(t *rapid.T) model.SecurityGroupRule {
		r := model.SecurityGroupRule{Egress: rapid.Bool().Draw(t, "egress"), Protocol: rapid.SampledFrom([]string{"tcp", "udp", "-1"}).Draw(t, "protocol"), From: -1, To: -1}
		if r.Protocol != "-1" {
			r.From = rapid.Int32Range(0, 4).Draw(t, "from")
			r.To = rapid.Int32Range(r.From, 5).Draw(t, "to")
			if rapid.IntRange(0, 5).Draw(t, "all") == 0 {
				r.From, r.To = 0, 65535
			}
		}
		if rapid.Bool().Draw(t, "by group") {
			r.Group = rapid.SampledFrom(append(groups, "unknown")).Draw(t, "group")
		} else {
			r.CIDR = fmt.Sprintf("10.0.0.%d/%d", rapid.SampledFrom([]int{0, 4, 8}).Draw(t, "net"), rapid.SampledFrom([]int{0, 24, 30}).Draw(t, "bits"))
			r.CIDR = netip.MustParsePrefix(r.CIDR).Masked().String()
		}
		return r
	})
	for _, g := range groups[:rapid.IntRange(0, 4).Draw(t, "groups")] {
		row := model.Group{ID: g, VPC: "v", Rules: rapid.SliceOfN(rule, 0, 5).Draw(t, "rules"), Machines: rapid.Bool().Draw(t, "machines")}
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, 16), 0, 4).Draw(t, "members") {
			row.Members = append(row.Members, addr(n))
		}
		in.Groups[g] = row
	}
	for _, n := range rapid.SliceOfN(rapid.IntRange(3, 12), 0, 5).Draw(t, "tasks") {
		in.Tasks[addr(n)] = rapid.SliceOfN(rapid.SampledFrom(groups), 0, 3).Draw(t, "groups of a task")
	}
	return in
}

func TestTheTableSaysWhatTheGroupsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := input(t)
		table := Build(in)
		if again := Build(in); !reflect.DeepEqual(table, again) {
			t.Fatalf("two tables of one input: %+v and %+v", table, again)
		}
		for range 20 {
			p := packet{addr(rapid.IntRange(1, 16).Draw(t, "src")), addr(rapid.IntRange(1, 16).Draw(t, "dst")),
				rapid.SampledFrom([]int{TCP, UDP}).Draw(t, "protocol"), rapid.Int32Range(0, 6).Draw(t, "port")}
			if got, want := table.passes(p), allowed(in, p); got != want {
				t.Fatalf("%+v passes: %v, want %v\n%+v", p, got, want, table)
			}
		}
	})
}

// apply does what the kernel does with changes, and refuses what it would refuse.
func apply(t *rapid.T, to Table, c Changes) {
	for _, s := range c.Add {
		if _, known := to.Sets[s.Name]; known == s.New {
			t.Fatalf("the set %s: known %v, new %v", s.Name, known, s.New)
		}
		all := append(slices.Clone(to.Sets[s.Name]), s.Addrs...)
		slices.SortFunc(all, netip.Addr.Compare)
		to.Sets[s.Name] = all
	}
	for _, x := range c.Chains {
		if _, known := to.Chains[x.Name]; known == x.New {
			t.Fatalf("the chain %s: known %v, new %v", x.Name, known, x.New)
		}
		for _, r := range x.Rules {
			if _, known := to.Sets[r.Set]; r.Set != "" && !known {
				t.Fatalf("a rule needs the set %s, which is not there", r.Set)
			}
		}
		to.Chains[x.Name] = x.Rules
	}
	for _, way := range []struct {
		m       map[netip.Addr]string
		changes []MapChange
	}{{to.In, c.In}, {to.Out, c.Out}} {
		for _, x := range way.changes {
			if way.m[x.Addr] != x.Was {
				t.Fatalf("%s goes to %q, not %q", x.Addr, way.m[x.Addr], x.Was)
			}
			if delete(way.m, x.Addr); x.Chain == "" {
				continue
			}
			if _, known := to.Chains[x.Chain]; !known {
				t.Fatalf("the chain %s is not there", x.Chain)
			}
			way.m[x.Addr] = x.Chain
		}
	}
	for _, s := range c.Remove {
		to.Sets[s.Name] = slices.DeleteFunc(slices.Clone(to.Sets[s.Name]), func(a netip.Addr) bool { return slices.Contains(s.Addrs, a) })
	}
	for _, name := range c.Dropped {
		for _, m := range []map[netip.Addr]string{to.In, to.Out} {
			if slices.Contains(slices.Collect(maps.Values(m)), name) {
				t.Fatalf("the chain %s is dropped while it is in use", name)
			}
		}
		delete(to.Chains, name)
	}
	for _, name := range c.Gone {
		delete(to.Sets, name)
	}
}

func TestChangesLeadToTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := Build(Input{})
		for range 4 {
			want := Build(input(t))
			apply(t, have, Diff(have, want))
			for name, all := range have.Sets {
				have.Sets[name] = slices.Clip(all)
			}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Fatalf("have %+v\nwant %+v", have, want)
			}
			if c := Diff(have, want); !c.Empty() {
				t.Fatalf("something is left to do: %+v", c)
			}
		}
	})
}
