package ecs

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The defaults of a deployment configuration (ecs.md 1.4).
const (
	defaultMaximum   = 200
	defaultMinimum   = 100
	defaultThreshold = 50
)

// deploymentConfiguration returns asked with what it leaves out taken from old, and from the defaults where old has nothing.
func deploymentConfiguration(
	asked *types.DeploymentConfiguration, old types.DeploymentConfiguration,
) (types.DeploymentConfiguration, error) {
	c := old
	if asked != nil {
		if err := checkDeploymentSupport(asked); err != nil {
			return c, err
		}
		if asked.MaximumPercent != nil {
			c.MaximumPercent = asked.MaximumPercent
		}
		if asked.MinimumHealthyPercent != nil {
			c.MinimumHealthyPercent = asked.MinimumHealthyPercent
		}
		if asked.DeploymentCircuitBreaker != nil {
			c.DeploymentCircuitBreaker = mergeBreaker(*asked.DeploymentCircuitBreaker, old.DeploymentCircuitBreaker)
		}
		if asked.Alarms != nil {
			c.Alarms = asked.Alarms
		}
	}
	fillDeployment(&c)
	return c, checkDeployment(&c)
}

// mergeBreaker keeps of old what asked leaves out.
func mergeBreaker(asked types.DeploymentCircuitBreaker, old *types.DeploymentCircuitBreaker) *types.DeploymentCircuitBreaker {
	if old != nil && asked.ResetOnHealthyTask == nil {
		asked.ResetOnHealthyTask = old.ResetOnHealthyTask
	}
	if old != nil && asked.ThresholdConfiguration == nil {
		asked.ThresholdConfiguration = old.ThresholdConfiguration
	}
	asked.Rollback = asked.Rollback && asked.Enable
	return &asked
}

func fillDeployment(c *types.DeploymentConfiguration) {
	if c.MaximumPercent == nil {
		c.MaximumPercent = new(int32(defaultMaximum))
	}
	if c.MinimumHealthyPercent == nil {
		c.MinimumHealthyPercent = new(int32(defaultMinimum))
	}
	if c.Strategy == "" {
		c.Strategy = types.DeploymentStrategyRolling
	}
	if c.BakeTimeInMinutes == nil {
		c.BakeTimeInMinutes = new(int32(0))
	}
	var b types.DeploymentCircuitBreaker
	if c.DeploymentCircuitBreaker != nil {
		b = *c.DeploymentCircuitBreaker
	}
	if b.ResetOnHealthyTask == nil {
		b.ResetOnHealthyTask = new(true)
	}
	if b.ThresholdConfiguration == nil {
		b.ThresholdConfiguration = &types.ThresholdConfiguration{Type: types.ThresholdTypeBoundedPercent, Value: defaultThreshold}
	}
	c.DeploymentCircuitBreaker = &b
}

// checkDeploymentSupport refuses what Berth would have to act on and cannot.
func checkDeploymentSupport(c *types.DeploymentConfiguration) error {
	switch {
	case c.Strategy != "" && c.Strategy != types.DeploymentStrategyRolling:
		if !slices.Contains(c.Strategy.Values(), c.Strategy) {
			return invalid("Invalid deployment strategy '%s'.", c.Strategy)
		}
		return notYet("the deployment strategy " + string(c.Strategy))
	case c.Alarms != nil && c.Alarms.Enable:
		return notYet("deployment alarms")
	case len(c.LifecycleHooks) > 0:
		return notYet("deployment lifecycle hooks")
	case number(c.BakeTimeInMinutes) > 0:
		return notYet("a bake time")
	case c.CanaryConfiguration != nil || c.LinearConfiguration != nil:
		return notYet("canary and linear deployments")
	case c.EarlySuccessCriteria != nil:
		return notYet("early success criteria")
	}
	return nil
}

func checkDeployment(c *types.DeploymentConfiguration) error {
	switch maximum, minimum := *c.MaximumPercent, *c.MinimumHealthyPercent; {
	case maximum < 100:
		return invalid("maximumPercent must be at least 100")
	case maximum > 200:
		return invalid("maximumPercent must be at most 200")
	case minimum < 0:
		return invalid("minimumHealthyPercent must be at least 0")
	case minimum > 100:
		return invalid("minimumHealthyPercent must be at most 100")
	case maximum == 100 && minimum == 100:
		return invalid("Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.")
	}
	t := c.DeploymentCircuitBreaker.ThresholdConfiguration
	if !slices.Contains(t.Type.Values(), t.Type) {
		return invalid("Invalid deployment circuit breaker threshold type.")
	}
	if t.Value < 1 || (t.Type != types.ThresholdTypeCount && t.Value > 100) {
		return invalid("Invalid deployment circuit breaker threshold value.")
	}
	return nil
}

// zoneRebalancing is what holds when asked says nothing: ENABLED, unless maximumPercent leaves no room to rebalance.
func zoneRebalancing(
	asked types.AvailabilityZoneRebalancing, c *types.DeploymentConfiguration,
) (types.AvailabilityZoneRebalancing, error) {
	room := *c.MaximumPercent > 100
	switch asked {
	case "":
		if room {
			return types.AvailabilityZoneRebalancingEnabled, nil
		}
		return types.AvailabilityZoneRebalancingDisabled, nil
	case types.AvailabilityZoneRebalancingDisabled:
		return asked, nil
	case types.AvailabilityZoneRebalancingEnabled:
		if !room {
			return asked, invalid("Availability Zone Rebalancing does not support maximumPercent <= 100 %% as deployment configuration.")
		}
		return asked, nil
	}
	return asked, oneOf("availabilityZoneRebalancing", asked, []types.AvailabilityZoneRebalancing{types.AvailabilityZoneRebalancingEnabled,
		types.AvailabilityZoneRebalancingDisabled})
}
