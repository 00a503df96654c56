package deploy

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// The circuit breaker's bounds for BOUNDED_PERCENT, the default, with its default percentage.
const (
	leastThreshold = 3
	mostThreshold  = 200
	defaultPercent = 50
)

// BreakerThreshold is how many failures trip the circuit breaker of the service.
func BreakerThreshold(s *model.Service) int32 {
	kind, value := types.ThresholdTypeBoundedPercent, int32(defaultPercent)
	if cb := s.DeploymentConfiguration.DeploymentCircuitBreaker; cb != nil && cb.ThresholdConfiguration != nil {
		kind, value = cb.ThresholdConfiguration.Type, cb.ThresholdConfiguration.Value
	}
	share := int32((int64(s.DesiredCount)*int64(value) + 99) / 100)
	switch kind {
	case types.ThresholdTypeCount:
		return max(1, value)
	case types.ThresholdTypeUnboundedPercent:
		return max(1, share)
	}
	return min(max(share, leastThreshold), mostThreshold)
}

// adopt finds the deployment that the service should run, the newest PRIMARY, begins it, and retires the ones it supersedes.
func (p *planner) adopt() {
	for _, r := range p.rollouts {
		if r.Status != model.DeploymentPrimary {
			continue
		}
		if p.primary == nil {
			p.primary = r
			p.begin(r)
			continue
		}
		r.Status = model.DeploymentActive
		r.changed("superseded by deployment " + p.primary.ID)
	}
	if p.primary == nil {
		return
	}
	for _, r := range p.rollouts {
		if r != p.primary && r.inProgress() {
			p.supersede(r)
		}
	}
}

// begin marks a deployment that the API made as under way.
func (p *planner) begin(r *rollout) {
	if r.RolloutState == "" {
		r.RolloutState = types.DeploymentRolloutStateInProgress
		r.RolloutStateReason = "ECS deployment " + r.ID + " in progress."
		r.changed("the deployment begins")
	}
	if r.inProgress() && (r.State == "" || r.State == types.ServiceDeploymentStatusPending) {
		r.State = types.ServiceDeploymentStatusInProgress
		r.changed("the service deployment begins")
	}
	if r.inProgress() && r.StartedAt.IsZero() {
		r.StartedAt = p.in.Now
		r.changed("the service deployment starts")
	}
}

// supersede ends the service deployment of a rollout that a newer deployment replaces before it completed. Its rollout state
// stays as DescribeServices showed it last.
func (p *planner) supersede(r *rollout) {
	if !final(r.State) {
		p.end(r, types.ServiceDeploymentStatusStopped, "Service deployment stopped because deployment "+p.primary.ID+" replaces it.")
		r.changed("its service deployment is stopped")
	}
	if d := p.byID[r.RollbackOf]; d != nil && r.RollbackOf != "" && d.State == types.ServiceDeploymentStatusRollbackInProgress {
		p.end(d, types.ServiceDeploymentStatusRollbackFailed,
			"Service deployment rollback stopped because deployment "+p.primary.ID+" replaces it.")
		d.changed("its rollback is superseded")
	}
}

// final tells whether a service deployment has its last status.
func final(s types.ServiceDeploymentStatus) bool {
	switch s {
	case types.ServiceDeploymentStatusSuccessful, types.ServiceDeploymentStatusStopped,
		types.ServiceDeploymentStatusRollbackSuccessful, types.ServiceDeploymentStatusRollbackFailed:
		return true
	}
	return false
}

// end gives a service deployment its last status.
func (p *planner) end(r *rollout, status types.ServiceDeploymentStatus, reason string) {
	r.State, r.StateReason, r.FinishedAt = status, reason, p.in.Now
	if status == types.ServiceDeploymentStatusStopped {
		r.StoppedAt = p.in.Now
	}
}

// verdict is why a deployment ends without having completed, in the words of each place that shows it.
type verdict struct {
	rollback bool
	// state is the failed deployment's rolloutStateReason, event the sentence after "(deployment …) ".
	state, event string
	// rolling starts the rolloutStateReason of the deployment that rolls back.
	rolling string
	// rolledBack and stopped are the service deployment's statusReason with and without a rollback.
	rolledBack, stopped string
}

var breakerVerdict = verdict{
	state:      "ECS deployment circuit breaker: tasks failed to start.",
	event:      "deployment failed: tasks failed to start.",
	rolling:    "ECS deployment circuit breaker: rolling back to deploymentId ",
	rolledBack: "Service deployment rolled back because the circuit breaker threshold was exceeded.",
	stopped:    "Service deployment stopped because the circuit breaker threshold was exceeded.",
}

var userVerdict = verdict{
	event:      "deployment failed: stopped by the user.",
	rolling:    "ECS deployment stopped by the user: rolling back to deploymentId ",
	rolledBack: "Service deployment rolled back because the user stopped it.",
	stopped:    "Service deployment stopped by the user.",
}

// judge fails the deployment in progress when too many of its tasks failed or the user asked to stop it.
func (p *planner) judge() {
	r := p.primary
	if r == nil || !r.inProgress() {
		return
	}
	cb := p.in.Service.DeploymentConfiguration.DeploymentCircuitBreaker
	switch {
	case r.StopRequested != "":
		v := userVerdict
		v.state = "ECS deployment " + r.ID + " stopped by the user."
		v.rollback = r.StopRequested != types.StopServiceDeploymentStopTypeAbort
		p.fail(r, v)
	case cb != nil && cb.Enable && r.BreakerCount >= BreakerThreshold(p.in.Service):
		v := breakerVerdict
		v.rollback = cb.Rollback
		r.BreakerTripped = true
		p.fail(r, v)
	}
}

// fail ends a deployment; it launches nothing more. With a rollback, a new deployment takes its place.
func (p *planner) fail(r *rollout, v verdict) {
	r.RolloutState, r.RolloutStateReason = types.DeploymentRolloutStateFailed, v.state
	r.changed(v.event)
	p.explain(p.text("(deployment %s) %s", r.ID, v.event))
	if r.RollbackOf != "" {
		p.end(r, types.ServiceDeploymentStatusStopped, v.stopped)
		p.rollbackFailed(r)
		return
	}
	if !v.rollback {
		p.end(r, types.ServiceDeploymentStatusStopped, v.stopped)
		return
	}
	goal := p.lastCompleted()
	if goal == nil {
		p.end(r, types.ServiceDeploymentStatusRollbackFailed,
			v.stopped+" There is no completed deployment to roll back to.")
		return
	}
	p.rollBack(r, goal, v)
}

// rollbackFailed tells the deployment that r was to roll back.
func (p *planner) rollbackFailed(r *rollout) {
	d := p.byID[r.RollbackOf]
	if d == nil || d.State != types.ServiceDeploymentStatusRollbackInProgress {
		return
	}
	p.end(d, types.ServiceDeploymentStatusRollbackFailed, "Service deployment rollback failed: "+r.RolloutStateReason)
	d.changed("its rollback failed")
}

// lastCompleted is the newest deployment that completed and whose revision is known.
func (p *planner) lastCompleted() *rollout {
	for _, d := range p.rollouts {
		if d.RolloutState == types.DeploymentRolloutStateCompleted && p.in.Revisions[d.RevisionID] != nil {
			return d
		}
	}
	return nil
}

// rollBack makes the deployment that brings the service back to the revision of goal.
func (p *planner) rollBack(r, goal *rollout, v verdict) {
	back := &rollout{Deployment: model.Deployment{
		ID: p.in.NewID, Cluster: r.Cluster, Service: r.Service,
		RevisionID: goal.RevisionID, SourceRevisionIDs: []string{r.RevisionID},
		Status:       model.DeploymentPrimary,
		RolloutState: types.DeploymentRolloutStateInProgress, RolloutStateReason: v.rolling + p.in.NewID + ".",
		State: types.ServiceDeploymentStatusInProgress, RollbackOf: r.ID,
		CreatedAt: p.in.Now, StartedAt: p.in.Now,
	}}
	back.changed(fmt.Sprintf("deployment %s failed: back to revision %s of deployment %s", r.ID, goal.RevisionID, goal.ID))
	r.Status = model.DeploymentActive
	r.State, r.StateReason = types.ServiceDeploymentStatusRollbackInProgress, v.rolledBack
	r.RolledBackBy = back.ID
	p.rollouts = append([]*rollout{back}, p.rollouts...)
	p.byID[back.ID] = back
	p.primary = back
	p.explain(p.text("rolling back to deployment %s.", back.ID))
	p.service.RevisionID = goal.RevisionID
	p.serviceWhy = append(p.serviceWhy, "the service rolls back to revision "+goal.RevisionID)
	if p.service.Throttle != (model.Throttle{}) {
		p.setThrottle(model.Throttle{}, "a new deployment ends the throttle")
	}
}
