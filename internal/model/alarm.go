package model

import (
	"fmt"
	"math"
	"time"

	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// Alarm is a CloudWatch alarm: of a metric (Metric) or of other alarms (Composite).
type Alarm struct {
	// ---- What was asked. Written by the API (api/cloudwatch); by api/autoscaling for the alarms of policies, whose periods serve/scaling fits. ----
	Name      string
	ARN       string
	Metric    *MetricAlarm            `json:",omitempty"`
	Composite *cwtypes.CompositeAlarm `json:",omitempty"` // as it was put: without its state
	Tags      []cwtypes.Tag           `json:",omitempty"`
	UpdatedAt time.Time
	// Policy is the ARN of the scaling policy that the alarm belongs to, "" for others.
	Policy string `json:",omitempty"`

	// ---- Its state. Written by serve/alarms, which SetAlarmState asks too. ----
	State      string
	Reason     string
	ReasonData string    `json:",omitempty"`
	StateAt    time.Time // of State and Reason
	ChangedAt  time.Time // when State became another
	Seq        int64     // of the newest AlarmEvent
}

// MetricAlarm is an alarm of a metric as it was put. Statistics, or a statistic of a percentile, or Metrics say what is compared.
type MetricAlarm struct {
	ActionsEnabled                                   *bool
	AlarmActions, OKActions, InsufficientDataActions []string
	Description                                      *string
	Comparison                                       cwtypes.ComparisonOperator
	DatapointsToAlarm, EvaluationPeriods, Period     *int32
	Dimensions                                       []cwtypes.Dimension
	EvaluateLowSampleCountPercentile                 *string
	ExtendedStatistic                                *string
	Statistic                                        cwtypes.Statistic
	Namespace, MetricName                            *string
	Metrics                                          []cwtypes.MetricDataQuery
	Threshold                                        *float64
	TreatMissingData                                 *string
	Unit                                             cwtypes.StandardUnit
}

// Key is the name.
func (a *Alarm) Key() string { return a.Name }

// ActionsEnabled tells whether the alarm acts.
func (a *Alarm) ActionsEnabled() bool {
	on := (*bool)(nil)
	switch {
	case a.Metric != nil:
		on = a.Metric.ActionsEnabled
	case a.Composite != nil:
		on = a.Composite.ActionsEnabled
	}
	return on == nil || *on
}

// Actions are the ARNs that are told when the alarm gets into a state.
func (a *Alarm) Actions(state string) []string {
	var ok, alarm, unknown []string
	switch {
	case a.Metric != nil:
		ok, alarm, unknown = a.Metric.OKActions, a.Metric.AlarmActions, a.Metric.InsufficientDataActions
	case a.Composite != nil:
		ok, alarm, unknown = a.Composite.OKActions, a.Composite.AlarmActions, a.Composite.InsufficientDataActions
	}
	switch state {
	case "OK":
		return ok
	case "ALARM":
		return alarm
	}
	return unknown
}

// AlarmEvent is an entry of an alarm's history. Written with the alarm, which keeps the newest KeepAlarmEvents.
type AlarmEvent struct {
	Alarm   string
	Seq     int64
	At      time.Time
	Kind    string // a HistoryItemType
	Summary string
	Data    string `json:",omitempty"`
}

// KeepAlarmEvents is how many entries of an alarm's history are kept.
const KeepAlarmEvents = 100

// Key is <alarm>/<digits>, so that the newest entry comes first. Names of alarms may hold slashes: what comes after the last one is digits.
func (e *AlarmEvent) Key() string { return AlarmEventKey(e.Alarm, e.Seq) }

// AlarmEventKey is the key of an alarm's history entry.
func AlarmEventKey(alarm string, seq int64) string {
	return fmt.Sprintf("%s\x00%019d", alarm, math.MaxInt64-seq)
}

// AlarmEventPrefix is what the keys of an alarm's history begin with.
func AlarmEventPrefix(alarm string) string { return alarm + "\x00" }
