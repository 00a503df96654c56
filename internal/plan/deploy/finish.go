package deploy

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// finish completes the deployment, retires the older ones that have no tasks left, and tells the steady state.
func (p *planner) finish() {
	if p.primary.inProgress() && p.arrived() {
		p.complete(p.primary)
	}
	left := p.tasksByDeployment()
	for _, r := range p.rollouts {
		rollingBack := r.State == types.ServiceDeploymentStatusRollbackInProgress
		if r.Status == model.DeploymentActive && left[r.ID] == 0 && !rollingBack {
			r.Status = model.DeploymentInactive
			r.changed("it has no tasks left")
		}
	}
	p.settle(p.steady())
}

func (p *planner) tasksByDeployment() map[string]int {
	left := map[string]int{}
	for _, t := range p.tasks {
		left[t.Deployment]++
	}
	return left
}

// arrived tells whether the primary's tasks are all there and healthy and every other task is at least being stopped.
func (p *planner) arrived() bool {
	well := 0
	for _, t := range p.tasks {
		switch {
		case t.phase == stopping || t.phase == lost:
		case !p.ofPrimary(t) || t.phase != healthy || t.Draining:
			return false
		default:
			well++
		}
	}
	return well == p.bounds.desired && len(p.starts) == 0
}

func (p *planner) complete(r *rollout) {
	r.RolloutState = types.DeploymentRolloutStateCompleted
	r.RolloutStateReason = "ECS deployment " + r.ID + " completed."
	p.end(r, types.ServiceDeploymentStatusSuccessful, "")
	r.changed("all of its tasks are healthy")
	p.conclude(p.text("(deployment %s) deployment completed.", r.ID))
	if d := p.byID[r.RollbackOf]; d != nil && r.RollbackOf != "" && d.State == types.ServiceDeploymentStatusRollbackInProgress {
		p.end(d, types.ServiceDeploymentStatusRollbackSuccessful, d.StateReason)
		d.changed("it is rolled back")
	}
}

// steady tells whether the service is as asked: one live deployment, completed, all its tasks healthy, and no other task.
func (p *planner) steady() bool {
	for _, r := range p.rollouts {
		if r != p.primary && r.Live() {
			return false
		}
	}
	for _, t := range p.tasks {
		if t.phase != healthy || t.Draining {
			return false
		}
	}
	return p.primary.RolloutState == types.DeploymentRolloutStateCompleted &&
		len(p.tasks) == p.bounds.desired && len(p.starts) == 0
}

func (p *planner) settle(steady bool) {
	if steady == p.in.Service.Steady {
		return
	}
	p.service.Steady = steady
	if !steady {
		p.serviceWhy = append(p.serviceWhy, "the service is not steady any more")
		return
	}
	p.serviceWhy = append(p.serviceWhy, "the service is steady")
	p.conclude(p.text("has reached a steady state."))
}

// closeDown ends a deleted service: every task is stopped, and when none is left the service and its deployments are INACTIVE.
func (p *planner) closeDown() {
	for _, t := range p.tasks {
		switch t.phase {
		case stopping:
		case lost:
			p.bury(t, "its machine is lost and the service is deleted")
		default:
			p.stop(t, scaling(t), "the service is deleted")
		}
	}
	if p.in.Service.Steady {
		p.service.Steady = false
		p.serviceWhy = append(p.serviceWhy, "the service is deleted")
	}
	if len(p.tasks) > 0 {
		return
	}
	for _, r := range p.rollouts {
		if !r.Live() {
			continue
		}
		r.Status = model.DeploymentInactive
		r.changed("the service is deleted")
		if !final(r.State) {
			p.end(r, types.ServiceDeploymentStatusStopped, "Service deployment stopped because the service is deleted.")
		}
	}
	if p.in.Service.Status != statusInactive {
		p.service.Status = statusInactive
		p.serviceWhy = append(p.serviceWhy, "the service is deleted and has no tasks left")
	}
}
