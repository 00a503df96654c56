package placement

import (
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// cluster is what clients changed of its container instances, and the groups of tasks on them.
type cluster struct {
	*model.Cluster // nil while only its tasks or instances are known
	name           string
	rows           map[string]*model.Instance // by node
	groups         map[string]*group
	classes        map[string]*class
}

// active tells whether the cluster may have container instances.
func (c *cluster) active() bool { return c.Cluster != nil && c.Status == statusActive }

// instance is the container instance that a node is in the cluster.
func (c *cluster) instance(n *node) *model.Instance {
	if row := c.rows[n.id]; row != nil {
		return row
	}
	return n.Instance(c.Cluster)
}

// registered is since when the node is an instance of the cluster.
func (c *cluster) registered(n *node) time.Time {
	if row := c.rows[n.id]; row != nil {
		return row.RegisteredAt
	}
	if n.RegisteredAt.Before(c.CreatedAt) {
		return c.CreatedAt
	}
	return n.RegisteredAt
}

// group is the tasks of one group in a cluster: how many are where, and how many have each value of the fields that were asked for.
type group struct {
	cluster *cluster
	name    string
	on      map[*node]presence
	fields  map[string]map[string]int // by attribute, by its value
}

// presence is how many tasks of a group are on a node, and how many of them run.
type presence struct{ tasks, running int }

func (c *cluster) group(name string) *group {
	g := c.groups[name]
	if g == nil {
		g = &group{cluster: c, name: name, on: map[*node]presence{}, fields: map[string]map[string]int{}}
		c.groups[name] = g
	}
	return g
}

// add counts a task, sign 1, or no longer, sign -1. A group without tasks is forgotten.
func (g *group) add(n *node, sign int, running bool) {
	g.tally(n, -1)
	at := g.on[n]
	if at.tasks == 0 {
		n.groups = append(n.groups, g)
		g.cluster.groups[g.name] = g
	}
	at.tasks += sign
	if running {
		at.running += sign
	}
	g.on[n] = at
	g.tally(n, 1)
	if at.tasks > 0 {
		return
	}
	delete(g.on, n)
	n.groups = slices.DeleteFunc(n.groups, func(other *group) bool { return other == g })
	if len(g.on) == 0 {
		delete(g.cluster.groups, g.name)
	}
}

// run counts a task on a node as running, or no longer.
func (g *group) run(n *node, running bool) {
	at := g.on[n]
	if running {
		at.running++
	} else {
		at.running--
	}
	g.on[n] = at
}

// tally adds the tasks on a node to the counts of what the node is, sign 1, or takes them away, sign -1.
func (g *group) tally(n *node, sign int) {
	tasks := g.on[n].tasks
	if tasks == 0 {
		return
	}
	for field, counts := range g.fields {
		v, _ := n.Attribute(g.cluster.rows[n.id], field)
		if counts[v] += sign * tasks; counts[v] == 0 {
			delete(counts, v)
		}
	}
}

// by counts the tasks by the value of an attribute. g may be nil: no task.
func (g *group) by(field string) map[string]int {
	if g == nil {
		return nil
	}
	counts := g.fields[field]
	if counts == nil {
		counts = map[string]int{}
		g.fields[field] = counts
		for n, at := range g.on {
			v, _ := n.Attribute(g.cluster.rows[n.id], field)
			counts[v] += at.tasks
		}
	}
	return counts
}

// count is how many tasks are on a node. g may be nil: none.
func (g *group) count(n *node) int {
	if g == nil {
		return 0
	}
	return g.on[n].tasks
}
