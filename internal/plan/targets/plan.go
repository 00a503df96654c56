package targets

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// delayAttribute is the target group attribute that bounds draining, in seconds, and delayDefault its default.
const (
	delayAttribute = "deregistration_delay.timeout_seconds"
	delayDefault   = 300
)

// Plan decides which targets to register, drain and remove, and which tasks may be stopped. The same Input gives the same
// actions, and once they are applied Plan is empty until something else changes: a task, a target's health, or the clock
// (see NextLook).
//
// It keeps the first half of the order in which a task stops: every target of a task is Drained as soon as the task is to stop;
// only when each of them is drained or gone is the task Released, and the agent signals no container before that.
// Actions come as Remove, Drain, Register, Release, Event, so that an address can pass from an ended task to a new one.
func Plan(in Input) []Action {
	p := newPlanner(in)
	for _, t := range p.tasks {
		p.lower(t)
		p.restore(t)
	}
	p.sweep()
	for _, t := range p.tasks {
		p.register(t)
		p.release(t)
	}
	return p.actions()
}

// NextLook is the earliest time after in.Now at which Plan may decide differently though nothing but the clock has changed: a
// deregistration delay passes. It is zero when there is no such time.
func NextLook(in Input) time.Time {
	p := newPlanner(in)
	var next time.Time
	for _, t := range in.Targets {
		if t.DrainingSince.IsZero() {
			continue
		}
		if at := p.delayEnds(t); at.After(in.Now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// planner is one run of Plan.
type planner struct {
	in      Input
	tasks   []*task // by id
	byTask  map[string]*task
	targets map[string]*model.Target // by key, as they are once the actions so far are applied

	removes   []Remove
	drains    []Drain
	registers []Register
	releases  []Release
	told      news
}

// task is a task and its targets, by key.
type task struct {
	Task
	targets []*model.Target
}

func newPlanner(in Input) *planner {
	p := &planner{in: in, byTask: map[string]*task{}, targets: map[string]*model.Target{}}
	for _, t := range in.Tasks {
		if t.Task == nil || t.Ended() {
			continue
		}
		own := &task{Task: t}
		p.tasks = append(p.tasks, own)
		p.byTask[t.ID] = own
	}
	slices.SortFunc(p.tasks, func(a, b *task) int { return cmp.Compare(a.ID, b.ID) })
	sorted := slices.SortedFunc(slices.Values(in.Targets), func(a, b *model.Target) int { return cmp.Compare(a.Key(), b.Key()) })
	for _, t := range sorted {
		p.targets[t.Key()] = t
		if own := p.byTask[t.Task]; own != nil {
			own.targets = append(own.targets, t)
		}
	}
	return p
}

// full tells that the actions change as much as they may.
func (p *planner) full() bool {
	return p.in.Limit > 0 && len(p.removes)+len(p.drains)+len(p.registers)+len(p.releases) >= p.in.Limit
}

// ending tells whether the task is asked to stop or ends by itself.
func ending(t *model.Task) bool {
	return t.StopRequest != nil || t.Desired == model.Stopped || model.Running.Before(t.Observed.Status)
}

// killed tells whether nothing is to be waited for: the task's machine is lost.
func killed(t *model.Task) bool { return t.StopRequest != nil && t.StopRequest.Kill }

// lower takes an ending task's targets out of service: drained first, removed when drained. A killed task's, and those of a lost machine,
// go at once.
func (p *planner) lower(t *task) {
	if !ending(t.Task.Task) && !t.Lost {
		return
	}
	for _, target := range t.targets {
		switch {
		case t.Lost:
			p.remove(target, "the machine of task "+t.ID+" is lost")
		case killed(t.Task.Task):
			p.remove(target, "task "+t.ID+" is lost")
		case p.in.Groups[target.TargetGroupARN] == nil: // swept
		case target.DrainingSince.IsZero() && p.delay(target) == 0:
			p.remove(target, "task "+t.ID+" is to stop, and its target group has no deregistration delay")
		case target.DrainingSince.IsZero():
			p.drain(target, "task "+t.ID+" is to stop")
		default:
			if why, ok := p.drained(target); ok {
				p.remove(target, why)
			}
		}
	}
}

// restore takes out a target that somebody else deregistered, once it is drained, of a task that is to stay: register then puts it
// back, since a service's targets are what its tasks are.
func (p *planner) restore(t *task) {
	if p.in.Service == nil || ending(t.Task.Task) {
		return
	}
	for _, target := range t.targets {
		if target.DrainingSince.IsZero() || p.in.Groups[target.TargetGroupARN] == nil {
			continue
		}
		if why, ok := p.drained(target); ok {
			p.remove(target, "task "+t.ID+" stays, though its target was deregistered; "+why)
		}
	}
}

// sweep removes targets that no live task of the service stands behind, or whose group is gone.
func (p *planner) sweep() {
	for _, key := range sortedKeys(p.targets) {
		target := p.targets[key]
		switch {
		case p.byTask[target.Task] == nil || p.in.Service == nil:
			p.remove(target, "task "+target.Task+" has ended")
		case p.in.Groups[target.TargetGroupARN] == nil:
			p.remove(target, "its target group is gone")
		}
	}
}

// drained tells whether a draining target can get no request any more, and why. At AWS's pace the whole delay is waited for,
// as AWS does.
func (p *planner) drained(t *model.Target) (string, bool) {
	if h := p.in.Health[t.Key()]; h != nil && h.Drained && p.in.Pace != model.PaceAWS {
		return "no request is in flight", true
	}
	if !p.in.Now.Before(p.delayEnds(t)) {
		return "the deregistration delay has passed", true
	}
	return "", false
}

// delay is the longest that a target drains; nothing when its group is gone.
func (p *planner) delay(t *model.Target) time.Duration {
	g := p.in.Groups[t.TargetGroupARN]
	if g == nil {
		return 0
	}
	return time.Duration(max(0, g.Attr(delayAttribute, delayDefault))) * time.Second
}

// delayEnds is when a draining target's deregistration delay has passed.
func (p *planner) delayEnds(t *model.Target) time.Time { return t.DrainingSince.Add(p.delay(t)) }

// register puts a running task whose own checks pass into the target groups of its revision.
func (p *planner) register(t *task) {
	if p.in.Service == nil || !ready(t) {
		return
	}
	revision := p.in.Revisions[t.Deployment]
	if revision == nil {
		return
	}
	for _, lb := range revision.LoadBalancers {
		target := p.address(t, lb)
		if target == nil || p.full() || p.targets[target.Key()] != nil || p.in.Held != nil && p.in.Held(target.Key()) {
			continue // not addressable yet, or registered; an address that another live task holds is waited for
		}
		target.Service = p.in.Service.Key()
		p.targets[target.Key()] = target
		p.registers = append(p.registers, Register{Target: target,
			Reason: fmt.Sprintf("task %s runs and is healthy", t.ID)})
		p.told.registered = p.told.registered.add(target.TargetGroupARN)
	}
}

// release lets a task stop once none of its targets can get a request.
func (p *planner) release(t *task) {
	if t.Released || !ending(t.Task.Task) || p.full() {
		return
	}
	open := 0
	for _, target := range t.targets {
		if left := p.targets[target.Key()]; left != nil && left.Task == t.ID {
			open++
		}
	}
	var why string
	switch {
	case killed(t.Task.Task):
		why = "it is not to be waited for"
	case t.Observed.Status.Before(model.Running):
		why = "it never ran"
	case open > 0 || t.Found:
		return
	case len(t.targets) == 0:
		why = "it is in no target group"
	default:
		why = "its targets are drained"
	}
	p.releases = append(p.releases, Release{TaskID: t.ID, Reason: why})
}

func (p *planner) remove(t *model.Target, why string) {
	if p.targets[t.Key()] == nil || p.full() {
		return
	}
	delete(p.targets, t.Key())
	p.removes = append(p.removes, Remove{Key: t.Key(), Reason: why})
	if t.DrainingSince.IsZero() { // else it was told when it began to drain
		p.told.deregistered = p.told.deregistered.add(t.TargetGroupARN)
	}
}

func (p *planner) drain(t *model.Target, why string) {
	if p.full() {
		return
	}
	p.drains = append(p.drains, Drain{Key: t.Key(), Reason: why})
	p.told.deregistered = p.told.deregistered.add(t.TargetGroupARN)
	p.told.draining = p.told.draining.add(t.Task)
}

func (p *planner) actions() []Action {
	var out []Action
	for _, a := range p.removes {
		out = append(out, a)
	}
	for _, a := range p.drains {
		out = append(out, a)
	}
	for _, a := range p.registers {
		out = append(out, a)
	}
	for _, a := range p.releases {
		out = append(out, a)
	}
	if p.in.Service != nil {
		for _, text := range p.told.texts(p.in.Service.Name) {
			out = append(out, Event{Text: text})
		}
	}
	return out
}
