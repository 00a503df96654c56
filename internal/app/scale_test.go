package app

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	scaling "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestScaling: a load that doubles is answered with twice the tasks, a larger one with the most that may be, and a smaller maximum at once;
// activities and the service's events say why, and a deleted service takes its policies along.
func TestScaling(t *testing.T) {
	_, client, stop := up(t, t.TempDir())
	defer stop()
	c := client("us-east-1")
	o, ctx := c.Options(), t.Context()
	conf := aws.Config{Region: "us-east-1", BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials}
	ok := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name, id := aws.String("web"), aws.String("service/default/web")
	const dim, ns = types.ScalableDimensionECSServiceDesiredCount, types.ServiceNamespaceEcs
	ok(c.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{Family: name, ContainerDefinitions: []ecstypes.ContainerDefinition{{Name: name, Image: name, Memory: aws.Int32(16)}}}))
	ok(c.CreateService(ctx, &ecs.CreateServiceInput{ServiceName: name, TaskDefinition: name, DesiredCount: aws.Int32(2)}))
	service := func() ecstypes.Service {
		out, err := c.DescribeServices(ctx, &ecs.DescribeServicesInput{Services: []string{"web"}})
		ok(nil, err)
		return out.Services[0]
	}
	until(t, "two tasks", func() bool { return service().RunningCount == 2 })
	scale, watch := scaling.NewFromConfig(conf), cloudwatch.NewFromConfig(conf)
	register := func(least, most int32) {
		ok(scale.RegisterScalableTarget(ctx, &scaling.RegisterScalableTargetInput{ResourceId: id, ScalableDimension: dim, ServiceNamespace: ns, MinCapacity: &least, MaxCapacity: &most}))
	}
	register(1, 6)
	ok(scale.PutScalingPolicy(ctx, &scaling.PutScalingPolicyInput{PolicyName: aws.String("load"), ResourceId: id, ScalableDimension: dim, ServiceNamespace: ns, PolicyType: types.PolicyTypeTargetTrackingScaling,
		TargetTrackingScalingPolicyConfiguration: &types.TargetTrackingScalingPolicyConfiguration{TargetValue: aws.Float64(50), CustomizedMetricSpecification: &types.CustomizedMetricSpecification{
			Namespace: aws.String("shop"), MetricName: aws.String("Load"), Statistic: types.MetricStatisticAverage}}}))
	put := func(value float64, at time.Time) {
		ok(watch.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: aws.String("shop"), MetricData: []cwtypes.MetricDatum{{MetricName: aws.String("Load"), Value: &value, Timestamp: &at}}}))
	}
	for i := range 20 {
		put(50, time.Now().Add(time.Duration(i-20)*time.Second))
	}
	begin, last := time.Now(), int64(0)
	load := func(value float64, want int32) func() bool {
		return func() bool {
			if now := time.Now(); now.Unix() != last { // once a second
				last = now.Unix()
				put(value, now)
			}
			n := service().DesiredCount
			if n < 1 || n > 6 {
				t.Fatalf("%d tasks are wanted", n)
			}
			return n == want
		}
	}
	until(t, "twice the tasks", load(100, 4))
	t.Logf("a doubled load was answered after %v", time.Since(begin).Round(100*time.Millisecond))
	until(t, "the most", load(1000, 6))
	until(t, "six tasks", func() bool { return service().RunningCount == 6 })
	register(1, 3)
	until(t, "the new bounds", func() bool { return service().DesiredCount == 3 })
	activities := func() []types.ScalingActivity {
		out, err := scale.DescribeScalingActivities(ctx, &scaling.DescribeScalingActivitiesInput{ServiceNamespace: ns, ResourceId: id, ScalableDimension: dim})
		ok(nil, err)
		return out.ScalingActivities
	}
	until(t, "fulfilled", func() bool { return activities()[0].StatusCode == types.ScalingActivityStatusCodeSuccessful })
	all := activities()
	first := all[len(all)-1]
	if *all[0].Cause != "maximum capacity was set to 3" || *all[0].StatusMessage != "Successfully set desired count to 3. Change successfully fulfilled by ecs." || *first.Description != "Setting desired count to 4." ||
		!strings.HasPrefix(*first.Cause, "monitor alarm TargetTracking-service/default/web-AlarmHigh-") || !strings.HasSuffix(*first.Cause, " in state ALARM triggered policy load") {
		t.Errorf("activities %+v and %+v", all[0], first)
	}
	told := false
	for _, e := range service().Events {
		told = told || *e.Message == "Message: Successfully set desired count to 3. Change successfully fulfilled by ecs. Cause: maximum capacity was set to 3"
	}
	if !told {
		t.Error("the service was not told")
	}
	ok(c.DeleteService(ctx, &ecs.DeleteServiceInput{Service: name, Force: aws.Bool(true)}))
	until(t, "the policies' end", func() bool {
		out, err := scale.DescribeScalingPolicies(ctx, &scaling.DescribeScalingPoliciesInput{ServiceNamespace: ns})
		ok(nil, err)
		return len(out.ScalingPolicies) == 0
	})
}
