package scheduler_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/berthdev/berth/internal/api/scheduler"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

func setup(t *testing.T) *sdk.Client {
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	return sdk.NewFromConfig(wiretest.Serve(t, scheduler.New(scheduler.Config{Store: s, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})))
}

func create() *sdk.CreateScheduleInput {
	return &sdk.CreateScheduleInput{Name: new("s"), ScheduleExpression: new("cron(0 3 * * ? *)"), ScheduleExpressionTimezone: new("Europe/Berlin"), ClientToken: new("t"),
		FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target: &types.Target{Arn: new("arn:aws:ecs:us-east-1:000000000000:cluster/c"), RoleArn: new("arn:aws:iam::000000000000:role/r"), Input: new(`{"containerOverrides":[]}`),
			EcsParameters: &types.EcsParameters{TaskDefinitionArn: new("web"), LaunchType: types.LaunchTypeFargate, TaskCount: new(int32(2)), Tags: []map[string]string{{"a": "b"}},
				NetworkConfiguration:     &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{"subnet-1"}}},
				CapacityProviderStrategy: []types.CapacityProviderStrategyItem{{CapacityProvider: new("p"), Weight: 1}}}}}
}

// TestSchedules: the stock client's REST requests, there and back.
func TestSchedules(t *testing.T) {
	c := setup(t)
	made := wiretest.Must[*sdk.CreateScheduleOutput](t)(c.CreateSchedule(ctx, create()))
	if *made.ScheduleArn != "arn:aws:scheduler:us-east-1:000000000000:schedule/default/s" {
		t.Errorf("ARN %s", *made.ScheduleArn)
	}
	if _, err := c.CreateSchedule(ctx, create()); err != nil {
		t.Errorf("the same request again: %v", err)
	}
	other := create()
	other.ClientToken = new("u")
	wiretest.Refused(t, wiretest.Error(c.CreateSchedule(ctx, other)), "ConflictException", "already exists")
	got := wiretest.Must[*sdk.GetScheduleOutput](t)(c.GetSchedule(ctx, &sdk.GetScheduleInput{Name: new("s")}))
	p := got.Target.EcsParameters
	if *got.GroupName != "default" || *got.ScheduleExpressionTimezone != "Europe/Berlin" || got.State != types.ScheduleStateEnabled || got.ActionAfterCompletion != types.ActionAfterCompletionNone ||
		got.FlexibleTimeWindow.Mode != "OFF" || p == nil || *p.TaskCount != 2 || p.NetworkConfiguration == nil || p.NetworkConfiguration.AwsvpcConfiguration.Subnets[0] != "subnet-1" ||
		p.Tags[0]["a"] != "b" || *p.CapacityProviderStrategy[0].CapacityProvider != "p" || got.CreationDate == nil || time.Since(*got.CreationDate) > time.Hour || got.StartDate != nil {
		t.Errorf("%+v %+v", got, p)
	}
	wiretest.Must[*sdk.CreateScheduleGroupOutput](t)(c.CreateScheduleGroup(ctx, &sdk.CreateScheduleGroupInput{Name: new("g"), Tags: []types.Tag{{Key: new("k"), Value: new("v")}}}))
	in := create()
	in.GroupName, in.StartDate = new("g"), new(time.Now().Add(time.Hour))
	wiretest.Must[*sdk.CreateScheduleOutput](t)(c.CreateSchedule(ctx, in))
	all := wiretest.Must[*sdk.ListSchedulesOutput](t)(c.ListSchedules(ctx, &sdk.ListSchedulesInput{MaxResults: new(int32(1))}))
	all = wiretest.Must[*sdk.ListSchedulesOutput](t)(c.ListSchedules(ctx, &sdk.ListSchedulesInput{NextToken: all.NextToken, GroupName: new("g"), NamePrefix: new("s")}))
	if len(all.Schedules) != 1 || *all.Schedules[0].GroupName != "g" || *all.Schedules[0].Target.Arn != *in.Target.Arn {
		t.Errorf("%+v", all.Schedules)
	}
	wiretest.Must[*sdk.UpdateScheduleOutput](t)(c.UpdateSchedule(ctx, &sdk.UpdateScheduleInput{Name: new("s"), ScheduleExpression: new("rate(5 minutes)"), State: types.ScheduleStateDisabled,
		FlexibleTimeWindow: in.FlexibleTimeWindow, Target: in.Target}))
	if got := wiretest.Must[*sdk.GetScheduleOutput](t)(c.GetSchedule(ctx, &sdk.GetScheduleInput{Name: new("s")})); got.State != "DISABLED" || *got.ScheduleExpressionTimezone != "UTC" {
		t.Errorf("updated %+v", got)
	}
	tags := wiretest.Must[*sdk.ListTagsForResourceOutput](t)(c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: new("arn:aws:scheduler:us-east-1:000000000000:schedule-group/g")}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Value != "v" {
		t.Errorf("tags %+v", tags)
	}
	groups := wiretest.Must[*sdk.ListScheduleGroupsOutput](t)(c.ListScheduleGroups(ctx, &sdk.ListScheduleGroupsInput{}))
	if len(groups.ScheduleGroups) != 2 {
		t.Errorf("groups %+v", groups)
	}
	wiretest.Must[*sdk.DeleteScheduleGroupOutput](t)(c.DeleteScheduleGroup(ctx, &sdk.DeleteScheduleGroupInput{Name: new("g")}))
	wiretest.Refused(t, wiretest.Error(c.GetSchedule(ctx, &sdk.GetScheduleInput{Name: new("s"), GroupName: new("g")})), "ResourceNotFoundException", "Schedule s does not exist.")
	wiretest.Must[*sdk.DeleteScheduleOutput](t)(c.DeleteSchedule(ctx, &sdk.DeleteScheduleInput{Name: new("s")}))
	wiretest.Refused(t, wiretest.Error(c.DeleteSchedule(ctx, &sdk.DeleteScheduleInput{Name: new("s")})), "ResourceNotFoundException", "")
}

func TestSchedulesRefused(t *testing.T) {
	c := setup(t)
	for want, change := range map[string]func(*sdk.CreateScheduleInput){
		"Invalid Schedule Expression":    func(in *sdk.CreateScheduleInput) { in.ScheduleExpression = new("cron(0 3 * * * *)") },
		"ScheduleExpressionTimezone":     func(in *sdk.CreateScheduleInput) { in.ScheduleExpressionTimezone = new("Europe/Nowhere") },
		"MaximumWindowInMinutes must be": func(in *sdk.CreateScheduleInput) { in.FlexibleTimeWindow.Mode = "FLEXIBLE" },
		"not in correct format":          func(in *sdk.CreateScheduleInput) { in.Target.Arn = new("x") },
		"not supported":                  func(in *sdk.CreateScheduleInput) { in.Target.Arn = new("arn:aws:lambda:r:a:function:f") },
		"EcsParameters":                  func(in *sdk.CreateScheduleInput) { in.Target.EcsParameters = nil },
		"StartDate must be before": func(in *sdk.CreateScheduleInput) {
			in.StartDate, in.EndDate = new(time.Now().Add(2*time.Hour)), new(time.Now().Add(time.Hour))
		},
		"Invalid RequestJson": func(in *sdk.CreateScheduleInput) { in.Target.Input = new("{") },
	} {
		in := create()
		change(in)
		wiretest.Refused(t, wiretest.Error(c.CreateSchedule(ctx, in)), "ValidationException", want)
	}
	in := create()
	in.GroupName = new("none")
	wiretest.Refused(t, wiretest.Error(c.CreateSchedule(ctx, in)), "ResourceNotFoundException", "Schedule group none does not exist.")
}
