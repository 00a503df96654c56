package events_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/berthdev/berth/internal/api/events"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	engine "github.com/berthdev/berth/internal/serve/events"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

func setup(t *testing.T) (*sdk.Client, *mem.Store) {
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	scope := model.Scope{Account: "000000000000", Region: "us-east-1"}
	ids := 0
	newID := func() string { ids++; return fmt.Sprintf("%032x", ids) }
	e := &engine.Engine{Store: s, Scope: scope, Now: time.Now, NewID: newID, Log: slog.New(slog.DiscardHandler)}
	return sdk.NewFromConfig(wiretest.Serve(t, events.New(events.Config{Store: s, Scope: scope, Send: e.Send, Now: time.Now, NewID: newID, Log: e.Log}))), s
}

func TestRules(t *testing.T) {
	c, s := setup(t)
	arn := wiretest.Must[*sdk.PutRuleOutput](t)(c.PutRule(ctx, &sdk.PutRuleInput{Name: new("nightly"), ScheduleExpression: new("cron(0 3 * * ? *)"), Description: new("d"), Tags: []types.Tag{{Key: new("a"), Value: new("b")}}})).RuleArn
	if *arn != "arn:aws:events:us-east-1:000000000000:rule/nightly" {
		t.Errorf("ARN %s", *arn)
	}
	wiretest.Must[*sdk.PutRuleOutput](t)(c.PutRule(ctx, &sdk.PutRuleInput{Name: new("stopped"), EventPattern: new(`{"source":["app"],"detail":{"x":[{"numeric":[">",3]}]}}`)}))
	d := wiretest.Must[*sdk.DescribeRuleOutput](t)(c.DescribeRule(ctx, &sdk.DescribeRuleInput{Name: new("nightly"), EventBusName: new("default")}))
	if *d.ScheduleExpression != "cron(0 3 * * ? *)" || d.State != types.RuleStateEnabled || *d.EventBusName != "default" || d.EventPattern != nil {
		t.Errorf("%+v", d)
	}
	target := types.Target{Id: new("run"), Arn: new("arn:aws:ecs:us-east-1:000000000000:cluster/default"), RoleArn: new("arn:aws:iam::000000000000:role/r"), EcsParameters: &types.EcsParameters{TaskDefinitionArn: new("arn:aws:ecs:us-east-1:000000000000:task-definition/web:1")}}
	hook := types.Target{Id: new("hook"), Arn: new("arn:berth:webhook:::http://127.0.0.1:1/")}
	put := wiretest.Must[*sdk.PutTargetsOutput](t)(c.PutTargets(ctx, &sdk.PutTargetsInput{Rule: new("nightly"), Targets: []types.Target{target}}))
	if put.FailedEntryCount != 0 {
		t.Errorf("%+v", put)
	}
	wiretest.Must[*sdk.PutTargetsOutput](t)(c.PutTargets(ctx, &sdk.PutTargetsInput{Rule: new("stopped"), Targets: []types.Target{hook}}))
	listed := wiretest.Must[*sdk.ListTargetsByRuleOutput](t)(c.ListTargetsByRule(ctx, &sdk.ListTargetsByRuleInput{Rule: new("nightly")}))
	if len(listed.Targets) != 1 || *listed.Targets[0].EcsParameters.TaskDefinitionArn != *target.EcsParameters.TaskDefinitionArn {
		t.Errorf("%+v", listed.Targets)
	}
	names := wiretest.Must[*sdk.ListRuleNamesByTargetOutput](t)(c.ListRuleNamesByTarget(ctx, &sdk.ListRuleNamesByTargetInput{TargetArn: target.Arn}))
	if len(names.RuleNames) != 1 || names.RuleNames[0] != "nightly" {
		t.Errorf("%v", names.RuleNames)
	}
	rules := wiretest.Must[*sdk.ListRulesOutput](t)(c.ListRules(ctx, &sdk.ListRulesInput{Limit: new(int32(1))}))
	rules = wiretest.Must[*sdk.ListRulesOutput](t)(c.ListRules(ctx, &sdk.ListRulesInput{NextToken: rules.NextToken}))
	if len(rules.Rules) != 1 || *rules.Rules[0].Name != "stopped" || rules.NextToken != nil {
		t.Errorf("second page %+v", rules)
	}
	sent := wiretest.Must[*sdk.PutEventsOutput](t)(c.PutEvents(ctx, &sdk.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		{Source: new("app"), DetailType: new("t"), Detail: new(`{"x":4}`)}, {Source: new("app"), DetailType: new("t"), Detail: new(`{"x":2}`)},
		{Source: new("aws.ecs"), DetailType: new("t"), Detail: new(`{}`)}, {Source: new("app"), DetailType: new("t"), Detail: new(`[`)}}}))
	if sent.FailedEntryCount != 2 || sent.Entries[0].EventId == nil || *sent.Entries[2].ErrorCode != "NotAuthorizedForSourceException" || *sent.Entries[3].ErrorCode != "MalformedDetail" {
		t.Errorf("%+v", sent)
	}
	n := 0
	s.View(func(r store.Reader) {
		for d := range store.Outbox.Scan(r, "") {
			n++
			if !strings.Contains(d.Body, `"detail-type":"t"`) || !strings.Contains(d.Body, `"detail":{"x":4}`) {
				t.Errorf("sent %s", d.Body)
			}
		}
	})
	if n != 1 {
		t.Errorf("%d deliveries", n)
	}
	wiretest.Refused(t, wiretest.Error(c.DeleteRule(ctx, &sdk.DeleteRuleInput{Name: new("nightly")})), "ValidationException", "Rule can't be deleted since it has targets.")
	wiretest.Must[*sdk.RemoveTargetsOutput](t)(c.RemoveTargets(ctx, &sdk.RemoveTargetsInput{Rule: new("nightly"), Ids: []string{"run"}}))
	wiretest.Must[*sdk.DisableRuleOutput](t)(c.DisableRule(ctx, &sdk.DisableRuleInput{Name: new("nightly")}))
	tags := wiretest.Must[*sdk.ListTagsForResourceOutput](t)(c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: arn}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Key != "a" {
		t.Errorf("%+v", tags)
	}
	wiretest.Must[*sdk.DeleteRuleOutput](t)(c.DeleteRule(ctx, &sdk.DeleteRuleInput{Name: new("nightly")}))
	wiretest.Refused(t, wiretest.Error(c.DescribeRule(ctx, &sdk.DescribeRuleInput{Name: new("nightly")})), "ResourceNotFoundException", "Rule nightly does not exist on EventBus default.")
}

func TestRulesRefused(t *testing.T) {
	c, _ := setup(t)
	rule := func(f func(*sdk.PutRuleInput)) error {
		in := &sdk.PutRuleInput{Name: new("r"), ScheduleExpression: new("rate(5 minutes)")}
		f(in)
		return wiretest.Error(c.PutRule(ctx, in))
	}
	wiretest.Refused(t, rule(func(in *sdk.PutRuleInput) { in.ScheduleExpression = new("rate(5 minute)") }), "ValidationException", "Parameter ScheduleExpression is not valid.")
	wiretest.Refused(t, rule(func(in *sdk.PutRuleInput) { in.ScheduleExpression = new("at(2030-01-01T00:00:00)") }), "ValidationException", "ScheduleExpression")
	wiretest.Refused(t, rule(func(in *sdk.PutRuleInput) { in.ScheduleExpression = nil }), "ValidationException", "must be specified")
	wiretest.Refused(t, rule(func(in *sdk.PutRuleInput) { in.EventPattern = new(`{"source":"x"}`) }), "InvalidEventPatternException", "Event pattern is not valid. Reason:")
	wiretest.Refused(t, rule(func(in *sdk.PutRuleInput) { in.EventBusName = new("other") }), "ResourceNotFoundException", "Event bus other does not exist.")
	wiretest.Refused(t, rule(func(in *sdk.PutRuleInput) { in.Name = new("a b") }), "ValidationException", "name")
	if err := rule(func(*sdk.PutRuleInput) {}); err != nil {
		t.Fatal(err)
	}
	target := func(f func(*types.Target)) error {
		tg := types.Target{Id: new("t"), Arn: new("arn:aws:ecs:us-east-1:000000000000:cluster/c"), RoleArn: new("arn:aws:iam::000000000000:role/r"), EcsParameters: &types.EcsParameters{TaskDefinitionArn: new("web")}}
		f(&tg)
		return wiretest.Error(c.PutTargets(ctx, &sdk.PutTargetsInput{Rule: new("r"), Targets: []types.Target{tg}}))
	}
	wiretest.Refused(t, target(func(t *types.Target) { t.RoleArn = nil }), "ValidationException", "RoleArn is required for target")
	wiretest.Refused(t, target(func(t *types.Target) { t.Arn = new("arn:aws:lambda:us-east-1:000000000000:function:f") }), "ValidationException", "Berth's targets are")
	wiretest.Refused(t, target(func(t *types.Target) { t.Arn = new("x") }), "ValidationException", "Provided Arn is not in correct format.")
	wiretest.Refused(t, target(func(t *types.Target) { t.EcsParameters = nil }), "ValidationException", "EcsParameters must be specified")
	wiretest.Refused(t, target(func(t *types.Target) { t.Input = new("{") }), "ValidationException", "JSON syntax error")
	wiretest.Refused(t, target(func(t *types.Target) { t.Input, t.InputPath = new("{}"), new("$.x") }), "ValidationException", "Only one of")
	wiretest.Refused(t, target(func(t *types.Target) { t.EcsParameters.TaskCount = new(int32(99)) }), "ValidationException", "TaskCount")
	tested := wiretest.Must[*sdk.TestEventPatternOutput](t)(c.TestEventPattern(ctx, &sdk.TestEventPatternInput{EventPattern: new(`{"source":["a"]}`),
		Event: new(`{"id":"1","account":"1","source":"a","time":"t","region":"r","resources":[],"detail-type":"d"}`)}))
	if !tested.Result {
		t.Error("the event does not fit")
	}
	wiretest.Refused(t, wiretest.Error(c.TestEventPattern(ctx, &sdk.TestEventPatternInput{EventPattern: new(`{"source":["a"]}`), Event: new(`{}`)})), "ValidationException", "is a required argument")
}
