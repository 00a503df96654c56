package control

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/plan/placement"
	"github.com/berthdev/berth/internal/store"
)

// history is how many ended deployments of a service the planner sees.
const history = 20

// scene is one service with what belongs to it, as it is once what the pass has written so far is stored.
type scene struct {
	*model.Service
	deployments []*model.Deployment // newest first
	tasks       []*model.Task       // that have not ended, or are not accounted for
	targets     []*model.Target
	at          map[string]int      // by task id: its place in tasks
	found       map[string]int      // by how many names tasks that are to stop are still found
	unplaced    *placement.Decision // why a task that the service lacks fits nowhere; nil while all fit
}

func (s *scene) put(p *pass, t *model.Task) {
	store.Tasks.Put(p.tx, t)
	if k, ok := s.at[t.ID]; ok {
		s.tasks[k] = t
		return
	}
	s.at[t.ID] = len(s.tasks)
	s.tasks = append(s.tasks, t)
}

// scene reads everything of a service before anything is written: reading what a transaction has not written is much faster.
func (p *pass) scene(s *model.Service) *scene {
	v := &scene{Service: s, at: map[string]int{}}
	v.deployments = slices.Collect(store.Deployments.Scan(p.tx, s.Key()+"/"))
	slices.SortStableFunc(v.deployments, func(a, b *model.Deployment) int { return b.CreatedAt.Compare(a.CreatedAt) })
	var nowhere []string // an older Berth stored tasks before they had a place: they are made anew
	for t := range store.Tasks.By(p.tx, store.ByOpen, s.Key()) {
		if t.NodeID == "" && t.StopRequest == nil && !t.Ended() {
			nowhere = append(nowhere, t.ID)
			continue
		}
		if !t.Ended() || !t.Accounted && s.Status != inactive {
			v.at[t.ID] = len(v.tasks)
			v.tasks = append(v.tasks, t)
		}
	}
	v.targets = slices.Collect(store.Targets.By(p.tx, store.ByService, s.Key()))
	for _, id := range nowhere[:min(len(nowhere), max(1, p.limit/2))] {
		store.Tasks.Delete(p.tx, id)
	}
	return v
}

// owner is who the scene is of.
func (v *scene) owner() owner {
	if v.Name == "" {
		return owner{ofTask, v.tasks[0].ID}
	}
	return owner{ofService, v.Key()}
}

// The statuses of a cluster, of a service and of a container instance.
const (
	active   = "ACTIVE"
	inactive = "INACTIVE"
	draining = "DRAINING"
)

// service looks at one service, in the order of a task's life: what is asked, what is planned, where it goes, who may reach it.
func (p *pass) service(key string) {
	s, ok := store.Services.Get(p.tx, key)
	if !ok {
		cluster, name, _ := strings.Cut(key, "/")
		s = &model.Service{Cluster: cluster, Name: name, Status: inactive}
	}
	v := p.scene(s)
	stages := []func(*scene){p.moveEvents, p.tellStuck, p.plan, p.stopTasks, p.find, p.reach, p.trim}
	if s.Status == inactive {
		p.waits(v.owner(), false)
		stages = []func(*scene){p.stopTasks, p.find, p.reach, p.forget}
	}
	for _, stage := range stages {
		if stage(v); p.probing() {
			return
		}
	}
}

func (p *pass) moveEvents(v *scene) { v.Service = store.MoveEvents(p.tx, v.Service) }

// plan lets the service's planner decide.
func (p *pass) plan(v *scene) {
	in := p.input(v)
	actions := deploy.Plan(in)
	p.look(deploy.NextLook(in))
	for _, a := range actions {
		p.apply(v, &in, a)
	}
	p.tell(v.Service, actions)
	if !p.probing() {
		p.waits(v.owner(), v.unplaced != nil)
	}
}

// input gathers what the planner looks at.
func (p *pass) input(v *scene) deploy.Input {
	in := deploy.Input{Service: v.Service, Revisions: map[string]*model.ServiceRevision{}, Now: p.now, Pace: p.Pace, Where: p.where,
		NewID: p.newDeploymentID(), Said: func(text string) bool { return p.told(v.Service, text) }, Limit: p.bite(v)}
	ended := 0
	completed := false // the planner needs the newest completed one, however old
	for _, d := range v.deployments {
		newest := d.RolloutState == types.DeploymentRolloutStateCompleted && !completed
		completed = completed || newest
		if !d.Live() {
			if ended++; ended > history && !newest {
				continue
			}
		}
		in.Deployments = append(in.Deployments, d)
		if r, ok := store.ServiceRevisions.Get(p.tx, v.Key()+"/"+d.RevisionID); ok {
			in.Revisions[r.ID] = r
		}
	}
	lbs := map[string]int{}
	for _, d := range in.Deployments {
		if r := in.Revisions[d.RevisionID]; r != nil {
			lbs[d.ID] = len(r.LoadBalancers)
		}
	}
	states := p.targetStates(v)
	for _, t := range v.tasks {
		_, checks := p.definition(t.Family, t.Revision)
		i, ok := store.Instances.Get(p.tx, t.Cluster+"/"+t.InstanceID)
		in.Tasks = append(in.Tasks, deploy.Task{Task: t, ContainerChecks: checks, LoadBalancers: lbs[t.Deployment],
			Targets: states[t.ID], Draining: ok && i.Status == draining, Lost: p.replaced(v.Service, t)})
	}
	return in
}

// bite is how many tasks one transaction may change: as many as fit it when all are as heavy as the heaviest.
func (p *pass) bite(v *scene) int {
	heaviest := weigh(&model.Task{Tags: v.Tags}) + 2*rowWeight
	for _, t := range v.tasks {
		heaviest = max(heaviest, weigh(t))
	}
	return max(1, min(p.limit/2, maxWeight/2/heaviest))
}

// targetStates are the targets of the service's tasks, by task, as its planner sees them.
func (p *pass) targetStates(v *scene) map[string][]deploy.TargetState {
	out := map[string][]deploy.TargetState{}
	for _, t := range v.targets {
		state := deploy.TargetState{TargetGroupARN: t.TargetGroupARN, ID: t.ID, Port: t.Port, State: "initial"}
		if h, ok := store.TargetHealths.Get(p.tx, t.Key()); ok {
			state.State, state.Reason, state.Description = string(h.State), string(h.Reason), h.Description
		}
		if !t.DrainingSince.IsZero() {
			state.State = "draining"
		}
		out[t.Task] = append(out[t.Task], state)
	}
	return out
}

// definition is a task definition, and whether its essential containers' health counts.
type definition struct {
	*model.TaskDefinition
	checks bool
}

// definition returns a task definition, nil when it is gone.
func (p *pass) definition(family string, revision int) (def *model.TaskDefinition, checks bool) {
	key := model.TaskDefinitionKey(family, revision)
	d, known := p.defs[key]
	if !known {
		if d.TaskDefinition, known = store.TaskDefinitions.Get(p.tx, key); known {
			for _, c := range d.Definition.ContainerDefinitions {
				d.checks = d.checks || c.HealthCheck != nil && (c.Essential == nil || *c.Essential)
			}
		}
		p.defs[key] = d
	}
	return d.TaskDefinition, d.checks
}

// newDeploymentID is "ecs-svc/" and 19 digits.
func (p *pass) newDeploymentID() string {
	sum := sha256.Sum256([]byte(p.NewID()))
	return "ecs-svc/" + strconv.FormatUint(1e18+binary.BigEndian.Uint64(sum[:])%uint64(8e18), 10)
}

// apply stores one action.
func (p *pass) apply(v *scene, in *deploy.Input, a deploy.Action) {
	key := v.Key()
	switch a := a.(type) {
	case deploy.Put:
		d := *a.Deployment
		if old, ok := store.Deployments.Get(p.tx, d.Key()); ok {
			d.StopRequested = old.StopRequested
		}
		store.Deployments.Put(p.tx, &d)
		p.say("deployment", "service", key, "deployment", d.ID, "state", d.RolloutState, "reason", a.Reason)
	case deploy.PutService:
		s := *v.Service
		s.Status, s.Steady, s.Throttle, s.RevisionID = a.Service.Status, a.Service.Steady, a.Service.Throttle, a.Service.RevisionID
		store.Services.Put(p.tx, &s)
		v.Service = &s
		p.say("service", "service", key, "status", s.Status, "reason", a.Reason)
	case deploy.Account:
		p.change(v, a.TaskIDs, func(t *model.Task) { t.Accounted = true })
	case deploy.Healthy:
		p.change(v, a.TaskIDs, func(t *model.Task) { t.SeenHealthy = true })
	case deploy.Stop:
		p.change(v, []string{a.TaskID}, func(t *model.Task) {
			t.StopRequest = &model.StopRequest{Code: a.Code, Reason: a.Text, At: p.now}
		})
		p.say("task is to stop", "service", key, "task", a.TaskID, "reason", a.Reason)
	case deploy.End:
		p.bury(v, v.tasks[v.at[a.TaskID]], a.Reason)
	case deploy.Start:
		if !p.frees {
			p.start(v, in, a)
		}
	case deploy.Event:
		p.event(v.Service, a.Text)
	}
}

// change stores a change of some of the service's tasks.
func (p *pass) change(v *scene, ids []string, f func(*model.Task)) {
	for _, id := range ids {
		t := *v.tasks[v.at[id]]
		f(&t)
		v.put(p, &t)
	}
}

// tell says which tasks were stopped: the running ones by name, for each reason one event.
func (p *pass) tell(s *model.Service, actions []deploy.Action) {
	var running []string
	pending := 0
	for _, a := range actions {
		if stop, ok := a.(deploy.Stop); ok {
			if stop.Pending {
				pending++
			} else {
				running = append(running, stop.TaskID)
			}
		}
	}
	if len(running) > 0 {
		p.event(s, deploy.StoppedEvent(s.Name, running))
	}
	if pending > 0 {
		p.event(s, deploy.StoppedPendingEvent(s.Name, pending))
	}
}
