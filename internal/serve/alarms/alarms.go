// Package alarms judges CloudWatch's alarms: the leader reads their metrics, asks the planner, and stores what became of them, with their
// history and what is to be told of it, in one transaction.
package alarms

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/alarm"
	"github.com/berthdev/berth/internal/serve/metrics/data"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Judge judges the alarms of a region.
type Judge struct {
	Store  store.Store
	Series data.Reader
	Scope  model.Scope
	// Act tells an action's ARN of a transition, in its transaction; the error goes into the alarm's history.
	Act func(tx store.Tx, arn string, n Notice) error
	// Changed, which may be nil, is told of each transition in its transaction.
	Changed func(tx store.Tx, n Notice)
	Now     func() time.Time
	Log     *slog.Logger

	due map[string]time.Time // when an alarm is judged next
}

// Notice is a transition as actions are told of it.
type Notice struct {
	Alarm    *model.Alarm // as it is now
	Old, New string
	At       time.Time
	// Subject and Message are those of SNS.
	Subject, Message string
}

// Transit brings an alarm to a state: its row, its history and its actions.
func (j *Judge) Transit(tx store.Tx, a *model.Alarm, state, reason, reasonData string) {
	now := j.Now()
	next := *a
	next.State, next.Reason, next.ReasonData, next.StateAt = state, reason, reasonData, now
	if state == a.State { // SetAlarmState to what it is
		store.Alarms.Put(tx, &next)
		return
	}
	next.ChangedAt = now
	type part struct {
		Value  string          `json:"stateValue"`
		Reason string          `json:"stateReason"`
		Data   json.RawMessage `json:"stateReasonData,omitempty"`
	}
	raw := func(s string) json.RawMessage {
		if s == "" || !json.Valid([]byte(s)) {
			return nil
		}
		return json.RawMessage(s)
	}
	j.note(tx, &next, types.HistoryItemTypeStateUpdate, fmt.Sprintf("Alarm updated from %s to %s", a.State, state), map[string]any{"version": "1.0",
		"oldState": part{a.State, a.Reason, raw(a.ReasonData)}, "newState": part{state, reason, raw(reasonData)}})
	n := Notice{Alarm: &next, Old: a.State, New: state, At: now}
	n.Subject, n.Message = j.subject(n), j.message(n)
	if next.ActionsEnabled() {
		for _, arn := range next.Actions(state) {
			summary := "Successfully executed action " + arn
			if err := j.Act(tx, arn, n); err != nil {
				summary = fmt.Sprintf("Failed to execute action %s. Received error: %q", arn, err.Error())
			}
			j.note(tx, &next, types.HistoryItemTypeAction, summary, map[string]any{"actionState": strings.Fields(summary)[0], "stateUpdateTimestamp": now.UnixMilli(),
				"notificationResource": arn})
		}
	}
	store.Alarms.Put(tx, &next)
	if j.Changed != nil {
		j.Changed(tx, n)
	}
}

// note adds an entry to an alarm's history and drops the oldest.
func (j *Judge) note(tx store.Tx, a *model.Alarm, kind types.HistoryItemType, summary string, v any) {
	a.Seq++
	b, err := json.Marshal(v)
	if err != nil {
		b = nil
	}
	store.AlarmEvents.Put(tx, &model.AlarmEvent{Alarm: a.Name, Seq: a.Seq, At: j.Now(), Kind: string(kind), Summary: summary, Data: string(b)})
	store.AlarmEvents.Delete(tx, model.AlarmEventKey(a.Name, a.Seq-model.KeepAlarmEvents))
}

// Run judges alarms until ctx is done: run it on the leader.
func (j *Judge) Run(ctx context.Context) error {
	j.due = map[string]time.Time{}
	tick := time.NewTicker(timeouts.AlarmOften)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := j.Look(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// change is a verdict that is to be stored.
type change struct {
	name, was           string
	state, reason, data string
	updated             time.Time
}

// Look judges the alarms that are due. Errors: those of the store.
func (j *Judge) Look(ctx context.Context) error {
	var metric, composite []*model.Alarm
	j.Store.View(func(r store.Reader) {
		for a := range store.Alarms.Scan(r, "") {
			if a.Composite != nil {
				composite = append(composite, a)
			} else if a.Metric != nil {
				metric = append(metric, a)
			}
		}
	})
	if j.due == nil {
		j.due = map[string]time.Time{}
	}
	now := j.Now()
	var changes []change
	due := make(map[string]time.Time, len(metric))
	for _, a := range metric {
		at := j.due[a.Name]
		if !at.IsZero() && now.Before(at) && at.Sub(now) <= timeouts.AlarmLook {
			due[a.Name] = at
			continue
		}
		rule := RuleOf(a.Metric)
		due[a.Name] = now.Add(timeouts.AlarmLook)
		if rule.Period < time.Minute {
			due[a.Name] = now.Add(timeouts.AlarmOften)
		}
		v, changed, err := j.judge(ctx, a, rule, now)
		if err != nil {
			if ctx.Err() == nil {
				j.Log.Warn("an alarm cannot be judged", "alarm", a.Name, "error", err)
			}
			continue
		}
		if changed {
			changes = append(changes, change{a.Name, a.State, string(v.State), v.Reason, v.Data, a.UpdatedAt})
		}
	}
	j.due = due
	if err := j.store(ctx, changes); err != nil || len(composite) == 0 {
		return err
	}
	return j.store(ctx, j.composites(composite, now))
}

// RuleOf is what the planner needs of an alarm.
func RuleOf(m *model.MetricAlarm) alarm.Rule {
	r := alarm.Rule{Comparison: string(m.Comparison), Threshold: deref(m.Threshold), Periods: int(deref(m.EvaluationPeriods)), Datapoints: int(deref(m.DatapointsToAlarm)),
		Treat: alarm.Missing, Period: time.Duration(deref(m.Period)) * time.Second, Statistic: string(m.Statistic) + deref(m.ExtendedStatistic), Unit: string(m.Unit)}
	if m.TreatMissingData != nil {
		r.Treat = *m.TreatMissingData
	}
	for _, q := range m.Metrics {
		if q.MetricStat != nil {
			r.Period = max(r.Period, time.Duration(deref(q.MetricStat.Period))*time.Second)
		}
	}
	return r
}

// Queries are what an alarm reads.
func Queries(m *model.MetricAlarm) []types.MetricDataQuery {
	if len(m.Metrics) > 0 {
		return m.Metrics
	}
	stat := string(m.Statistic) + deref(m.ExtendedStatistic)
	return []types.MetricDataQuery{{Id: new("m1"), MetricStat: &types.MetricStat{Metric: &types.Metric{Namespace: m.Namespace, MetricName: m.MetricName, Dimensions: m.Dimensions},
		Period: m.Period, Stat: &stat, Unit: m.Unit}}}
}

func (j *Judge) judge(ctx context.Context, a *model.Alarm, rule alarm.Rule, now time.Time) (v alarm.Verdict, changed bool, err error) {
	if rule.Period <= 0 || rule.Periods <= 0 {
		return v, false, nil
	}
	from, to := rule.Range(now)
	all, err := data.Get(ctx, j.Series, Queries(a.Metric), from, to)
	if err != nil {
		return v, false, err
	}
	var points []alarm.Point
	for _, r := range all {
		if !r.Return {
			continue
		}
		for i, at := range r.Times {
			p := alarm.Point{At: at, Value: r.Values[i], Count: 1}
			if r.Counts != nil {
				p.Count = r.Counts[i]
			}
			points = append(points, p)
		}
	}
	v, changed = rule.Judge(now, points, alarm.State(a.State))
	return v, changed, nil
}

// store stores verdicts, each unless its alarm was changed meanwhile.
func (j *Judge) store(ctx context.Context, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	return j.Store.Update(ctx, func(tx store.Tx) error {
		for _, c := range changes {
			if a, ok := store.Alarms.Get(tx, c.name); ok && a.State == c.was && a.UpdatedAt.Equal(c.updated) {
				j.Transit(tx, a, c.state, c.reason, c.data)
			}
		}
		return nil
	})
}

// composites judges the alarms of alarms, each on the states that are stored; one of another one follows a moment later.
func (j *Judge) composites(all []*model.Alarm, now time.Time) (changes []change) {
	j.Store.View(func(r store.Reader) {
		for _, a := range all {
			rule, err := alarm.ParseRule(deref(a.Composite.AlarmRule))
			if err != nil {
				continue
			}
			var newest *model.Alarm
			state := rule.State(func(name string) alarm.State {
				if _, n, ok := strings.Cut(name, ":alarm:"); ok && strings.HasPrefix(name, "arn:") {
					name = n
				}
				child, ok := store.Alarms.Get(r, name)
				if !ok {
					return ""
				}
				if newest == nil || child.ChangedAt.After(newest.ChangedAt) {
					newest = child
				}
				return alarm.State(child.State)
			})
			if string(state) == a.State {
				continue
			}
			reason := "The alarm's rule " + string(state)
			if newest != nil {
				reason = fmt.Sprintf("%s transitioned to %s at %s", newest.ARN, newest.State, newest.ChangedAt.UTC().Format("Monday 02 January, 2006 15:04:05 MST"))
			}
			changes = append(changes, change{a.Name, a.State, string(state), reason, "", a.UpdatedAt})
		}
	})
	return changes
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
