package control

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
)

// history is how many ended deployments of a service the planner sees.
const history = 20

// services lets each service's planner decide. What the planners look at is read before anything is written: services do not
// depend on each other, and reading a table that the transaction has not written is much faster.
func (p *pass) services() {
	var all []deploy.Input
	for s := range store.Services.Scan(p.tx, "") {
		if s.Status != "INACTIVE" {
			all = append(all, p.input(s))
		}
	}
	for i := range all {
		if !p.idle() {
			return
		}
		in := &all[i]
		actions := deploy.Plan(*in)
		p.look(deploy.NextLook(*in))
		for _, a := range actions {
			p.apply(in.Service.Key(), in, a)
		}
		p.tell(in.Service, actions)
	}
}

// input gathers what the planner looks at.
func (p *pass) input(s *model.Service) deploy.Input {
	in := deploy.Input{Service: s, Revisions: map[string]*model.ServiceRevision{}, Now: p.now, Pace: p.Pace, NewID: p.newDeploymentID(), Where: p.where}
	ended := 0
	all := slices.Collect(store.Deployments.Scan(p.tx, s.Key()+"/"))
	slices.SortStableFunc(all, func(a, b *model.Deployment) int { return b.CreatedAt.Compare(a.CreatedAt) })
	completed := false // the planner needs the newest completed one, however old
	for _, d := range all {
		newest := d.RolloutState == types.DeploymentRolloutStateCompleted && !completed
		completed = completed || newest
		if !d.Live() {
			if ended++; ended > history && !newest {
				continue
			}
		}
		in.Deployments = append(in.Deployments, d)
		if r, ok := store.ServiceRevisions.Get(p.tx, s.Key()+"/"+d.RevisionID); ok {
			in.Revisions[r.ID] = r
		}
	}
	for t := range store.Tasks.By(p.tx, store.ByService, s.Key()) {
		if !t.Ended() || !t.Accounted {
			in.Tasks = append(in.Tasks, p.view(s, in, t))
		}
	}
	return in
}

// view adds to a task what decides its health.
func (p *pass) view(s *model.Service, in deploy.Input, t *model.Task) deploy.Task {
	v := deploy.Task{Task: t}
	_, v.ContainerChecks = p.definition(t.Family, t.Revision)
	if t.InstanceID != "" {
		i, ok := store.Instances.Get(p.tx, t.Cluster+"/"+t.InstanceID)
		v.Draining = ok && i.Status == "DRAINING"
	}
	for _, d := range in.Deployments {
		if r := in.Revisions[d.RevisionID]; d.ID == t.Deployment && r != nil {
			v.LoadBalancers = len(r.LoadBalancers)
		}
	}
	for target := range store.Targets.By(p.tx, store.ByTask, t.ID) {
		state := deploy.TargetState{TargetGroupARN: target.TargetGroupARN, ID: target.ID, Port: target.Port, State: "initial"}
		if h, ok := store.TargetHealths.Get(p.tx, target.Key()); ok {
			state.State, state.Reason, state.Description = string(h.State), string(h.Reason), h.Description
		}
		if !target.DrainingSince.IsZero() {
			state.State = "draining"
		}
		v.Targets = append(v.Targets, state)
	}
	return v
}

// newDeploymentID is "ecs-svc/" and 19 digits.
func (p *pass) newDeploymentID() string {
	sum := sha256.Sum256([]byte(p.NewID()))
	return "ecs-svc/" + strconv.FormatUint(1e18+binary.BigEndian.Uint64(sum[:])%uint64(8e18), 10)
}

// apply stores one action.
func (p *pass) apply(service string, in *deploy.Input, a deploy.Action) {
	switch a := a.(type) {
	case deploy.Put:
		d := *a.Deployment
		if old, ok := store.Deployments.Get(p.tx, d.Key()); ok {
			d.StopRequested = old.StopRequested
		}
		store.Deployments.Put(p.tx, &d)
		p.say("deployment", "service", service, "deployment", d.ID, "state", d.RolloutState, "reason", a.Reason)
	case deploy.PutService:
		if old, ok := store.Services.Get(p.tx, service); ok {
			s := *old
			s.Status, s.Steady, s.Throttle, s.RevisionID = a.Service.Status, a.Service.Steady, a.Service.Throttle, a.Service.RevisionID
			store.Services.Put(p.tx, &s)
			p.say("service", "service", service, "status", s.Status, "reason", a.Reason)
		}
	case deploy.Account:
		for _, id := range a.TaskIDs {
			if old, ok := store.Tasks.Get(p.tx, id); ok {
				t := *old
				t.Accounted = true
				store.Tasks.Put(p.tx, &t)
			}
		}
	case deploy.Stop:
		if old, ok := store.Tasks.Get(p.tx, a.TaskID); ok && old.StopRequest == nil {
			t := *old
			t.StopRequest = &model.StopRequest{Code: a.Code, Reason: a.Text, At: p.now}
			store.Tasks.Put(p.tx, &t)
			p.say("task is to stop", "service", service, "task", t.ID, "reason", a.Reason)
		}
	case deploy.Start:
		p.start(service, in, a)
	case deploy.Event:
		p.event(service, a.Text)
	}
}

// start makes the tasks and tells of them.
func (p *pass) start(service string, in *deploy.Input, a deploy.Start) {
	r, def := p.deployed(in.Service, a.Deployment)
	if def == nil {
		p.event(service, fmt.Sprintf("(service %s) was unable to start a task because the task definition of (deployment %s) is gone. "+
			"Update the service to another task definition.", in.Service.Name, a.Deployment))
		return
	}
	spec := p.spec(in.Service, r, def, a.Deployment)
	placed := map[string]int{} // by capacity provider
	for _, t := range in.Tasks {
		if t.Deployment == a.Deployment && !t.Ended() && t.CapacityProvider != "" {
			placed[t.CapacityProvider]++
		}
	}
	var ids []string
	for range a.Count {
		if provider := task.ChooseProvider(r.CapacityProviderStrategy, placed); provider != "" {
			placed[provider]++
			spec.CapacityProvider = provider
			if strings.HasPrefix(provider, "FARGATE") {
				spec.LaunchType = types.LaunchTypeFargate
			}
		}
		t := task.New(spec)
		store.Tasks.Put(p.tx, t)
		ids = append(ids, t.ID)
	}
	p.say("starting tasks", "service", service, "deployment", a.Deployment, "count", a.Count, "reason", a.Reason)
	p.event(service, deploy.StartedEvent(in.Service.Name, ids, a.Replaced))
}

// deployed returns what a deployment deploys; def is nil when it is gone.
func (p *pass) deployed(s *model.Service, deployment string) (r *model.ServiceRevision, def *model.TaskDefinition) {
	d, ok := store.Deployments.Get(p.tx, s.Key()+"/"+model.ARNTail(deployment))
	if !ok {
		return nil, nil
	}
	if r, ok = store.ServiceRevisions.Get(p.tx, s.Key()+"/"+d.RevisionID); !ok {
		return nil, nil
	}
	def, _ = p.definitionByARN(r.TaskDefinition)
	return r, def
}

// spec is what the tasks of a deployment are made from.
func (p *pass) spec(s *model.Service, r *model.ServiceRevision, def *model.TaskDefinition, deployment string) task.Spec {
	return task.Spec{Scope: p.Scope, Cluster: s.Cluster, Definition: def, Now: p.now, NewID: p.NewID, Service: s.Name,
		Deployment: deployment, LaunchType: r.LaunchType, PlatformVersion: r.PlatformVersion, NetworkConfiguration: r.NetworkConfiguration,
		Constraints: s.Constraints, Strategy: s.Strategy, EnableExecuteCommand: s.EnableExecuteCommand, Tags: tags(s, def)}
}

func tags(s *model.Service, def *model.TaskDefinition) []types.Tag {
	var propagated, managed []types.Tag
	switch s.PropagateTags {
	case types.PropagateTagsService:
		propagated = s.Tags
	case types.PropagateTagsTaskDefinition:
		propagated = def.Tags
	}
	if s.EnableManagedTags {
		managed = task.ManagedTags(s.Cluster, s.Name)
	}
	return task.Tags(nil, propagated, managed)
}

func (p *pass) definitionByARN(arn string) (*model.TaskDefinition, bool) {
	family, revision, _ := strings.Cut(model.ARNTail(arn), ":")
	n, err := strconv.Atoi(revision)
	if err != nil {
		return nil, false
	}
	return store.TaskDefinitions.Get(p.tx, model.TaskDefinitionKey(family, n))
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
		p.event(s.Key(), deploy.StoppedEvent(s.Name, running))
	}
	if pending > 0 {
		p.event(s.Key(), deploy.StoppedPendingEvent(s.Name, pending))
	}
}

// sortedKeys yields a map's keys in order, so that a pass does the same things in the same order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
