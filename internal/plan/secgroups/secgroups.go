// Package secgroups turns security groups into what a machine's packet filter holds: named sets of addresses, chains of rules, and which
// chain an address of a task goes through. Build is the whole of it, Diff what changed.
//
// What a task receives is judged on its own machine, and what it sends too: a connection between two tasks passes both. Connections that
// were allowed once are not looked at again; the filter sees to that.
package secgroups

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/internal/model"
)

// Input is what a machine knows.
type Input struct {
	// Tasks are the machine's own in awsvpc mode: the groups of each by its address. A task whose groups are not known has none, and is
	// reached by nobody.
	Tasks  map[netip.Addr][]string
	Groups map[string]model.Group
	// Machines are the addresses of machines: those that load balancers, and tasks without an address of their own, speak from.
	Machines []netip.Addr
	// VPCs are the ranges of all VPCs: a task reaches no address of another VPC than that of its groups but the machines'.
	VPCs map[string][]netip.Prefix
}

// Rule lets a packet pass. Peer and Set are what the other end is: one of them, or neither for any. With Drop it is dropped, where the
// other end is in Peer and not in Set.
type Rule struct {
	Drop     bool
	Protocol int // -1: any
	// From and To bound the port; From < 0: any. Of ICMP they are type and code, either of which may be -1.
	From, To int32
	Peer     netip.Prefix
	Set      string
}

// Table is what the filter holds.
type Table struct {
	Sets   map[string][]netip.Addr // sorted, without duplicates
	Chains map[string][]Rule       // what matches no rule of it is dropped
	In     map[netip.Addr]string   // the chain of what goes to a task
	Out    map[netip.Addr]string   // the chain of what comes from it
}

// Build makes the table. The same input gives the same table.
func Build(in Input) Table {
	t := Table{Sets: map[string][]netip.Addr{}, Chains: map[string][]Rule{}, In: map[netip.Addr]string{}, Out: map[netip.Addr]string{}}
	local := map[string][]netip.Addr{} // what this machine knows before the servers do
	for a, groups := range in.Tasks {
		for _, g := range groups {
			local[g] = append(local[g], a)
		}
	}
	for a, groups := range in.Tasks {
		names := slices.Compact(slices.Sorted(slices.Values(groups)))
		t.In[a], t.Out[a] = chain("in", names), chain("out", names)
		for _, egress := range []bool{false, true} {
			name := chain(way(egress), names)
			if _, made := t.Chains[name]; made {
				continue
			}
			t.Chains[name] = append(apart(in, names), rules(in.Groups, names, egress)...)
			for _, r := range t.Chains[name] {
				if _, made := t.Sets[r.Set]; r.Set == machines && !made {
					t.Sets[r.Set] = sorted(slices.Clone(in.Machines))
				} else if r.Set != "" && !made {
					t.Sets[r.Set] = members(in, local, strings.TrimPrefix(r.Set, setPrefix))
				}
			}
		}
	}
	return t
}

func way(egress bool) string {
	if egress {
		return "out"
	}
	return "in"
}

// chain is the name of the chain of those that are in all these groups: names of the kernel's have bounds.
func chain(way string, groups []string) string {
	sum := sha256.Sum256([]byte(strings.Join(groups, " ")))
	return way + "-" + hex.EncodeToString(sum[:8])
}

const setPrefix, machines = "g-", "machines"

// apart are the rules that keep those of a VPC from those of others.
func apart(in Input, names []string) []Rule {
	own := map[string]bool{}
	for _, g := range names {
		if vpc := in.Groups[g].VPC; vpc != "" {
			own[vpc] = true
		}
	}
	all := []Rule{}
	for vpc, ranges := range in.VPCs {
		if len(own) == 0 || own[vpc] {
			continue
		}
		for _, p := range ranges {
			all = append(all, Rule{Drop: true, Protocol: -1, From: -1, To: -1, Peer: p, Set: machines})
		}
	}
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

func sorted(all []netip.Addr) []netip.Addr {
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// members are the addresses of a group; an unknown one has none.
func members(in Input, local map[string][]netip.Addr, group string) []netip.Addr {
	all := slices.Concat(in.Groups[group].Members, local[group])
	if in.Groups[group].Machines {
		all = append(all, in.Machines...)
	}
	return sorted(all)
}

// rules are those of all the groups together, each once, in an order that does not change.
func rules(groups map[string]model.Group, names []string, egress bool) []Rule {
	all := []Rule{}
	for _, name := range names {
		for _, r := range groups[name].Rules {
			if r.Egress != egress {
				continue
			}
			if rule, ok := ruleOf(r); ok {
				all = append(all, rule)
			}
		}
	}
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

func compare(a, b Rule) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Set, b.Set),
		a.Peer.Addr().Compare(b.Peer.Addr()), cmp.Compare(a.Peer.Bits(), b.Peer.Bits()))
}

// The numbers of the protocols that have a name.
var protocols = map[string]int{"-1": -1, "tcp": 6, "udp": 17, "icmp": 1}

// ruleOf is a group's rule as the filter has it; ok is false for what no packet here can match: tasks speak no IPv6.
func ruleOf(r model.SecurityGroupRule) (out Rule, ok bool) {
	number, named := protocols[r.Protocol]
	if !named {
		var err error
		if number, err = strconv.Atoi(r.Protocol); err != nil || number < 0 || number > 255 || number == icmp6 {
			return out, false
		}
	}
	out = Rule{Protocol: number, From: -1, To: -1}
	if number == TCP || number == UDP || number == ICMP {
		out.From, out.To = r.From, r.To
	}
	if (number == TCP || number == UDP) && (r.From <= 0 && r.To >= 65535 || r.From < 0) {
		out.From, out.To = -1, -1
	}
	switch {
	case r.CIDR != "":
		p, err := netip.ParsePrefix(r.CIDR)
		if err != nil || !p.Addr().Is4() {
			return out, false
		}
		if p.Bits() > 0 {
			out.Peer = p.Masked()
		}
		return out, true
	case r.Group != "":
		out.Set = setPrefix + r.Group
		return out, true
	}
	return out, false
}

// The protocols that have ports, or types.
const (
	ICMP  = 1
	TCP   = 6
	UDP   = 17
	icmp6 = 58
)

// Needed are the groups that a machine must know: those of its tasks, and those that their rules name. The result is sorted.
func Needed(tasks map[string][]string, rules func(group string) []model.SecurityGroupRule) []string {
	own := map[string]bool{}
	for _, groups := range tasks {
		for _, g := range groups {
			own[g] = true
		}
	}
	all := map[string]bool{}
	for g := range own {
		all[g] = true
		for _, r := range rules(g) {
			if r.Group != "" {
				all[r.Group] = true
			}
		}
	}
	var names []string
	for g := range all {
		names = append(names, g)
	}
	slices.Sort(names)
	return names
}
