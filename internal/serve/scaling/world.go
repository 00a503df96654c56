package scaling

import (
	"context"
	"slices"
	"time"

	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/alarm"
	plan "github.com/berthdev/berth/internal/plan/scaling"
	"github.com/berthdev/berth/internal/plan/schedule"
	"github.com/berthdev/berth/internal/serve/metrics/data"
	"github.com/berthdev/berth/internal/store"
)

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// cooldown is AWS's default without a value.
func cooldown(seconds *int32) time.Duration {
	if seconds == nil {
		return 300 * time.Second
	}
	return time.Duration(*seconds) * time.Second
}

// world is what the planner sees of a target, and the scheduled actions whose time has come.
func (s *Scaler) world(ctx context.Context, v *seen, now time.Time) (w plan.World, fired []*model.ScalingAction, err error) {
	t := v.target
	past := func(p model.Scaled) plan.Past {
		return plan.Past{From: int(p.From), To: int(p.To), Began: p.Began, Done: p.Done, Cooldown: p.Cooldown}
	}
	w = plan.World{Now: now, Desired: int(v.service.DesiredCount), Running: int(v.running), Deploying: v.deploys, LastOut: past(t.LastOut), LastIn: past(t.LastIn),
		Bounded: t.Bounds != t.Bounded, Target: plan.Target{Min: int(t.Min), Max: int(t.Max), SuspendIn: deref(t.Suspended.DynamicScalingInSuspended),
			SuspendOut: deref(t.Suspended.DynamicScalingOutSuspended), SuspendScheduled: deref(t.Suspended.ScheduledScalingSuspended)}}
	for _, a := range v.actions {
		if !due(a, now) {
			continue
		}
		if w.Target.SuspendScheduled { // what is missed is not made up for
			fired = append(fired, a)
			continue
		}
		if len(w.Due) == 0 { // the next one at the next look
			w.Due = append(w.Due, plan.Due{Name: a.Name, Min: number(a.Min), Max: number(a.Max)})
			fired = append(fired, a)
		}
	}
	for _, p := range v.policies {
		var one plan.Policy
		switch {
		case p.Tracking != nil:
			c := p.Tracking
			one = plan.Policy{Name: p.Name, Track: true, Value: deref(c.TargetValue), DisableIn: deref(c.DisableScaleIn), OutCooldown: cooldown(c.ScaleOutCooldown),
				InCooldown: cooldown(c.ScaleInCooldown)}
			if one.High, err = s.alarm(ctx, v.alarms[p.Name][0], now, true); err != nil {
				return w, nil, err
			}
			if one.Low, err = s.alarm(ctx, v.alarms[p.Name][1], now, true); err != nil {
				return w, nil, err
			}
		case p.Step != nil:
			c := p.Step
			one = plan.Policy{Name: p.Name, OutCooldown: cooldown(c.Cooldown), InCooldown: cooldown(c.Cooldown), Adjustment: string(c.AdjustmentType),
				Magnitude: int(deref(c.MinAdjustmentMagnitude)), Aggregate: string(c.MetricAggregationType)}
			for _, x := range c.StepAdjustments {
				one.Steps = append(one.Steps, plan.Step{Lower: x.MetricIntervalLowerBound, Upper: x.MetricIntervalUpperBound, Adjustment: int(deref(x.ScalingAdjustment))})
			}
			for _, row := range v.alarms[p.Name] {
				a, err := s.alarm(ctx, row, now, false)
				if err != nil {
					return w, nil, err
				}
				one.Alarms = append(one.Alarms, a)
			}
		default: // predictive
			continue
		}
		w.Policies = append(w.Policies, one)
	}
	return w, fired, nil
}

func number(n *int32) *int {
	if n == nil {
		return nil
	}
	return new(int(*n))
}

// due tells whether an action's time has come since it was last done or changed.
func due(a *model.ScalingAction, now time.Time) bool {
	e, err := schedule.Parse(a.Schedule)
	loc, bad := time.LoadLocation(a.Timezone)
	if err != nil || bad != nil {
		return false
	}
	after, base := a.ChangedAt, a.CreatedAt
	if a.Fired.After(after) {
		after = a.Fired
	}
	if !a.Start.IsZero() {
		base = a.Start
		if a.Start.After(now) {
			return false
		}
		if a.Start.After(after) {
			if !e.Once() {
				return true // a recurring one is due at its start, too
			}
			after = a.Start.Add(-time.Nanosecond)
		}
	}
	at, ok := e.Last(after, now, base, loc)
	return ok && (a.End.IsZero() || !at.After(a.End))
}

// queries are what an alarm reads, and its period.
func queries(m *model.MetricAlarm) ([]cwtypes.MetricDataQuery, time.Duration) {
	if len(m.Metrics) == 0 {
		stat := string(m.Statistic) + deref(m.ExtendedStatistic)
		return []cwtypes.MetricDataQuery{{Id: new("m1"), MetricStat: &cwtypes.MetricStat{Metric: &cwtypes.Metric{Namespace: m.Namespace, MetricName: m.MetricName,
			Dimensions: m.Dimensions}, Period: m.Period, Stat: &stat, Unit: m.Unit}}}, time.Duration(deref(m.Period)) * time.Second
	}
	period := time.Duration(0)
	for _, q := range m.Metrics {
		if q.MetricStat != nil {
			period = max(period, time.Duration(deref(q.MetricStat.Period))*time.Second)
		}
	}
	return m.Metrics, period
}

// counted tells whether the statistic grows with the period: a target is one of a minute.
func counted(m *model.MetricAlarm) bool {
	return m.Statistic == cwtypes.StatisticSum || m.Statistic == cwtypes.StatisticSampleCount
}

// alarm is an alarm with its newest points; nil for nil. minute: in units of a minute.
func (s *Scaler) alarm(ctx context.Context, row *model.Alarm, now time.Time, minute bool) (*plan.Alarm, error) {
	if row == nil || row.Metric == nil {
		return nil, nil
	}
	q, period := queries(row.Metric)
	a := &plan.Alarm{Name: row.Name, State: row.State, Threshold: deref(row.Metric.Threshold), Period: period}
	if row.State != plan.StateAlarm && row.State != plan.StateOK || period <= 0 {
		return a, nil
	}
	n := int(deref(row.Metric.EvaluationPeriods))
	from, to := alarm.Rule{Period: period, Periods: n}.Range(now)
	all, err := data.Get(ctx, s.Series, q, from, to)
	if err != nil {
		return nil, err
	}
	scale := 1.0
	if minute && counted(row.Metric) {
		scale = float64(time.Minute) / float64(period)
	}
	for _, r := range all {
		if !r.Return {
			continue
		}
		for i, at := range r.Times {
			a.Points = append(a.Points, plan.Point{At: at, Value: r.Values[i] * scale})
		}
	}
	a.Points = a.Points[max(0, len(a.Points)-n):]
	return a, nil
}

// fitted are the periods that the fast pace has.
var fitted = []int32{1, 5, 10, 30, 60}

// fit shortens the periods of target tracking's alarms to how often their metric comes: the fast pace's one liberty.
func (s *Scaler) fit(ctx context.Context, v *seen, now time.Time) error {
	change := map[string]*model.MetricAlarm{}
	for _, p := range v.policies {
		if p.Tracking == nil {
			continue
		}
		period := int32(0)
		for i, row := range v.alarms[p.Name] {
			if row == nil || row.Metric == nil || len(row.Metric.Metrics) > 0 {
				continue
			}
			if period == 0 {
				if period = s.often(ctx, row.Metric, now); period == 0 {
					break
				}
			}
			if was := deref(row.Metric.Period); period == was || period > was && period < 2*was {
				continue
			}
			m := *row.Metric
			m.Period = &period
			threshold := deref(p.Tracking.TargetValue)
			if i == 1 {
				threshold *= 0.9
			}
			if counted(&m) {
				threshold *= float64(period) / 60
			}
			m.Threshold = &threshold
			change[row.Name] = &m
		}
	}
	if len(change) == 0 {
		return nil
	}
	return s.Store.Update(ctx, func(tx store.Tx) error {
		for name, m := range change {
			if row, ok := store.Alarms.Get(tx, name); ok {
				next := *row
				next.Metric, next.UpdatedAt = m, now
				store.Alarms.Put(tx, &next)
			}
		}
		return nil
	})
}

// often is the shortest period in which the metric has come lately; 0 when nobody can tell.
func (s *Scaler) often(ctx context.Context, m *model.MetricAlarm, now time.Time) int32 {
	one := *m
	one.Period, one.Statistic, one.ExtendedStatistic = new(int32(1)), cwtypes.StatisticSampleCount, nil
	q, _ := queries(&one)
	all, err := data.Get(ctx, s.Series, q, now.Add(-2*time.Minute), now)
	if err != nil || len(all) != 1 || len(all[0].Times) < 4 {
		return 0
	}
	var gaps []time.Duration
	times := all[0].Times[max(0, len(all[0].Times)-16):]
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	slices.Sort(gaps)
	median := gaps[len(gaps)/2]
	for _, p := range fitted {
		if time.Duration(p)*time.Second >= median {
			return p
		}
	}
	return 60
}
