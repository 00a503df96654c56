package cloudwatch

import (
	"context"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/alarm"
	"github.com/berthdev/berth/internal/serve/metrics/data"
	"github.com/berthdev/berth/internal/store"
)

// shown is a metric alarm as clients see it.
func shown(a *model.Alarm) types.MetricAlarm {
	m := a.Metric
	v := types.MetricAlarm{AlarmName: new(a.Name), AlarmArn: new(a.ARN), AlarmDescription: m.Description, AlarmConfigurationUpdatedTimestamp: new(a.UpdatedAt),
		ActionsEnabled: new(a.ActionsEnabled()), OKActions: list(m.OKActions), AlarmActions: list(m.AlarmActions), InsufficientDataActions: list(m.InsufficientDataActions),
		StateValue: types.StateValue(a.State), StateReason: new(a.Reason), StateUpdatedTimestamp: new(a.StateAt), StateTransitionedTimestamp: new(a.ChangedAt),
		MetricName: m.MetricName, Namespace: m.Namespace, Statistic: m.Statistic, ExtendedStatistic: m.ExtendedStatistic, Dimensions: append([]types.Dimension{}, m.Dimensions...),
		Period: m.Period, Unit: m.Unit, EvaluationPeriods: m.EvaluationPeriods, DatapointsToAlarm: m.DatapointsToAlarm, Threshold: m.Threshold,
		ComparisonOperator: m.Comparison, TreatMissingData: m.TreatMissingData, EvaluateLowSampleCountPercentile: m.EvaluateLowSampleCountPercentile, Metrics: m.Metrics}
	if a.ReasonData != "" {
		v.StateReasonData = new(a.ReasonData)
	}
	return v
}

func shownComposite(a *model.Alarm) types.CompositeAlarm {
	v := *a.Composite
	v.AlarmName, v.AlarmArn, v.AlarmConfigurationUpdatedTimestamp, v.ActionsEnabled = new(a.Name), new(a.ARN), new(a.UpdatedAt), new(a.ActionsEnabled())
	v.StateValue, v.StateReason, v.StateUpdatedTimestamp, v.StateTransitionedTimestamp = types.StateValue(a.State), new(a.Reason), new(a.StateAt), new(a.ChangedAt)
	v.OKActions, v.AlarmActions, v.InsufficientDataActions = list(v.OKActions), list(v.AlarmActions), list(v.InsufficientDataActions)
	if a.ReasonData != "" {
		v.StateReasonData = new(a.ReasonData)
	}
	return v
}

func list(all []string) []string { return append([]string{}, all...) }

func (a *api) describeAlarms(_ context.Context, in *sdk.DescribeAlarmsInput) (*sdk.DescribeAlarmsOutput, error) {
	size := int(deref(in.MaxRecords))
	if in.MaxRecords == nil {
		size = alarmPage
	}
	switch {
	case size < 1 || size > alarmPage:
		return nil, invalid("The value %d for parameter MaxRecords is invalid: it is 1 to 100.", size)
	case len(in.AlarmNames) > 100:
		return nil, invalid("The collection AlarmNames must not have a size greater than 100.")
	case len(in.AlarmNames) > 0 && in.AlarmNamePrefix != nil:
		return nil, conflicting("The parameters AlarmNames and AlarmNamePrefix are mutually exclusive.")
	}
	wants := in.AlarmTypes
	if len(wants) == 0 {
		wants = []types.AlarmType{types.AlarmTypeMetricAlarm}
	}
	var found []*model.Alarm
	a.Store.View(func(r store.Reader) {
		var parents, children map[string]bool
		if in.ChildrenOfAlarmName != nil {
			children = childrenOf(r, *in.ChildrenOfAlarmName)
		}
		if in.ParentsOfAlarmName != nil {
			parents = parentsOf(r, *in.ParentsOfAlarmName)
		}
		for row := range store.Alarms.Scan(r, deref(in.AlarmNamePrefix)) {
			kind := types.AlarmTypeMetricAlarm
			if row.Composite != nil {
				kind = types.AlarmTypeCompositeAlarm
			}
			prefixed := in.ActionPrefix == nil
			for _, state := range []string{"OK", "ALARM", "INSUFFICIENT_DATA"} {
				prefixed = prefixed || slices.ContainsFunc(row.Actions(state), func(arn string) bool { return strings.HasPrefix(arn, *in.ActionPrefix) })
			}
			if !slices.Contains(wants, kind) || !prefixed || len(in.AlarmNames) > 0 && !slices.Contains(in.AlarmNames, row.Name) ||
				in.StateValue != "" && string(in.StateValue) != row.State || children != nil && !children[row.Name] || parents != nil && !parents[row.Name] {
				continue
			}
			found = append(found, row)
		}
	})
	found, next, err := page(found, func(r *model.Alarm) string { return r.Name }, in.NextToken, size)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeAlarmsOutput{MetricAlarms: []types.MetricAlarm{}, CompositeAlarms: []types.CompositeAlarm{}, NextToken: next}
	for _, row := range found {
		if row.Metric != nil {
			out.MetricAlarms = append(out.MetricAlarms, shown(row))
		} else {
			out.CompositeAlarms = append(out.CompositeAlarms, shownComposite(row))
		}
	}
	return out, nil
}

// childrenOf are the alarms that a composite alarm's rule names.
func childrenOf(r store.Reader, name string) map[string]bool {
	all := map[string]bool{}
	if row, ok := store.Alarms.Get(r, name); ok && row.Composite != nil {
		if rule, err := alarm.ParseRule(deref(row.Composite.AlarmRule)); err == nil {
			for _, n := range rule.Names() {
				all[baseName(n)] = true
			}
		}
	}
	return all
}

// parentsOf are the composite alarms whose rules name an alarm.
func parentsOf(r store.Reader, name string) map[string]bool {
	all := map[string]bool{}
	for row := range store.Alarms.Scan(r, "") {
		if row.Composite != nil && childrenOf(r, row.Name)[name] {
			all[row.Name] = true
		}
	}
	return all
}

// baseName is the name of an alarm that a rule names by its name or its ARN.
func baseName(n string) string {
	if strings.HasPrefix(n, "arn:") {
		if _, name, ok := strings.Cut(n, ":alarm:"); ok {
			return name
		}
	}
	return n
}

func (a *api) putCompositeAlarm(ctx context.Context, in *sdk.PutCompositeAlarmInput) (*sdk.PutCompositeAlarmOutput, error) {
	if err := checkAlarm(in.AlarmName, in.AlarmDescription, in.OKActions, in.AlarmActions, in.InsufficientDataActions); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if in.ActionsSuppressor != nil {
		return nil, invalid("Berth has no suppressors of actions yet: ActionsSuppressor is not supported.")
	}
	rule, err := alarm.ParseRule(deref(in.AlarmRule))
	if err != nil {
		return nil, refuse("AlarmRule must be a valid expression: %v", err)
	}
	a.Store.View(func(r store.Reader) {
		for _, n := range rule.Names() {
			if _, ok := store.Alarms.Get(r, baseName(n)); !ok && err == nil {
				err = refuse("AlarmRule must only refer to existing alarms: %.100s is none", n)
			}
			if baseName(n) == *in.AlarmName && err == nil {
				err = refuse("AlarmRule must not refer to the alarm itself.")
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutCompositeAlarmOutput{}, a.put(ctx, *in.AlarmName, in.Tags, func(row *model.Alarm) {
		row.Composite = &types.CompositeAlarm{ActionsEnabled: in.ActionsEnabled, AlarmActions: in.AlarmActions, AlarmDescription: in.AlarmDescription, AlarmRule: in.AlarmRule,
			InsufficientDataActions: in.InsufficientDataActions, OKActions: in.OKActions}
	})
}

func (a *api) describeAlarmsForMetric(_ context.Context, in *sdk.DescribeAlarmsForMetricInput) (*sdk.DescribeAlarmsForMetricOutput, error) {
	if in.MetricName == nil || in.Namespace == nil {
		return nil, missing("MetricName")
	}
	d := data.Dimensions(in.Dimensions)
	out := &sdk.DescribeAlarmsForMetricOutput{MetricAlarms: []types.MetricAlarm{}}
	a.Store.View(func(r store.Reader) {
		for row := range store.Alarms.Scan(r, "") {
			m := row.Metric
			if m == nil || deref(m.MetricName) != *in.MetricName || deref(m.Namespace) != *in.Namespace || !maps.Equal(data.Dimensions(m.Dimensions), d) ||
				in.Period != nil && deref(m.Period) != *in.Period || in.Statistic != "" && m.Statistic != in.Statistic ||
				in.ExtendedStatistic != nil && deref(m.ExtendedStatistic) != *in.ExtendedStatistic || in.Unit != "" && m.Unit != in.Unit {
				continue
			}
			out.MetricAlarms = append(out.MetricAlarms, shown(row))
		}
	})
	return out, nil
}

func (a *api) describeAlarmHistory(_ context.Context, in *sdk.DescribeAlarmHistoryInput) (*sdk.DescribeAlarmHistoryOutput, error) {
	size := int(deref(in.MaxRecords))
	if in.MaxRecords == nil {
		size = alarmPage
	}
	if size < 1 || size > alarmPage {
		return nil, invalid("The value %d for parameter MaxRecords is invalid: it is 1 to 100.", size)
	}
	var found []*model.AlarmEvent
	composite := map[string]bool{}
	a.Store.View(func(r store.Reader) {
		prefix := ""
		if in.AlarmName != nil {
			prefix = model.AlarmEventPrefix(*in.AlarmName)
		}
		for e := range store.AlarmEvents.Scan(r, prefix) {
			row, ok := store.Alarms.Get(r, e.Alarm)
			if !ok || in.HistoryItemType != "" && string(in.HistoryItemType) != e.Kind || in.StartDate != nil && e.At.Before(*in.StartDate) ||
				in.EndDate != nil && e.At.After(*in.EndDate) {
				continue
			}
			composite[e.Alarm] = row.Composite != nil
			if len(in.AlarmTypes) == 0 || slices.Contains(in.AlarmTypes, kindOf(row)) {
				found = append(found, e)
			}
		}
	})
	order := func(e *model.AlarmEvent) string { // newest first
		return model.AlarmEventKey("", e.At.UnixNano()) + e.Key()
	}
	if in.ScanBy == types.ScanByTimestampAscending {
		order = func(e *model.AlarmEvent) string { return model.AlarmEventKey("", 1<<63-1-e.At.UnixNano()) + e.Key() }
	}
	slices.SortFunc(found, func(x, y *model.AlarmEvent) int { return strings.Compare(order(x), order(y)) })
	found, next, err := page(found, order, in.NextToken, size)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeAlarmHistoryOutput{AlarmHistoryItems: []types.AlarmHistoryItem{}, NextToken: next}
	for _, e := range found {
		item := types.AlarmHistoryItem{AlarmName: new(e.Alarm), AlarmType: types.AlarmTypeMetricAlarm, Timestamp: new(e.At), HistoryItemType: types.HistoryItemType(e.Kind),
			HistorySummary: new(e.Summary), HistoryData: new(e.Data)}
		if composite[e.Alarm] {
			item.AlarmType = types.AlarmTypeCompositeAlarm
		}
		out.AlarmHistoryItems = append(out.AlarmHistoryItems, item)
	}
	return out, nil
}

func kindOf(row *model.Alarm) types.AlarmType {
	if row.Composite != nil {
		return types.AlarmTypeCompositeAlarm
	}
	return types.AlarmTypeMetricAlarm
}
