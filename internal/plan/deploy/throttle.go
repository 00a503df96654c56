package deploy

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// briefly is how short a run makes a task that ended part of a crash loop.
const briefly = 10 * time.Second

// sayAfter is how many consecutive failures to start are told to the user.
const sayAfter = 3

// pause is the spacing of starts after failures.
type pause struct {
	first time.Duration // after the first round of tasks that never ran; doubled each round
	most  time.Duration
	crash time.Duration // after a task that ran only briefly
}

func pauseOf(pace model.Pace) pause {
	if pace == model.PaceAWS {
		return pause{first: 10 * time.Second, most: 15 * time.Minute, crash: 10 * time.Second}
	}
	return pause{first: time.Second, most: time.Minute, crash: time.Second}
}

// after is the pause after so many consecutive failures of a service that starts width tasks a round.
func (d pause) after(failures, width int) time.Duration {
	wait := d.first
	for range (failures - 1) / max(1, width) {
		if wait >= d.most {
			return d.most
		}
		wait *= 2
	}
	return min(wait, d.most)
}

// slowdown gathers what the ended tasks say about how soon the next may start.
type slowdown struct {
	failed int  // of the primary, never reached RUNNING
	brief  bool // one of the primary ran only briefly
}

// newSlowdown first ends a throttle that no longer holds: a task has reached RUNNING, or a deployment was made, since the last
// failure.
func (p *planner) newSlowdown() *slowdown {
	was := p.service.Throttle
	if was.FailedAt.IsZero() || p.primary == nil {
		return &slowdown{}
	}
	if p.primary.CreatedAt.After(was.FailedAt) {
		p.setThrottle(model.Throttle{}, "a new deployment ends the throttle")
		return &slowdown{}
	}
	if was.Failures > 0 && (p.startedSince(p.tasks, was.FailedAt) || p.startedSince(p.ended, was.FailedAt)) {
		p.setThrottle(model.Throttle{}, "a task has started, which ends the throttle")
	}
	return &slowdown{}
}

func (p *planner) startedSince(tasks []*task, at time.Time) bool {
	for _, t := range tasks {
		if p.ofPrimary(t) && t.Observed.StartedAt.After(at) {
			return true
		}
	}
	return false
}

// note takes in an ended task that nobody asked to end.
func (s *slowdown) note(p *planner, t *task, o outcome) {
	switch {
	case !p.ofPrimary(t):
	case o == neverRan:
		s.failed++
	case ranFor(t.Task.Task) < briefly:
		s.brief = true
	}
}

// apply puts off the next start. A pause that already runs is not doubled by failures of the same round.
func (s *slowdown) apply(p *planner) {
	if s.failed == 0 && !s.brief {
		return
	}
	now, d, next := p.in.Now, pauseOf(p.in.Pace), p.service.Throttle
	next.Failures += s.failed
	next.FailedAt = now
	var wait time.Duration
	if s.brief {
		wait = d.crash
	}
	if s.failed > 0 && !next.Until.After(now) {
		wait = max(wait, d.after(next.Failures, int(p.in.Service.DesiredCount)))
	}
	if until := now.Add(wait); until.After(next.Until) {
		next.Until = until
	}
	reason := "tasks end soon after they start"
	if next.Failures > 0 {
		reason = fmt.Sprintf("tasks fail soon after they start (%d in a row never ran)", next.Failures)
	}
	p.setThrottle(next, reason)
	if next.Failures >= sayAfter {
		p.conclude(p.text("is unable to consistently start tasks successfully. %s", moreInformation))
	}
}

// throttled tells whether no task may start yet.
func (p *planner) throttled() bool { return p.service.Throttle.Until.After(p.in.Now) }
