package deploy

import (
	"fmt"

	"github.com/berthdev/berth/internal/model"
)

// bounds are how many tasks a service may and must have.
type bounds struct {
	desired int
	most    int // running and pending tasks together
	least   int // healthy tasks that a stop must leave
	percent int32
	// strict: maximumPercent leaves no room beside the desired tasks, so a task counts until it has ended. Whoever asks for
	// that runs a task of which there must never be two, or has no room for two.
	strict bool
}

// The defaults of a replica service.
const (
	defaultMaximum = 200
	defaultMinimum = 100
)

func boundsOf(s *model.Service) bounds {
	most, least := int32(defaultMaximum), int32(defaultMinimum)
	if v := s.DeploymentConfiguration.MaximumPercent; v != nil {
		most = max(100, *v)
	}
	if v := s.DeploymentConfiguration.MinimumHealthyPercent; v != nil {
		least = min(max(0, *v), 100)
	}
	desired := int64(max(0, s.DesiredCount))
	return bounds{
		desired: int(desired),
		most:    int(desired * int64(most) / 100),
		least:   int((desired*int64(least) + 99) / 100),
		percent: most,
		strict:  most <= 100,
	}
}

// roll brings the tasks nearer to what the primary deployment wants: stops first, because they make room, then starts.
func (p *planner) roll() {
	p.reportUnhealthy()
	p.buryLost()
	if p.primary.failed() {
		p.rollFailed()
		return
	}
	p.stopUseless()
	p.stopOld()
	p.replaceDraining()
	p.stopReplacedUnhealthy()
	p.scaleIn()
	need := p.need()
	if need > 0 && p.blocked() {
		p.makeRoom()
	}
	p.start(need)
}

// reportUnhealthy tells why each unhealthy task is unhealthy.
func (p *planner) reportUnhealthy() {
	for _, t := range p.tasks {
		if t.phase == unhealthy {
			p.explain(t.event)
		}
	}
}

// stopUseless stops at once what serves nobody: tasks that have not started and are not wanted any more, or sit on a draining
// instance, and unhealthy tasks of a deployment that has not completed.
func (p *planner) stopUseless() {
	for _, t := range p.tasks {
		switch {
		case t.phase == pending && !p.ofPrimary(t):
			p.stop(t, scaling(t), p.replaced())
		case t.phase == pending && t.Draining:
			p.stop(t, scaling(t), "its container instance is draining")
		case t.phase == unhealthy && p.ofPrimary(t) && p.primary.inProgress():
			p.stop(t, t.stoppedReason, t.stoppedReason)
		}
	}
}

// stopOld stops running tasks of older deployments, those that are not healthy first, as minimumHealthyPercent allows. An old
// task that is not healthy may still serve, so it too waits until enough others are there.
func (p *planner) stopOld() {
	serving := p.healthy + p.count(func(t *task) bool {
		return !p.ofPrimary(t) && (t.phase == settling || t.phase == unhealthy)
	})
	var kept []*task
	for _, t := range p.tasks {
		if !p.ofPrimary(t) && t.running() && p.protects(t) {
			kept = append(kept, t)
			continue
		}
		if !p.ofPrimary(t) && t.running() && t.phase != healthy && serving > p.bounds.least {
			p.stop(t, scaling(t), p.replaced())
			serving--
		}
	}
	for _, first := range []bool{true, false} { // those on draining instances first
		for _, t := range p.tasks {
			if !p.ofPrimary(t) && t.phase == healthy && t.Draining == first && p.healthy > p.bounds.least && !p.protects(t) {
				p.stop(t, scaling(t), p.replaced())
			}
		}
	}
	if p.healthy > p.bounds.least {
		p.guarded(kept, len(kept))
	}
}

// replaceDraining stops the primary's running tasks on draining instances as minimumHealthyPercent allows; need counts their
// replacements.
func (p *planner) replaceDraining() {
	for _, t := range p.tasks {
		if !p.ofPrimary(t) || !t.Draining || p.protects(t) {
			continue
		}
		if (t.phase == healthy && p.healthy > p.bounds.least) || (t.phase == settling && p.healthy >= p.bounds.least) {
			p.stop(t, scaling(t), "its container instance is draining")
		}
	}
}

// stopReplacedUnhealthy stops unhealthy tasks of a completed deployment for which a healthy replacement is there: an unhealthy
// task may still serve, so its replacement comes first.
func (p *planner) stopReplacedUnhealthy() {
	well := p.count(func(t *task) bool { return p.ofPrimary(t) && t.phase == healthy && t.stays() })
	sick := p.count(func(t *task) bool { return p.ofPrimary(t) && t.phase == unhealthy })
	for _, t := range p.tasks {
		if p.ofPrimary(t) && t.phase == unhealthy && sick > max(0, p.bounds.desired-well) {
			p.stop(t, t.stoppedReason, t.stoppedReason)
			sick--
		}
	}
}

// need is how many tasks the primary lacks, counting neither those being stopped nor those to be replaced.
func (p *planner) need() int {
	return p.bounds.desired - p.count(func(t *task) bool { return p.ofPrimary(t) && t.stays() })
}

// blocked tells that maximumPercent leaves no room and nothing that is under way will make any.
func (p *planner) blocked() bool {
	return p.used >= p.bounds.most && !p.throttled() && !p.inTransit()
}

// inTransit tells whether a task of the primary is about to become healthy or unhealthy, or any task is about to end.
func (p *planner) inTransit() bool {
	return p.count(func(t *task) bool {
		return t.phase == stopping || (p.ofPrimary(t) && (t.phase == pending || t.phase == settling))
	}) > 0
}

// makeRoom stops one task that is not healthy, so that a replacement can start. When there is none, minimumHealthyPercent and
// maximumPercent contradict each other: the user is told.
func (p *planner) makeRoom() {
	for _, t := range p.tasks {
		if t.phase == unhealthy || (t.phase == settling && !p.ofPrimary(t)) {
			text := t.stoppedReason
			if !p.ofPrimary(t) {
				text = scaling(t)
			}
			p.stop(t, text, fmt.Sprintf("not healthy, and maximumPercent (%d) leaves no room to start its replacement first",
				p.bounds.percent))
			return
		}
	}
	p.conclude(p.text("was unable to stop or start tasks during a deployment because of the service deployment " +
		"configuration. Update the minimumHealthyPercent or maximumPercent value and try again."))
}

// start makes as many of the needed tasks as maximumPercent has room for.
func (p *planner) start(need int) {
	wanted := min(need, p.bounds.most-p.used)
	n := min(wanted, p.room())
	if n <= 0 || p.throttled() {
		return
	}
	reason := fmt.Sprintf("deployment %s has %d of %s", p.primary.ID, p.bounds.desired-need, plural(p.bounds.desired, "task"))
	if wanted < need {
		reason += fmt.Sprintf("; maximumPercent (%d) leaves room for %d", p.bounds.percent, wanted)
	}
	p.starts = append(p.starts, Start{Deployment: p.primary.ID, Count: n, Replaced: min(n, p.replacing()), Reason: reason})
	p.used += n
}

// replacing is how many unhealthy tasks a start stands in for: those that wait for it or are stopped in this run and, since a
// strict service starts only after the end, those that ended.
func (p *planner) replacing() int {
	n := p.count(func(t *task) bool { return p.ofPrimary(t) && t.stoppedReason != "" })
	if p.bounds.strict {
		n += p.failedNow
	}
	return n
}

// scaling is the stoppedReason of a task that its deployment does not need any more.
func scaling(t *task) string {
	return fmt.Sprintf("Scaling activity initiated by (deployment %s)", t.Deployment)
}

func (p *planner) replaced() string { return "replaced by deployment " + p.primary.ID }
