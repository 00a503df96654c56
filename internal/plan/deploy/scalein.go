package deploy

import (
	"fmt"
	"slices"
)

// scaleIn stops tasks of the primary beyond desiredCount.
func (p *planner) scaleIn() {
	var pool []*task
	for _, t := range p.tasks {
		if p.ofPrimary(t) && t.stays() {
			pool = append(pool, t)
		}
	}
	p.shed(pool, len(pool)-p.bounds.desired)
}

// rollFailed keeps a service whose deployment failed without a rollback as it is: nothing is started, and of the tasks of all
// its deployments those beyond desiredCount are stopped, the failed deployment's first.
func (p *planner) rollFailed() {
	var pool []*task
	for _, t := range p.tasks {
		if t.phase == pending && t.Draining {
			p.stop(t, scaling(t), "its container instance is draining")
		}
		if t.phase != stopping && t.phase != lost {
			pool = append(pool, t)
		}
	}
	p.shed(pool, len(pool)-p.bounds.desired)
}

// shed stops n tasks of the pool: the least useful first, and of equally useful ones that which the service's placement strategies can
// spare best. Healthy tasks come last and at least desiredCount tasks of the pool stay, so that shed never goes below
// minimumHealthyPercent.
func (p *planner) shed(pool []*task, n int) {
	if n <= 0 {
		return
	}
	crowd, alike := p.crowd(pool), p.alike(pool)
	for ; n > 0 && p.room() > 0; n-- {
		at := -1
		for k, tasks := range alike {
			if len(tasks) > 0 && (at < 0 || p.worse(tasks[0], alike[at][0], crowd)) {
				at = k
			}
		}
		if at < 0 {
			p.guarded(pool, n)
			return
		}
		worst := alike[at][0]
		alike[at] = alike[at][1:]
		crowd.leave(worst)
		p.stop(worst, scaling(worst), fmt.Sprintf("the service is to have %s", plural(p.bounds.desired, "task")))
	}
}

// protects tells whether the task is under protection, which what failed is not.
func (p *planner) protects(t *task) bool {
	return t.running() && t.phase != unhealthy && t.Protected(p.in.Now)
}

// guarded tells that n tasks, or as many of the pool as are protected, would go if they were not.
func (p *planner) guarded(pool []*task, n int) {
	protected := map[string]int{}
	for _, t := range pool {
		if n > 0 && t.phase != stopping && p.protects(t) {
			protected[t.Deployment]++
			n--
		}
	}
	for _, r := range p.rollouts {
		if n := protected[r.ID]; n > 0 {
			p.explain(p.text("was unable to reach steady state because (taskSet %s) was unable to scale in due to (reason %d tasks under protection)", r.ID, n))
		}
	}
}

// alike parts the pool's tasks that are not being stopped by what decides which is worse, but for their age: in each part the newest
// is the worst, so that a choice looks at one task of each.
func (p *planner) alike(pool []*task) [][]*task {
	type sort struct {
		rank     int
		instance string
	}
	places := map[sort]int{}
	var parts [][]*task
	for _, t := range pool {
		if t.phase == stopping || p.protects(t) {
			continue
		}
		key := sort{p.rank(t), t.InstanceID}
		at, ok := places[key]
		if !ok {
			at = len(parts)
			places[key] = at
			parts = append(parts, nil)
		}
		parts[at] = append(parts[at], t)
	}
	for _, tasks := range parts {
		slices.SortFunc(tasks, func(a, b *task) int { return older(b, a) })
	}
	return parts
}

// worse tells whether a rather than b is to be stopped.
func (p *planner) worse(a, b *task, crowd *crowd) bool {
	if ra, rb := p.rank(a), p.rank(b); ra != rb {
		return ra < rb
	}
	if c := crowd.compare(a, b); c != 0 {
		return c > 0
	}
	return older(a, b) > 0
}

// usefulness is what a task's phase is worth when some must go.
var usefulness = [...]int{pending: 1, unhealthy: 2, settling: 3, healthy: 5, stopping: 0, lost: 0}

// rank orders tasks by how useful they are, the least useful lowest and every healthy task above all others. A pool holds tasks
// of other deployments only when the primary failed: then theirs are the more useful ones.
func (p *planner) rank(t *task) int {
	rank := usefulness[t.phase] * 2
	if t.phase == pending && t.InstanceID == "" {
		rank-- // not even placed
	}
	if !p.ofPrimary(t) {
		rank += 3
	}
	return rank
}
