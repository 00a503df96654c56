package cloudwatch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/api/cloudwatch"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/alarms"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/serve/outbox"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
	noon  = time.Date(2026, 11, 21, 12, 0, 30, 0, time.UTC)
)

// rig is the API over HTTP, its series, and the judge of its alarms.
type rig struct {
	t      *testing.T
	store  *mem.Store
	series *metrics.Series
	judge  *alarms.Judge
	now    time.Time
	*sdk.Client
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, store: mem.New(store.Schema()), now: noon}
	t.Cleanup(func() { r.store.Close() })
	clock := func() time.Time { return r.now }
	var err error
	if r.series, err = metrics.Open(filepath.Join(t.TempDir(), "m"), scope.Region, metrics.Config{Now: clock, MinFree: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.series.Close() })
	r.judge = &alarms.Judge{Store: r.store, Series: r.series, Scope: scope, Now: clock, Log: slog.New(slog.DiscardHandler),
		Act: func(tx store.Tx, arn string, n alarms.Notice) error {
			url, ok := outbox.WebhookURL(arn)
			if !ok {
				return fmt.Errorf("no")
			}
			outbox.Put(tx, outbox.Hook(n.At, n.Alarm.Name+n.New, url, n.Message, n.Alarm.ARN))
			return nil
		}}
	r.Client = sdk.NewFromConfig(wiretest.Serve(t, cloudwatch.New(cloudwatch.Config{Store: r.store, Scope: scope, Series: r.series, Put: r.series.Append,
		Transit: r.judge.Transit, Now: clock, Log: slog.New(slog.DiscardHandler)})))
	return r
}

func (r *rig) put(v float64, at time.Time) {
	r.t.Helper()
	_, err := r.PutMetricData(ctx, &sdk.PutMetricDataInput{Namespace: new("shop"), MetricData: []types.MetricDatum{{MetricName: new("Orders"), Value: &v, Timestamp: &at,
		Dimensions: []types.Dimension{{Name: new("Site"), Value: new("a")}}}}})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	for i, v := range []float64{1, 2, 3, 6} {
		r.put(v, noon.Add(-time.Duration(i)*30*time.Second))
	}
	d := []types.Dimension{{Name: new("Site"), Value: new("a")}}
	out := wiretest.Must[*sdk.GetMetricStatisticsOutput](t)(r.GetMetricStatistics(ctx, &sdk.GetMetricStatisticsInput{Namespace: new("shop"), MetricName: new("Orders"), Dimensions: d,
		StartTime: aws.Time(noon.Add(-5 * time.Minute)), EndTime: aws.Time(noon.Add(time.Minute)), Period: new(int32(60)),
		Statistics: []types.Statistic{"Sum", "Average", "SampleCount"}, ExtendedStatistics: []string{"p99"}}))
	if len(out.Datapoints) != 2 || *out.Datapoints[0].Sum != 9 || *out.Datapoints[1].Average != 1.5 || *out.Datapoints[1].SampleCount != 2 || out.Datapoints[0].ExtendedStatistics["p99"] < 5.9 {
		t.Errorf("statistics %+v", out.Datapoints)
	}
	stat := func(id string, ret bool) types.MetricDataQuery {
		return types.MetricDataQuery{Id: &id, ReturnData: &ret, MetricStat: &types.MetricStat{Metric: &types.Metric{Namespace: new("shop"), MetricName: new("Orders"), Dimensions: d},
			Period: new(int32(60)), Stat: new("Sum")}}
	}
	got := wiretest.Must[*sdk.GetMetricDataOutput](t)(r.GetMetricData(ctx, &sdk.GetMetricDataInput{StartTime: aws.Time(noon.Add(-5 * time.Minute)), EndTime: aws.Time(noon.Add(time.Minute)),
		MetricDataQueries: []types.MetricDataQuery{stat("m1", false), {Id: new("e1"), Expression: new("m1 * 10"), Label: new("ten")}, stat("m2", true)}}))
	if len(got.MetricDataResults) != 2 || *got.MetricDataResults[0].Label != "ten" || fmt.Sprint(got.MetricDataResults[0].Values) != "[30 90]" || got.MetricDataResults[0].StatusCode != types.StatusCodeComplete {
		t.Errorf("data %+v", got.MetricDataResults)
	}
	listed := wiretest.Must[*sdk.ListMetricsOutput](t)(r.ListMetrics(ctx, &sdk.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: new("Site")}}}))
	if len(listed.Metrics) != 1 || *listed.Metrics[0].MetricName != "Orders" || *listed.Metrics[0].Dimensions[0].Value != "a" {
		t.Errorf("list %+v", listed.Metrics)
	}
}

func TestMetricsRefused(t *testing.T) {
	r := newRig(t)
	datum := func(f func(*types.MetricDatum)) error {
		d := types.MetricDatum{MetricName: new("m"), Value: new(1.0)}
		f(&d)
		return wiretest.Error(r.PutMetricData(ctx, &sdk.PutMetricDataInput{Namespace: new("n"), MetricData: []types.MetricDatum{d}}))
	}
	wiretest.Refused(t, wiretest.Error(r.PutMetricData(ctx, &sdk.PutMetricDataInput{Namespace: new("AWS/ECS"), MetricData: []types.MetricDatum{{MetricName: new("m"), Value: new(1.0)}}})),
		"InvalidParameterValue", "namespaces")
	wiretest.Refused(t, datum(func(d *types.MetricDatum) { d.Values = []float64{1} }), "InvalidParameterCombination", "mutually exclusive")
	wiretest.Refused(t, datum(func(d *types.MetricDatum) { d.Value = nil }), "InvalidParameterCombination", "0 of them")
	wiretest.Refused(t, datum(func(d *types.MetricDatum) { d.Timestamp = aws.Time(noon.Add(-15 * 24 * time.Hour)) }), "InvalidParameterValue", "two weeks")
	wiretest.Refused(t, datum(func(d *types.MetricDatum) { d.Unit = "Miles" }), "InvalidParameterValue", "Unit")
	wiretest.Refused(t, datum(func(d *types.MetricDatum) { d.StorageResolution = new(int32(5)) }), "InvalidParameterValue", "1 or 60")
	wiretest.Refused(t, datum(func(d *types.MetricDatum) { d.Dimensions = []types.Dimension{{Name: new("a"), Value: new("")}} }), "InvalidParameterValue", "Value")
	q := &sdk.GetMetricStatisticsInput{Namespace: new("n"), MetricName: new("m"), StartTime: aws.Time(noon.Add(-48 * time.Hour)), EndTime: &noon, Period: new(int32(60)), Statistics: []types.Statistic{"Sum"}}
	wiretest.Refused(t, wiretest.Error(r.GetMetricStatistics(ctx, q)), "InvalidParameterCombination", "exceeds the limit of 1440")
	q.Period = new(int32(7))
	wiretest.Refused(t, wiretest.Error(r.GetMetricStatistics(ctx, q)), "InvalidParameterValue", "multiple of 60")
	wiretest.Refused(t, wiretest.Error(r.GetMetricData(ctx, &sdk.GetMetricDataInput{StartTime: aws.Time(noon.Add(-time.Hour)), EndTime: &noon,
		MetricDataQueries: []types.MetricDataQuery{{Id: new("e1"), Expression: new("e2 + 1")}}})), "ValidationError", "no query with the id e2")
	wiretest.Refused(t, wiretest.Error(r.GetMetricData(ctx, &sdk.GetMetricDataInput{StartTime: aws.Time(noon.Add(-time.Hour)), EndTime: &noon,
		MetricDataQueries: []types.MetricDataQuery{{Id: new("e1"), Expression: new("e2")}, {Id: new("e2"), Expression: new("e1")}}})), "ValidationError", "refers to itself")
}

func (r *rig) alarm(name string, change ...func(*sdk.PutMetricAlarmInput)) {
	r.t.Helper()
	in := &sdk.PutMetricAlarmInput{AlarmName: &name, Namespace: new("shop"), MetricName: new("Orders"), Dimensions: []types.Dimension{{Name: new("Site"), Value: new("a")}}, Statistic: "Average",
		Period: new(int32(60)), EvaluationPeriods: new(int32(2)), Threshold: new(50.0), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold,
		AlarmActions: []string{"arn:berth:webhook:::http://127.0.0.1:1/x"}, Tags: []types.Tag{{Key: new("team"), Value: new("x")}}}
	for _, f := range change {
		f(in)
	}
	if _, err := r.PutMetricAlarm(ctx, in); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) look() {
	r.t.Helper()
	if err := r.judge.Look(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) state(name string) types.MetricAlarm {
	r.t.Helper()
	out, err := r.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{AlarmNames: []string{name}})
	if err != nil || len(out.MetricAlarms) != 1 {
		r.t.Fatalf("%v, %+v", err, out)
	}
	return out.MetricAlarms[0]
}

// TestAlarmLives: from its creation over ALARM to OK, with history, action and message; a composite alarm follows.
func TestAlarmLives(t *testing.T) {
	r := newRig(t)
	r.alarm("hot")
	if a := r.state("hot"); a.StateValue != "INSUFFICIENT_DATA" || *a.StateReason != "Unchecked: Initial alarm creation" || !*a.ActionsEnabled || *a.AlarmArn != "arn:aws:cloudwatch:us-east-1:000000000000:alarm:hot" {
		t.Errorf("new %+v", a)
	}
	if _, err := r.PutCompositeAlarm(ctx, &sdk.PutCompositeAlarmInput{AlarmName: new("both"), AlarmRule: new(`ALARM("hot") AND NOT FALSE`)}); err != nil {
		t.Fatal(err)
	}
	r.put(100, noon.Add(-time.Minute))
	r.put(100, noon.Add(-2*time.Minute))
	r.look()
	a := r.state("hot")
	if a.StateValue != "ALARM" || !strings.HasPrefix(*a.StateReason, "Threshold Crossed: 2 out of the last 2 datapoints [100.0 (21/11/26 11:59:00), 100.0 (21/11/26 11:58:00)] were greater than") || !json.Valid([]byte(*a.StateReasonData)) {
		t.Errorf("then %s %s", a.StateValue, *a.StateReason)
	}
	out, err := r.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}, ChildrenOfAlarmName: nil})
	if err != nil || len(out.CompositeAlarms) != 1 || out.CompositeAlarms[0].StateValue != "ALARM" || !strings.Contains(*out.CompositeAlarms[0].StateReason, ":alarm:hot transitioned to ALARM at Saturday 21 November, 2026") {
		t.Errorf("composite %v %+v", err, out)
	}
	var sent []*model.Delivery
	r.store.View(func(v store.Reader) {
		for d := range store.Outbox.Scan(v, "") {
			sent = append(sent, d)
		}
	})
	var message struct {
		AlarmName, NewStateValue, OldStateValue string
		Trigger                                 struct {
			MetricName, Statistic string
			Period                int
			Dimensions            []struct{ Name, Value string }
		}
	}
	if len(sent) != 1 || json.Unmarshal([]byte(sent[0].Body), &message) != nil || message.NewStateValue != "ALARM" || message.Trigger.Statistic != "AVERAGE" || message.Trigger.Dimensions[0].Value != "a" {
		t.Errorf("sent %+v, %+v", sent, message)
	}
	r.put(1, noon)
	r.now = noon.Add(time.Minute)
	r.look()
	if a := r.state("hot"); a.StateValue != "OK" || !strings.Contains(*a.StateReason, "was not greater than the threshold (50.0) (minimum 1 datapoint for ALARM -> OK transition)") {
		t.Errorf("at last %s %s", a.StateValue, *a.StateReason)
	}
	h := wiretest.Must[*sdk.DescribeAlarmHistoryOutput](t)(r.DescribeAlarmHistory(ctx, &sdk.DescribeAlarmHistoryInput{AlarmName: new("hot")}))
	var items []string
	for _, i := range h.AlarmHistoryItems {
		items = append(items, *i.HistorySummary)
	}
	if got := strings.Join(items, "; "); got != `Alarm updated from ALARM to OK; Successfully executed action arn:berth:webhook:::http://127.0.0.1:1/x; Alarm updated from INSUFFICIENT_DATA to ALARM; Alarm "hot" created` {
		t.Errorf("history %s", got)
	}
}

func TestAlarmsAreManaged(t *testing.T) {
	r := newRig(t)
	r.alarm("a")
	r.alarm("b", func(in *sdk.PutMetricAlarmInput) {
		in.MetricName = new("Other")
		in.TreatMissingData = new("notBreaching")
	})
	tags := wiretest.Must[*sdk.ListTagsForResourceOutput](t)(r.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: r.state("a").AlarmArn}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Value != "x" {
		t.Errorf("tags %+v", tags.Tags)
	}
	if _, err := r.SetAlarmState(ctx, &sdk.SetAlarmStateInput{AlarmName: new("a"), StateValue: "ALARM", StateReason: new("a test")}); err != nil {
		t.Fatal(err)
	}
	if a := r.state("a"); a.StateValue != "ALARM" || *a.StateReason != "a test" {
		t.Errorf("set %+v", a)
	}
	r.alarm("a", func(in *sdk.PutMetricAlarmInput) { in.Threshold = new(60.0) })
	if a := r.state("a"); a.StateValue != "ALARM" || *a.Threshold != 60 {
		t.Errorf("changed %+v", a)
	}
	r.look()
	if a := r.state("a"); a.StateValue != "INSUFFICIENT_DATA" || *a.StateReason != "Insufficient Data: 2 datapoints were unknown." {
		t.Errorf("looked at %+v %s", a.StateValue, *a.StateReason)
	}
	if a := r.state("b"); a.StateValue != "OK" || *a.StateReason != "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [NonBreaching]." {
		t.Errorf("b %s %s", a.StateValue, *a.StateReason)
	}
	of := wiretest.Must[*sdk.DescribeAlarmsForMetricOutput](t)(r.DescribeAlarmsForMetric(ctx, &sdk.DescribeAlarmsForMetricInput{Namespace: new("shop"), MetricName: new("Other"),
		Dimensions: []types.Dimension{{Name: new("Site"), Value: new("a")}}}))
	if len(of.MetricAlarms) != 1 || *of.MetricAlarms[0].AlarmName != "b" {
		t.Errorf("of the metric %+v", of.MetricAlarms)
	}
	if _, err := r.DisableAlarmActions(ctx, &sdk.DisableAlarmActionsInput{AlarmNames: []string{"a", "unknown"}}); err != nil || *r.state("a").ActionsEnabled {
		t.Errorf("disable: %v", err)
	}
	first := wiretest.Must[*sdk.DescribeAlarmsOutput](t)(r.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{MaxRecords: new(int32(1))}))
	second := wiretest.Must[*sdk.DescribeAlarmsOutput](t)(r.DescribeAlarms(ctx, &sdk.DescribeAlarmsInput{MaxRecords: new(int32(1)), NextToken: first.NextToken}))
	if *first.MetricAlarms[0].AlarmName != "a" || *second.MetricAlarms[0].AlarmName != "b" || second.NextToken != nil {
		t.Errorf("pages %+v, %+v", first, second)
	}
	if _, err := r.DeleteAlarms(ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"a", "unknown"}}); err != nil {
		t.Errorf("delete: %v", err)
	}
	wiretest.Refused(t, wiretest.Error(r.SetAlarmState(ctx, &sdk.SetAlarmStateInput{AlarmName: new("a"), StateValue: "OK", StateReason: new("")})), "ResourceNotFound", "")
	wiretest.Refused(t, wiretest.Error(r.PutMetricAlarm(ctx, &sdk.PutMetricAlarmInput{AlarmName: new("c"), ComparisonOperator: types.ComparisonOperatorGreaterThanUpperThreshold, EvaluationPeriods: new(int32(1))})),
		"InvalidParameterValue", "anomaly detection")
	wiretest.Refused(t, wiretest.Error(r.PutCompositeAlarm(ctx, &sdk.PutCompositeAlarmInput{AlarmName: new("c"), AlarmRule: new("ALARM(nobody)")})), "ValidationError", "existing alarms")
}

// TestMathAlarm: an alarm of an expression.
func TestMathAlarm(t *testing.T) {
	r := newRig(t)
	metric := &types.MetricStat{Metric: &types.Metric{Namespace: new("shop"), MetricName: new("Orders"), Dimensions: []types.Dimension{{Name: new("Site"), Value: new("a")}}}, Period: new(int32(60)), Stat: new("Sum")}
	r.alarm("math", func(in *sdk.PutMetricAlarmInput) {
		in.MetricName, in.Namespace, in.Dimensions, in.Period, in.Statistic, in.EvaluationPeriods = nil, nil, nil, nil, "", new(int32(1))
		in.Metrics = []types.MetricDataQuery{{Id: new("e1"), Expression: new("m1 / 2")}, {Id: new("m1"), MetricStat: metric, ReturnData: new(false)}}
	})
	r.put(110, noon.Add(-time.Minute))
	r.look()
	if a := r.state("math"); a.StateValue != "ALARM" || !strings.Contains(*a.StateReason, "[55.0 (21/11/26 11:59:00)] was greater") || len(a.Metrics) != 2 {
		t.Errorf("%s %s", a.StateValue, *a.StateReason)
	}
}
