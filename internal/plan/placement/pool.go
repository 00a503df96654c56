package placement

import (
	"slices"

	"github.com/berthdev/berth/internal/model"
)

// How many clusters' instances, and how many orders of each, are kept at hand. One more takes the place of that which nobody asked
// for longest, which is then built anew when it is asked for: some milliseconds with 10,000 nodes.
const (
	maxPools = 32
	maxViews = 8
)

// pool is the container instances of a cluster, or of all clusters of which every node is an instance and no client has changed
// anything: they share one.
type pool struct {
	cluster *cluster // nil: shared
	list    []*instance
	of      map[*node]*instance
	views   []*view
	asked   int
}

// instance is a node in a pool.
type instance struct {
	node   *node
	row    *model.Instance // nil: nothing was changed
	member bool            // a client may see it
	at     int             // its place in the list, and in that of each view
}

// takes tells whether new tasks may go there at all.
func (i *instance) takes() bool { return i.active() && i.node.Takes() }

// active tells whether it is an instance that is neither draining nor deregistered.
func (i *instance) active() bool { return i.member && (i.row == nil || i.row.Status == statusActive) }

// pool returns the cluster's pool, new when nobody has asked for it lately.
func (s *State) pool(c *cluster) *pool {
	s.clock++
	shared := len(c.rows) == 0 && s.choosy == 0
	for _, p := range s.pools {
		if p.cluster == c || shared && p.cluster == nil {
			p.asked = s.clock
			return p
		}
	}
	p := &pool{of: make(map[*node]*instance, len(s.nodes)), asked: s.clock}
	if !shared {
		p.cluster = c
	}
	for _, n := range s.nodes {
		p.describe(n)
	}
	if len(s.pools) == maxPools {
		oldest := slices.MinFunc(s.pools, func(a, b *pool) int { return a.asked - b.asked })
		s.drop(oldest)
	}
	s.pools = append(s.pools, p)
	return p
}

// closePool forgets the cluster's own pool.
func (s *State) closePool(c *cluster) {
	for _, p := range s.pools {
		if p.cluster == c {
			s.drop(p)
			return
		}
	}
}

func (s *State) drop(p *pool) {
	for _, v := range p.views {
		v.gone = true
	}
	s.pools = slices.DeleteFunc(s.pools, func(other *pool) bool { return other == p })
}

// describe takes in what a node is, new or changed.
func (p *pool) describe(n *node) {
	i := p.of[n]
	if i == nil {
		i = &instance{node: n, at: len(p.list)}
		p.of[n] = i
		p.list = append(p.list, i)
		for _, v := range p.views {
			v.entries = append(v.entries, entry{})
		}
	}
	i.row = nil
	if p.cluster != nil {
		i.row = p.cluster.rows[n.id]
	}
	i.member = n.Node != nil && (i.row == nil || i.row.Status != statusInactive) && (p.cluster == nil || n.Member(p.cluster.name))
	for _, v := range p.views {
		v.describe(i)
	}
}

// refresh takes in how full a node is.
func (p *pool) refresh(n *node) {
	if i := p.of[n]; i != nil {
		for _, v := range p.views {
			v.refresh(i)
		}
	}
}

// forget takes a node out.
func (p *pool) forget(n *node) {
	i := p.of[n]
	if i == nil {
		return
	}
	i.member = false
	last := len(p.list) - 1
	for _, v := range p.views {
		v.refresh(i)
		v.entries[i.at] = v.entries[last]
		v.entries = v.entries[:last]
	}
	p.list[i.at] = p.list[last]
	p.list[i.at].at = i.at
	p.list = p.list[:last]
	delete(p.of, n)
}
