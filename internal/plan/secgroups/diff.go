package secgroups

import (
	"maps"
	"net/netip"
	"slices"
)

// Changes lead from one table to another, in the order of the fields: what is added comes before what needs it, and what is removed after
// nothing needs it any more.
type Changes struct {
	Add    []SetChange // sets that are new, and addresses that are new in known ones
	Chains []ChainChange
	In     []MapChange
	Out    []MapChange
	Remove []SetChange // addresses that are gone from sets that stay
	// Dropped are chains, and Gone sets, that nothing needs any more.
	Dropped, Gone []string
}

// SetChange adds addresses to a set, or removes them from it.
type SetChange struct {
	Name  string
	New   bool // the set is to be made
	Addrs []netip.Addr
}

// ChainChange makes a chain, or gives one other rules.
type ChainChange struct {
	Name  string
	New   bool
	Rules []Rule
}

// MapChange leads an address to a chain. Was is the chain that it went to, Chain the one that it goes to; "" is none.
type MapChange struct {
	Addr       netip.Addr
	Was, Chain string
}

// Empty tells that there is nothing to do.
func (c Changes) Empty() bool {
	return len(c.Add)+len(c.Chains)+len(c.In)+len(c.Out)+len(c.Remove)+len(c.Dropped)+len(c.Gone) == 0
}

// Diff says what leads from one table to another.
func Diff(from, to Table) Changes {
	var c Changes
	for _, name := range slices.Sorted(maps.Keys(to.Sets)) {
		old, known := from.Sets[name]
		added, removed := split(old, to.Sets[name])
		if !known || len(added) > 0 {
			c.Add = append(c.Add, SetChange{name, !known, added})
		}
		if len(removed) > 0 {
			c.Remove = append(c.Remove, SetChange{Name: name, Addrs: removed})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to.Chains)) {
		old, known := from.Chains[name]
		if !known || !slices.Equal(old, to.Chains[name]) {
			c.Chains = append(c.Chains, ChainChange{name, !known, to.Chains[name]})
		}
	}
	c.In, c.Out = moved(from.In, to.In), moved(from.Out, to.Out)
	c.Dropped, c.Gone = gone(from.Chains, to.Chains), gone(from.Sets, to.Sets)
	return c
}

// split compares two sorted lists.
func split(old, now []netip.Addr) (added, removed []netip.Addr) {
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) == 0 || len(now) > 0 && now[0].Less(old[0]):
			added, now = append(added, now[0]), now[1:]
		case len(now) == 0 || old[0].Less(now[0]):
			removed, old = append(removed, old[0]), old[1:]
		default:
			old, now = old[1:], now[1:]
		}
	}
	return added, removed
}

func moved(from, to map[netip.Addr]string) (all []MapChange) {
	for a, chain := range to {
		if from[a] != chain {
			all = append(all, MapChange{a, from[a], chain})
		}
	}
	for a, chain := range from {
		if to[a] == "" {
			all = append(all, MapChange{Addr: a, Was: chain})
		}
	}
	slices.SortFunc(all, func(a, b MapChange) int { return a.Addr.Compare(b.Addr) })
	return all
}

func gone[T any](from, to map[string]T) (names []string) {
	for name := range from {
		if _, stays := to[name]; !stays {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
