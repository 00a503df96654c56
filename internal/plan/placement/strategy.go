package placement

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

const zoneField = "attribute:ecs.availability-zone"

// ranking is how a class chooses among the instances that it may use: its strategies in their order and, to decide between equals,
// how full the machine is. Without a strategy the tasks of a service are spread over zones and then over instances; other tasks go
// to the emptiest machine.
type ranking struct {
	fields   []string // attributes to spread over, first
	machines bool     // then: spread over instances
	random   bool     // then: any
	order    order    // else
	why      string
	// scores order instances as the strategies do, the lowest first. They are asked of each instance where the strategies come in
	// an order that nothing above can say, such as binpack and then spread.
	scores []score
	scan   bool
}

// score orders instances by one strategy: the lowest of is best.
type score struct {
	name string
	of   func(q *question, n *node, row *model.Instance) int64
}

// rank makes a task's ranking.
func rank(t *model.Task) ranking {
	strategy := t.Strategy
	if len(strategy) == 0 && t.Service != "" {
		zone, instance := zoneField, "instanceId"
		strategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeSpread, Field: &zone},
			{Type: types.PlacementStrategyTypeSpread, Field: &instance}}
	}
	var r ranking
	var packs []order
	for _, p := range strategy {
		field := value(p.Field)
		name, isAttribute := strings.CutPrefix(field, "attribute:")
		last := r.random || len(packs) > 0
		switch p.Type {
		case types.PlacementStrategyTypeBinpack:
			o := byMemory
			if strings.EqualFold(field, "cpu") {
				o = byCPU
			}
			r.scores = append(r.scores, binpack(o))
			packs = append(packs, o)
		case types.PlacementStrategyTypeRandom:
			r.scores = append(r.scores, score{"random", func(q *question, n *node, _ *model.Instance) int64 { return q.draw(n) }})
			r.scan = r.scan || last
			r.random = true
		case types.PlacementStrategyTypeSpread:
			r.scores = append(r.scores, spread(field))
			r.scan = r.scan || last || r.machines && isAttribute
			if isAttribute {
				r.fields = append(r.fields, name)
			} else { // instanceId and host: a cluster has one instance a host
				r.machines = true
			}
		}
	}
	if len(packs) == 0 {
		r.scores = append(r.scores,
			score{"least loaded", func(_ *question, n *node, _ *model.Instance) int64 { return n.load }},
			score{"fewest tasks", func(_ *question, n *node, _ *model.Instance) int64 { return int64(n.tasks) }})
	}
	r.pack(packs)
	names := make([]string, len(r.scores))
	for k := range r.scores {
		names[k] = r.scores[k].name
	}
	r.why = strings.Join(names, ", then ")
	return r
}

// pack chooses the order of a view.
func (r *ranking) pack(packs []order) {
	switch {
	case len(packs) > 0 && r.random, len(packs) > 2, len(r.fields) > maxFields:
		r.scan = true
	case len(packs) == 2 && packs[0] != packs[1]:
		r.order = map[order]order{byCPU: byCPUMemory, byMemory: byMemoryCPU}[packs[0]]
	case len(packs) > 0:
		r.order = packs[0]
	}
	if r.scan {
		r.fields, r.machines, r.random, r.order = nil, false, false, byLoad
	}
}

// spread prefers the value of field that has the fewest tasks of the group.
func spread(field string) score {
	name, isAttribute := strings.CutPrefix(field, "attribute:")
	if !isAttribute {
		return score{"spread by " + field, func(q *question, n *node, _ *model.Instance) int64 { return int64(q.group.count(n)) }}
	}
	return score{"spread by " + field, func(q *question, n *node, row *model.Instance) int64 {
		v, _ := n.Attribute(row, name)
		return int64(q.group.by(name)[v])
	}}
}

// binpack prefers the instance that has least left.
func binpack(o order) score {
	if o == byCPU {
		return score{"binpack by cpu", func(_ *question, n *node, _ *model.Instance) int64 { return n.freeCPU }}
	}
	return score{"binpack by memory", func(_ *question, n *node, _ *model.Instance) int64 { return n.freeMemory }}
}
