package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// exported are Berth's own metrics in Prometheus' form, drawn when somebody asks: what the store has of clusters and services, what the proxy of
// this machine has counted, and how full the store of series is. Beside them stand those of Go, of the process, and of etcd.
type exported struct{ s *server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("berth_"+name, help, labels, nil)
}

var (
	descTasks    = desc("service_tasks", "Tasks of a service, by state: desired, pending or running.", "cluster", "service", "state")
	descNodes    = desc("node_connected", "1 for a node that has a session.", "node")
	descOutbox   = desc("outbox_deliveries", "Deliveries that wait.")
	descAlarms   = desc("alarm_state", "1 for the state that an alarm has.", "alarm", "state")
	descSeries   = desc("metrics_series", "Metrics in the store of series.")
	descDropped  = desc("metrics_samples_dropped_total", "Samples that were left out.")
	descRequests = desc("balancer_requests_total", "Requests of a load balancer, on this machine.", "balancer")
	descOwn      = desc("balancer_own_answers_total", "Answers of a load balancer itself.", "balancer", "code")
	descAnswers  = desc("target_group_answers_total", "Answers of a target group's targets, by class.", "group", "class")
	descFailed   = desc("target_group_connection_errors_total", "Connections to targets that broke, were late or could not be made.", "group")
	descHosts    = desc("target_group_hosts", "Targets of a group, healthy and not.", "group", "state")
	descWait     = desc("target_group_response_seconds", "How long targets took to begin their answers.", "group")
)

// Describe implements prometheus.Collector: what there is follows from what is collected.
func (e exported) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (e exported) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, clean(labels)...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, clean(labels)...)
	}
	e.s.store.View(func(r store.Reader) {
		for s := range store.Services.Scan(r, "") {
			if s.Status == "INACTIVE" {
				continue
			}
			var pending, running float64
			for t := range store.Tasks.By(r, store.ByService, s.Key()) {
				switch {
				case t.Ended():
				case t.LastStatus() == model.Running:
					running++
				case t.LastStatus().Before(model.Running):
					pending++
				}
			}
			gauge(descTasks, float64(s.DesiredCount), s.Cluster, s.Name, "desired")
			gauge(descTasks, pending, s.Cluster, s.Name, "pending")
			gauge(descTasks, running, s.Cluster, s.Name, "running")
		}
		for n := range store.Nodes.Scan(r, "") {
			v := 0.0
			if n.Connected {
				v = 1
			}
			gauge(descNodes, v, n.ID)
		}
		for a := range store.Alarms.Scan(r, "") {
			gauge(descAlarms, 1, a.Name, a.State)
		}
		waiting := 0
		for range store.Outbox.Scan(r, "") {
			waiting++
		}
		gauge(descOutbox, float64(waiting))
	})
	known, dropped := e.s.series.Count()
	gauge(descSeries, float64(known))
	count(descDropped, float64(dropped))
	if e.s.stats == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeouts.Count)
	defer cancel()
	counts, err := e.s.stats(ctx)
	if err != nil {
		return
	}
	for arn, c := range counts.Balancers {
		name := tail(arn, ":loadbalancer/")
		count(descRequests, float64(c.Requests), name)
		for i, code := range []string{"4xx", "5xx", "502", "503", "504"} {
			count(descOwn, float64(c.Own[i]), name, code)
		}
	}
	for arn, a := range counts.Groups {
		name := tail(arn, ":targetgroup/")
		for i, n := range a.Classes {
			count(descAnswers, float64(n), name, fmt.Sprintf("%dxx", i+1))
		}
		count(descFailed, float64(a.Failed), name)
		gauge(descHosts, float64(a.Healthy), name, "healthy")
		gauge(descHosts, float64(a.Unhealthy), name, "unhealthy")
		ch <- waits(a, name)
	}
}

// bounds are those of the histogram that is shown, in seconds.
var bounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

func waits(a proxy.Answers, name string) prometheus.Metric {
	buckets := map[float64]uint64{}
	var all uint64
	for i, n := range a.Waits {
		all += uint64(n)
		for _, b := range bounds {
			if proxy.WaitAt(i).Seconds() <= b {
				buckets[b] += uint64(n)
			}
		}
	}
	for _, b := range bounds {
		buckets[b] += 0
	}
	return prometheus.MustNewConstHistogram(descWait, all, a.Waited.Seconds(), buckets, name)
}

func tail(arn, mark string) string {
	if _, name, ok := strings.Cut(arn, mark); ok {
		return name
	}
	return arn
}

// clean makes labels valid: names of alarms may hold anything.
func clean(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	return labels
}

// metricsHandler answers in Prometheus' text form.
func (s *server) metricsHandler() http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(exported{s})
	return promhttp.HandlerFor(prometheus.Gatherers{prometheus.DefaultGatherer, own}, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// serveMetrics answers /metrics at an address of its own, which is nowhere unless somebody names one: it needs no signature.
func (s *server) serveMetrics(ctx context.Context) error {
	if s.metricsListen == "" {
		return nil
	}
	l, err := net.Listen("tcp", s.metricsListen)
	if err != nil {
		return fmt.Errorf("listen for /metrics: %w; choose another with --metrics-listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metricsHandler())
	s.log.Info("metrics are at http://" + l.Addr().String() + "/metrics")
	return serveHTTP(ctx, l, mux)
}

// Metrics prints what the server that runs on the data directory measures of itself.
func Metrics(ctx context.Context, dir string, out io.Writer) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	if !in.Running() {
		return fmt.Errorf("no server runs here; start it with: berth up --data-dir %s", dir)
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.ServerCall)
	defer cancel()
	body, err := in.admin(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(out, body)
	return err
}
