package cloudwatch

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/alarm"
	"github.com/berthdev/berth/internal/serve/metrics/data"
	"github.com/berthdev/berth/internal/store"
)

// AWS's bounds of alarms, and how many Berth judges.
const (
	maxAlarms      = 5000
	maxActions     = 5
	alarmPage      = 100
	longestWatched = 7 * 24 * time.Hour
)

var comparisons = []types.ComparisonOperator{types.ComparisonOperatorGreaterThanThreshold, types.ComparisonOperatorGreaterThanOrEqualToThreshold,
	types.ComparisonOperatorLessThanThreshold, types.ComparisonOperatorLessThanOrEqualToThreshold}

func (a *api) putMetricAlarm(ctx context.Context, in *sdk.PutMetricAlarmInput) (*sdk.PutMetricAlarmOutput, error) {
	m, err := metricAlarm(in)
	if err == nil {
		err = checkTags(in.Tags)
	}
	if err != nil {
		return nil, err
	}
	return &sdk.PutMetricAlarmOutput{}, a.put(ctx, deref(in.AlarmName), in.Tags, func(row *model.Alarm) { row.Metric = m })
}

// metricAlarm checks what is asked of an alarm.
func metricAlarm(in *sdk.PutMetricAlarmInput) (*model.MetricAlarm, error) {
	if err := checkAlarm(in.AlarmName, in.AlarmDescription, in.OKActions, in.AlarmActions, in.InsufficientDataActions); err != nil {
		return nil, err
	}
	n, m := deref(in.EvaluationPeriods), in.DatapointsToAlarm
	switch {
	case in.EvaluationCriteria != nil || in.EvaluationInterval != nil || in.EvaluationWindow != nil || in.WarmUpConfiguration != nil:
		return nil, invalid("Berth judges alarms of metrics and of math over them, not of PromQL: EvaluationCriteria, EvaluationInterval, EvaluationWindow and WarmUpConfiguration are not supported.")
	case in.ThresholdMetricId != nil || in.ComparisonOperator != "" && !slices.Contains(comparisons, in.ComparisonOperator) && slices.Contains(in.ComparisonOperator.Values(), in.ComparisonOperator):
		return nil, invalid("Berth has no anomaly detection: ThresholdMetricId and %s are not supported.", in.ComparisonOperator)
	case in.ComparisonOperator == "":
		return nil, missing("ComparisonOperator")
	case !slices.Contains(comparisons, in.ComparisonOperator):
		return nil, invalid("The value %.60s for parameter ComparisonOperator is invalid.", in.ComparisonOperator)
	case in.Threshold == nil:
		return nil, missing("Threshold")
	case n < 1:
		return nil, invalid("The parameter EvaluationPeriods must be greater than or equal to 1.")
	case m != nil && (*m < 1 || *m > n):
		return nil, invalid("The parameter DatapointsToAlarm must be at least 1 and at most EvaluationPeriods.")
	}
	if t := in.TreatMissingData; t != nil && !slices.Contains([]string{alarm.Missing, alarm.Ignore, alarm.Breaching, alarm.NotBreaching}, *t) {
		return nil, invalid("The value %.40s for parameter TreatMissingData is invalid.", *t)
	}
	if e := in.EvaluateLowSampleCountPercentile; e != nil && *e != "evaluate" && *e != "ignore" {
		return nil, invalid("The value %.40s for parameter EvaluateLowSampleCountPercentile is invalid.", *e)
	}
	row := &model.MetricAlarm{ActionsEnabled: in.ActionsEnabled, AlarmActions: in.AlarmActions, OKActions: in.OKActions,
		InsufficientDataActions: in.InsufficientDataActions, Description: in.AlarmDescription, Comparison: in.ComparisonOperator,
		DatapointsToAlarm: m, EvaluationPeriods: in.EvaluationPeriods, Period: in.Period, Dimensions: in.Dimensions,
		EvaluateLowSampleCountPercentile: in.EvaluateLowSampleCountPercentile, ExtendedStatistic: in.ExtendedStatistic, Statistic: in.Statistic,
		Namespace: in.Namespace, MetricName: in.MetricName, Metrics: in.Metrics, Threshold: in.Threshold, TreatMissingData: in.TreatMissingData, Unit: in.Unit}
	period, err := checkWatched(row)
	if err != nil {
		return nil, err
	}
	if time.Duration(period)*time.Second*time.Duration(n) > longestWatched {
		return nil, invalid("Metrics cannot be checked across more than seven days: Period times EvaluationPeriods is longer.")
	}
	return row, nil
}

// checkWatched checks what an alarm compares and returns its period in seconds.
func checkWatched(m *model.MetricAlarm) (int32, error) {
	if len(m.Metrics) > 0 {
		if m.MetricName != nil || m.Namespace != nil || len(m.Dimensions) > 0 || m.Period != nil || m.Statistic != "" || m.ExtendedStatistic != nil || m.Unit != "" {
			return 0, conflicting("The parameters Metrics and MetricName, Namespace, Dimensions, Period, Unit, Statistic and ExtendedStatistic are mutually exclusive.")
		}
		if len(m.Metrics) > 20 {
			return 0, invalid("The collection Metrics must not have a size greater than 20.")
		}
		if err := data.Check(m.Metrics); err != nil {
			return 0, err
		}
		period, returned := int32(0), 0
		for _, q := range m.Metrics {
			if q.ReturnData == nil || *q.ReturnData {
				returned++
			}
			if q.MetricStat != nil {
				period = max(period, *q.MetricStat.Period)
			}
		}
		switch {
		case returned != 1:
			return 0, refuse("Exactly one element of the metrics list should return data.")
		case period == 0:
			return 0, refuse("The metrics list must hold at least one metric.")
		}
		return period, nil
	}
	d, err := dimensions(m.Dimensions, "Dimensions")
	_ = d
	period := deref(m.Period)
	switch {
	case err != nil:
		return 0, err
	case deref(m.MetricName) == "":
		return 0, missing("MetricName")
	case deref(m.Namespace) == "":
		return 0, missing("Namespace")
	case (m.Statistic == "") == (m.ExtendedStatistic == nil):
		return 0, conflicting("Exactly one of the parameters Statistic and ExtendedStatistic must be specified.")
	case !data.ValidPeriod(period) || period == 1 || period == 5:
		return 0, invalid("The parameter Period must be 10, 20, 30, or any multiple of 60.")
	case m.Unit != "" && !slices.Contains(m.Unit.Values(), m.Unit):
		return 0, invalid("The value %.40s for parameter Unit is invalid.", m.Unit)
	case !data.ValidStat(string(m.Statistic) + deref(m.ExtendedStatistic)):
		return 0, invalid("The value %.40s for parameter Statistic or ExtendedStatistic is not supported.", string(m.Statistic)+deref(m.ExtendedStatistic))
	}
	return period, nil
}

func checkAlarm(name, description *string, actions ...[]string) error {
	switch {
	case deref(name) == "":
		return missing("AlarmName")
	case len(*name) > 255 || strings.ContainsFunc(*name, func(r rune) bool { return r < ' ' }):
		return invalid("The parameter AlarmName must have 1 to 255 characters.")
	case len(deref(description)) > 1024:
		return invalid("The parameter AlarmDescription must have at most 1024 characters.")
	}
	for _, list := range actions {
		if len(list) > maxActions {
			return invalid("The collection of actions must not have a size greater than %d.", maxActions)
		}
		for _, arn := range list {
			if !strings.HasPrefix(arn, "arn:") || len(arn) > 1024 {
				return invalid("Invalid arn syntax: %.100s", arn)
			}
		}
	}
	return nil
}

// put makes or changes an alarm. Its state stays as it is.
func (a *api) put(ctx context.Context, name string, tags []types.Tag, set func(*model.Alarm)) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		now := a.Now()
		next := &model.Alarm{Name: name, ARN: a.alarmARN(name), Tags: tags, State: string(alarm.Insufficient), Reason: "Unchecked: Initial alarm creation", StateAt: now, ChangedAt: now}
		what := "created"
		if old, ok := store.Alarms.Get(tx, name); ok {
			copied := *old
			next, what = &copied, "updated"
			if old.Policy != "" {
				return invalid("The alarm %s belongs to the scaling policy %s and is changed with it.", name, old.Policy)
			}
		} else if count(tx) >= maxAlarms {
			return &types.LimitExceededFault{Message: new("The maximum limit of 5000 alarms would be exceeded.")}
		}
		was := next.Metric != nil
		set(next)
		if what == "updated" && was == (next.Composite != nil) {
			return invalid("An alarm with the name %s exists and is of another type.", name)
		}
		next.UpdatedAt, next.Seq = now, next.Seq+1
		store.Alarms.Put(tx, next)
		store.AlarmEvents.Put(tx, &model.AlarmEvent{Alarm: name, Seq: next.Seq, At: now, Kind: string(types.HistoryItemTypeConfigurationUpdate),
			Summary: `Alarm "` + name + `" ` + what, Data: historyData(map[string]any{"version": "1.0", "type": strings.TrimSuffix(what, "d")})})
		return nil
	})
}

func historyData(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func count(r store.Reader) (n int) {
	for range store.Alarms.Scan(r, "") {
		n++
	}
	return n
}

func (a *api) deleteAlarms(ctx context.Context, in *sdk.DeleteAlarmsInput) (*sdk.DeleteAlarmsOutput, error) {
	if len(in.AlarmNames) > 100 {
		return nil, refuse("The collection AlarmNames must not have a size greater than 100.")
	}
	return &sdk.DeleteAlarmsOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		for _, name := range in.AlarmNames {
			if _, ok := store.Alarms.Get(tx, name); !ok {
				continue // as on AWS
			}
			store.Alarms.Delete(tx, name)
			for e := range store.AlarmEvents.Scan(tx, model.AlarmEventPrefix(name)) {
				store.AlarmEvents.Delete(tx, e.Key())
			}
		}
		return nil
	})
}

func (a *api) setAlarmState(ctx context.Context, in *sdk.SetAlarmStateInput) (*sdk.SetAlarmStateOutput, error) {
	switch {
	case deref(in.AlarmName) == "":
		return nil, missing("AlarmName")
	case in.StateReason == nil:
		return nil, missing("StateReason")
	case !slices.Contains(in.StateValue.Values(), in.StateValue):
		return nil, invalid("The value %.40s for parameter StateValue is invalid.", in.StateValue)
	case len(*in.StateReason) > 1023:
		return nil, invalid("The parameter StateReason must have at most 1023 characters.")
	case in.StateReasonData != nil && (len(*in.StateReasonData) > 4000 || !json.Valid([]byte(*in.StateReasonData))):
		return nil, &types.InvalidFormatFault{Message: new("TopLevelStateReasonData was not syntactically valid JSON")}
	}
	return &sdk.SetAlarmStateOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		row, ok := store.Alarms.Get(tx, *in.AlarmName)
		if !ok {
			return &types.ResourceNotFound{Message: new("Could not find alarm with name " + *in.AlarmName)}
		}
		a.Transit(tx, row, string(in.StateValue), *in.StateReason, deref(in.StateReasonData))
		return nil
	})
}

func (a *api) enableAlarmActions(ctx context.Context, in *sdk.EnableAlarmActionsInput) (*sdk.EnableAlarmActionsOutput, error) {
	return &sdk.EnableAlarmActionsOutput{}, a.switchActions(ctx, in.AlarmNames, true)
}

func (a *api) disableAlarmActions(ctx context.Context, in *sdk.DisableAlarmActionsInput) (*sdk.DisableAlarmActionsOutput, error) {
	return &sdk.DisableAlarmActionsOutput{}, a.switchActions(ctx, in.AlarmNames, false)
}

func (a *api) switchActions(ctx context.Context, names []string, on bool) error {
	if len(names) > 100 {
		return refuse("The collection AlarmNames must not have a size greater than 100.")
	}
	return a.Store.Update(ctx, func(tx store.Tx) error {
		for _, name := range names {
			old, ok := store.Alarms.Get(tx, name)
			if !ok {
				continue
			}
			next := *old
			if old.Metric != nil {
				m := *old.Metric
				m.ActionsEnabled, next.Metric = &on, &m
			} else {
				c := *old.Composite
				c.ActionsEnabled, next.Composite = &on, &c
			}
			store.Alarms.Put(tx, &next)
		}
		return nil
	})
}

// checkTags validates the tags of one request.
func checkTags(tags []types.Tag) error {
	if len(tags) > 50 {
		return invalid("A resource has at most 50 tags.")
	}
	for _, t := range tags {
		if k := deref(t.Key); k == "" || len(k) > 128 || strings.HasPrefix(k, "aws:") || len(deref(t.Value)) > 256 {
			return invalid("The tag %.60q is invalid: a key has 1 to 128 characters and does not begin with aws:, a value at most 256.", k)
		}
	}
	return nil
}

// tagged changes the tags of the alarm with an ARN.
func (a *api) tagged(ctx context.Context, arn *string, change func([]types.Tag) ([]types.Tag, error)) error {
	name, err := a.alarmName(deref(arn))
	if err != nil {
		return err
	}
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Alarms.Get(tx, name)
		if !ok {
			return noResource(*arn)
		}
		next := *old
		if next.Tags, err = change(slices.Clone(old.Tags)); err != nil {
			return err
		}
		store.Alarms.Put(tx, &next)
		return nil
	})
}

func noResource(arn string) error {
	return &types.ResourceNotFoundException{Message: new("Unknown: " + arn), ResourceType: new("alarm"), ResourceId: new(arn)}
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &sdk.TagResourceOutput{}, a.tagged(ctx, in.ResourceARN, func(all []types.Tag) ([]types.Tag, error) {
		for _, t := range in.Tags {
			all = slices.DeleteFunc(all, func(o types.Tag) bool { return deref(o.Key) == deref(t.Key) })
			all = append(all, t)
		}
		return all, checkTags(all)
	})
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.tagged(ctx, in.ResourceARN, func(all []types.Tag) ([]types.Tag, error) {
		return slices.DeleteFunc(all, func(o types.Tag) bool { return slices.Contains(in.TagKeys, deref(o.Key)) }), nil
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	name, err := a.alarmName(deref(in.ResourceARN))
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsForResourceOutput{Tags: []types.Tag{}}
	a.Store.View(func(r store.Reader) {
		row, ok := store.Alarms.Get(r, name)
		if !ok {
			err = noResource(*in.ResourceARN)
			return
		}
		out.Tags = append(out.Tags, row.Tags...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
