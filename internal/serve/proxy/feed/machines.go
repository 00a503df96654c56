package feed

import (
	"maps"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Machines are those without a server that are to serve load balancers.
func Machines(r store.Reader) map[string]bool {
	servers := map[string]bool{}
	for s := range store.Servers.Scan(r, "") {
		servers[s.ID] = true
	}
	all := model.Balancing(store.Nodes.Scan(r, ""), servers)
	maps.DeleteFunc(all, func(id string, _ bool) bool { // its own server feeds its proxy
		n, ok := store.Nodes.Get(r, id)
		return servers[id] || ok && n.KeyHash == ""
	})
	return all
}
