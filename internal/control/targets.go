package control

import (
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/targets"
	"github.com/berthdev/berth/internal/store"
)

// reach keeps the targets of a service what they should be and releases the tasks that nothing can reach any more.
func (p *pass) reach(v *scene) {
	in := p.reachInput(v)
	actions := targets.Plan(in)
	p.look(targets.NextLook(in))
	for _, a := range actions {
		p.applyTargets(v, a)
	}
}

func (p *pass) reachInput(v *scene) targets.Input {
	in := targets.Input{Revisions: map[string]*model.ServiceRevision{}, Targets: v.targets, Health: map[string]*model.TargetHealth{},
		Groups: map[string]*model.TargetGroup{}, Nodes: map[string]*model.Node{}, Now: p.now, Pace: p.Pace, Limit: p.bite(v),
		Held: func(key string) bool { return p.isHeld(v, key) }}
	if v.Status != inactive {
		in.Service = v.Service
	}
	group := func(arn string) {
		if g, ok := store.TargetGroups.Get(p.tx, arn); ok {
			in.Groups[arn] = g
		}
	}
	for _, t := range v.targets {
		if h, ok := store.TargetHealths.Get(p.tx, t.Key()); ok {
			in.Health[t.Key()] = h
		}
		group(t.TargetGroupARN)
	}
	for _, d := range v.deployments {
		r, ok := store.ServiceRevisions.Get(p.tx, v.Key()+"/"+d.RevisionID)
		if !ok || !d.Live() {
			continue
		}
		in.Revisions[d.ID] = r
		for _, lb := range r.LoadBalancers {
			group(text(lb.TargetGroupArn))
		}
	}
	for _, t := range v.tasks {
		if t.Ended() {
			continue
		}
		_, checks := p.definition(t.Family, t.Revision)
		in.Tasks = append(in.Tasks, targets.Task{Task: t, ContainerChecks: checks, Lost: p.machine(t).Lost(), Found: v.found[t.ID] > 0})
		if r := in.Revisions[t.Deployment]; r != nil && len(r.LoadBalancers) > 0 && in.Nodes[t.NodeID] == nil {
			if n, ok := store.Nodes.Get(p.tx, t.NodeID); ok {
				in.Nodes[t.NodeID] = n
			}
		}
	}
	return in
}

// isHeld tells whether another service's target has the key; if so, the service is looked at again when that is gone.
func (p *pass) isHeld(v *scene, key string) bool {
	t, ok := store.Targets.Get(p.tx, key)
	if !ok || t.Task == "" || t.Service == v.Key() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[key] = v.owner()
	return true
}

func (p *pass) applyTargets(v *scene, a targets.Action) {
	switch a := a.(type) {
	case targets.Register:
		store.Targets.Put(p.tx, a.Target)
		p.say("registered target", "target", a.Target.Key(), "task", a.Target.Task, "reason", a.Reason)
	case targets.Drain:
		if old, ok := store.Targets.Get(p.tx, a.Key); ok {
			t := *old
			t.DrainingSince = p.now
			store.Targets.Put(p.tx, &t)
			p.say("draining target", "target", a.Key, "reason", a.Reason)
		}
	case targets.Remove:
		store.Targets.Delete(p.tx, a.Key)
		store.TargetHealths.Delete(p.tx, a.Key)
		p.say("removed target", "target", a.Key, "reason", a.Reason)
	case targets.Release:
		p.change(v, []string{a.TaskID}, func(t *model.Task) {
			t.Released = true
			t.Version++
		})
	case targets.Event:
		p.event(v.Service, a.Text)
	}
}
