package ecs

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/placement"
	"github.com/berthdev/berth/internal/store"
)

// checkExpression checks an expression of the cluster query language. Errors: *model.Error with code InvalidParameterException.
func checkExpression(expression string) error {
	_, err := placement.ParseQuery(expression)
	return err
}

// checkDefinitionConstraints checks the expressions of a task definition's constraints.
func checkDefinitionConstraints(list []types.TaskDefinitionPlacementConstraint) error {
	for _, c := range list {
		if err := checkExpression(value(c.Expression)); err != nil {
			return err
		}
	}
	return nil
}

// instanceFilter returns the test that a filter in the cluster query language makes; "" lets every instance pass.
func instanceFilter(r store.Reader, cluster, filter string) (func(*model.Instance) bool, error) {
	if filter == "" {
		return func(*model.Instance) bool { return true }, nil
	}
	query, err := placement.ParseQuery(filter)
	if err != nil {
		return nil, err
	}
	return func(i *model.Instance) bool {
		n, ok := store.Nodes.Get(r, i.NodeID)
		if !ok {
			return false
		}
		var on []*model.Task
		if query.Dynamic() {
			on = liveOn(r, n.ID)
		}
		return placement.Match(query, i, n, on)
	}, nil
}

// liveOn are the tasks of all clusters on a node that have not ended.
func liveOn(r store.Reader, node string) []*model.Task {
	var tasks []*model.Task
	for t := range store.Tasks.By(r, store.ByNode, node) {
		if !t.Ended() {
			tasks = append(tasks, t)
		}
	}
	return tasks
}
