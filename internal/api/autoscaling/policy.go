package autoscaling

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) putScalingPolicy(ctx context.Context, in *sdk.PutScalingPolicyInput) (*sdk.PutScalingPolicyOutput, error) {
	id, err := resource(in.ServiceNamespace, in.ResourceId, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	name := value(in.PolicyName)
	if name == "" || len(name) > 256 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, invalid("Invalid policy name: a policy is named by 1 to 256 printable characters.")
	}
	out := &sdk.PutScalingPolicyOutput{}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := target(tx, id); err != nil {
			return err
		}
		svc, ok := service(tx, id)
		if !ok {
			return invalid("ECS service doesn't exist: %s", id)
		}
		next := &model.ScalingPolicy{ResourceID: id, Name: name, CreatedAt: a.Now(),
			ARN: "arn:" + model.Partition + ":autoscaling:" + a.Scope.Region + ":" + a.Scope.Account + ":scalingPolicy:" + uuid() + ":resource/ecs/" + id + ":policyName/" + name}
		kind := types.PolicyTypeStepScaling
		old, ok := store.ScalingPolicies.Get(tx, next.Key())
		if ok {
			copied := *old
			next, kind = &copied, kindOf(old)
		}
		if in.PolicyType != "" {
			if ok && in.PolicyType != kind {
				return invalid("The type of a scaling policy cannot be changed: %s is a %s policy.", name, kind)
			}
			kind = in.PolicyType
		}
		if err := configure(next, kind, in); err != nil {
			return err
		}
		store.DropScalingAlarms(tx, next)
		next.High, next.Low = "", ""
		if next.Tracking != nil {
			if err := a.checkTracking(tx, svc, next); err != nil {
				return err
			}
			a.putAlarms(tx, svc, next)
		}
		store.ScalingPolicies.Put(tx, next)
		out.PolicyARN, out.Alarms = &next.ARN, alarmsOf(tx, next)
		return nil
	})
	return out, err
}

func kindOf(p *model.ScalingPolicy) types.PolicyType {
	switch {
	case p.Tracking != nil:
		return types.PolicyTypeTargetTrackingScaling
	case p.Predictive != nil:
		return types.PolicyTypePredictiveScaling
	}
	return types.PolicyTypeStepScaling
}

// configure takes the configuration of the policy's type; what an update omits stays.
func configure(p *model.ScalingPolicy, kind types.PolicyType, in *sdk.PutScalingPolicyInput) error {
	given := map[types.PolicyType]bool{types.PolicyTypeTargetTrackingScaling: in.TargetTrackingScalingPolicyConfiguration != nil,
		types.PolicyTypeStepScaling: in.StepScalingPolicyConfiguration != nil, types.PolicyTypePredictiveScaling: in.PredictiveScalingPolicyConfiguration != nil}
	if _, ok := given[kind]; !ok {
		return invalid("1 validation error detected: Value '%.50s' at 'policyType' failed to satisfy constraint: Member must satisfy enum value set", kind)
	}
	for other, is := range given {
		if is && other != kind {
			return invalid("A %s policy has no configuration for %s.", kind, other)
		}
	}
	switch {
	case in.TargetTrackingScalingPolicyConfiguration != nil:
		c := *in.TargetTrackingScalingPolicyConfiguration
		if c.DisableScaleIn == nil {
			c.DisableScaleIn = new(false)
		}
		p.Tracking = &c
	case in.StepScalingPolicyConfiguration != nil:
		c := *in.StepScalingPolicyConfiguration
		if err := checkSteps(&c); err != nil {
			return err
		}
		p.Step = &c
	case in.PredictiveScalingPolicyConfiguration != nil:
		if len(in.PredictiveScalingPolicyConfiguration.MetricSpecifications) == 0 {
			return invalid("A predictive scaling policy needs a metric specification.")
		}
		p.Predictive = in.PredictiveScalingPolicyConfiguration
	case p.Tracking == nil && p.Step == nil && p.Predictive == nil:
		return invalid("A %s policy needs its configuration.", kind)
	}
	return nil
}

// checkSteps refuses gaps and overlaps.
func checkSteps(c *types.StepScalingPolicyConfiguration) error {
	switch {
	case !slices.Contains(c.AdjustmentType.Values(), c.AdjustmentType) || c.AdjustmentType == "":
		return invalid("Invalid adjustment type: %.50q", c.AdjustmentType)
	case c.MetricAggregationType != "" && !slices.Contains(c.MetricAggregationType.Values(), c.MetricAggregationType):
		return invalid("Invalid metric aggregation type: %.50q", c.MetricAggregationType)
	case len(c.StepAdjustments) == 0:
		return invalid("At least one StepAdjustment must be specified.")
	case len(c.StepAdjustments) > 20:
		return invalid("A step scaling policy has at most 20 step adjustments.")
	case value(c.Cooldown) < 0:
		return invalid("Cooldown must be at least 0.")
	case c.MinAdjustmentMagnitude != nil && (c.AdjustmentType != types.AdjustmentTypePercentChangeInCapacity || *c.MinAdjustmentMagnitude < 1):
		return invalid("MinAdjustmentMagnitude is of PercentChangeInCapacity, and at least 1.")
	}
	type span struct{ low, high float64 }
	var all []span
	for _, s := range c.StepAdjustments {
		one := span{math.Inf(-1), math.Inf(1)}
		if s.MetricIntervalLowerBound != nil {
			one.low = *s.MetricIntervalLowerBound
		}
		if s.MetricIntervalUpperBound != nil {
			one.high = *s.MetricIntervalUpperBound
		}
		switch {
		case s.ScalingAdjustment == nil:
			return invalid("ScalingAdjustment is required.")
		case c.AdjustmentType == types.AdjustmentTypeExactCapacity && *s.ScalingAdjustment < 0:
			return invalid("An exact capacity cannot be negative.")
		case !(one.low < one.high):
			return invalid("Every step adjustment needs a lower bound that is less than its upper bound.")
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(x, y span) int {
		if x.low < y.low {
			return -1
		}
		return 1
	})
	for i := 1; i < len(all); i++ {
		switch was, is := all[i-1], all[i]; {
		case is.low < was.high:
			return invalid("The step adjustment intervals cannot overlap.")
		case is.low > was.high:
			return invalid("There is a gap between the step adjustment intervals.")
		}
	}
	return nil
}

// checkTracking checks a target and its metric.
func (a *api) checkTracking(tx store.Tx, svc *model.Service, p *model.ScalingPolicy) error {
	c := p.Tracking
	switch {
	case c.TargetValue == nil || !(*c.TargetValue > 0) || *c.TargetValue > math.MaxFloat64/2:
		return invalid("TargetValue must be greater than 0.")
	case value(c.ScaleInCooldown) < 0 || value(c.ScaleOutCooldown) < 0:
		return invalid("A cooldown must be at least 0.")
	case (c.PredefinedMetricSpecification == nil) == (c.CustomizedMetricSpecification == nil):
		return invalid("A target tracking policy needs either a predefined or a customized metric specification.")
	}
	if m := c.PredefinedMetricSpecification; m != nil {
		if err := a.checkPredefined(tx, svc, m); err != nil {
			return err
		}
	} else if err := checkCustomized(c.CustomizedMetricSpecification); err != nil {
		return err
	}
	mine := specification(c)
	for other := range store.ScalingPolicies.Scan(tx, p.ResourceID+"/") {
		if other.Name != p.Name && other.Tracking != nil && specification(other.Tracking) == mine {
			return invalid("Only one TargetTrackingScaling policy for a given metric specification is allowed.")
		}
	}
	return nil
}

func specification(c *types.TargetTrackingScalingPolicyConfiguration) string {
	b, err := json.Marshal([]any{c.PredefinedMetricSpecification, c.CustomizedMetricSpecification})
	if err != nil { // these are texts and booleans
		return ""
	}
	return string(b)
}

func (a *api) checkPredefined(tx store.Tx, svc *model.Service, m *types.PredefinedMetricSpecification) error {
	switch m.PredefinedMetricType {
	case types.MetricTypeECSServiceAverageCPUUtilization, types.MetricTypeECSServiceAverageMemoryUtilization:
		if m.ResourceLabel != nil {
			return invalid("A resource label is of ALBRequestCountPerTarget only.")
		}
		return nil
	case types.MetricTypeALBRequestCountPerTarget:
	default:
		return invalid("Unsupported metric type for a service of ECS: %.100s", m.PredefinedMetricType)
	}
	parts := strings.Split(value(m.ResourceLabel), "/")
	if len(parts) != 6 || parts[0] != "app" || parts[3] != "targetgroup" {
		return invalid("Invalid resource label: %.300s. It is app/<name>/<id>/targetgroup/<name>/<id>.", value(m.ResourceLabel))
	}
	group := strings.Join(parts[3:], "/")
	if rev, ok := store.ServiceRevisions.Get(tx, svc.Key()+"/"+svc.RevisionID); ok {
		for _, b := range rev.LoadBalancers {
			if strings.HasSuffix(value(b.TargetGroupArn), ":"+group) {
				return nil
			}
		}
	}
	return invalid("Target group %s is not attached to resource service/%s", group, svc.Key())
}

func (a *api) describeScalingPolicies(_ context.Context, in *sdk.DescribeScalingPoliciesInput) (*sdk.DescribeScalingPoliciesOutput, error) {
	none, err := listed(in.ServiceNamespace, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	return view(a, func(r store.Reader) (*sdk.DescribeScalingPoliciesOutput, error) {
		var all []types.ScalingPolicy
		for p := range store.ScalingPolicies.Scan(r, prefix(in.ResourceId)) {
			if none || len(in.PolicyNames) > 0 && !slices.Contains(in.PolicyNames, p.Name) {
				continue
			}
			all = append(all, types.ScalingPolicy{CreationTime: &p.CreatedAt, PolicyARN: &p.ARN, PolicyName: &p.Name, PolicyType: kindOf(p), ResourceId: &p.ResourceID,
				ScalableDimension: dimension, ServiceNamespace: types.ServiceNamespaceEcs, Alarms: alarmsOf(r, p), TargetTrackingScalingPolicyConfiguration: p.Tracking,
				StepScalingPolicyConfiguration: p.Step, PredictiveScalingPolicyConfiguration: p.Predictive})
		}
		some, next, err := page(all, 10, in.MaxResults, in.NextToken)
		return &sdk.DescribeScalingPoliciesOutput{ScalingPolicies: some, NextToken: next}, err
	})
}

func (a *api) deleteScalingPolicy(ctx context.Context, in *sdk.DeleteScalingPolicyInput) (*sdk.DeleteScalingPolicyOutput, error) {
	id, err := resource(in.ServiceNamespace, in.ResourceId, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteScalingPolicyOutput{}, a.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		p, ok := store.ScalingPolicies.Get(tx, id+"/"+value(in.PolicyName))
		if !ok {
			return model.Errorf("ObjectNotFoundException", "No scaling policy found for service namespace: ecs, resource ID: %s, scalable dimension: %s, policy name: %.256s",
				id, dimension, value(in.PolicyName))
		}
		store.DropScalingPolicy(tx, p)
		return nil
	})
}
