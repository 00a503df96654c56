package proxy

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// group is a target group as it lives: it outlasts the tables that describe it.
type group struct {
	arn    string
	least  atomic.Bool
	sticky atomic.Int64 // time.Duration
	turn   atomic.Uint64
	ready  atomic.Pointer[[]*target] // those that take requests
	tally

	// Guarded by the Proxy's lock.
	members                       []*target // in the order of their ids and ports
	minHealthy, minHealthyPercent int
}

func newGroup(arn string) *group {
	g := &group{arn: arn}
	g.ready.Store(&[]*target{})
	return g
}

// settle computes who takes requests: the healthy targets, or all when too few are healthy. It needs the Proxy's lock.
func (g *group) settle() {
	var healthy, all []*target
	for _, t := range g.members {
		if !t.taking.Load() {
			continue
		}
		all = append(all, t)
		if t.healthy() {
			healthy = append(healthy, t)
		}
	}
	if len(healthy) < max(1, g.minHealthy) || 100*len(healthy) < g.minHealthyPercent*len(all) {
		healthy = all
	}
	g.ready.Store(&healthy)
}

// pick chooses a target that has not been tried; nil when there is none.
func (g *group) pick(tried []*target) *target {
	ready := *g.ready.Load()
	if len(ready) == 0 {
		return nil
	}
	start := int(g.turn.Add(1) % uint64(len(ready)))
	least := g.least.Load()
	var best *target
	for i := range ready {
		t := ready[(start+i)%len(ready)]
		if slices.Contains(tried, t) {
			continue
		}
		if !least {
			return t
		}
		if best == nil || t.inFlight.Load() < best.inFlight.Load() {
			best = t
		}
	}
	return best
}

// holder returns the target that a cookie names, if it takes requests.
func (g *group) holder(mark string) *target {
	for _, t := range *g.ready.Load() {
		if t.mark == mark {
			return t
		}
	}
	return nil
}

func (g *group) stickiness() time.Duration { return time.Duration(g.sticky.Load()) }

func sortTargets(all []*target) {
	slices.SortFunc(all, func(a, b *target) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.port, b.port)) })
}

// choose picks a group by weight, "" when none has any.
func choose(all []Weighted) string {
	total := 0
	for _, w := range all {
		total += max(0, w.Weight)
	}
	if total == 0 {
		return ""
	}
	if len(all) == 1 {
		return all[0].Group
	}
	n := rand.IntN(total)
	for _, w := range all {
		if n -= max(0, w.Weight); n < 0 {
			return w.Group
		}
	}
	return ""
}
