package ecs

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// builtin are the capacity providers that are always there; others are pools of nodes.
var builtin = []string{"FARGATE", "FARGATE_SPOT"}

// Bounds of a capacity provider strategy (ecs.md 1.5).
const (
	maxStrategyItems = 20
	maxWeight        = 1000
	maxBase          = 100000
)

// checkProviders checks the providers of a cluster and its default strategy.
func checkProviders(r store.Reader, providers []string, strategy []types.CapacityProviderStrategyItem) error {
	for i, p := range providers {
		if _, ok := store.CapacityProviders.Get(r, p); !ok && !slices.Contains(builtin, p) {
			return invalid("The specified capacity provider does not exist. Specify a valid name or ARN and try again.")
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
		if model.FargateProvider(name) != model.FargateProvider(value(strategy[0].CapacityProvider)) {
			return invalid("A capacity provider strategy cannot contain a mix of capacity providers using Auto Scaling groups and Fargate.")
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
	c, err := a.changeClusterIn(ctx, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		if err := checkProviders(r, in.CapacityProviders, in.DefaultCapacityProviderStrategy); err != nil {
			return err
		}
		for _, had := range c.CapacityProviders {
			if !slices.Contains(in.CapacityProviders, had) && providerUsed(r, c.Name, had) {
				return &types.ResourceInUseException{Message: new("The specified capacity provider is in use and cannot be removed.")}
			}
		}
		c.CapacityProviders, c.DefaultCapacityProviderStrategy = in.CapacityProviders, in.DefaultCapacityProviderStrategy
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutClusterCapacityProvidersOutput{Cluster: c}, nil
}

// providerUsed tells whether tasks of the cluster run by the provider, or wait for it.
func providerUsed(r store.Reader, cluster, provider string) bool {
	for t := range store.Tasks.By(r, store.ByCluster, cluster) {
		if !t.Ended() && t.CapacityProvider == provider {
			return true
		}
	}
	return false
}

var providerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

func (a *api) createCapacityProvider(ctx context.Context, in *sdk.CreateCapacityProviderInput) (*sdk.CreateCapacityProviderOutput, error) {
	name := value(in.Name)
	lower := strings.ToLower(name)
	switch {
	case name == "":
		return nil, invalid("Capacity provider name can not be null or empty.")
	case !providerName.MatchString(name):
		return nil, invalid("The specified capacity provider name is invalid. Up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens are allowed. Specify a valid name and try again.")
	case strings.HasPrefix(lower, "aws"), strings.HasPrefix(lower, "ecs"), strings.HasPrefix(lower, "fargate"):
		return nil, invalid("The specified capacity provider name is invalid. The name cannot be prefixed with \"aws\", \"ecs\", or \"fargate\". Specify a valid name and try again.")
	case in.ManagedInstancesProvider != nil:
		return nil, notYet("capacity providers of managed instances")
	case in.AutoScalingGroupProvider == nil || value(in.AutoScalingGroupProvider.AutoScalingGroupArn) == "":
		return nil, invalid("The Auto Scaling group ARN can not be null or empty.")
	}
	if err := cmp.Or(checkTags(in.Tags), bounded(in), checkScaling(in.AutoScalingGroupProvider.ManagedScaling)); err != nil {
		return nil, err
	}
	group := *in.AutoScalingGroupProvider
	group.ManagedScaling = scaling(group.ManagedScaling, nil)
	group.ManagedTerminationProtection = cmp.Or(group.ManagedTerminationProtection, types.ManagedTerminationProtectionDisabled)
	group.ManagedDraining = cmp.Or(group.ManagedDraining, types.ManagedDrainingEnabled)
	p := &model.CapacityProvider{Name: name, Group: group, UpdateStatus: types.CapacityProviderUpdateStatusCreateComplete, Tags: in.Tags, CreatedAt: a.now()}
	err := a.store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.CapacityProviders.Get(tx, name); ok {
			return invalid("The specified capacity provider already exists. To change the configuration of an existing capacity provider, update the capacity provider.")
		}
		store.CapacityProviders.Put(tx, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.CreateCapacityProviderOutput{CapacityProvider: a.drawProvider(p, true)}, nil
}

func checkScaling(s *types.ManagedScaling) error {
	if s == nil {
		return nil
	}
	for _, b := range []struct {
		what        string
		is          *int32
		least, most int32
	}{{"targetCapacity", s.TargetCapacity, 1, 100}, {"minimumScalingStepSize", s.MinimumScalingStepSize, 1, 10000},
		{"maximumScalingStepSize", s.MaximumScalingStepSize, 1, 10000}, {"instanceWarmupPeriod", s.InstanceWarmupPeriod, 0, 10000}} {
		if b.is != nil && (*b.is < b.least || *b.is > b.most) {
			return invalid("The managed scaling %s must be between %d and %d.", b.what, b.least, b.most)
		}
	}
	return nil
}

// scaling completes what was asked with what was, or with ECS's defaults. It is stored and shown: machines come by people's hands here.
func scaling(asked, was *types.ManagedScaling) *types.ManagedScaling {
	out := types.ManagedScaling{Status: types.ManagedScalingStatusEnabled, TargetCapacity: new(int32(100)), MinimumScalingStepSize: new(int32(1)),
		MaximumScalingStepSize: new(int32(10000)), InstanceWarmupPeriod: new(int32(300))}
	for _, s := range []*types.ManagedScaling{was, asked} {
		if s == nil {
			continue
		}
		out.Status = cmp.Or(s.Status, out.Status)
		for _, f := range []struct {
			to   **int32
			from *int32
		}{{&out.TargetCapacity, s.TargetCapacity}, {&out.MinimumScalingStepSize, s.MinimumScalingStepSize},
			{&out.MaximumScalingStepSize, s.MaximumScalingStepSize}, {&out.InstanceWarmupPeriod, s.InstanceWarmupPeriod}} {
			if f.from != nil {
				*f.to = f.from
			}
		}
	}
	return &out
}

func (a *api) updateCapacityProvider(ctx context.Context, in *sdk.UpdateCapacityProviderInput) (*sdk.UpdateCapacityProviderOutput, error) {
	asked := in.AutoScalingGroupProvider
	switch {
	case in.ManagedInstancesProvider != nil:
		return nil, notYet("capacity providers of managed instances")
	case asked == nil:
		return nil, invalid("The Auto Scaling group provider can not be null.")
	}
	if err := checkScaling(asked.ManagedScaling); err != nil {
		return nil, err
	}
	var now model.CapacityProvider
	err := a.store.Update(ctx, func(tx store.Tx) error {
		p, ok := a.provider(tx, value(in.Name))
		if !ok {
			return invalid("The specified capacity provider does not exist. Specify a valid name or ARN and try again.")
		}
		now = *p
		now.Group.ManagedScaling = scaling(asked.ManagedScaling, p.Group.ManagedScaling)
		now.Group.ManagedTerminationProtection = cmp.Or(asked.ManagedTerminationProtection, p.Group.ManagedTerminationProtection)
		now.Group.ManagedDraining = cmp.Or(asked.ManagedDraining, p.Group.ManagedDraining)
		now.UpdateStatus = types.CapacityProviderUpdateStatusUpdateComplete
		store.CapacityProviders.Put(tx, &now)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateCapacityProviderOutput{CapacityProvider: a.drawProvider(&now, true)}, nil
}

func (a *api) deleteCapacityProvider(ctx context.Context, in *sdk.DeleteCapacityProviderInput) (*sdk.DeleteCapacityProviderOutput, error) {
	var gone types.CapacityProvider
	err := a.store.Update(ctx, func(tx store.Tx) error {
		name, ok := a.resource("capacity-provider", value(in.CapacityProvider))
		if ok && slices.Contains(builtin, name) {
			return invalid("The specified capacity provider is reserved and cannot be deleted.")
		}
		p, ok := a.provider(tx, value(in.CapacityProvider))
		if !ok {
			return invalid("The specified capacity provider does not exist. Specify a valid name or ARN and try again.")
		}
		for c := range store.Clusters.Scan(tx, "") {
			if c.Status == active && slices.Contains(c.CapacityProviders, p.Name) {
				return &types.ResourceInUseException{Message: new("The specified capacity provider is in use and cannot be removed.")}
			}
		}
		gone = *a.drawProvider(p, true)
		gone.Status, gone.UpdateStatus = types.CapacityProviderStatusInactive, types.CapacityProviderUpdateStatusDeleteComplete
		store.CapacityProviders.Delete(tx, p.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteCapacityProviderOutput{CapacityProvider: &gone}, nil
}

// provider finds one that clients made, by its name or ARN.
func (a *api) provider(r store.Reader, ref string) (*model.CapacityProvider, bool) {
	name, ok := a.resource("capacity-provider", ref)
	if !ok {
		return nil, false
	}
	return store.CapacityProviders.Get(r, name)
}

func (a *api) drawProvider(p *model.CapacityProvider, tags bool) *types.CapacityProvider {
	out := &types.CapacityProvider{Name: &p.Name, CapacityProviderArn: new(a.scope.CapacityProviderARN(p.Name)), Status: types.CapacityProviderStatusActive,
		AutoScalingGroupProvider: &p.Group, UpdateStatus: p.UpdateStatus, Tags: []types.Tag{}, Type: types.CapacityProviderTypeEc2Autoscaling}
	if tags && len(p.Tags) > 0 {
		out.Tags = p.Tags
	}
	return out
}

func (a *api) describeCapacityProviders(
	_ context.Context, in *sdk.DescribeCapacityProvidersInput,
) (*sdk.DescribeCapacityProvidersOutput, error) {
	if len(in.CapacityProviders) > maxDescribed {
		return nil, tooMany("Capacity providers", maxDescribed)
	}
	withTags := slices.Contains(in.Include, types.CapacityProviderFieldTags)
	out := &sdk.DescribeCapacityProvidersOutput{CapacityProviders: []types.CapacityProvider{}, Failures: []types.Failure{}}
	a.store.View(func(r store.Reader) {
		refs := in.CapacityProviders
		if len(refs) == 0 {
			refs = slices.Clone(builtin)
			for p := range store.CapacityProviders.Scan(r, "") {
				refs = append(refs, p.Name)
			}
		}
		for _, ref := range refs {
			name, ok := a.resource("capacity-provider", ref)
			own, found := store.CapacityProviders.Get(r, name)
			switch {
			case ok && found:
				out.CapacityProviders = append(out.CapacityProviders, *a.drawProvider(own, withTags))
			case ok && slices.Contains(builtin, name):
				out.CapacityProviders = append(out.CapacityProviders, types.CapacityProvider{
					Name: new(name), CapacityProviderArn: new(a.scope.CapacityProviderARN(name)),
					Status: types.CapacityProviderStatusActive, Tags: []types.Tag{}, Type: types.CapacityProviderType(name),
				})
			default:
				out.Failures = append(out.Failures, failure(arnOf(ref, a.scope.CapacityProviderARN), missing))
			}
		}
	})
	list, next, err := page(out.CapacityProviders, func(c types.CapacityProvider) string { return *c.Name }, false,
		in.NextToken, in.MaxResults, 10, 10)
	out.CapacityProviders, out.NextToken = list, next
	return out, err
}
