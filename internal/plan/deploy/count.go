package deploy

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// outcome is how a task ended, as far as its deployment cares.
type outcome int

const (
	asAsked   outcome = iota // a scale-in, a replacement, a user's StopTask, or its machine went away
	neverRan                 // it failed before it reached RUNNING
	sick                     // stopped because a health check failed
	endedSelf                // it ran and then ended by itself
)

func outcomeOf(t *model.Task) outcome {
	if t.StopRequest != nil && t.Observed.StopCode == "" {
		if failedHealth(t.StopRequest) {
			return sick
		}
		return asAsked
	}
	switch t.Observed.StopCode {
	case types.TaskStopCodeUserInitiated, types.TaskStopCodeServiceSchedulerInitiated, types.TaskStopCodeSpotInterruption,
		types.TaskStopCodeTerminationNotice, types.TaskStopCodeInfrastructureHealth:
		return asAsked
	}
	if t.Observed.StartedAt.IsZero() {
		return neverRan
	}
	return endedSelf
}

// account counts each ended task once. A deployment's failures are its tasks that never reached RUNNING, were stopped for their
// health, or ended by themselves while it was in progress; the circuit breaker counts those of a deployment in progress.
func (p *planner) account() {
	tally := map[*rollout]int{}
	slow := p.newSlowdown()
	for _, t := range p.ended {
		p.accounted = append(p.accounted, t.ID)
		o := outcomeOf(t.Task.Task)
		r := p.byID[t.Deployment]
		if r == nil || o == asAsked {
			continue
		}
		rolling := r == p.primary && r.inProgress()
		if o == endedSelf && !rolling {
			slow.note(p, t, o)
			continue
		}
		tally[r]++
		r.FailedTasks++
		if rolling {
			r.BreakerCount++
		}
		if r == p.primary && o == sick {
			p.failedNow++
		}
		slow.note(p, t, o)
	}
	for r, n := range tally {
		r.changed(plural(n, "task") + " failed")
	}
	slow.apply(p)
}

// ranFor is how long an ended task was RUNNING.
func ranFor(t *model.Task) time.Duration {
	end := t.Observed.ExecutionStoppedAt
	if end.IsZero() {
		end = t.Observed.StoppedAt
	}
	return end.Sub(t.Observed.StartedAt)
}

// noteHealthy resets the circuit breaker's count for each task that became healthy, once a task.
func (p *planner) noteHealthy() {
	r := p.primary
	cb := p.in.Service.DeploymentConfiguration.DeploymentCircuitBreaker
	if r == nil || !r.inProgress() || cb == nil || !cb.Enable || (cb.ResetOnHealthyTask != nil && !*cb.ResetOnHealthyTask) {
		return
	}
	for _, t := range p.tasks {
		if !p.ofPrimary(t) || t.phase != healthy || t.SeenHealthy {
			continue
		}
		if p.in.Limit > 0 && len(p.well) == p.in.Limit {
			break
		}
		p.well = append(p.well, t.ID)
	}
	if len(p.well) > 0 && r.BreakerCount > 0 {
		r.BreakerCount = 0
		r.changed("a task became healthy")
	}
}
