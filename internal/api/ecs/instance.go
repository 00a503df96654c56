package ecs

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxUpdated is how many container instances UpdateContainerInstancesState takes.
const maxUpdated = 10

func (a *api) drawInstance(r store.Reader, i *model.Instance, tags bool) types.ContainerInstance {
	node, _ := store.Nodes.Get(r, i.NodeID)
	drawn := view.Instance(a.scope, i, node, liveOn(r, i.NodeID), a.places.Balanced(i.NodeID))
	if tags {
		drawn.Tags = filled(i.Tags)
	}
	return drawn
}

func (a *api) describeContainerInstances(
	_ context.Context, in *sdk.DescribeContainerInstancesInput,
) (*sdk.DescribeContainerInstancesOutput, error) {
	switch n := len(in.ContainerInstances); {
	case n == 0:
		return nil, invalid("Container instance cannot be empty.")
	case n > maxDescribed:
		return nil, tooMany("Container instances", maxDescribed)
	}
	if err := included(in.Include, types.ContainerInstanceField("").Values()); err != nil {
		return nil, err
	}
	out := &sdk.DescribeContainerInstancesOutput{ContainerInstances: []types.ContainerInstance{}, Failures: []types.Failure{}}
	tags := slices.Contains(in.Include, types.ContainerInstanceFieldTags)
	err := a.viewCluster(a.anyCluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		eachOnce(in.ContainerInstances, func(ref string) (*model.Instance, string, bool) {
			if i, ok := a.instance(r, c.Name, ref); ok {
				return i, i.ARN, true
			}
			return nil, arnOf(ref, func(id string) string { return a.scope.InstanceARN(c.Name, id) }), false
		}, func(i *model.Instance) {
			out.ContainerInstances = append(out.ContainerInstances, a.drawInstance(r, i, tags))
		}, func(arn string) {
			out.Failures = append(out.Failures, failure(arn, missing))
		})
		return nil
	})
	return out, err
}

func (a *api) missingInstance(cluster, ref string) types.Failure {
	return failure(arnOf(ref, func(id string) string { return a.scope.InstanceARN(cluster, id) }), missing)
}

func (a *api) listContainerInstances(
	_ context.Context, in *sdk.ListContainerInstancesInput,
) (*sdk.ListContainerInstancesOutput, error) {
	if in.Status != "" && !slices.Contains(in.Status.Values(), in.Status) {
		return nil, invalid("Invalid container instance status '%s'.", in.Status)
	}
	arns := []string{}
	err := a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		matches, err := instanceFilter(r, c.Name, value(in.Filter))
		if err != nil {
			return err
		}
		for _, i := range store.InstancesOf(r, c.Name) {
			wanted := i.Status == string(in.Status) || (in.Status == "" && i.Status != inactive)
			if wanted && matches(i) {
				arns = append(arns, i.ARN)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	arns, next, err := page(arns, itself, false, in.NextToken, in.MaxResults, 100, 100)
	if err != nil {
		return nil, err
	}
	return &sdk.ListContainerInstancesOutput{ContainerInstanceArns: arns, NextToken: next}, nil
}

// updateContainerInstancesState makes instances DRAINING or ACTIVE again; control moves tasks away from draining ones.
func (a *api) updateContainerInstancesState(
	ctx context.Context, in *sdk.UpdateContainerInstancesStateInput,
) (*sdk.UpdateContainerInstancesStateOutput, error) {
	if n := len(in.ContainerInstances); n == 0 || n > maxUpdated {
		return nil, invalid("Container instances must have between 1 and %d elements.", maxUpdated)
	}
	if in.Status != types.ContainerInstanceStatusActive && in.Status != types.ContainerInstanceStatusDraining {
		return nil, invalid("Container instances can be updated to the status ACTIVE or DRAINING only.")
	}
	var out *sdk.UpdateContainerInstancesStateOutput
	err := a.store.Update(ctx, func(tx store.Tx) error {
		out = &sdk.UpdateContainerInstancesStateOutput{ContainerInstances: []types.ContainerInstance{}, Failures: []types.Failure{}}
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		for _, ref := range in.ContainerInstances {
			i, ok := a.instance(tx, c.Name, ref)
			if !ok {
				out.Failures = append(out.Failures, a.missingInstance(c.Name, ref))
				continue
			}
			if i.Status == inactive {
				out.Failures = append(out.Failures, failure(i.ARN, inactive))
				continue
			}
			if i.Status != string(in.Status) {
				changed := *i
				changed.Status = string(in.Status)
				changed.Version++
				i = &changed
				store.Instances.Put(tx, i)
			}
			out.ContainerInstances = append(out.ContainerInstances, a.drawInstance(tx, i, true))
		}
		return nil
	})
	return out, err
}

// deregisterContainerInstance takes an instance out of its cluster for good. By force, its tasks are asked to stop.
func (a *api) deregisterContainerInstance(
	ctx context.Context, in *sdk.DeregisterContainerInstanceInput,
) (*sdk.DeregisterContainerInstanceOutput, error) {
	force := in.Force != nil && *in.Force
	var out types.ContainerInstance
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		i, ok := a.instance(tx, c.Name, value(in.ContainerInstance))
		if !ok || i.Status == inactive {
			return invalid("The referenced container instance was not found.")
		}
		tasks := instanceTasks(tx, i)
		if len(tasks) > 0 && !force {
			return invalid("Found running tasks on the instance.")
		}
		for _, t := range tasks {
			a.askToStop(tx, t, types.TaskStopCodeTerminationNotice, "Container instance deregistration forced by user")
		}
		changed := *i
		changed.Status = inactive
		changed.Version++
		store.Instances.Put(tx, &changed)
		out = a.drawInstance(tx, &changed, true)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeregisterContainerInstanceOutput{ContainerInstance: &out}, nil
}

// instanceTasks are the tasks of an instance that have not ended.
func instanceTasks(r store.Reader, i *model.Instance) []*model.Task {
	var tasks []*model.Task
	for t := range store.Tasks.By(r, store.ByNode, i.NodeID) {
		if t.Cluster == i.Cluster && t.InstanceID == i.ID && !t.Ended() {
			tasks = append(tasks, t)
		}
	}
	return tasks
}
