package autoscaling_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/autoscaling"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

const (
	id  = "service/shop/web"
	dim = types.ScalableDimensionECSServiceDesiredCount
	ecs = types.ServiceNamespaceEcs
)

func setup(t *testing.T) (*sdk.Client, store.Store) {
	s := mem.New(store.Schema())
	err := s.Update(ctx, func(tx store.Tx) error {
		store.Services.Put(tx, &model.Service{Cluster: "shop", Name: "web", Status: "ACTIVE", DesiredCount: 1, RevisionID: "1"})
		store.ServiceRevisions.Put(tx, &model.ServiceRevision{ID: "1", Cluster: "shop", Service: "web", LoadBalancers: []ecstypes.LoadBalancer{
			{TargetGroupArn: new("arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/0123")}}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sdk.NewFromConfig(wiretest.Serve(t, autoscaling.New(autoscaling.Config{Store: s, Now: time.Now, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}}))), s
}

func register(min, max int32) *sdk.RegisterScalableTargetInput {
	return &sdk.RegisterScalableTargetInput{ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs, MinCapacity: &min, MaxCapacity: &max}
}

func tracking(name string, metric types.MetricType, change func(*types.TargetTrackingScalingPolicyConfiguration)) *sdk.PutScalingPolicyInput {
	c := &types.TargetTrackingScalingPolicyConfiguration{TargetValue: new(75.0), PredefinedMetricSpecification: &types.PredefinedMetricSpecification{PredefinedMetricType: metric}}
	if change != nil {
		change(c)
	}
	return &sdk.PutScalingPolicyInput{PolicyName: &name, ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs, PolicyType: types.PolicyTypeTargetTrackingScaling,
		TargetTrackingScalingPolicyConfiguration: c}
}

// TestAsTerraformCalls walks through what terraform-aws-modules/ecs makes of a service, and what it deletes.
func TestAsTerraformCalls(t *testing.T) {
	c, s := setup(t)
	in := register(1, 10)
	in.Tags = map[string]string{"team": "shop"}
	arn := wiretest.Must[*sdk.RegisterScalableTargetOutput](t)(c.RegisterScalableTarget(ctx, in)).ScalableTargetARN
	if !strings.HasPrefix(*arn, "arn:aws:application-autoscaling:us-east-1:000000000000:scalable-target/0ec5") {
		t.Errorf("%s", *arn)
	}
	all := wiretest.Must[*sdk.DescribeScalableTargetsOutput](t)(c.DescribeScalableTargets(ctx, &sdk.DescribeScalableTargetsInput{ServiceNamespace: ecs, ResourceIds: []string{id}})).ScalableTargets
	if len(all) != 1 || *all[0].MinCapacity != 1 || *all[0].MaxCapacity != 10 || *all[0].SuspendedState.DynamicScalingInSuspended || !strings.HasSuffix(*all[0].RoleARN, "/AWSServiceRoleForApplicationAutoScaling_ECSService") {
		t.Errorf("%+v", all)
	}
	if got := wiretest.Must[*sdk.ListTagsForResourceOutput](t)(c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: arn})).Tags; got["team"] != "shop" {
		t.Errorf("%v", got)
	}
	put := wiretest.Must[*sdk.PutScalingPolicyOutput](t)(c.PutScalingPolicy(ctx, tracking("cpu", types.MetricTypeECSServiceAverageCPUUtilization, nil)))
	wiretest.Must[*sdk.PutScalingPolicyOutput](t)(c.PutScalingPolicy(ctx, tracking("memory:service/shop/web", types.MetricTypeECSServiceAverageMemoryUtilization, nil)))
	if len(put.Alarms) != 2 || !strings.HasPrefix(*put.Alarms[0].AlarmName, "TargetTracking-service/shop/web-AlarmHigh-") || !strings.HasSuffix(*put.PolicyARN, ":resource/ecs/service/shop/web:policyName/cpu") {
		t.Errorf("%+v", put)
	}
	s.View(func(r store.Reader) {
		a, _ := store.Alarms.Get(r, *put.Alarms[1].AlarmName)
		if *a.Metric.Threshold != 67.5 || *a.Metric.EvaluationPeriods != 15 || *a.Metric.MetricName != "CPUUtilization" || *a.Metric.Dimensions[1].Value != "web" ||
			!strings.HasPrefix(a.Metric.AlarmActions[0], *put.PolicyARN+":createdBy/") || a.Policy != *put.PolicyARN {
			t.Errorf("%+v", a)
		}
	})
	again := wiretest.Must[*sdk.PutScalingPolicyOutput](t)(c.PutScalingPolicy(ctx, tracking("cpu", types.MetricTypeECSServiceAverageCPUUtilization,
		func(c *types.TargetTrackingScalingPolicyConfiguration) { c.DisableScaleIn = new(true) })))
	if *again.PolicyARN != *put.PolicyARN || len(again.Alarms) != 1 || *again.Alarms[0].AlarmName == *put.Alarms[0].AlarmName {
		t.Errorf("%+v after %+v", again, put)
	}
	got := wiretest.Must[*sdk.DescribeScalingPoliciesOutput](t)(c.DescribeScalingPolicies(ctx, &sdk.DescribeScalingPoliciesInput{ServiceNamespace: ecs, ResourceId: new(id), ScalableDimension: dim, PolicyNames: []string{"cpu"}}))
	if len(got.ScalingPolicies) != 1 || *got.ScalingPolicies[0].TargetTrackingScalingPolicyConfiguration.TargetValue != 75 || len(got.ScalingPolicies[0].Alarms) != 1 {
		t.Errorf("%+v", got.ScalingPolicies)
	}
	when := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	act := &sdk.PutScheduledActionInput{ScheduledActionName: new("night"), ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs, Schedule: new("cron(0 22 * * ? *)"),
		Timezone: new("Europe/Berlin"), StartTime: &when, ScalableTargetAction: &types.ScalableTargetAction{MinCapacity: new(int32(1)), MaxCapacity: new(int32(2))}}
	wiretest.Must[*sdk.PutScheduledActionOutput](t)(c.PutScheduledAction(ctx, act))
	act.StartTime, act.ScalableTargetAction = nil, nil // an update keeps the action and clears the time
	wiretest.Must[*sdk.PutScheduledActionOutput](t)(c.PutScheduledAction(ctx, act))
	actions := wiretest.Must[*sdk.DescribeScheduledActionsOutput](t)(c.DescribeScheduledActions(ctx, &sdk.DescribeScheduledActionsInput{ServiceNamespace: ecs})).ScheduledActions
	if len(actions) != 1 || actions[0].StartTime != nil || *actions[0].ScalableTargetAction.MaxCapacity != 2 {
		t.Errorf("%+v", actions)
	}
	wiretest.Must[*sdk.DeregisterScalableTargetOutput](t)(c.DeregisterScalableTarget(ctx, &sdk.DeregisterScalableTargetInput{ServiceNamespace: ecs, ResourceId: new(id), ScalableDimension: dim}))
	s.View(func(r store.Reader) {
		for range store.ScalingPolicies.Scan(r, "") {
			t.Error("a policy is left")
		}
		for range store.ScalingActions.Scan(r, "") {
			t.Error("an action is left")
		}
		for range store.Alarms.Scan(r, "") {
			t.Error("an alarm is left")
		}
	})
	if all := wiretest.Must[*sdk.DescribeScalableTargetsOutput](t)(c.DescribeScalableTargets(ctx, &sdk.DescribeScalableTargetsInput{ServiceNamespace: ecs})).ScalableTargets; len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// TestRefusals: what is wrong is said by AWS's names.
func TestRefusals(t *testing.T) {
	c, _ := setup(t)
	in := register(1, 2)
	in.ResourceId = new("service/shop/none")
	_, err := c.RegisterScalableTarget(ctx, in)
	wiretest.Refused(t, err, "ValidationException", "ECS service doesn't exist: service/shop/none")
	_, err = c.RegisterScalableTarget(ctx, register(3, 2))
	wiretest.Refused(t, err, "ValidationException", "Maximum capacity cannot be less than minimum capacity")
	_, err = c.PutScalingPolicy(ctx, tracking("cpu", types.MetricTypeECSServiceAverageCPUUtilization, nil))
	wiretest.Refused(t, err, "ObjectNotFoundException", "No scalable target found for service namespace: ecs, resource ID: service/shop/web, scalable dimension: ecs:service:DesiredCount")
	wiretest.Must[*sdk.RegisterScalableTargetOutput](t)(c.RegisterScalableTarget(ctx, register(1, 2)))
	in = register(1, 2)
	in.Tags = map[string]string{"a": "b"}
	_, err = c.RegisterScalableTarget(ctx, in)
	wiretest.Refused(t, err, "ValidationException", "The scalable target that you tried to tag already exists. To update tags on an existing scalable target, use the TagResource API.")
	label := func(l string) func(*types.TargetTrackingScalingPolicyConfiguration) {
		return func(c *types.TargetTrackingScalingPolicyConfiguration) {
			c.PredefinedMetricSpecification.ResourceLabel = &l
		}
	}
	_, err = c.PutScalingPolicy(ctx, tracking("r", types.MetricTypeALBRequestCountPerTarget, label("app/a/1/targetgroup/other/1")))
	wiretest.Refused(t, err, "ValidationException", "Target group targetgroup/other/1 is not attached to resource service/shop/web")
	wiretest.Must[*sdk.PutScalingPolicyOutput](t)(c.PutScalingPolicy(ctx, tracking("r", types.MetricTypeALBRequestCountPerTarget, label("app/a/1/targetgroup/web/0123"))))
	_, err = c.PutScalingPolicy(ctx, tracking("r2", types.MetricTypeALBRequestCountPerTarget, label("app/a/1/targetgroup/web/0123")))
	wiretest.Refused(t, err, "ValidationException", "Only one TargetTrackingScaling policy for a given metric specification is allowed.")
	for what, steps := range map[string][]types.StepAdjustment{
		"gap":     {{ScalingAdjustment: new(int32(1)), MetricIntervalLowerBound: new(0.0), MetricIntervalUpperBound: new(1.0)}, {ScalingAdjustment: new(int32(2)), MetricIntervalLowerBound: new(2.0)}},
		"overlap": {{ScalingAdjustment: new(int32(1)), MetricIntervalLowerBound: new(0.0)}, {ScalingAdjustment: new(int32(2)), MetricIntervalLowerBound: new(2.0)}},
	} {
		_, err = c.PutScalingPolicy(ctx, &sdk.PutScalingPolicyInput{PolicyName: &what, ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs,
			StepScalingPolicyConfiguration: &types.StepScalingPolicyConfiguration{AdjustmentType: types.AdjustmentTypeChangeInCapacity, StepAdjustments: steps}})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = c.DeleteScalingPolicy(ctx, &sdk.DeleteScalingPolicyInput{PolicyName: new("none"), ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs})
	wiretest.Refused(t, err, "ObjectNotFoundException", "No scaling policy found for service namespace: ecs, resource ID: service/shop/web, scalable dimension: ecs:service:DesiredCount, policy name: none")
	_, err = c.GetPredictiveScalingForecast(ctx, &sdk.GetPredictiveScalingForecastInput{PolicyName: new("r"), ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs, StartTime: new(time.Now()), EndTime: new(time.Now())})
	wiretest.Refused(t, err, "ValidationException", "Berth makes no forecasts: GetPredictiveScalingForecast is not supported.")
}

// TestPages: policies come ten at a time.
func TestPages(t *testing.T) {
	c, _ := setup(t)
	wiretest.Must[*sdk.RegisterScalableTargetOutput](t)(c.RegisterScalableTarget(ctx, register(1, 2)))
	for i := range 12 {
		wiretest.Must[*sdk.PutScalingPolicyOutput](t)(c.PutScalingPolicy(ctx, &sdk.PutScalingPolicyInput{PolicyName: new(fmt.Sprint("p", i)), ResourceId: new(id), ScalableDimension: dim, ServiceNamespace: ecs,
			StepScalingPolicyConfiguration: &types.StepScalingPolicyConfiguration{AdjustmentType: types.AdjustmentTypeChangeInCapacity, StepAdjustments: []types.StepAdjustment{{ScalingAdjustment: new(int32(1)), MetricIntervalLowerBound: new(0.0)}}}}))
	}
	first := wiretest.Must[*sdk.DescribeScalingPoliciesOutput](t)(c.DescribeScalingPolicies(ctx, &sdk.DescribeScalingPoliciesInput{ServiceNamespace: ecs}))
	second := wiretest.Must[*sdk.DescribeScalingPoliciesOutput](t)(c.DescribeScalingPolicies(ctx, &sdk.DescribeScalingPoliciesInput{ServiceNamespace: ecs, NextToken: first.NextToken}))
	if len(first.ScalingPolicies) != 10 || len(second.ScalingPolicies) != 2 || second.NextToken != nil {
		t.Errorf("%d and %d", len(first.ScalingPolicies), len(second.ScalingPolicies))
	}
}
