package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
)

// start makes as many of the tasks as find a place, and tells of them, and of why the others do not. As on ECS, a task that fits
// nowhere is not made; the service is looked at again when something may fit.
func (p *pass) start(v *scene, in *deploy.Input, a deploy.Start) {
	r, def := p.deployed(in.Service, a.Deployment)
	if def == nil {
		p.event(v.Service, fmt.Sprintf("(service %s) was unable to start a task because the task definition of (deployment %s) is gone. "+
			"Update the service to another task definition.", in.Service.Name, a.Deployment))
		return
	}
	if p.tx.tx == nil {
		p.tx.wrote = true // places are taken within an Update only
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
			if model.FargateProvider(provider) {
				spec.LaunchType = types.LaunchTypeFargate
			} else if pool, ok := store.CapacityProviders.Get(p.tx, provider); ok {
				spec.Constraints = append(slices.Clip(in.Service.Constraints), pool.Pool())
			}
		}
		t := task.New(spec)
		d := p.Places.Place(p.tx.tx, t)
		if d.InstanceID == "" {
			v.unplaced = &d
			break // nor do the others: they are alike
		}
		t.InstanceID, t.NodeID, t.PlacedAt = d.InstanceID, d.NodeID, p.now
		v.put(p, t)
		ids = append(ids, t.ID)
		p.say("placed task", "task", t.ID, "node", t.NodeID, "reason", d.Reason)
	}
	if len(ids) > 0 {
		p.say("starting tasks", "service", v.Key(), "deployment", a.Deployment, "count", len(ids), "reason", a.Reason)
		p.event(v.Service, deploy.StartedEvent(in.Service.Name, ids, min(a.Replaced, len(ids))))
	}
	if v.unplaced != nil {
		p.event(v.Service, "(service "+v.Name+") was unable to place a task because no container instance met all of its "+
			"requirements. Reason: "+cmp.Or(p.NoMachines, v.unplaced.Explanation)+" For more information, see the Troubleshooting section of the Amazon ECS "+
			"Developer Guide.")
	}
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
