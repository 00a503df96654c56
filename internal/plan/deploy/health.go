package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// phase is what a task that has not ended is worth to its service.
type phase int

const (
	pending   phase = iota // not RUNNING yet, placed or not
	settling               // RUNNING, and its checks have not decided yet
	healthy                // counts towards minimumHealthyPercent
	unhealthy              // RUNNING, and a check failed after the grace period
	stopping               // asked to stop, or ending by itself
	lost                   // its machine is: see Task.Lost
)

// The states of a target that matter here, as in elasticloadbalancingv2's TargetHealthStateEnum. A target that is "unused" (its
// group has no listener) is neither healthy nor unhealthy: nobody probes it.
const (
	targetHealthy     = "healthy"
	targetUnhealthy   = "unhealthy"
	targetUnavailable = "unavailable" // the group's health checks are off
)

// containerChecksFailed is the stoppedReason of a task whose containers' own checks failed.
const containerChecksFailed = "Task failed container health checks"

// elbChecksFailed starts the stoppedReason of a task whose target failed.
const elbChecksFailed = "Task failed ELB health checks in "

// task is a task with its phase.
type task struct {
	Task
	phase phase
	// stoppedReason and event tell why an unhealthy task is unhealthy.
	stoppedReason string
	event         string
}

// stays tells whether the task is neither being stopped nor to be replaced.
func (t *task) stays() bool {
	return t.phase != stopping && t.phase != lost && t.phase != unhealthy && !t.Draining
}

func (t *task) running() bool {
	return t.phase == settling || t.phase == healthy || t.phase == unhealthy
}

// ending tells whether the task is asked to stop, or ends by itself.
func ending(t *task) bool {
	return t.StopRequest != nil || t.Desired == model.Stopped || model.Running.Before(t.Observed.Status)
}

func (p *planner) classify(in Task) *task {
	t := &task{Task: in}
	switch {
	case in.Lost:
		t.phase = lost
	case ending(t):
		t.phase = stopping
	case in.Observed.Status != model.Running:
		t.phase = pending
	case p.isHealthy(in):
		t.phase = healthy
	case p.diagnose(t):
		t.phase = unhealthy
	default:
		t.phase = settling
	}
	return t
}

// isHealthy tells whether a RUNNING task counts towards minimumHealthyPercent: every check it has passes, or it has none and has
// been RUNNING for the settle time.
func (p *planner) isHealthy(t Task) bool {
	if !t.ContainerChecks && t.LoadBalancers == 0 {
		return !t.Observed.StartedAt.IsZero() && !p.in.Now.Before(p.settlesAt(t))
	}
	if t.ContainerChecks && t.Observed.Health != types.HealthStatusHealthy {
		return false
	}
	passing := 0
	for _, target := range t.Targets {
		if target.State != targetHealthy && target.State != targetUnavailable {
			return false
		}
		passing++
	}
	return passing >= t.LoadBalancers
}

func (p *planner) settlesAt(t Task) time.Time {
	return t.Observed.StartedAt.Add(p.in.Pace.SettleTime())
}

// graceEnds is when failed checks of the task begin to matter.
func (p *planner) graceEnds(t Task) time.Time {
	return t.Observed.StartedAt.Add(time.Duration(p.in.Service.HealthCheckGracePeriodSeconds) * time.Second)
}

// diagnose tells whether a check of a RUNNING task has failed after the grace period, and notes why.
func (p *planner) diagnose(t *task) bool {
	if p.in.Now.Before(p.graceEnds(t.Task)) {
		return false
	}
	if t.ContainerChecks && t.Observed.Health == types.HealthStatusUnhealthy {
		t.stoppedReason = containerChecksFailed
		t.event = p.text("(task %s) failed container health checks.", t.ID)
		return true
	}
	targets := slices.SortedFunc(slices.Values(t.Targets), func(a, b TargetState) int {
		return strings.Compare(a.TargetGroupARN, b.TargetGroupARN)
	})
	for _, target := range targets {
		if target.State == targetUnhealthy {
			t.stoppedReason = fmt.Sprintf("%s(target-group %s)", elbChecksFailed, target.TargetGroupARN)
			t.event = p.text("%s is unhealthy in (target-group %s) due to (reason %s).",
				who(t, target), target.TargetGroupARN, failure(target))
			return true
		}
	}
	return false
}

// who names a target as ECS's events do: by its instance when the group holds instances, else by its task.
func who(t *task, target TargetState) string {
	if strings.HasPrefix(target.ID, "i-") {
		return fmt.Sprintf("(instance %s) (port %d)", target.ID, target.Port)
	}
	return fmt.Sprintf("(task %s) (port %d)", t.ID, target.Port)
}

func failure(target TargetState) string {
	switch {
	case target.Description != "":
		return target.Description
	case target.Reason != "":
		return target.Reason
	}
	return "Health checks failed"
}

// failedHealth tells whether Plan asked for the stop because a health check failed.
func failedHealth(r *model.StopRequest) bool {
	return r.Code == types.TaskStopCodeServiceSchedulerInitiated &&
		(r.Reason == containerChecksFailed || strings.HasPrefix(r.Reason, elbChecksFailed))
}
