package placement

import (
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// maxFields is how many attributes a view spreads over.
const maxFields = 5

// question is one task that looks for a place.
type question struct {
	*class
	cluster *cluster
	group   *group // nil: it has no task yet
	task    *model.Task
	seed    uint64 // of the random strategy

	// Reused for each instance that is looked at.
	facts Facts
	at    presences
}

func (c *cluster) ask(k *class, t *model.Task) *question {
	return &question{class: k, cluster: c, group: c.groups[t.Group], task: t, seed: hash(t.ID)}
}

// draw is a number that is the same for the same task and node, and even over all.
func (q *question) draw(n *node) int64 { return int64(mix(q.seed^n.hash) >> 1) }

// candidate is an instance and how it ranks: the fewer first, from left to right.
type candidate struct {
	counts [maxFields]int // of the group's tasks with the same value of each field
	tasks  int            // of the group on the machine
	drawn  int64
	item   item
}

func (x *candidate) better(y *candidate) bool {
	switch {
	case x.counts != y.counts:
		return slices.Compare(x.counts[:], y.counts[:]) < 0
	case x.tasks != y.tasks:
		return x.tasks < y.tasks
	case x.drawn != y.drawn:
		return x.drawn < y.drawn
	}
	return x.item.compare(y.item) < 0
}

// best is the best of the view's instances that the task fits on, nil when there is none. Of equally good ones that of the first
// node by id is taken.
func (q *question) best(v *view) *instance {
	for _, query := range q.dynamic {
		if query.beside != nil {
			return q.beside(v, query.beside)
		}
	}
	if q.ranking.scan {
		return q.scan(v)
	}
	var best candidate
	for _, c := range v.cells {
		var x candidate
		for k, field := range v.fields {
			x.counts[k] = q.group.by(field)[c.values[k]]
		}
		if best.item.of != nil && slices.Compare(x.counts[:], best.counts[:]) > 0 {
			continue
		}
		q.first(c, &x)
		if x.item.of != nil && (best.item.of == nil || x.better(&best)) {
			best = x
		}
	}
	return best.item.of
}

// first finds the best instance of a cell.
func (q *question) first(c *cell, x *candidate) {
	switch {
	case q.ranking.random:
		q.any(c, x)
	case q.ranking.machines:
		q.emptiest(c, x)
	default:
		c.shelf.room(q.task.Needs.CPU, q.task.Needs.Memory, func(it item) bool {
			if q.admits(it.of) {
				x.item = it
			}
			return x.item.of == nil
		})
	}
}

// any draws one of a cell's instances: that whose number is lowest, of those with the fewest of the group's tasks if it is to be
// spread over them.
func (q *question) any(c *cell, x *candidate) {
	c.shelf.room(q.task.Needs.CPU, q.task.Needs.Memory, func(it item) bool {
		tasks := 0
		if q.ranking.machines {
			tasks = q.group.count(it.of.node)
		}
		drawn := q.draw(it.of.node)
		if (x.item.of == nil || tasks < x.tasks || tasks == x.tasks && drawn < x.drawn) && q.admits(it.of) {
			x.tasks, x.drawn, x.item = tasks, drawn, it
		}
		return true
	})
}

// emptiest finds that of a cell's instances with the fewest tasks of the group, the first in order of those: none is better than
// one that has none.
func (q *question) emptiest(c *cell, x *candidate) {
	c.shelf.room(q.task.Needs.CPU, q.task.Needs.Memory, func(it item) bool {
		tasks := q.group.count(it.of.node)
		if (x.item.of == nil || tasks < x.tasks) && q.admits(it.of) {
			x.tasks, x.item = tasks, it
		}
		return x.item.of == nil || x.tasks > 0
	})
}

// scan compares all instances by the scores.
func (q *question) scan(v *view) *instance {
	var x contest
	for _, c := range v.cells {
		c.shelf.room(q.task.Needs.CPU, q.task.Needs.Memory, func(it item) bool {
			x.enter(q, it.of)
			return true
		})
	}
	return x.best
}

// beside compares the instances on which some group has tasks, and a constraint wants one of these groups.
func (q *question) beside(v *view, groups []string) *instance {
	var x contest
	needs := &q.task.Needs
	for _, name := range groups {
		g := q.cluster.groups[name]
		if g == nil {
			continue
		}
		for n := range g.on {
			if i := v.pool.of[n]; i != nil && v.entries[i.at].item.of != nil && n.freeCPU >= needs.CPU && n.freeMemory >= needs.Memory {
				x.enter(q, i)
			}
		}
	}
	return x.best
}

// contest finds the instance with the lowest scores, whatever the order in which they enter.
type contest struct {
	best           *instance
	lowest, scores []int64
}

func (x *contest) enter(q *question, i *instance) {
	x.scores = x.scores[:0]
	for k := range q.ranking.scores {
		x.scores = append(x.scores, q.ranking.scores[k].of(q, i.node, i.row))
	}
	order := -1
	if x.best != nil {
		order = slices.Compare(x.scores, x.lowest)
	}
	if (order < 0 || order == 0 && i.node.id < x.best.node.id) && q.admits(i) {
		x.best, x.lowest, x.scores = i, x.scores, x.lowest
	}
}

// admits tells whether an instance of the view that has room admits the task.
func (q *question) admits(i *instance) bool {
	return !q.refusesDistinct(i) && !q.refusesPorts(i) && !q.refusesENI(i) && !q.refusesGPU(i) && !q.refusesDynamic(i)
}

func (q *question) refusesDistinct(i *instance) bool { return q.distinct && q.group.count(i.node) > 0 }

func (q *question) refusesPorts(i *instance) bool {
	for _, p := range q.task.Needs.Ports {
		if i.node.taken(p) {
			return true
		}
	}
	return false
}

func (q *question) refusesENI(i *instance) bool { return i.node.freeENIs < q.task.Needs.ENIs }

func (q *question) refusesGPU(i *instance) bool {
	return q.task.Needs.GPUs > 0 && i.node.freeGPUs < q.task.Needs.GPUs
}

// refusesDynamic asks the constraints whose answers no view keeps.
func (q *question) refusesDynamic(i *instance) bool {
	if len(q.dynamic) == 0 {
		return false
	}
	q.at = presences{q.cluster, i.node}
	q.facts = Facts{Instance: i.row, Node: i.node.Node, FreeCPU: i.node.freeCPU, FreeMemory: i.node.freeMemory, Live: &q.at}
	for _, query := range q.dynamic {
		if !query.Match(&q.facts) {
			return true
		}
	}
	return false
}

// presences implements Live: the tasks of a cluster on a node.
type presences struct {
	cluster *cluster
	node    *node
}

// Registered implements Live.
func (p *presences) Registered() time.Time { return p.cluster.registered(p.node) }

// Tasks implements Live.
func (p *presences) Tasks() (running, pending int) {
	for _, g := range p.node.groups {
		if g.cluster == p.cluster {
			at := g.on[p.node]
			running += at.running
			pending += at.tasks - at.running
		}
	}
	return running, pending
}

// HasGroup implements Live.
func (p *presences) HasGroup(name string) bool { return p.cluster.groups[name].count(p.node) > 0 }

// Groups implements Live.
func (p *presences) Groups() []string {
	var out []string
	for _, g := range p.node.groups {
		if g.cluster == p.cluster {
			out = append(out, g.name)
		}
	}
	slices.Sort(out)
	return out
}
