package deploy

import (
	"cmp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Place is where a task is, as far as the service's placement strategies care.
type Place struct {
	Node       *model.Node     // nil: unknown
	Instance   *model.Instance // what clients changed of the container instance; nil: nothing
	FreeCPU    int64           // of the node
	FreeMemory int64
}

// crowd tells which of a service's tasks its placement strategies can spare best: where they spread, one of those that are most with
// the same value; where they pack, one on the machine that has most left.
type crowd struct {
	criteria []criterion
}

// criterion is one strategy.
type criterion struct {
	value  map[*task]string // the task's value of the field that is spread over, or its machine
	weight map[string]int64 // by value: how many tasks have it, or how much is free there
	leaves func(t *task) int64
}

// crowd looks at the tasks by each strategy, zones and then machines where the service has none, and machines in the end.
func (p *planner) crowd(pool []*task) *crowd {
	places := make(map[*task]Place, len(pool))
	for _, t := range pool {
		if p.in.Where != nil && t.InstanceID != "" {
			places[t] = p.in.Where(t.Task.Task)
		}
	}
	c := &crowd{}
	strategy := p.service.Strategy
	if len(strategy) == 0 {
		zone := "attribute:ecs.availability-zone"
		strategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeSpread, Field: &zone}}
	}
	for _, s := range strategy {
		field := ""
		if s.Field != nil {
			field = *s.Field
		}
		switch s.Type {
		case types.PlacementStrategyTypeSpread:
			c.spread(pool, func(t *task) string {
				name, isAttribute := strings.CutPrefix(field, "attribute:")
				if !isAttribute {
					return t.InstanceID
				}
				v, _ := places[t].Node.Attribute(places[t].Instance, name)
				return v
			})
		case types.PlacementStrategyTypeBinpack:
			c.pack(pool, places, strings.EqualFold(field, "cpu"))
		}
	}
	c.spread(pool, func(t *task) string { return t.InstanceID })
	return c
}

// spread adds a strategy by which a task leaves where most have the same value.
func (c *crowd) spread(pool []*task, of func(*task) string) {
	by := criterion{value: map[*task]string{}, weight: map[string]int64{}, leaves: func(*task) int64 { return -1 }}
	for _, t := range pool {
		v := of(t)
		by.value[t] = v
		by.weight[v]++
	}
	c.criteria = append(c.criteria, by)
}

// pack adds a strategy by which a task leaves where most is free; what it held is then free too.
func (c *crowd) pack(pool []*task, places map[*task]Place, cpu bool) {
	by := criterion{value: map[*task]string{}, weight: map[string]int64{}, leaves: func(t *task) int64 {
		if cpu {
			return t.Needs.CPU
		}
		return t.Needs.Memory
	}}
	for _, t := range pool {
		by.value[t] = t.NodeID
		if by.weight[t.NodeID] = places[t].FreeMemory; cpu {
			by.weight[t.NodeID] = places[t].FreeCPU
		}
	}
	c.criteria = append(c.criteria, by)
}

// compare is positive when a can be spared rather than b, and 0 when it makes no difference.
func (c *crowd) compare(a, b *task) int {
	for _, by := range c.criteria {
		if n := cmp.Compare(by.weight[by.value[a]], by.weight[by.value[b]]); n != 0 {
			return n
		}
	}
	return 0
}

// leave counts a task as gone.
func (c *crowd) leave(t *task) {
	for _, by := range c.criteria {
		by.weight[by.value[t]] += by.leaves(t)
	}
}
