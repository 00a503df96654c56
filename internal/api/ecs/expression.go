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
	matching := map[string]bool{}
	for _, i := range placementState(r, cluster).Select(cluster, query) {
		matching[i.ID] = true
	}
	return func(i *model.Instance) bool { return matching[i.ID] }, nil
}
