package placement

import (
	"slices"
	"strings"
)

// order is what instances stand in the order of; equals stand in that of their nodes' ids.
type order int

const (
	byLoad order = iota // the emptiest first, then that with the fewest tasks
	byCPU               // the least left first
	byMemory
	byCPUMemory
	byMemoryCPU
)

func (o order) item(i *instance) item {
	n := i.node
	x := item{cpu: n.freeCPU, memory: n.freeMemory, of: i}
	switch o {
	case byLoad:
		x.a, x.b = n.load, int64(n.tasks)
	case byCPU:
		x.a = n.freeCPU
	case byMemory:
		x.a = n.freeMemory
	case byCPUMemory:
		x.a, x.b = n.freeCPU, n.freeMemory
	case byMemoryCPU:
		x.a, x.b = n.freeMemory, n.freeCPU
	}
	return x
}

// view is the instances of a pool that some constraints admit, apart by the values of the attributes that a strategy spreads over,
// and in the order of what it asks for then. It is kept while nodes fill and empty.
type view struct {
	key     string
	pool    *pool
	fields  []string // attributes
	order   order
	queries []*Query // none depends on tasks
	cells   []*cell
	byValue map[string]*cell
	entries []entry // of the pool's list
	asked   int
	gone    bool // not kept any more
}

// cell is the instances with the same values of the view's fields.
type cell struct {
	values []string
	shelf  shelf
}

// entry is an instance in a view.
type entry struct {
	matches bool // the queries
	cell    *cell
	item    item // on the cell's shelf; of is nil: not there
}

// view returns the view of the pool that the class chooses from.
func (s *State) view(p *pool, k *class) *view {
	if k.view == nil || k.view.gone || k.view.pool != p {
		k.view = s.find(p, k)
	}
	s.clock++
	k.view.asked = s.clock
	return k.view
}

func (s *State) find(p *pool, k *class) *view {
	for _, v := range p.views {
		if v.key == k.viewKey {
			return v
		}
	}
	v := &view{key: k.viewKey, pool: p, fields: k.ranking.fields, order: k.ranking.order, queries: k.static,
		entries: make([]entry, len(p.list)), byValue: map[string]*cell{}}
	for _, i := range p.list {
		v.describe(i)
	}
	if len(p.views) == maxViews {
		oldest := slices.MinFunc(p.views, func(a, b *view) int { return a.asked - b.asked })
		oldest.gone = true
		p.views = slices.DeleteFunc(p.views, func(other *view) bool { return other == oldest })
	}
	p.views = append(p.views, v)
	return v
}

// describe takes in what an instance is, new or changed: only then its queries are asked.
func (v *view) describe(i *instance) {
	e := &v.entries[i.at]
	if e.item.of != nil {
		e.cell.shelf.take(e.item)
		e.item = item{}
	}
	e.matches = i.member
	if i.member {
		f := Facts{Instance: i.row, Node: i.node.Node}
		for _, q := range v.queries {
			e.matches = e.matches && q.Match(&f)
		}
		e.cell = v.cell(i)
	}
	v.refresh(i)
}

// refresh takes in how full an instance is.
func (v *view) refresh(i *instance) {
	e := &v.entries[i.at]
	var now item
	if e.matches && i.takes() {
		now = v.order.item(i)
	}
	if e.item == now {
		return
	}
	if e.item.of != nil {
		e.cell.shelf.take(e.item)
	}
	if e.item = now; now.of != nil {
		e.cell.shelf.put(now)
	}
}

// cell is where an instance belongs.
func (v *view) cell(i *instance) *cell {
	values := make([]string, len(v.fields))
	for k, field := range v.fields {
		values[k], _ = i.node.Attribute(i.row, field)
	}
	key := strings.Join(values, "\x00")
	c := v.byValue[key]
	if c == nil {
		c = &cell{values: values}
		v.byValue[key] = c
		v.cells = append(v.cells, c)
	}
	return c
}

// viewKey is the same for classes that can choose from one view.
func viewKey(r ranking, expressions []string) string {
	return string(rune('a'+r.order)) + strings.Join(r.fields, "\x00") + "\x01" + strings.Join(expressions, "\x00")
}
