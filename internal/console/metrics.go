package console

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/store"
)

// metricsEvery is how often series are sent anew: as often as they are measured.
const metricsEvery = 10 * time.Second

// points is a series as charts have it: what has no sample is left out.
type points struct {
	Name   string    `json:"name"` // cpu, memory, requests, errors, p50, p95, p99, rx or tx
	Of     string    `json:"of,omitempty"`
	Unit   string    `json:"unit"`
	Times  []int64   `json:"t"` // Unix seconds
	Values []float64 `json:"v"`
}

// asked is one question to the series.
type asked struct {
	name, unit, namespace, metric, stat string
	dimensions                          map[string]string
	of                                  string
}

// chart sends the series of a service or a task, or what the overview shows of every service, again and again.
func (s *Console) chart(w want) func(ctx context.Context, send func(message) bool) error {
	return func(ctx context.Context, send func(message) bool) error {
		if s.c.Metrics == nil {
			return model.Errorf("NoMetrics", "This Berth keeps no metrics.")
		}
		again := time.NewTicker(metricsEvery)
		defer again.Stop()
		for {
			m := message{Snap: true, Series: []points{}}
			now := s.c.Now()
			from := now.Add(-30 * time.Minute)
			if w.From > 0 {
				from = time.UnixMilli(max(w.From, now.Add(-7*24*time.Hour).UnixMilli()))
			}
			for _, a := range s.questions(w) {
				m.Series = append(m.Series, s.read(ctx, a, from, now)...)
			}
			if !send(m) {
				return nil
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

const (
	ecsNamespace = "AWS/ECS"
	albNamespace = "AWS/ApplicationELB"
)

// questions are what a page shows.
func (s *Console) questions(w want) (all []asked) {
	if w.ID != "" {
		d := map[string]string{"TaskId": w.ID}
		for _, q := range []struct{ name, unit, metric string }{{"cpu", "units", "CpuUtilized"}, {"memory", "MiB", "MemoryUtilized"}, {"rx", "B/s", "NetworkRxBytes"}, {"tx", "B/s", "NetworkTxBytes"}} {
			all = append(all, asked{name: q.name, unit: q.unit, namespace: metrics.NamespaceTasks, metric: q.metric, stat: "Average", dimensions: d})
		}
		return all
	}
	s.c.Store.View(func(r store.Reader) {
		for svc := range store.Services.Scan(r, "") {
			if svc.Status != "ACTIVE" || w.Service != "" && (svc.Cluster != w.Cluster || svc.Name != w.Service) {
				continue
			}
			whole := w.Service != ""
			if whole {
				d := map[string]string{"ClusterName": svc.Cluster, "ServiceName": svc.Name}
				all = append(all, asked{name: "cpu", unit: "%", namespace: ecsNamespace, metric: "CPUUtilization", stat: "Average", dimensions: d},
					asked{name: "memory", unit: "%", namespace: ecsNamespace, metric: "MemoryUtilization", stat: "Average", dimensions: d})
			}
			rev, ok := store.ServiceRevisions.Get(r, svc.Key()+"/"+svc.RevisionID)
			if !ok {
				continue
			}
			for i := range rev.LoadBalancers {
				if arn := rev.LoadBalancers[i].TargetGroupArn; arn != nil {
					all = append(all, ofGroup(svc.Key(), *arn, whole)...)
				}
			}
		}
	})
	return all
}

func ofGroup(service, arn string, whole bool) []asked {
	d := map[string]string{"TargetGroup": arn[strings.LastIndexByte(arn, ':')+1:]}
	all := []asked{{"requests", "/s", albNamespace, "RequestCount", "Sum", d, service}, {"errors", "/s", albNamespace, "HTTPCode_Target_5XX_Count", "Sum", d, service},
		{"p95", "ms", albNamespace, "TargetResponseTime", "p95", d, service}}
	if whole {
		all = append(all, asked{"p50", "ms", albNamespace, "TargetResponseTime", "p50", d, service}, asked{"p99", "ms", albNamespace, "TargetResponseTime", "p99", d, service})
	}
	return all
}

// read asks for a metric; those of several load balancers before one group are one.
func (s *Console) read(ctx context.Context, a asked, from, to time.Time) []points {
	period := 10 * time.Second
	if to.Sub(from) > 3*time.Hour {
		period = time.Minute
	}
	if to.Sub(from) > 24*time.Hour {
		period = 10 * time.Minute
	}
	found, err := s.c.Metrics.Query(ctx, metrics.Query{Namespace: a.namespace, Name: a.metric, Dimensions: a.dimensions, From: from, To: to.Add(period), Period: period, Stat: a.stat, All: a.of != ""})
	if err != nil {
		s.c.Log.Debug("cannot read a metric", "metric", a.metric, "error", err)
		return nil
	}
	scale := 1.0
	switch {
	case a.unit == "/s":
		scale = 1 / period.Seconds()
	case a.unit == "ms":
		scale = 1000
	}
	sums := map[int64]float64{}
	for _, one := range found {
		if a.of != "" && len(one.Dimensions) != 2 { // by load balancer and target group; other sets count the same again
			continue
		}
		for i, t := range one.Times {
			if a.unit == "ms" {
				sums[t.Unix()] = max(sums[t.Unix()], one.Values[i]*scale)
			} else {
				sums[t.Unix()] += one.Values[i] * scale
			}
		}
	}
	p := points{Name: a.name, Of: a.of, Unit: a.unit, Times: []int64{}, Values: []float64{}}
	for t := range sums {
		p.Times = append(p.Times, t)
	}
	slices.Sort(p.Times)
	for _, t := range p.Times {
		p.Values = append(p.Values, sums[t])
	}
	return []points{p}
}
