package ecs

import (
	"context"
	"iter"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const (
	maxReason     = 1024
	defaultReason = "Task stopped by user"
)

// stopTask asks that a task end; control and its agent end it.
func (a *api) stopTask(ctx context.Context, in *sdk.StopTaskInput) (*sdk.StopTaskOutput, error) {
	reason := value(in.Reason)
	if reason == "" {
		reason = defaultReason
	}
	if len(reason) > maxReason {
		return nil, invalid("The reason can have at most %d characters.", maxReason)
	}
	var out types.Task
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		t, ok := a.task(tx, c.Name, value(in.Task))
		if !ok {
			return invalid("The referenced task was not found.")
		}
		t = a.askToStop(tx, t, types.TaskStopCodeUserInitiated, reason)
		out = a.drawTask(tx, t, false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.StopTaskOutput{Task: &out}, nil
}

// askToStop stores the request that a task end, unless it is ending already, and returns the task as it then is.
func (a *api) askToStop(tx store.Tx, t *model.Task, code types.TaskStopCode, reason string) *model.Task {
	if t.StopRequest != nil || t.Desired == model.Stopped || t.Ended() {
		return t
	}
	changed := *t
	changed.StopRequest = &model.StopRequest{Code: code, Reason: reason, At: a.now()}
	changed.Version++
	store.Tasks.Put(tx, &changed)
	return &changed
}

// drawTask draws a stored task.
func (a *api) drawTask(r store.Reader, t *model.Task, tags bool) types.Task {
	var def *types.TaskDefinition
	if d, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision)); ok {
		def = &d.Definition
	}
	node, _ := store.Nodes.Get(r, t.NodeID)
	drawn := view.Task(a.scope, t, def, node)
	if tags {
		drawn.Tags = filled(t.Tags)
	}
	return drawn
}

func (a *api) describeTasks(_ context.Context, in *sdk.DescribeTasksInput) (*sdk.DescribeTasksOutput, error) {
	switch n := len(in.Tasks); {
	case n == 0:
		return nil, invalid("Tasks cannot be empty.")
	case n > maxDescribed:
		return nil, tooMany("Tasks", maxDescribed)
	}
	if err := included(in.Include, types.TaskField("").Values()); err != nil {
		return nil, err
	}
	out := &sdk.DescribeTasksOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	tags := slices.Contains(in.Include, types.TaskFieldTags)
	err := a.viewCluster(a.anyCluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		eachOnce(in.Tasks, func(ref string) (*model.Task, string, bool) {
			if t, ok := a.task(r, c.Name, ref); ok {
				return t, t.ID, true
			}
			return nil, ref, false
		}, func(t *model.Task) {
			out.Tasks = append(out.Tasks, a.drawTask(r, t, tags))
		}, func(ref string) {
			out.Failures = append(out.Failures, failure(ref, missing)) // as it was sent
		})
		return nil
	})
	return out, err
}

func (a *api) listTasks(_ context.Context, in *sdk.ListTasksInput) (*sdk.ListTasksOutput, error) {
	if in.DesiredStatus != "" && !slices.Contains(in.DesiredStatus.Values(), in.DesiredStatus) {
		return nil, invalid("Invalid desired status '%s'. It must be RUNNING, PENDING or STOPPED.", in.DesiredStatus)
	}
	if err := oneOf("launch type", in.LaunchType, launchTypes); err != nil {
		return nil, err
	}
	if value(in.DaemonName) != "" {
		return nil, notYet("daemons")
	}
	var tasks []*model.Task
	err := a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		listed, wanted, err := a.taskFilter(r, c.Name, in)
		if err != nil {
			return err
		}
		for t := range listed {
			if wanted(t) {
				tasks = append(tasks, t)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	tasks, next, err := page(tasks, func(t *model.Task) string { return t.ID }, false, in.NextToken, in.MaxResults, 100, 100)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTasksOutput{TaskArns: []string{}, NextToken: next}
	for _, t := range tasks {
		out.TaskArns = append(out.TaskArns, t.ARN)
	}
	return out, nil
}

// taskFilter returns the narrowest list that the store keeps of what a listing asks for, and the test that its parameters make, all of
// which must hold.
func (a *api) taskFilter(r store.Reader, cluster string, in *sdk.ListTasksInput) (listed iter.Seq[*model.Task], wanted func(*model.Task) bool, err error) {
	var service, instance string
	if listed = store.Tasks.By(r, store.ByCluster, cluster); value(in.Family) != "" {
		listed = store.Tasks.By(r, store.ByFamily, cluster+"/"+*in.Family)
	}
	if value(in.ServiceName) != "" {
		s, err := a.service(r, cluster, *in.ServiceName)
		if err != nil {
			return nil, nil, err
		}
		service, listed = s.Name, store.Tasks.By(r, store.ByService, s.Key())
	}
	if value(in.ContainerInstance) != "" {
		i, ok := a.instance(r, cluster, *in.ContainerInstance)
		if !ok {
			return nil, nil, invalid("The referenced container instance was not found.")
		}
		instance, listed = i.ID, store.Tasks.By(r, store.ByNode, i.NodeID)
	}
	desired := model.TaskStatus(in.DesiredStatus)
	if desired == "" {
		desired = model.Running
	}
	return listed, func(t *model.Task) bool {
		return t.Cluster == cluster && view.DesiredStatus(t) == desired &&
			(service == "" || t.Service == service) &&
			(instance == "" || t.InstanceID == instance) &&
			(in.LaunchType == "" || t.LaunchType == in.LaunchType) &&
			(value(in.Family) == "" || t.Family == *in.Family) &&
			(value(in.StartedBy) == "" || t.StartedBy == *in.StartedBy)
	}, nil
}
