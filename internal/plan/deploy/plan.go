package deploy

import (
	"math"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// The statuses of a service.
const (
	statusDraining = "DRAINING"
	statusInactive = "INACTIVE"
)

// Plan decides what the service does now. The same Input gives the same actions, and once they are applied Plan is empty until
// something else changes: a task, the service, or the clock (see NextLook).
//
// Actions come in the order in which they must be applied: Account, Healthy, Put, the events that explain, End, Stop, Start, the events
// that conclude, PutService.
func Plan(in Input) []Action {
	if in.Service == nil {
		return nil
	}
	p := newPlanner(in)
	if in.Service.Status == statusDraining || in.Service.Status == statusInactive {
		p.account()
		if !p.behind {
			p.closeDown()
		}
		return p.actions()
	}
	p.adopt()
	p.noteHealthy()
	p.account()
	if p.behind {
		return p.actions() // how the deployment does is known once all that ended is counted
	}
	p.judge()
	if p.primary != nil {
		p.roll()
		p.finish()
	}
	return p.actions()
}

// planner is one run of Plan: the input sorted and copied, and what was decided so far.
type planner struct {
	in       Input
	service  model.Service // what PutService stores, if it differs from in.Service
	rollouts []*rollout    // newest first
	byID     map[string]*rollout
	primary  *rollout // nil while the service has none
	tasks    []*task  // not ended, oldest first
	ended    []*task  // not accounted, oldest first, as many as Limit lets count
	behind   bool     // there are more of them
	bounds   bounds
	healthy  int // tasks that count as healthy and are not being stopped
	used     int // tasks that count against maximumPercent

	accounted  []string
	well       []string // seen healthy for the first time
	failedNow  int      // ended tasks of the primary that were stopped for their health, counted in this run
	before     []Event
	after      []Event
	ends       []End
	stops      []Stop
	starts     []Start
	serviceWhy []string
}

// rollout is a deployment that may be changed: a copy, and the reasons of the changes.
type rollout struct {
	model.Deployment
	why []string
}

func (r *rollout) inProgress() bool {
	return r.RolloutState == types.DeploymentRolloutStateInProgress
}

func (r *rollout) failed() bool { return r.RolloutState == types.DeploymentRolloutStateFailed }

// changed marks the deployment to be stored.
func (r *rollout) changed(why string) { r.why = append(r.why, why) }

func newPlanner(in Input) *planner {
	p := &planner{in: in, service: *in.Service, byID: map[string]*rollout{}}
	for _, d := range in.Deployments {
		r := &rollout{Deployment: *d}
		p.rollouts = append(p.rollouts, r)
		p.byID[d.ID] = r
	}
	slices.SortStableFunc(p.rollouts, func(a, b *rollout) int { return b.CreatedAt.Compare(a.CreatedAt) })
	for _, t := range in.Tasks {
		if t.Task == nil {
			continue
		}
		if t.Ended() {
			if !t.Accounted {
				p.ended = append(p.ended, &task{Task: t})
			}
			continue
		}
		p.tasks = append(p.tasks, p.classify(t))
	}
	slices.SortFunc(p.tasks, older)
	slices.SortFunc(p.ended, older)
	if in.Limit > 0 && len(p.ended) > in.Limit {
		p.ended, p.behind = p.ended[:in.Limit], true
	}
	p.bounds = boundsOf(in.Service)
	for _, t := range p.tasks {
		if t.phase == healthy {
			p.healthy++
		}
		if t.phase != lost && (t.phase != stopping || p.bounds.strict) {
			p.used++
		}
	}
	return p
}

func older(a, b *task) int {
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// ofPrimary tells whether the task belongs to the deployment that the service should run.
func (p *planner) ofPrimary(t *task) bool { return p.primary != nil && t.Deployment == p.primary.ID }

// count returns how many tasks that have not ended satisfy f.
func (p *planner) count(f func(*task) bool) int {
	n := 0
	for _, t := range p.tasks {
		if f(t) {
			n++
		}
	}
	return n
}

// room is how many more tasks may be stopped or started.
func (p *planner) room() int {
	n := len(p.stops) + len(p.ends)
	for _, s := range p.starts {
		n += s.Count
	}
	if p.in.Limit == 0 {
		return math.MaxInt
	}
	return max(0, p.in.Limit-n)
}

// stop ends a task. Every Stop is made here, so that the counts stay true; when there is no room for it, nothing happens.
func (p *planner) stop(t *task, text, reason string) {
	if p.room() == 0 {
		return
	}
	p.stops = append(p.stops, Stop{
		TaskID: t.ID, Code: types.TaskStopCodeServiceSchedulerInitiated, Text: text, Pending: t.phase == pending, Reason: reason,
	})
	if t.phase == healthy {
		p.healthy--
	}
	if !p.bounds.strict {
		p.used--
	}
	t.phase = stopping
}

func (p *planner) setThrottle(t model.Throttle, why string) {
	p.service.Throttle = t
	p.serviceWhy = append(p.serviceWhy, why)
}

// actions lays out what was decided in the order that Plan promises.
func (p *planner) actions() []Action {
	var out []Action
	if len(p.accounted) > 0 {
		out = append(out, Account{TaskIDs: p.accounted, Reason: plural(len(p.accounted), "task") + " ended"})
	}
	if len(p.well) > 0 {
		out = append(out, Healthy{TaskIDs: p.well})
	}
	for _, r := range p.rollouts {
		if len(r.why) > 0 {
			r.UpdatedAt = p.in.Now
			d := r.Deployment
			out = append(out, Put{Deployment: &d, Reason: strings.Join(r.why, "; ")})
		}
	}
	for _, e := range p.before {
		out = append(out, e)
	}
	for _, e := range p.ends {
		out = append(out, e)
	}
	for _, s := range p.stops {
		out = append(out, s)
	}
	for _, s := range p.starts {
		out = append(out, s)
	}
	for _, e := range p.after {
		out = append(out, e)
	}
	if p.serviceChanged() {
		s := p.service
		out = append(out, PutService{Service: &s, Reason: strings.Join(p.serviceWhy, "; ")})
	}
	return out
}

func (p *planner) serviceChanged() bool {
	was, is := p.in.Service, &p.service
	return was.Status != is.Status || was.Steady != is.Steady || was.RevisionID != is.RevisionID ||
		was.Throttle.Failures != is.Throttle.Failures || !was.Throttle.Until.Equal(is.Throttle.Until) ||
		!was.Throttle.FailedAt.Equal(is.Throttle.FailedAt)
}
