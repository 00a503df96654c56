package ecs

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// builtin are the capacity providers there are.
var builtin = []string{"FARGATE", "FARGATE_SPOT"}

// Bounds of a capacity provider strategy (ecs.md 1.5).
const (
	maxStrategyItems = 20
	maxWeight        = 1000
	maxBase          = 100000
)

// checkProviders checks the providers of a cluster and its default strategy.
func checkProviders(providers []string, strategy []types.CapacityProviderStrategyItem) error {
	for i, p := range providers {
		if !slices.Contains(builtin, p) {
			return invalid("The specified capacity provider '%s' was not found. Berth has FARGATE and FARGATE_SPOT.", p)
		}
		if slices.Contains(providers[:i], p) {
			return invalid("Capacity provider '%s' is named more than once.", p)
		}
	}
	return checkStrategy(strategy, providers)
}

// checkStrategy checks a strategy whose providers must be among allowed, those of the cluster.
func checkStrategy(strategy []types.CapacityProviderStrategyItem, allowed []string) error {
	if len(strategy) > maxStrategyItems {
		return invalid("A capacity provider strategy can have at most %d items.", maxStrategyItems)
	}
	bases, weights, seen := 0, 0, map[string]bool{}
	for _, s := range strategy {
		name := value(s.CapacityProvider)
		switch {
		case name == "":
			return invalid("The capacity provider of a strategy item should not be null or empty.")
		case !slices.Contains(allowed, name):
			return invalid("The specified capacity provider strategy cannot contain a capacity provider that is not associated "+
				"with the cluster: %s.", name)
		case seen[name]:
			return invalid("Capacity provider '%s' is named more than once in the strategy.", name)
		case s.Weight < 0 || s.Weight > maxWeight:
			return invalid("The weight of a capacity provider must be between 0 and %d.", maxWeight)
		case s.Base < 0 || s.Base > maxBase:
			return invalid("The base of a capacity provider must be between 0 and %d.", maxBase)
		}
		seen[name] = true
		weights += int(s.Weight)
		if s.Base > 0 {
			bases++
		}
	}
	if bases > 1 {
		return invalid("Only one capacity provider in a capacity provider strategy can have a base defined.")
	}
	if len(strategy) > 0 && weights == 0 {
		return invalid("At least one capacity provider in a capacity provider strategy must have a weight greater than 0.")
	}
	return nil
}

func (a *api) putClusterCapacityProviders(
	ctx context.Context, in *sdk.PutClusterCapacityProvidersInput,
) (*sdk.PutClusterCapacityProvidersOutput, error) {
	if err := checkProviders(in.CapacityProviders, in.DefaultCapacityProviderStrategy); err != nil {
		return nil, err
	}
	c, err := a.changeCluster(ctx, in.Cluster, func(c *model.Cluster) error {
		c.CapacityProviders, c.DefaultCapacityProviderStrategy = in.CapacityProviders, in.DefaultCapacityProviderStrategy
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutClusterCapacityProvidersOutput{Cluster: c}, nil
}

func (a *api) describeCapacityProviders(
	_ context.Context, in *sdk.DescribeCapacityProvidersInput,
) (*sdk.DescribeCapacityProvidersOutput, error) {
	refs := in.CapacityProviders
	if len(refs) == 0 {
		refs = builtin
	}
	if len(refs) > maxDescribed {
		return nil, tooMany("Capacity providers", maxDescribed)
	}
	out := &sdk.DescribeCapacityProvidersOutput{CapacityProviders: []types.CapacityProvider{}, Failures: []types.Failure{}}
	for _, ref := range refs {
		name, ok := a.resource("capacity-provider", ref)
		if !ok || !slices.Contains(builtin, name) {
			out.Failures = append(out.Failures, failure(arnOf(ref, a.scope.CapacityProviderARN), missing))
			continue
		}
		out.CapacityProviders = append(out.CapacityProviders, types.CapacityProvider{
			Name: new(name), CapacityProviderArn: new(a.scope.CapacityProviderARN(name)),
			Status: types.CapacityProviderStatusActive, Tags: []types.Tag{}, Type: types.CapacityProviderType(name),
		})
	}
	list, next, err := page(out.CapacityProviders, func(c types.CapacityProvider) string { return *c.Name }, false,
		in.NextToken, in.MaxResults, 10, 10)
	out.CapacityProviders, out.NextToken = list, next
	return out, err
}
