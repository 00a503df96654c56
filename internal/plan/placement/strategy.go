package placement

import (
	"hash/fnv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

const zoneField = "attribute:ecs.availability-zone"

// score orders instances by one strategy: the lowest of is best.
type score struct {
	name string
	of   func(i *instance, t *model.Task) int64
}

// scores are the task's strategies in their order and, to decide between equals, how full the machine is. Without a strategy
// the tasks of a service are spread over zones and then over instances; other tasks go to the emptiest machine.
func (s *State) scores(c *cluster, g *group, t *model.Task) []score {
	var out []score
	packed := false
	for _, p := range t.Strategy {
		switch p.Type {
		case types.PlacementStrategyTypeBinpack:
			out = append(out, binpack(value(p.Field)))
			packed = true
		case types.PlacementStrategyTypeRandom:
			out = append(out, score{"random", random})
		case types.PlacementStrategyTypeSpread:
			out = append(out, spread(c, g, value(p.Field)))
		}
	}
	if len(t.Strategy) == 0 && t.Service != "" {
		out = append(out, spread(c, g, zoneField), spread(c, g, "instanceId"))
	}
	if packed {
		return out
	}
	return append(out,
		score{"least loaded", func(i *instance, _ *model.Task) int64 { return i.node.load }},
		score{"fewest tasks", func(i *instance, _ *model.Task) int64 { return int64(i.node.tasks) }})
}

// spread prefers the value of field that has the fewest tasks of the group.
func spread(c *cluster, g *group, field string) score {
	name, isAttribute := strings.CutPrefix(field, "attribute:")
	if !isAttribute { // instanceId and host: a cluster has one instance a host
		return score{"spread by " + field, func(i *instance, _ *model.Task) int64 { return int64(g.tasks[i.at]) }}
	}
	by := g.by(c, field, func(i *instance) string { return Attributes(i.Instance, i.node.Node)[name] })
	return score{"spread by " + field, func(i *instance, _ *model.Task) int64 { return int64(by.counts[by.values[i.at]]) }}
}

// binpack prefers the instance that has least left.
func binpack(field string) score {
	if strings.EqualFold(field, "cpu") {
		return score{"binpack by cpu", func(i *instance, _ *model.Task) int64 { return i.node.freeCPU }}
	}
	return score{"binpack by memory", func(i *instance, _ *model.Task) int64 { return i.node.freeMemory }}
}

// random is the same for the same task and instance.
func random(i *instance, t *model.Task) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.ID))
	_, _ = h.Write([]byte(i.ID))
	return int64(mix(h.Sum64()) >> 1)
}

// mix spreads what differs in the last bytes only, as ids do, over all bits, which FNV does not: the finalizer of SplitMix64
// (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// better tells whether a scores better than b.
func (k *class) better(a, b *instance, t *model.Task) bool {
	for n := range k.scores {
		if x, y := k.scores[n].of(a, t), k.scores[n].of(b, t); x != y {
			return x < y
		}
	}
	return false
}

// why says how the choice was made.
func (k *class) why() string {
	names := make([]string, len(k.scores))
	for n := range k.scores {
		names[n] = k.scores[n].name
	}
	return strings.Join(names, ", then ")
}
