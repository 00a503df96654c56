package control

import (
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/targets"
	"github.com/berthdev/berth/internal/store"
)

// targets keeps the target groups of services what they should be and releases the tasks that nothing can reach any more.
func (p *pass) targets() {
	in := p.targetsInput()
	actions := targets.Plan(in)
	p.look(targets.NextLook(in))
	for _, a := range actions {
		p.applyTargets(a)
	}
}

func (p *pass) targetsInput() targets.Input {
	in := targets.Input{Health: map[string]*model.TargetHealth{}, Groups: map[string]*model.TargetGroup{}, Nodes: map[string]*model.Node{},
		Now: p.now, Pace: p.Pace}
	for t := range store.Targets.Scan(p.tx, "") {
		if t.Task != "" {
			in.Targets = append(in.Targets, t)
		}
	}
	for h := range store.TargetHealths.Scan(p.tx, "") {
		in.Health[h.Key()] = h
	}
	for g := range store.TargetGroups.Scan(p.tx, "") {
		in.Groups[g.ARN] = g
	}
	for n := range store.Nodes.Scan(p.tx, "") {
		in.Nodes[n.ID] = n
	}
	byService := map[string][]*model.Task{}
	for _, state := range []string{store.TaskPending, store.TaskLive} {
		for t := range store.Tasks.By(p.tx, store.ByState, state) {
			if t.Service == "" {
				in.Others = append(in.Others, t)
			} else {
				byService[t.Cluster+"/"+t.Service] = append(byService[t.Cluster+"/"+t.Service], t)
			}
		}
	}
	for _, key := range sortedKeys(byService) {
		s, ok := store.Services.Get(p.tx, key)
		if !ok || s.Status == "INACTIVE" {
			in.Others = append(in.Others, byService[key]...)
			continue
		}
		in.Services = append(in.Services, p.targetsService(s, byService[key]))
	}
	return in
}

func (p *pass) targetsService(s *model.Service, tasks []*model.Task) targets.Service {
	v := targets.Service{Service: s, Revisions: map[string]*model.ServiceRevision{}}
	for _, t := range tasks {
		_, checks := p.definition(t.Family, t.Revision)
		v.Tasks = append(v.Tasks, targets.Task{Task: t, ContainerChecks: checks})
		if _, ok := v.Revisions[t.Deployment]; ok {
			continue
		}
		if d, ok := store.Deployments.Get(p.tx, s.Key()+"/"+model.ARNTail(t.Deployment)); ok {
			if r, ok := store.ServiceRevisions.Get(p.tx, s.Key()+"/"+d.RevisionID); ok {
				v.Revisions[t.Deployment] = r
			}
		}
	}
	return v
}

func (p *pass) applyTargets(a targets.Action) {
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
		if old, ok := store.Tasks.Get(p.tx, a.TaskID); ok && !old.Released {
			t := *old
			t.Released = true
			t.Version++
			store.Tasks.Put(p.tx, &t)
		}
	case targets.Event:
		p.event(a.Service, a.Text)
	}
}
