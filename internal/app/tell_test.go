package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schtypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// until waits until something holds, for as long as a slow machine may take.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it never came: %s", what)
		}
	}
}

// TestEventsAct: an event runs a task as the role that its rule names, and not as one that may not; the task's changes, an alarm and its
// topic reach who listens; a schedule runs once and goes; what tasks use can be read as metrics.
func TestEventsAct(t *testing.T) {
	_, client, stop := up(t, t.TempDir())
	defer stop()
	c := client("us-east-1")
	o := c.Options()
	conf := aws.Config{Region: "us-east-1", BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials}
	got := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(b)
	}))
	defer hook.Close()
	url := func(path string) *string { return aws.String("arn:berth:webhook:::" + hook.URL + path) }
	next := func(prefix string) string {
		t.Helper()
		for end := time.After(30 * time.Second); ; {
			select {
			case s := <-got:
				if rest, ok := strings.CutPrefix(s, prefix+" "); ok {
					return rest
				}
			case <-end:
				t.Fatalf("nothing came to %s", prefix)
			}
		}
	}
	ctx := t.Context()
	ok := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := aws.String("job")
	ok(c.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{Family: name, ContainerDefinitions: []types.ContainerDefinition{{Name: name, Image: name, Memory: aws.Int32(64)}}}))
	people := iam.NewFromConfig(conf)
	for _, role := range []string{"may", "may-not"} {
		ok(people.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["events.amazonaws.com","scheduler.amazonaws.com"]},"Action":"sts:AssumeRole"}]}`)}))
	}
	ok(people.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("may"), PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecs:RunTask","iam:PassRole"],"Resource":"*"}]}`)}))

	bus := eventbridge.NewFromConfig(conf)
	target := func(id, role string) ebtypes.Target {
		return ebtypes.Target{Id: &id, Arn: aws.String("arn:aws:ecs:us-east-1:000000000000:cluster/default"), RoleArn: aws.String("arn:aws:iam::000000000000:role/" + role),
			Input: aws.String(`{"containerOverrides":[{"name":"job","command":["x"]}]}`), EcsParameters: &ebtypes.EcsParameters{TaskDefinitionArn: aws.String("arn:aws:ecs:us-east-1:000000000000:task-definition/job")}}
	}
	ok(bus.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("order"), EventPattern: aws.String(`{"source":["shop"]}`)}))
	ok(bus.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("order"), Targets: []ebtypes.Target{target("a", "may"), target("b", "may-not"), {Id: aws.String("c"), Arn: url("/order")}}}))
	ok(bus.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("tasks"), EventPattern: aws.String(`{"source":["aws.ecs"],"detail-type":["ECS Task State Change"],"detail":{"lastStatus":["RUNNING"]}}`)}))
	ok(bus.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("tasks"), Targets: []ebtypes.Target{{Id: aws.String("c"), Arn: url("/task"), InputPath: aws.String("$.detail")}}}))
	ok(bus.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []ebtypes.PutEventsRequestEntry{{Source: aws.String("shop"), DetailType: aws.String("order"), Detail: aws.String(`{"n":1}`)}}}))
	if body := next("/order"); !strings.Contains(body, `"detail":{"n":1}`) {
		t.Errorf("the event came as %s", body)
	}
	var task struct {
		StartedBy, LastStatus, CreatedAt string
		Overrides                        types.TaskOverride
	}
	if body := next("/task"); json.Unmarshal([]byte(body), &task) != nil || task.StartedBy != "events-rule/order" || task.LastStatus != "RUNNING" || len(task.Overrides.ContainerOverrides) != 1 {
		t.Errorf("the task's event came as %s", body)
	}
	runs := func(by string) int {
		out, err := c.ListTasks(ctx, &ecs.ListTasksInput{StartedBy: &by})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.TaskArns)
	}
	if n := runs("events-rule/order"); n != 1 {
		t.Errorf("%d tasks run, of which one role may start one", n)
	}

	plans := scheduler.NewFromConfig(conf)
	ok(plans.CreateSchedule(ctx, &scheduler.CreateScheduleInput{Name: aws.String("soon"), ScheduleExpression: aws.String("at(" + time.Now().UTC().Add(2*time.Second).Format("2006-01-02T15:04:05") + ")"),
		ActionAfterCompletion: schtypes.ActionAfterCompletionDelete, FlexibleTimeWindow: &schtypes.FlexibleTimeWindow{Mode: schtypes.FlexibleTimeWindowModeOff},
		Target: &schtypes.Target{Arn: target("", "").Arn, RoleArn: target("", "may").RoleArn, EcsParameters: &schtypes.EcsParameters{TaskDefinitionArn: target("", "").EcsParameters.TaskDefinitionArn}}}))
	until(t, "the schedule's run", func() bool { return runs("chronos-schedule/soon") == 1 })
	if all, err := plans.ListSchedules(ctx, &scheduler.ListSchedulesInput{}); err != nil || len(all.Schedules) != 0 {
		t.Errorf("it is still there: %v, %v", all, err)
	}

	topics := sns.NewFromConfig(conf)
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("alarms")})
	ok(nil, err)
	ok(topics.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("http"), Endpoint: aws.String(hook.URL + "/topic")}))
	var m struct{ Type, SubscribeURL, Message string }
	if body := next("/topic"); json.Unmarshal([]byte(body), &m) != nil || m.Type != "SubscriptionConfirmation" {
		t.Fatalf("asked to confirm by %s", body)
	}
	res, err := http.Get(m.SubscribeURL)
	ok(nil, err)
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("confirmed: %s", res.Status)
	}
	watch := cloudwatch.NewFromConfig(conf)
	ok(watch.PutMetricAlarm(ctx, &cloudwatch.PutMetricAlarmInput{AlarmName: aws.String("quiet"), Namespace: aws.String("shop"), MetricName: aws.String("Orders"), Statistic: cwtypes.StatisticSum, Period: aws.Int32(10),
		EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(1), ComparisonOperator: cwtypes.ComparisonOperatorLessThanThreshold, TreatMissingData: aws.String("breaching"), AlarmActions: []string{*topic.TopicArn}}))
	if body := next("/topic"); json.Unmarshal([]byte(body), &m) != nil || m.Type != "Notification" || !strings.Contains(m.Message, `"NewStateValue":"ALARM"`) {
		t.Errorf("the alarm came as %s", body)
	}
	until(t, "what the tasks use", func() bool {
		out, err := watch.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{Namespace: aws.String("AWS/ECS"), MetricName: aws.String("MemoryUtilization"), Period: aws.Int32(10),
			Dimensions: []cwtypes.Dimension{{Name: aws.String("ClusterName"), Value: aws.String("default")}}, StartTime: aws.Time(time.Now().Add(-time.Minute)), EndTime: aws.Time(time.Now().Add(time.Minute)),
			Statistics: []cwtypes.Statistic{cwtypes.StatisticAverage}})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Datapoints) > 0 && *out.Datapoints[0].Average > 0
	})
}
