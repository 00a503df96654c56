package deploy

import (
	"cmp"
	"fmt"
	"slices"
)

// bury ends a task of a lost machine, as far as there is room for it.
func (p *planner) bury(t *task, reason string) {
	if p.room() == 0 {
		return
	}
	p.ends = append(p.ends, End{TaskID: t.ID, Reason: reason})
}

// buryLost ends the tasks of lost machines that were asked to stop, and as many others as healthy tasks stand in for, those of older
// deployments first. The rest is kept: should a machine come back, its task serves before a replacement does.
func (p *planner) buryLost() {
	var pool []*task
	spare := p.bounds.desired
	for _, t := range p.tasks {
		switch {
		case t.phase == healthy && p.ofPrimary(t) && !t.Draining:
			spare--
		case t.phase == lost && ending(t):
			p.bury(t, "its machine is lost and it was to stop")
		case t.phase == lost:
			pool = append(pool, t)
		}
	}
	slices.SortStableFunc(pool, func(a, b *task) int { return cmp.Compare(p.order(a), p.order(b)) })
	for _, t := range pool[:len(pool)-min(len(pool), max(0, spare))] {
		p.bury(t, fmt.Sprintf("its machine is lost and the service has %s", plural(p.bounds.desired-max(0, spare), "healthy task")))
	}
}

// order puts tasks of older deployments before the primary's.
func (p *planner) order(t *task) int {
	if p.ofPrimary(t) {
		return 1
	}
	return 0
}
