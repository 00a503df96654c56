package ecs

import (
	"cmp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/model"
)

// fargateVersions are Fargate's platform versions.
var fargateVersions = []string{"LATEST", "1.4.0", "1.3.0", "1.2.0", "1.1.0", "1.0.0"}

// launch is how tasks are to run. Exactly one of launchType and strategy is set.
type launch struct {
	launchType types.LaunchType
	strategy   []types.CapacityProviderStrategyItem
}

// tasks is the launch type of the tasks themselves. A strategy's capacity providers are all Fargate's, or none.
func (l launch) tasks() types.LaunchType {
	switch {
	case len(l.strategy) > 0 && model.FargateProvider(value(l.strategy[0].CapacityProvider)):
		return types.LaunchTypeFargate
	case len(l.strategy) > 0:
		return types.LaunchTypeEc2
	}
	return l.launchType
}

// resolveLaunch decides between launch type and strategy: the request's, else the cluster's default strategy, else EC2.
func resolveLaunch(
	c *model.Cluster, asked types.LaunchType, strategy []types.CapacityProviderStrategyItem,
) (launch, error) {
	switch {
	case asked != "" && len(strategy) > 0:
		return launch{}, invalid("Specify either Launch Type or Capacity Provider Strategy, but not both.")
	case len(strategy) > 0:
		return launch{strategy: strategy}, checkStrategy(strategy, c.CapacityProviders)
	case asked == "" && len(c.DefaultCapacityProviderStrategy) > 0:
		return launch{strategy: c.DefaultCapacityProviderStrategy}, nil
	}
	switch asked {
	case "":
		asked = types.LaunchTypeEc2
	case types.LaunchTypeEc2, types.LaunchTypeFargate, types.LaunchTypeExternal:
	case types.LaunchTypeManagedInstances:
		return launch{}, notYet("the launch type MANAGED_INSTANCES")
	default:
		return launch{}, oneOf("launch type", asked, launchTypes)
	}
	return launch{launchType: asked}, nil
}

// check checks that tasks of def may run so.
func (l launch) check(def *types.TaskDefinition, platformVersion *string) error {
	kind := l.tasks()
	if !taskdef.Supports(def, kind) {
		return invalid("Task definition does not support launch_type %s.", kind)
	}
	if kind != types.LaunchTypeFargate {
		if value(platformVersion) != "" {
			return invalid("The platform version must be null when specifying an %s launch type.", kind)
		}
		return nil
	}
	if v := value(platformVersion); v != "" && !slices.Contains(fargateVersions, v) {
		return model.Errorf("PlatformUnknownException", "The specified platform version does not exist.")
	}
	return nil
}

// checkNetwork checks a network configuration against the definition's network mode.
func (l launch) checkNetwork(def *types.TaskDefinition, n *types.NetworkConfiguration) error {
	if def.NetworkMode != types.NetworkModeAwsvpc {
		if n != nil && n.AwsvpcConfiguration != nil {
			return invalid("Network Configuration is not valid for the given networkMode of this task definition.")
		}
		return nil
	}
	if n == nil || n.AwsvpcConfiguration == nil {
		return invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
	}
	v := n.AwsvpcConfiguration
	if err := cmp.Or(quota.Subnets.Admit(len(v.Subnets)), quota.SecurityGroups.Admit(len(v.SecurityGroups))); err != nil {
		return err
	}
	switch {
	case len(v.Subnets) == 0:
		return invalid("subnets can not be empty.")
	case v.AssignPublicIp != "" && !slices.Contains(v.AssignPublicIp.Values(), v.AssignPublicIp):
		return invalid("assignPublicIp must be ENABLED or DISABLED.")
	case v.AssignPublicIp == types.AssignPublicIpEnabled && l.tasks() != types.LaunchTypeFargate:
		return invalid("Assign public IP is not supported for this launch type.")
	}
	return nil
}

// checkPlacement checks placement constraints and strategies.
func (l launch) checkPlacement(constraints []types.PlacementConstraint, strategy []types.PlacementStrategy) error {
	if l.tasks() == types.LaunchTypeFargate {
		if len(constraints) > 0 {
			return invalid("Placement constraints are not supported with FARGATE launch type.")
		}
		if len(strategy) > 0 {
			return invalid("Placement strategies are not supported with FARGATE launch type.")
		}
	}
	if err := cmp.Or(quota.Constraints.Admit(len(constraints)), quota.Strategies.Admit(len(strategy))); err != nil {
		return err
	}
	for _, c := range constraints {
		switch c.Type {
		case types.PlacementConstraintTypeDistinctInstance:
			if value(c.Expression) != "" {
				return invalid("A placement constraint of type distinctInstance cannot have an expression.")
			}
		case types.PlacementConstraintTypeMemberOf:
			if value(c.Expression) == "" {
				return invalid("A placement constraint of type memberOf must have an expression.")
			}
			if err := checkExpression(*c.Expression); err != nil {
				return err
			}
		default:
			return invalid("Invalid placement constraint type '%s'. It must be distinctInstance or memberOf.", c.Type)
		}
	}
	for _, s := range strategy {
		if err := checkStrategyItem(s); err != nil {
			return err
		}
	}
	return nil
}

func checkStrategyItem(s types.PlacementStrategy) error {
	field := value(s.Field)
	switch s.Type {
	case types.PlacementStrategyTypeRandom:
		if field != "" {
			return invalid("A placement strategy of type random cannot have a field.")
		}
	case types.PlacementStrategyTypeBinpack:
		if !slices.Contains([]string{"cpu", "memory", "CPU", "MEMORY"}, field) {
			return invalid("The field of a placement strategy of type binpack must be cpu or memory.")
		}
	case types.PlacementStrategyTypeSpread:
		if field == "" {
			return invalid("A placement strategy of type spread must have a field.")
		}
	default:
		return invalid("Invalid placement strategy type '%s'. It must be random, spread or binpack.", s.Type)
	}
	return nil
}
