package gather

import (
	"strings"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
)

// hostsEvery is how often it is told how many hosts are healthy.
const hostsEvery = 10 * time.Second

// Balancers takes the proxy's counters. The first ones since this server or the proxy began are what later ones are compared with.
func (g *Gatherer) Balancers(s proxy.Snapshot) {
	now := g.Now()
	leads := g.leads(s)
	g.mu.Lock()
	defer g.mu.Unlock()
	last := g.counted
	g.counted = s
	if last.Balancers == nil {
		return
	}
	t := &telling{now: now}
	for arn, c := range s.Balancers {
		old := last.Balancers[arn] // zero for a new one
		if c.Requests < old.Requests {
			old = proxy.Counts{} // the proxy began anew
		}
		t.d = map[string]string{"LoadBalancer": balancerName(arn)}
		t.count("RequestCount", c.Requests-old.Requests)
		for i, name := range []string{"HTTPCode_ELB_4XX_Count", "", "HTTPCode_ELB_502_Count", "HTTPCode_ELB_503_Count", "HTTPCode_ELB_504_Count"} {
			if name != "" {
				t.count(name, c.Own[i]-old.Own[i])
			}
		}
		var five int64
		for i := 1; i < 5; i++ {
			five += c.Own[i] - old.Own[i]
		}
		t.count("HTTPCode_ELB_5XX_Count", five)
	}
	hosts := now.Sub(g.hosts) >= hostsEvery
	if hosts {
		g.hosts = now
	}
	for arn, a := range s.Groups {
		old := last.Groups[arn]
		if sum(a.Classes) < sum(old.Classes) || a.Failed < old.Failed {
			old = proxy.Answers{}
		}
		group := groupName(arn)
		for _, lb := range leads[arn] {
			whole, part := map[string]string{"LoadBalancer": lb}, map[string]string{"LoadBalancer": lb, "TargetGroup": group}
			for _, d := range []map[string]string{whole, part} {
				t.d = d
				t.answers(a, old)
			}
			requests := sum(a.Classes) - sum(old.Classes)
			t.count("RequestCount", requests)
			if requests > 0 && a.Healthy > 0 {
				t.d = map[string]string{"TargetGroup": group}
				t.value("RequestCountPerTarget", "None", float64(requests)/float64(a.Healthy))
				t.d = part
				t.value("RequestCountPerTarget", "None", float64(requests)/float64(a.Healthy))
			}
			if hosts {
				t.value("HealthyHostCount", "Count", float64(a.Healthy))
				t.value("UnHealthyHostCount", "Count", float64(a.Unhealthy))
			}
		}
	}
	if len(t.out) > 0 {
		g.Sink(t.out)
	}
}

// telling collects samples of one moment.
type telling struct {
	now time.Time
	d   map[string]string
	out []model.Sample
}

// count tells of n events, if there were any: each is a sample of 1.
func (t *telling) count(name string, n int64) {
	if n > 0 {
		t.out = append(t.out, model.Sample{Namespace: NamespaceALB, Name: name, Dimensions: t.d, Unit: "Count", Time: t.now, Count: float64(n), Sum: float64(n),
			Min: 1, Max: 1})
	}
}

func (t *telling) value(name, unit string, v float64) {
	t.out = append(t.out, model.Sample{Namespace: NamespaceALB, Name: name, Dimensions: t.d, Unit: unit, Time: t.now, Value: v})
}

// answers tells what targets answered since old.
func (t *telling) answers(a, old proxy.Answers) {
	for i, name := range []string{"", "HTTPCode_Target_2XX_Count", "HTTPCode_Target_3XX_Count", "HTTPCode_Target_4XX_Count", "HTTPCode_Target_5XX_Count"} {
		if name != "" {
			t.count(name, a.Classes[i]-old.Classes[i])
		}
	}
	t.count("TargetConnectionErrorCount", a.Failed-old.Failed)
	var values, counts []float64
	var n, taken float64
	for i, c := range a.Waits {
		if c -= old.Waits[i]; c > 0 {
			v := proxy.WaitAt(i).Seconds()
			values, counts = append(values, v), append(counts, float64(c))
			n, taken = n+float64(c), taken+v*float64(c)
		}
	}
	if waited := (a.Waited - old.Waited).Seconds(); n > 0 && waited > 0 {
		for i := range values { // so that the average is what was measured
			values[i] *= waited / taken
		}
		t.out = append(t.out, model.Sample{Namespace: NamespaceALB, Name: "TargetResponseTime", Dimensions: t.d, Unit: "Seconds", Time: t.now, Values: values, Counts: counts})
	}
}

func sum(all [5]int64) (n int64) {
	for _, v := range all {
		n += v
	}
	return n
}

// balancerName is app/<name>/<id>, as dimensions have it.
func balancerName(arn string) string {
	_, name, _ := strings.Cut(arn, ":loadbalancer/")
	return name
}

// groupName is targetgroup/<name>/<id>.
func groupName(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }

// leads are the load balancers whose rules lead to groups, by the groups' ARNs.
func (g *Gatherer) leads(s proxy.Snapshot) map[string][]string {
	all := map[string][]string{}
	add := func(lb string, actions []elbtypes.Action) {
		to := func(group *string) {
			if group == nil {
				return
			}
			for _, known := range all[*group] {
				if known == lb {
					return
				}
			}
			all[*group] = append(all[*group], lb)
		}
		for _, a := range actions {
			to(a.TargetGroupArn)
			if a.ForwardConfig != nil {
				for _, w := range a.ForwardConfig.TargetGroups {
					to(w.TargetGroupArn)
				}
			}
		}
	}
	if len(s.Groups) == 0 {
		return all
	}
	g.Store.View(func(r store.Reader) {
		for l := range store.Listeners.Scan(r, "") {
			lb := balancerName(l.LoadBalancerARN)
			add(lb, l.Listener.DefaultActions)
			for rule := range store.Rules.By(r, store.ByListener, l.ARN) {
				add(lb, rule.Rule.Actions)
			}
		}
	})
	return all
}
