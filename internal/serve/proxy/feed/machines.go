package feed

import (
	"cmp"
	"slices"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Machines are those without a server that are to serve load balancers: those that say so (berth.lb=true), and of the others, but for those
// that say no and those that nobody reaches from outside, the first ones. Whoever serves goes on when another machine comes.
func Machines(r store.Reader) map[string]bool {
	all, servers := map[string]bool{}, map[string]bool{}
	for s := range store.Servers.Scan(r, "") {
		servers[s.ID] = true
	}
	var rest []*model.Node
	for n := range store.Nodes.Scan(r, "") {
		switch said := n.Attributes[model.AttributeBalancer]; {
		case servers[n.ID] || n.KeyHash == "": // its own server feeds its proxy
		case said == "true":
			all[n.ID] = true
		case said == "" && n.Attributes[model.AttributeReachable] != "false":
			rest = append(rest, n)
		}
	}
	slices.SortFunc(rest, func(a, b *model.Node) int {
		return cmp.Or(a.RegisteredAt.Compare(b.RegisteredAt), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range rest[:min(len(rest), untold)] {
		all[n.ID] = true
	}
	return all
}

// untold is how many machines besides the servers serve load balancers without being told to: a fleet of ten all do.
const untold = 9
