package alarms

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

func (j *Judge) subject(n Notice) string {
	s := fmt.Sprintf("%s: %q in %s", n.New, n.Alarm.Name, j.Scope.Region)
	if len(s) > 100 {
		s = s[:100]
	}
	return s
}

// message is what SNS sends of an alarm.
func (j *Judge) message(n Notice) string {
	a := n.Alarm
	type dimension struct {
		Value string `json:"value"`
		Name  string `json:"name"`
	}
	out := map[string]any{"AlarmName": a.Name, "AlarmDescription": nil, "AWSAccountId": j.Scope.Account, "NewStateValue": n.New, "NewStateReason": a.Reason,
		"AlarmConfigurationUpdatedTimestamp": a.UpdatedAt.UTC().Format(dateForm), "StateChangeTime": n.At.UTC().Format(dateForm), "Region": j.Scope.Region,
		"AlarmArn": a.ARN, "OldStateValue": n.Old, "OKActions": names(a.Actions("OK")), "AlarmActions": names(a.Actions("ALARM")),
		"InsufficientDataActions": names(a.Actions("INSUFFICIENT_DATA"))}
	if c := a.Composite; c != nil {
		out["AlarmDescription"], out["AlarmRule"] = c.AlarmDescription, c.AlarmRule
	}
	if m := a.Metric; m != nil {
		out["AlarmDescription"] = m.Description
		trigger := map[string]any{"Period": m.Period, "EvaluationPeriods": m.EvaluationPeriods, "ComparisonOperator": m.Comparison, "Threshold": m.Threshold,
			"TreatMissingData": deref(m.TreatMissingData), "EvaluateLowSampleCountPercentile": deref(m.EvaluateLowSampleCountPercentile)}
		if m.DatapointsToAlarm != nil {
			trigger["DatapointsToAlarm"] = *m.DatapointsToAlarm
		}
		if len(m.Metrics) > 0 {
			trigger["Metrics"] = m.Metrics
		} else {
			dimensions := []dimension{}
			for _, d := range m.Dimensions {
				dimensions = append(dimensions, dimension{deref(d.Value), deref(d.Name)})
			}
			trigger["MetricName"], trigger["Namespace"], trigger["Unit"], trigger["Dimensions"] = m.MetricName, m.Namespace, nil, dimensions
			if m.Unit != "" {
				trigger["Unit"] = m.Unit
			}
			trigger["StatisticType"], trigger["Statistic"] = "Statistic", statistics[m.Statistic]
			if m.ExtendedStatistic != nil {
				trigger["StatisticType"], trigger["ExtendedStatistic"] = "ExtendedStatistic", *m.ExtendedStatistic
				delete(trigger, "Statistic")
			}
		}
		out["Trigger"] = trigger
	}
	b, err := json.Marshal(out)
	if err != nil { // a threshold that is no number, which the API has refused
		return n.New
	}
	return string(b)
}

// dateForm is that of dates within messages.
const dateForm = "2006-01-02T15:04:05.000-0700"

var statistics = map[types.Statistic]string{types.StatisticAverage: "AVERAGE", types.StatisticSum: "SUM", types.StatisticMinimum: "MINIMUM", types.StatisticMaximum: "MAXIMUM",
	types.StatisticSampleCount: "SAMPLECOUNT"}

func names(all []string) []string { return append([]string{}, all...) }
