package ecs

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
)

// Bounds of RunTask and StartTask.
const (
	maxStartedBy = 128
	maxGroup     = 255
)

// run is a request to run standalone tasks, with what both RunTask and StartTask say.
type run struct {
	definition  *string
	cluster     *string
	group       *string
	startedBy   *string
	network     *types.NetworkConfiguration
	overrides   *types.TaskOverride
	propagate   types.PropagateTags
	managedTags bool
	exec        bool
	tags        []types.Tag
	volumes     []types.TaskVolumeConfiguration

	// RunTask's own.
	count       int32
	launchType  types.LaunchType
	strategy    []types.CapacityProviderStrategyItem
	version     *string
	constraints []types.PlacementConstraint
	placement   []types.PlacementStrategy
	token       string
	digest      string

	instances []string // StartTask's own
}

// ran is what a run made, to be drawn after the transaction.
type ran struct {
	tasks    []*model.Task
	nodes    map[string]*model.Node
	defs     map[string]*types.TaskDefinition // by ARN
	failures []types.Failure
}

func (a *api) runTask(ctx context.Context, in *sdk.RunTaskInput) (*sdk.RunTaskOutput, error) {
	plain := *in
	plain.ClientToken = nil
	q := &run{
		definition: in.TaskDefinition, cluster: in.Cluster, group: in.Group, startedBy: in.StartedBy, network: in.NetworkConfiguration,
		overrides: in.Overrides, propagate: in.PropagateTags, managedTags: in.EnableECSManagedTags, exec: in.EnableExecuteCommand,
		tags: in.Tags, volumes: in.VolumeConfigurations, count: 1, launchType: in.LaunchType,
		strategy: in.CapacityProviderStrategy, version: in.PlatformVersion, constraints: in.PlacementConstraints,
		placement: in.PlacementStrategy, token: value(in.ClientToken),
	}
	if in.Count != nil {
		q.count = *in.Count
	}
	if q.count < 1 || int(q.count) > quota.Run.Max {
		return nil, quota.Run.Refusal(int(q.count))
	}
	if len(q.token) > maxToken {
		return nil, invalid("The client token can have at most %d characters.", maxToken)
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := bounded(plain); err != nil {
		return nil, err
	}
	var err error
	if q.digest, err = digest(plain); err != nil {
		return nil, err
	}
	made, err := a.runAll(ctx, q, a.runIn)
	if err != nil {
		return nil, err
	}
	return &sdk.RunTaskOutput{Tasks: a.drawAll(made), Failures: made.failures}, nil
}

func (a *api) startTask(ctx context.Context, in *sdk.StartTaskInput) (*sdk.StartTaskOutput, error) {
	q := &run{
		definition: in.TaskDefinition, cluster: in.Cluster, group: in.Group, startedBy: in.StartedBy, network: in.NetworkConfiguration,
		overrides: in.Overrides, propagate: in.PropagateTags, managedTags: in.EnableECSManagedTags, exec: in.EnableExecuteCommand,
		tags: in.Tags, volumes: in.VolumeConfigurations, launchType: types.LaunchTypeEc2, instances: in.ContainerInstances,
	}
	if n := len(q.instances); n == 0 || n > quota.Start.Max {
		return nil, quota.Start.Refusal(n)
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := bounded(in); err != nil {
		return nil, err
	}
	made, err := a.runAll(ctx, q, a.startIn)
	if err != nil {
		return nil, err
	}
	return &sdk.StartTaskOutput{Tasks: a.drawAll(made), Failures: made.failures}, nil
}

// check checks what needs no store.
func (q *run) check() error {
	if err := checkTags(q.tags); err != nil {
		return err
	}
	switch {
	case len(value(q.startedBy)) > maxStartedBy:
		return invalid("startedBy can have at most %d characters.", maxStartedBy)
	case len(value(q.group)) > maxGroup:
		return invalid("The group can have at most %d characters.", maxGroup)
	case q.overrides != nil && size(q.overrides) > quota.Overrides.Max:
		return quota.Overrides.Refusal(size(q.overrides))
	case len(q.volumes) > 0:
		return notYet("volumeConfigurations (EBS volumes)")
	}
	switch q.propagate {
	case "", types.PropagateTagsNone, types.PropagateTagsTaskDefinition:
		return nil
	case types.PropagateTagsService:
		return invalid("Tags can be propagated from the task definition only: a standalone task has no service.")
	}
	return invalid("Invalid propagateTags '%s'. It must be TASK_DEFINITION or NONE.", q.propagate)
}

func (a *api) runAll(ctx context.Context, q *run, in func(store.Tx, *run, *ran) error) (*ran, error) {
	var made *ran
	err := a.store.Update(ctx, func(tx store.Tx) error {
		made = &ran{nodes: map[string]*model.Node{}, defs: map[string]*types.TaskDefinition{}, failures: []types.Failure{}}
		return in(tx, q, made)
	})
	return made, err
}

func (a *api) drawAll(made *ran) []types.Task {
	out := []types.Task{}
	for _, t := range made.tasks {
		drawn := view.Task(a.scope, t, made.defs[t.TaskDefinition], made.nodes[t.NodeID])
		drawn.Tags = filled(t.Tags)
		out = append(out, drawn)
	}
	return out
}

// prepare finds and checks what tasks are made from. The spec it returns is that of every task of the run.
func (a *api) prepare(tx store.Tx, q *run, c *model.Cluster) (task.Spec, launch, error) {
	var spec task.Spec
	def, err := a.activeRevision(tx, q.definition)
	if err != nil {
		return spec, launch{}, err
	}
	how, err := resolveLaunch(c, q.launchType, q.strategy)
	if err != nil {
		return spec, how, err
	}
	if err := how.check(&def.Definition, q.version); err != nil {
		return spec, how, err
	}
	if err := how.checkNetwork(&def.Definition, q.network); err != nil {
		return spec, how, err
	}
	if err := a.checkExists(tx, q.network); err != nil {
		return spec, how, err
	}
	if err := how.checkPlacement(q.constraints, q.placement); err != nil {
		return spec, how, err
	}
	if err := taskdef.Runnable(&def.Definition); err != nil {
		return spec, how, err
	}
	overrides, err := taskdef.Override(&def.Definition, q.overrides, how.tasks())
	if err != nil {
		return spec, how, err
	}
	spec = task.Spec{
		Scope: a.scope, Cluster: c.Name, Definition: def, Now: a.now(), NewID: a.newID, Group: value(q.group),
		StartedBy: value(q.startedBy), LaunchType: how.tasks(), PlatformVersion: value(q.version),
		NetworkConfiguration: q.network, Overrides: overrides, Constraints: q.constraints, Strategy: q.placement,
		EnableExecuteCommand: q.exec, Tags: runTags(q, def, c.Name),
	}
	return spec, how, nil
}

func runTags(q *run, def *model.TaskDefinition, cluster string) []types.Tag {
	var propagated, managed []types.Tag
	if q.propagate == types.PropagateTagsTaskDefinition {
		propagated = def.Tags
	}
	if q.managedTags {
		managed = task.ManagedTags(cluster, "")
	}
	return task.Tags(q.tags, propagated, managed)
}

// runIn runs tasks where placement says.
func (a *api) runIn(tx store.Tx, q *run, made *ran) error {
	c, err := a.cluster(tx, q.cluster)
	if err != nil {
		return err
	}
	if done, err := a.replay(tx, q, c.Name, made); done || err != nil {
		return err
	}
	spec, how, err := a.prepare(tx, q, c)
	if err != nil {
		return err
	}
	if a.noMachines != "" {
		return invalid("No Container Instances were found in your cluster. %s", a.noMachines)
	}
	if how.tasks() != types.LaunchTypeFargate && len(how.strategy) == 0 && !hasInstances(tx, c.Name) {
		return invalid("No Container Instances were found in your cluster.")
	}
	neuron := taskdef.NeedsNeuron(&spec.Definition.Definition)
	byProvider, waiting := map[string]int{}, -1
	for range q.count {
		spec.CapacityProvider = task.ChooseProvider(how.strategy, byProvider)
		byProvider[spec.CapacityProvider]++
		p, pooled := store.CapacityProviders.Get(tx, spec.CapacityProvider)
		if pooled {
			spec.Constraints = append(slices.Clip(q.constraints), p.Pool())
		}
		t := task.New(spec)
		if neuron {
			made.failures = append(made.failures, failure("", "RESOURCE:GPU"))
			continue
		}
		d := a.places.Place(tx, t)
		if d.InstanceID == "" && pooled { // it waits for a machine
			if waiting < 0 {
				waiting = count(store.Tasks.By(tx, store.ByState, store.TaskPending), func(t *model.Task) bool { return t.Cluster == c.Name })
			}
			if waiting++; waiting > maxProvisioning {
				return clientError("Tasks provisioning capacity limit exceeded.")
			}
			t.Observed.Status = model.Provisioning
			store.Tasks.Put(tx, t)
			made.tasks = append(made.tasks, t)
			made.defs[t.TaskDefinition] = &spec.Definition.Definition
			continue
		}
		if d.InstanceID == "" {
			made.failures = append(made.failures, a.unplaced(c.Name, d.ClosestInstanceID, d.Reason, d.Explanation, how))
			continue
		}
		a.put(tx, t, d.InstanceID, d.NodeID, spec, made)
	}
	a.keepToken(tx, q, c.Name, made)
	return nil
}

// maxProvisioning is how many tasks of a cluster may wait for machines of capacity providers.
const maxProvisioning = 500

// unplaced is the failure of a task that fits nowhere. Fargate shows no instances.
func (a *api) unplaced(cluster, closest, reason, explanation string, how launch) types.Failure {
	arn := ""
	if closest != "" && how.tasks() != types.LaunchTypeFargate {
		arn = a.scope.InstanceARN(cluster, closest)
	}
	f := failure(arn, reason)
	if explanation != "" {
		f.Detail = &explanation
	}
	return f
}

// startIn starts one task on each of the instances named.
func (a *api) startIn(tx store.Tx, q *run, made *ran) error {
	c, err := a.cluster(tx, q.cluster)
	if err != nil {
		return err
	}
	spec, how, err := a.prepare(tx, q, c)
	if err != nil {
		return err
	}
	for _, ref := range q.instances {
		i, ok := a.instance(tx, c.Name, ref)
		if !ok {
			arn := arnOf(ref, func(id string) string { return a.scope.InstanceARN(c.Name, id) })
			made.failures = append(made.failures, failure(arn, missing))
			continue
		}
		if i.Status == inactive {
			made.failures = append(made.failures, failure(i.ARN, inactive))
			continue
		}
		if taskdef.NeedsNeuron(&spec.Definition.Definition) {
			made.failures = append(made.failures, failure(i.ARN, "RESOURCE:GPU"))
			continue
		}
		t := task.New(spec)
		d := a.places.PlaceOn(tx, i, t)
		if d.InstanceID == "" {
			made.failures = append(made.failures, a.unplaced(c.Name, i.ID, d.Reason, d.Explanation, how))
			continue
		}
		a.put(tx, t, d.InstanceID, d.NodeID, spec, made)
	}
	return nil
}

// put stores a task that was placed.
func (a *api) put(tx store.Tx, t *model.Task, instance, node string, spec task.Spec, made *ran) {
	t.InstanceID, t.NodeID, t.PlacedAt = instance, node, spec.Now
	store.Tasks.Put(tx, t)
	made.tasks = append(made.tasks, t)
	made.defs[t.TaskDefinition] = &spec.Definition.Definition
	if n, ok := store.Nodes.Get(tx, node); ok {
		made.nodes[node] = n
	}
}

// hasInstances looks no further than the first one.
func hasInstances(r store.Reader, cluster string) bool {
	for n := range store.Nodes.Scan(r, "") {
		if i, ok := store.InstanceOn(r, cluster, n.ID); ok && i.Status != inactive {
			return true
		}
	}
	return false
}

// replay answers a request whose token was used before: with the tasks it made then, or a conflict when the request differs.
func (a *api) replay(tx store.Tx, q *run, cluster string, made *ran) (done bool, err error) {
	if q.token == "" {
		return false, nil
	}
	rec, ok := a.recall(tx, "RunTask", cluster, q.token)
	if !ok {
		return false, nil
	}
	if rec.Request != q.digest {
		conflict := &types.ConflictException{
			Message: new("The RunTask request could not be processed due to conflicts. " +
				"The provided clientToken is already in use with a different request."),
			ResourceIds: []string{},
		}
		for _, id := range rec.Resources {
			conflict.ResourceIds = append(conflict.ResourceIds, a.scope.TaskARN(cluster, id))
		}
		return true, conflict
	}
	for _, id := range rec.Resources {
		t, ok := store.Tasks.Get(tx, id)
		if !ok {
			continue
		}
		made.tasks = append(made.tasks, t)
		if n, ok := store.Nodes.Get(tx, t.NodeID); ok {
			made.nodes[t.NodeID] = n
		}
		if d, ok := store.TaskDefinitions.Get(tx, model.TaskDefinitionKey(t.Family, t.Revision)); ok {
			made.defs[t.TaskDefinition] = &d.Definition
		}
	}
	return true, nil
}

// keepToken remembers what the token made. A run that made nothing is not remembered: trying again is the right thing to do.
func (a *api) keepToken(tx store.Tx, q *run, cluster string, made *ran) {
	if q.token == "" || len(made.tasks) == 0 {
		return
	}
	rec := &model.Idempotency{
		Operation: "RunTask", Cluster: cluster, Token: q.token, Request: q.digest,
		ExpiresAt: a.now().Add(tokenLife),
	}
	for _, t := range made.tasks {
		rec.Resources = append(rec.Resources, t.ID)
	}
	a.remember(tx, rec)
}
