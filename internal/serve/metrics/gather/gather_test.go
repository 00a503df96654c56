package gather

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type rig struct {
	*Gatherer
	t      *testing.T
	now    time.Time
	series *metrics.Series
}

const (
	lbARN    = "arn:aws:elasticloadbalancing:us-east-1:0:loadbalancer/app/web/1"
	groupARN = "arn:aws:elasticloadbalancing:us-east-1:0:targetgroup/web/2"
)

func newRig(t *testing.T) *rig {
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	err := s.Update(t.Context(), func(tx store.Tx) error {
		store.Clusters.Put(tx, &model.Cluster{Name: "shop", Status: "ACTIVE", Settings: []types.ClusterSetting{{Name: "containerInsights", Value: new("enabled")}}})
		store.Nodes.Put(tx, &model.Node{ID: "n", Declaration: model.Declaration{CPU: 4096, Memory: 4096}})
		store.Services.Put(tx, &model.Service{Cluster: "shop", Name: "web", Status: "ACTIVE", DesiredCount: 2})
		for _, id := range []string{"t1", "t2"} {
			store.Tasks.Put(tx, &model.Task{ID: id, Cluster: "shop", Service: "web", Family: "web", NodeID: "n", Desired: model.Running, Needs: model.Resources{CPU: 512, Memory: 512},
				Observed: model.Observed{Status: model.Running}})
		}
		store.Tasks.Put(tx, &model.Task{ID: "foreign", Cluster: "shop", NodeID: "other"})
		store.Listeners.Put(tx, &model.Listener{ARN: "l", LoadBalancerARN: lbARN, Listener: elbtypes.Listener{DefaultActions: []elbtypes.Action{{TargetGroupArn: new(groupARN)}}}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, now: noon}
	if r.series, err = metrics.Open(filepath.Join(t.TempDir(), "m"), "", metrics.Config{Now: func() time.Time { return r.now }, MinFree: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.series.Close() })
	r.Gatherer = &Gatherer{Store: s, Sink: r.series.Append, Now: func() time.Time { return r.now }}
	return r
}

func (r *rig) want(namespace, name, stat string, d map[string]string, period time.Duration, want ...float64) {
	r.t.Helper()
	all, err := r.series.Query(r.t.Context(), metrics.Query{Namespace: namespace, Name: name, Dimensions: d, From: noon, To: noon.Add(3 * time.Minute), Period: period, Stat: stat})
	if err != nil {
		r.t.Fatal(err)
	}
	var got []float64
	for _, x := range all {
		got = append(got, x.Values...)
	}
	if len(got) != len(want) {
		r.t.Errorf("%s %s of %v: %v, want %v", name, stat, d, got, want)
		return
	}
	for i := range got {
		if d := got[i] - want[i]; d > 0.02*want[i] || d < -0.02*want[i] {
			r.t.Errorf("%s %s: %v, want %v", name, stat, got, want)
		}
	}
}

// TestUtilization: a minute has one sample a task, as on AWS; shorter periods have what was measured.
func TestUtilization(t *testing.T) {
	r := newRig(t)
	use := func(id string, cpu time.Duration, mib uint64) model.TaskUsage {
		return model.TaskUsage{TaskID: id, Over: 10 * time.Second, CPU: cpu, Memory: mib << 20, Received: 1000, Sent: 500}
	}
	for range 3 {
		r.Usage("n", model.Usage{Tasks: []model.TaskUsage{use("t1", 5*time.Second, 107), use("t2", 2500*time.Millisecond, 107), use("foreign", time.Second, 1), use("unknown", time.Second, 1)}})
		r.now = r.now.Add(10 * time.Second)
	}
	web := map[string]string{"ClusterName": "shop", "ServiceName": "web"}
	r.want(NamespaceECS, "CPUUtilization", "Average", web, 10*time.Second, 75, 75, 75)
	r.want(NamespaceECS, "CPUUtilization", "Average", web, time.Minute) // it is not over
	r.now = noon.Add(time.Minute + time.Second)
	r.Tick()
	r.want(NamespaceECS, "CPUUtilization", "Average", web, time.Minute, 75)
	r.want(NamespaceECS, "CPUUtilization", "Maximum", map[string]string{"ClusterName": "shop"}, time.Minute, 100)
	r.want(NamespaceECS, "CPUUtilization", "SampleCount", web, time.Minute, 2)
	r.want(NamespaceECS, "MemoryUtilization", "Average", web, time.Minute, 20.8984375)
	r.want(NamespaceInsights, "CpuUtilized", "Sum", web, time.Minute, 768)
	r.want(NamespaceInsights, "NetworkRxBytes", "Average", web, time.Minute, 100)
	r.want(metrics.NamespaceTasks, "CpuUtilized", "Average", map[string]string{"TaskId": "t1"}, time.Minute, 512)
	r.want(metrics.NamespaceTasks, "CpuUtilized", "Average", map[string]string{"TaskId": "foreign"}, time.Minute)
	r.Counts()
	r.now = noon.Add(2 * time.Minute)
	r.want(NamespaceECS, "LiveTaskCount", "Average", web, time.Minute, 2)
	r.want(NamespaceECS, "CPUReservation", "Average", map[string]string{"ClusterName": "shop"}, time.Minute, 25)
	r.want(NamespaceInsights, "RunningTaskCount", "Average", web, time.Minute, 2)
}

// TestBalancers: counters become counts of what came since, also when the proxy began anew.
func TestBalancers(t *testing.T) {
	r := newRig(t)
	seen := func(requests, ok, bad int64, at int) proxy.Snapshot {
		return proxy.Snapshot{Balancers: map[string]proxy.Counts{lbARN: {Requests: requests, Own: [5]int64{0, 0, 0, bad, 0}}},
			Groups: map[string]proxy.Answers{groupARN: {Classes: [5]int64{0, ok, 0, 0, 0}, Waits: map[int]int64{at: ok}, Waited: time.Duration(ok) * 20 * time.Millisecond, Healthy: 2}}}
	}
	r.Balancers(seen(100, 90, 10, 30)) // what was before this server
	r.now = noon.Add(5 * time.Second)
	r.Balancers(seen(130, 110, 20, 30))
	r.now = noon.Add(time.Minute)
	r.Balancers(seen(8, 8, 0, 30)) // the proxy was started again
	r.now = noon.Add(2 * time.Minute)
	lb, both := map[string]string{"LoadBalancer": "app/web/1"}, map[string]string{"LoadBalancer": "app/web/1", "TargetGroup": "targetgroup/web/2"}
	r.want(NamespaceALB, "RequestCount", "Sum", lb, time.Minute, 30, 8)
	r.want(NamespaceALB, "HTTPCode_ELB_503_Count", "Sum", lb, time.Minute, 10)
	r.want(NamespaceALB, "HTTPCode_ELB_5XX_Count", "Sum", lb, time.Minute, 10)
	r.want(NamespaceALB, "HTTPCode_Target_2XX_Count", "Sum", both, time.Minute, 20, 8)
	r.want(NamespaceALB, "RequestCountPerTarget", "Sum", both, time.Minute, 10, 4)
	r.want(NamespaceALB, "TargetResponseTime", "Average", lb, time.Minute, 0.020, 0.020)
	r.want(NamespaceALB, "TargetResponseTime", "p99", both, time.Minute, 0.020, 0.020)
	r.want(NamespaceALB, "HealthyHostCount", "Minimum", both, time.Minute, 2, 2)
	r.want(NamespaceALB, "HTTPCode_Target_5XX_Count", "Sum", both, time.Minute)
}
