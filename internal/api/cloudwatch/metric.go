package cloudwatch

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/serve/metrics/data"
)

// AWS's bounds.
const (
	maxData       = 1000
	maxValues     = 150
	maxDimensions = 30
	oldestDatum   = 14 * 24 * time.Hour
	newestDatum   = 2 * time.Hour
	maxPoints     = 1440
	maxQueries    = 500
	listPage      = 500
)

func (a *api) putMetricData(_ context.Context, in *sdk.PutMetricDataInput) (*sdk.PutMetricDataOutput, error) {
	namespace := deref(in.Namespace)
	switch {
	case namespace == "":
		return nil, missing("Namespace")
	case len(namespace) > 255 || namespace[0] == ':':
		return nil, invalid("The value %.60s for parameter Namespace is invalid.", namespace)
	case metrics.Berths(namespace):
		return nil, invalid("The value AWS/ for parameter Namespace is invalid: namespaces that begin with AWS/, ECS/ and Berth/ are filled by Berth alone.")
	}
	all := slices.Clone(in.MetricData)
	for _, e := range in.EntityMetricData {
		all = append(all, e.MetricData...)
	}
	switch {
	case len(all) == 0:
		return nil, missing("MetricData")
	case len(all) > maxData:
		return nil, invalid("The collection MetricData must not have a size greater than %d.", maxData)
	}
	batch := make([]model.Sample, 0, len(all))
	for i := range all {
		s, err := a.sample(namespace, &all[i], fmt.Sprintf("MetricData.member.%d", i+1))
		if err != nil {
			return nil, err
		}
		batch = append(batch, s)
	}
	if err := a.Series.Room(batch); err != nil {
		return nil, &types.LimitExceededFault{Message: new("Berth keeps no more metrics: " + err.Error() + ". Use fewer values of dimensions.")}
	}
	a.Put(batch)
	return &sdk.PutMetricDataOutput{}, nil
}

// sample makes a sample of a datum; at names it in refusals.
func (a *api) sample(namespace string, d *types.MetricDatum, at string) (s model.Sample, err error) {
	now := a.Now()
	s = model.Sample{Namespace: namespace, Name: deref(d.MetricName), Unit: string(d.Unit), Time: now}
	if s.Name == "" || len(s.Name) > 255 {
		return s, missing(at + ".MetricName")
	}
	if s.Unit != "" && !slices.Contains(types.StandardUnit("").Values(), d.Unit) {
		return s, invalid("The value %.40s for parameter %s.Unit is invalid.", s.Unit, at)
	}
	if d.Timestamp != nil {
		s.Time = *d.Timestamp
		if s.Time.Before(now.Add(-oldestDatum)) || s.Time.After(now.Add(newestDatum)) {
			return s, invalid("The parameter %s.Timestamp must specify a time no more than two weeks in the past or two hours in the future.", at)
		}
	}
	if r := d.StorageResolution; r != nil && *r != 1 && *r != 60 {
		return s, invalid("The value %d for parameter %s.StorageResolution is invalid: it is 1 or 60.", *r, at)
	}
	if s.Dimensions, err = dimensions(d.Dimensions, at+".Dimensions"); err != nil {
		return s, err
	}
	given := 0
	for _, is := range []bool{d.Value != nil, len(d.Values) > 0, d.StatisticValues != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return s, conflicting("The parameters %s.Value, %s.Values and %s.StatisticValues are mutually exclusive and you have specified %d of them.", at, at, at, given)
	}
	numbers := d.Values
	switch set := d.StatisticValues; {
	case d.Value != nil:
		s.Value, numbers = *d.Value, []float64{*d.Value}
	case set != nil:
		for _, p := range []*float64{set.SampleCount, set.Sum, set.Minimum, set.Maximum} {
			if p == nil {
				return s, missing(at + ".StatisticValues")
			}
		}
		s.Count, s.Sum, s.Min, s.Max = *set.SampleCount, *set.Sum, *set.Minimum, *set.Maximum
		numbers = []float64{s.Count, s.Sum, s.Min, s.Max}
		if s.Count <= 0 || s.Min > s.Max {
			return s, invalid("The statistic set %s.StatisticValues needs a SampleCount above 0 and a Minimum that is not above its Maximum.", at)
		}
	default:
		s.Values, s.Counts = d.Values, d.Counts
		numbers = append(slices.Clone(d.Values), d.Counts...)
		if len(d.Values) > maxValues || len(d.Counts) > 0 && len(d.Counts) != len(d.Values) {
			return s, invalid("The parameter %s.Values has at most %d values, and as many as %s.Counts.", at, maxValues, at)
		}
	}
	for _, v := range numbers {
		if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) > 0x1p360 {
			return s, invalid("The value %v for parameter %s.Value is invalid: values must be numbers between -2^360 and 2^360.", v, at)
		}
	}
	return s, nil
}

func dimensions(all []types.Dimension, at string) (map[string]string, error) {
	if len(all) > maxDimensions {
		return nil, invalid("The collection %s must not have a size greater than %d.", at, maxDimensions)
	}
	for i, d := range all {
		if n, v := deref(d.Name), deref(d.Value); n == "" || v == "" || len(n) > 255 || len(v) > 1024 || n[0] == ':' || strings.ContainsRune(n+v, 0) {
			return nil, invalid("The parameter %s.member.%d needs a Name of 1 to 255 characters that does not begin with a colon, and a Value of 1 to 1024.", at, i+1)
		}
	}
	out := data.Dimensions(all)
	if len(out) < len(all) {
		return nil, invalid("The parameter %s has a name twice.", at)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// dimensionList is the other way round, in the order of the names.
func dimensionList(all map[string]string) []types.Dimension {
	out := []types.Dimension{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, types.Dimension{Name: new(name), Value: new(all[name])})
	}
	return out
}

func (a *api) listMetrics(_ context.Context, in *sdk.ListMetricsInput) (*sdk.ListMetricsOutput, error) {
	if len(in.Dimensions) > 10 {
		return nil, invalid("The collection Dimensions must not have a size greater than 10.")
	}
	if in.RecentlyActive != "" && in.RecentlyActive != types.RecentlyActivePt3h {
		return nil, invalid("The value %.20s for parameter RecentlyActive is invalid: it is PT3H.", in.RecentlyActive)
	}
	since := a.Now().Add(-oldestDatum)
	if in.RecentlyActive != "" {
		since = a.Now().Add(-3 * time.Hour)
	}
	var found []metrics.Metric
	for _, m := range a.Series.List(deref(in.Namespace)) {
		if in.MetricName != nil && m.Name != *in.MetricName || in.Namespace == nil && m.Namespace == metrics.NamespaceTasks || m.Last.Before(since) {
			continue
		}
		if !slices.ContainsFunc(in.Dimensions, func(d types.DimensionFilter) bool {
			v, ok := m.Dimensions[deref(d.Name)]
			return !ok || d.Value != nil && v != *d.Value
		}) {
			found = append(found, m)
		}
	}
	keyOf := func(m metrics.Metric) string {
		var b strings.Builder
		b.WriteString(m.Namespace + "\x00" + m.Name)
		for _, d := range dimensionList(m.Dimensions) {
			b.WriteString("\x00" + *d.Name + "\x00" + *d.Value)
		}
		return b.String()
	}
	sort.Slice(found, func(i, j int) bool { return keyOf(found[i]) < keyOf(found[j]) })
	found, next, err := page(found, keyOf, in.NextToken, listPage)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListMetricsOutput{Metrics: []types.Metric{}, NextToken: next}
	for _, m := range found {
		out.Metrics = append(out.Metrics, types.Metric{Namespace: new(m.Namespace), MetricName: new(m.Name), Dimensions: dimensionList(m.Dimensions)})
	}
	return out, nil
}

// window checks a request's times and rounds the beginning as AWS does.
func window(from, to *time.Time) (time.Time, time.Time, error) {
	switch {
	case from == nil:
		return time.Time{}, time.Time{}, missing("StartTime")
	case to == nil:
		return time.Time{}, time.Time{}, missing("EndTime")
	case !from.Before(*to):
		return time.Time{}, time.Time{}, invalid("The parameter StartTime must be less than the parameter EndTime.")
	case from.Unix() < 0 || to.Year() > 2200:
		return time.Time{}, time.Time{}, invalid("The parameter StartTime is invalid.")
	}
	return from.Truncate(time.Second), to.Truncate(time.Second), nil
}

func (a *api) getMetricStatistics(ctx context.Context, in *sdk.GetMetricStatisticsInput) (*sdk.GetMetricStatisticsOutput, error) {
	from, to, err := window(in.StartTime, in.EndTime)
	if err != nil {
		return nil, err
	}
	d, err := dimensions(in.Dimensions, "Dimensions")
	period := deref(in.Period)
	switch {
	case err != nil:
		return nil, err
	case deref(in.Namespace) == "":
		return nil, missing("Namespace")
	case deref(in.MetricName) == "":
		return nil, missing("MetricName")
	case !data.ValidPeriod(period):
		return nil, invalid("The parameter Period must be 1, 5, 10, 20, 30, or any multiple of 60.")
	case len(in.Statistics)+len(in.ExtendedStatistics) == 0:
		return nil, conflicting("At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	case len(in.ExtendedStatistics) > 10:
		return nil, invalid("The collection ExtendedStatistics must not have a size greater than 10.")
	}
	if period%60 == 0 {
		from = from.Truncate(time.Minute)
	}
	if n := int64(to.Sub(from).Seconds()) / int64(period); n > maxPoints {
		return nil, conflicting("You have requested up to %d datapoints, which exceeds the limit of %d. You may reduce the datapoints requested by increasing Period, or decreasing the time range.", n, maxPoints)
	}
	stats := slices.Clone(in.ExtendedStatistics)
	for _, s := range in.Statistics {
		stats = append(stats, string(s))
	}
	points := map[time.Time]*types.Datapoint{}
	for _, stat := range stats {
		if !data.ValidStat(stat) {
			return nil, invalid("The value %.40s for parameter Statistics or ExtendedStatistics is not supported.", stat)
		}
		found, err := a.Series.Query(ctx, metrics.Query{Namespace: *in.Namespace, Name: *in.MetricName, Dimensions: d, From: from, To: to,
			Period: time.Duration(period) * time.Second, Stat: stat})
		if err != nil {
			return nil, err
		}
		if len(found) == 0 || in.Unit != "" && string(in.Unit) != found[0].Unit {
			continue
		}
		for i, at := range found[0].Times {
			p := points[at]
			if p == nil {
				p = &types.Datapoint{Timestamp: new(at), Unit: types.StandardUnit(found[0].Unit)}
				points[at] = p
			}
			setStatistic(p, stat, found[0].Values[i])
		}
	}
	out := &sdk.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []types.Datapoint{}}
	for _, at := range slices.SortedFunc(maps.Keys(points), time.Time.Compare) {
		out.Datapoints = append(out.Datapoints, *points[at])
	}
	return out, nil
}

func setStatistic(p *types.Datapoint, stat string, v float64) {
	switch stat {
	case "Average":
		p.Average = &v
	case "Sum":
		p.Sum = &v
	case "Minimum":
		p.Minimum = &v
	case "Maximum":
		p.Maximum = &v
	case "SampleCount":
		p.SampleCount = &v
	default:
		if p.ExtendedStatistics == nil {
			p.ExtendedStatistics = map[string]float64{}
		}
		p.ExtendedStatistics[stat] = v
	}
}

func (a *api) getMetricData(ctx context.Context, in *sdk.GetMetricDataInput) (*sdk.GetMetricDataOutput, error) {
	from, to, err := window(in.StartTime, in.EndTime)
	if err != nil {
		return nil, err
	}
	most := int64(100_800)
	if in.MaxDatapoints != nil {
		most = int64(*in.MaxDatapoints)
	}
	switch {
	case len(in.MetricDataQueries) == 0:
		return nil, missing("MetricDataQueries")
	case len(in.MetricDataQueries) > maxQueries:
		return nil, refuse("The collection MetricDataQueries must not have a size greater than %d.", maxQueries)
	case in.NextToken != nil:
		return nil, &types.InvalidNextToken{Message: new("The NextToken is not valid.")}
	case most < 1 || most > 100_800:
		return nil, refuse("The value %d for parameter MaxDatapoints is invalid: it is 1 to 100,800.", most)
	}
	if err := data.Check(in.MetricDataQueries); err != nil {
		return nil, err
	}
	points := int64(0)
	for _, q := range in.MetricDataQueries {
		if q.MetricStat != nil {
			points += int64(to.Sub(from).Seconds()) / int64(*q.MetricStat.Period)
			if *q.MetricStat.Period%60 == 0 {
				from = from.Truncate(time.Minute)
			}
		}
	}
	if points > 100_800 {
		return nil, refuse("The request asks for up to %d datapoints, and may for 100,800. Use longer periods, fewer queries or a shorter time.", points)
	}
	all, err := data.Get(ctx, a.Series, in.MetricDataQueries, from, to)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetMetricDataOutput{MetricDataResults: []types.MetricDataResult{}, Messages: []types.MessageData{}}
	for _, r := range all {
		if !r.Return {
			continue
		}
		one := types.MetricDataResult{Id: new(r.ID), Label: new(r.Label), StatusCode: types.StatusCodeComplete, Timestamps: append([]time.Time{}, r.Times...),
			Values: append([]float64{}, r.Values...)}
		if in.ScanBy != types.ScanByTimestampAscending {
			slices.Reverse(one.Timestamps)
			slices.Reverse(one.Values)
		}
		if int64(len(one.Values)) > most {
			one.Timestamps, one.Values, one.StatusCode = one.Timestamps[:most], one.Values[:most], types.StatusCodePartialData
		}
		out.MetricDataResults = append(out.MetricDataResults, one)
	}
	return out, nil
}

// refuse is the refusal of operations that check more than single parameters.
func refuse(format string, args ...any) error {
	return model.Errorf("ValidationError", format, args...)
}
