package model

import (
	"cmp"
	"iter"
	"slices"
)

// untold is how many machines besides the servers serve load balancers without being told to: a fleet of ten all do.
const untold = 9

// Balancing are the machines that serve load balancers: those of servers, which feed their own proxies, those that say so (berth.lb=true),
// and of the others, but for those that say no and those that nobody reaches from outside, the first ones. Whoever serves goes on when
// another machine comes. servers are by the ids of their nodes.
func Balancing(nodes iter.Seq[*Node], servers map[string]bool) map[string]bool {
	all := map[string]bool{}
	var rest []*Node
	for n := range nodes {
		switch said := n.Attributes[AttributeBalancer]; {
		case servers[n.ID] || n.KeyHash == "" || said == "true":
			all[n.ID] = true
		case said == "" && n.Attributes[AttributeReachable] != "false":
			rest = append(rest, n)
		}
	}
	slices.SortFunc(rest, func(a, b *Node) int {
		return cmp.Or(a.RegisteredAt.Compare(b.RegisteredAt), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range rest[:min(len(rest), untold)] {
		all[n.ID] = true
	}
	return all
}

// SameBalancing tells whether a machine that has changed serves load balancers if and only if it did, and so do the others.
func SameBalancing(a, b *Node) bool {
	return a != nil && b != nil && (a.KeyHash == "") == (b.KeyHash == "") && a.RegisteredAt.Equal(b.RegisteredAt) &&
		a.Attributes[AttributeBalancer] == b.Attributes[AttributeBalancer] && a.Attributes[AttributeReachable] == b.Attributes[AttributeReachable]
}

// Misses tells whether a machine that serves load balancers could not take the listener's port.
func (l *Listener) Misses(node string) bool {
	if len(l.Problems) > 0 {
		return l.Problems[node] != ""
	}
	return l.Problem != ""
}
