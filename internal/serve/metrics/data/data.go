// Package data answers CloudWatch's metric data queries, metrics and the math over them, for the API and for alarms.
package data

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/metricmath"
	"github.com/berthdev/berth/internal/serve/metrics"
)

// Reader is what metrics are read from: metrics.Series.
type Reader interface {
	Query(ctx context.Context, q metrics.Query) ([]metrics.Result, error)
}

// Result is what a query gave, oldest first.
type Result struct {
	ID, Label, Unit string
	Period          time.Duration
	Times           []time.Time
	Values          []float64
	Counts          []float64 // samples, of a metric; nil of an expression
	Return          bool
}

var idForm = regexp.MustCompile(`^[a-z][A-Za-z0-9_]{0,254}$`)

// ValidPeriod tells whether CloudWatch has the period.
func ValidPeriod(seconds int32) bool {
	return seconds > 0 && (seconds%60 == 0 && seconds <= 86400*7 || slices.Contains([]int32{1, 5, 10, 20, 30}, seconds))
}

// ValidStat tells whether Berth has the statistic.
func ValidStat(stat string) bool {
	_, percentile := metrics.Percentile(stat)
	return percentile || slices.Contains([]string{"Average", "Sum", "Minimum", "Maximum", "SampleCount"}, stat)
}

// Dimensions makes a map of a list.
func Dimensions(all []types.Dimension) map[string]string {
	out := make(map[string]string, len(all))
	for _, d := range all {
		out[deref(d.Name)] = deref(d.Value)
	}
	return out
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func refuse(format string, args ...any) error {
	return model.Errorf("ValidationError", format, args...)
}

// Check tells what is wrong with a list of queries. Errors: *model.Error ValidationError.
func Check(queries []types.MetricDataQuery) error {
	seen := map[string]bool{}
	for _, q := range queries {
		id := deref(q.Id)
		switch {
		case !idForm.MatchString(id):
			return refuse("The value %.60q for parameter Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.", id)
		case seen[id]:
			return refuse("The values for parameter id in MetricDataQueries are not unique.")
		case (q.MetricStat == nil) == (q.Expression == nil):
			return refuse("Exactly one of the parameters MetricStat and Expression must be given for %s.", id)
		}
		seen[id] = true
	}
	for _, q := range queries {
		if m := q.MetricStat; m != nil {
			switch {
			case m.Metric == nil || deref(m.Metric.Namespace) == "" || deref(m.Metric.MetricName) == "":
				return refuse("The parameter MetricStat.Metric of %s needs Namespace and MetricName.", *q.Id)
			case !ValidPeriod(deref(m.Period)):
				return refuse("The value %d for parameter MetricStat.Period of %s is invalid: it must be 1, 5, 10, 20, 30 or a multiple of 60.", deref(m.Period), *q.Id)
			case !ValidStat(deref(m.Stat)):
				return refuse("The value %.40q for parameter MetricStat.Stat of %s is not supported.", deref(m.Stat), *q.Id)
			}
			continue
		}
		e, err := metricmath.Parse(*q.Expression)
		if err != nil {
			return refuse("Error in expression '%s': %v", *q.Id, err)
		}
		for _, id := range e.IDs() {
			if !seen[id] {
				return refuse("Error in expression '%s': there is no query with the id %s", *q.Id, id)
			}
		}
	}
	return nil
}

// Get answers queries that Check has let pass, in their order.
func Get(ctx context.Context, r Reader, queries []types.MetricDataQuery, from, to time.Time) ([]Result, error) {
	g := &getter{ctx: ctx, r: r, from: from, to: to, queries: map[string]*types.MetricDataQuery{}, done: map[string][]Result{}, busy: map[string]bool{},
		env: metricmath.Env{From: from.Unix(), To: to.Unix(), Known: map[string]metricmath.Series{}}}
	for i := range queries {
		q := &queries[i]
		g.queries[deref(q.Id)] = q
		if q.MetricStat != nil {
			g.env.Metrics = append(g.env.Metrics, *q.Id)
		}
	}
	var out []Result
	for i := range queries {
		all, err := g.get(deref(queries[i].Id))
		if err != nil {
			return nil, err
		}
		out = append(out, all...)
	}
	return out, nil
}

type getter struct {
	ctx      context.Context
	r        Reader
	from, to time.Time
	queries  map[string]*types.MetricDataQuery
	done     map[string][]Result
	busy     map[string]bool
	env      metricmath.Env
}

func (g *getter) get(id string) ([]Result, error) {
	if all, ok := g.done[id]; ok {
		return all, nil
	}
	q := g.queries[id]
	if q == nil || g.busy[id] {
		return nil, refuse("The expression %s refers to itself.", id)
	}
	g.busy[id] = true
	all, err := g.run(q)
	if err != nil {
		return nil, err
	}
	g.done[id] = all
	if len(all) == 1 {
		s := metricmath.Series{ID: id, Period: int64(all[0].Period / time.Second), Values: all[0].Values}
		for _, t := range all[0].Times {
			s.At = append(s.At, t.Unix())
		}
		g.env.Known[id] = s
	}
	return all, nil
}

func (g *getter) run(q *types.MetricDataQuery) ([]Result, error) {
	returns := q.ReturnData == nil || *q.ReturnData
	if m := q.MetricStat; m != nil {
		out := Result{ID: *q.Id, Label: deref(m.Metric.MetricName), Period: time.Duration(deref(m.Period)) * time.Second, Return: returns}
		if q.Label != nil {
			out.Label = *q.Label
		}
		found, err := g.r.Query(g.ctx, metrics.Query{Namespace: *m.Metric.Namespace, Name: *m.Metric.MetricName, Dimensions: Dimensions(m.Metric.Dimensions),
			From: g.from, To: g.to, Period: out.Period, Stat: *m.Stat})
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && (m.Unit == "" || string(m.Unit) == found[0].Unit) {
			out.Unit, out.Times, out.Values, out.Counts = found[0].Unit, found[0].Times, found[0].Values, found[0].Counts
		}
		return []Result{out}, nil
	}
	e, err := metricmath.Parse(*q.Expression)
	if err != nil {
		return nil, refuse("Error in expression '%s': %v", *q.Id, err)
	}
	need := e.IDs()
	if e.UsesMetrics() {
		need = append(need, g.env.Metrics...)
	}
	for _, id := range need {
		if _, err := g.get(id); err != nil {
			return nil, err
		}
	}
	series, err := e.Eval(g.env)
	if err != nil {
		return nil, refuse("Error in expression '%s': %v", *q.Id, err)
	}
	var out []Result
	for _, s := range series {
		r := Result{ID: *q.Id, Label: *q.Id, Period: time.Duration(s.Period) * time.Second, Values: s.Values, Return: returns}
		if q.Label != nil {
			r.Label = *q.Label
		} else if len(series) > 1 && s.ID != "" {
			r.Label = fmt.Sprintf("%s %s", *q.Id, s.ID)
		}
		for _, at := range s.At {
			r.Times = append(r.Times, time.Unix(at, 0).UTC())
		}
		out = append(out, r)
	}
	return out, nil
}
