package autoscaling

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics/data"
	"github.com/berthdev/berth/internal/store"
)

// checkCustomized checks a metric, or queries of which one is the metric.
func checkCustomized(m *types.CustomizedMetricSpecification) error {
	if len(m.Metrics) == 0 {
		if value(m.Namespace) == "" || value(m.MetricName) == "" || m.Statistic == "" {
			return invalid("A customized metric needs a namespace, a name and a statistic, or metric data queries.")
		}
		stat := string(m.Statistic)
		if !data.ValidStat(stat) {
			return invalid("Invalid statistic: %.50q", stat)
		}
		return nil
	}
	if m.Namespace != nil || m.MetricName != nil || m.Statistic != "" || len(m.Dimensions) > 0 {
		return invalid("A customized metric is given by its name or by metric data queries, not by both.")
	}
	returned := 0
	queries := queriesOf(m)
	for _, q := range queries {
		if *q.ReturnData {
			returned++
		}
	}
	if returned != 1 {
		return invalid("Exactly one of the metric data queries must return data.")
	}
	if err := data.Check(queries); err != nil {
		return invalid("%s", err)
	}
	return nil
}

func queriesOf(m *types.CustomizedMetricSpecification) (all []cwtypes.MetricDataQuery) {
	for _, q := range m.Metrics {
		one := cwtypes.MetricDataQuery{Id: q.Id, Expression: q.Expression, Label: q.Label, ReturnData: new(q.ReturnData == nil || *q.ReturnData)}
		if s := q.MetricStat; s != nil {
			one.MetricStat = &cwtypes.MetricStat{Stat: s.Stat, Period: new(int32(60)), Unit: cwtypes.StandardUnit(value(s.Unit))}
			if s.Metric != nil {
				one.MetricStat.Metric = &cwtypes.Metric{Namespace: s.Metric.Namespace, MetricName: s.Metric.MetricName}
				for _, d := range s.Metric.Dimensions {
					one.MetricStat.Metric.Dimensions = append(one.MetricStat.Metric.Dimensions, cwtypes.Dimension{Name: d.Name, Value: d.Value})
				}
			}
		}
		all = append(all, one)
	}
	return all
}

// metricOf is the alarm of a policy's metric, without its threshold.
func metricOf(svc *model.Service, c *types.TargetTrackingScalingPolicyConfiguration) model.MetricAlarm {
	m := model.MetricAlarm{ActionsEnabled: new(true), Period: new(int32(60)), TreatMissingData: new("missing")}
	name := func(namespace, name string, stat cwtypes.Statistic, unit cwtypes.StandardUnit, pairs ...string) {
		m.Namespace, m.MetricName, m.Statistic, m.Unit = &namespace, &name, stat, unit
		for i := 0; i < len(pairs); i += 2 {
			m.Dimensions = append(m.Dimensions, cwtypes.Dimension{Name: &pairs[i], Value: &pairs[i+1]})
		}
	}
	if p := c.PredefinedMetricSpecification; p != nil {
		switch p.PredefinedMetricType {
		case types.MetricTypeALBRequestCountPerTarget:
			parts := strings.Split(*p.ResourceLabel, "/")
			name("AWS/ApplicationELB", "RequestCountPerTarget", cwtypes.StatisticSum, cwtypes.StandardUnitNone, "LoadBalancer", strings.Join(parts[:3], "/"),
				"TargetGroup", strings.Join(parts[3:], "/"))
		case types.MetricTypeECSServiceAverageMemoryUtilization:
			name("AWS/ECS", "MemoryUtilization", cwtypes.StatisticAverage, cwtypes.StandardUnitPercent, "ClusterName", svc.Cluster, "ServiceName", svc.Name)
		default:
			name("AWS/ECS", "CPUUtilization", cwtypes.StatisticAverage, cwtypes.StandardUnitPercent, "ClusterName", svc.Cluster, "ServiceName", svc.Name)
		}
		return m
	}
	own := c.CustomizedMetricSpecification
	if len(own.Metrics) > 0 {
		m.Metrics, m.Period = queriesOf(own), nil
		return m
	}
	name(*own.Namespace, *own.MetricName, cwtypes.Statistic(own.Statistic), cwtypes.StandardUnit(value(own.Unit)))
	for _, d := range own.Dimensions {
		m.Dimensions = append(m.Dimensions, cwtypes.Dimension{Name: d.Name, Value: d.Value})
	}
	return m
}

// putAlarms makes a policy's alarms, under new names.
func (a *api) putAlarms(tx store.Tx, svc *model.Service, p *model.ScalingPolicy) {
	put := func(kind string, comparison cwtypes.ComparisonOperator, threshold float64, periods int32) string {
		id, now := uuid(), a.Now()
		by := p.ARN + ":createdBy/" + id
		m := metricOf(svc, p.Tracking)
		m.AlarmActions, m.Comparison, m.Threshold, m.EvaluationPeriods = []string{by}, comparison, &threshold, &periods
		m.Description = new("DO NOT EDIT OR DELETE. For TargetTrackingScaling policy " + by + ".")
		name := "TargetTracking-" + p.ResourceID + "-Alarm" + kind + "-" + id
		store.Alarms.Put(tx, &model.Alarm{Name: name, ARN: "arn:" + model.Partition + ":cloudwatch:" + a.Scope.Region + ":" + a.Scope.Account + ":alarm:" + name, Metric: &m,
			Policy: p.ARN, State: "INSUFFICIENT_DATA", Reason: "Unchecked: Initial alarm creation", UpdatedAt: now, StateAt: now, ChangedAt: now})
		return name
	}
	p.High = put("High", cwtypes.ComparisonOperatorGreaterThanThreshold, *p.Tracking.TargetValue, 3)
	if !value(p.Tracking.DisableScaleIn) {
		p.Low = put("Low", cwtypes.ComparisonOperatorLessThanThreshold, 0.9**p.Tracking.TargetValue, 15)
	}
}

// alarmsOf are the alarms of a policy: those made for it, or those that act on it.
func alarmsOf(r store.Reader, p *model.ScalingPolicy) []types.Alarm {
	all := []types.Alarm{}
	if p.Tracking != nil {
		for _, name := range []string{p.High, p.Low} {
			if x, ok := store.Alarms.Get(r, name); ok {
				all = append(all, types.Alarm{AlarmARN: &x.ARN, AlarmName: &x.Name})
			}
		}
		return all
	}
	for x := range store.Alarms.Scan(r, "") {
		for _, state := range []string{"ALARM", "OK", "INSUFFICIENT_DATA"} {
			if slices.Contains(x.Actions(state), p.ARN) {
				all = append(all, types.Alarm{AlarmARN: &x.ARN, AlarmName: &x.Name})
				break
			}
		}
	}
	return all
}
