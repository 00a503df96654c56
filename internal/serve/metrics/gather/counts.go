package gather

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

type setting = types.ClusterSetting

// Counts tells how many tasks services have, and what clusters have reserved of their machines: the leader calls it once a minute.
func (g *Gatherer) Counts() {
	at := g.Now().Truncate(time.Minute)
	var out []model.Sample
	g.Store.View(func(r store.Reader) {
		for c := range store.Clusters.Scan(r, "") {
			if c.Status == "ACTIVE" {
				out = append(out, cluster(r, c, at)...)
			}
		}
	})
	if len(out) > 0 {
		g.Sink(out)
	}
}

type tally struct {
	running, pending, live int
	desired                int
}

func cluster(r store.Reader, c *model.Cluster, at time.Time) (out []model.Sample) {
	services := map[string]*tally{}
	for s := range store.Services.By(r, store.ByCluster, c.Name) {
		if s.Status == "ACTIVE" {
			services[s.Name] = &tally{desired: int(s.DesiredCount)}
		}
	}
	var all tally
	var cpu, memory int64
	for t := range store.Tasks.By(r, store.ByCluster, c.Name) {
		if t.Ended() {
			continue
		}
		count := []*tally{&all}
		if s := services[t.Service]; s != nil {
			count = append(count, s)
		}
		for _, n := range count {
			n.live++
			if t.LastStatus() == model.Running {
				n.running++
			} else if t.LastStatus().Before(model.Running) {
				n.pending++
			}
		}
		if t.NodeID != "" {
			cpu, memory = cpu+t.Needs.CPU, memory+t.Needs.Memory
		}
	}
	add := func(namespace, name, unit string, d map[string]string, v float64) {
		out = append(out, model.Sample{Namespace: namespace, Name: name, Dimensions: d, Unit: unit, Time: at, Value: v})
	}
	whole := map[string]string{"ClusterName": c.Name}
	var haveCPU, haveMemory int64
	instances := store.InstancesOf(r, c.Name)
	for _, i := range instances {
		if n, ok := store.Nodes.Get(r, i.NodeID); ok {
			haveCPU, haveMemory = haveCPU+n.CPU, haveMemory+n.Memory
		}
	}
	if haveCPU > 0 && haveMemory > 0 {
		add(NamespaceECS, "CPUReservation", "Percent", whole, 100*float64(cpu)/float64(haveCPU))
		add(NamespaceECS, "MemoryReservation", "Percent", whole, 100*float64(memory)/float64(haveMemory))
	}
	on := insights(c)
	if on {
		add(NamespaceInsights, "TaskCount", "Count", whole, float64(all.running))
		add(NamespaceInsights, "ServiceCount", "Count", whole, float64(len(services)))
		add(NamespaceInsights, "ContainerInstanceCount", "Count", whole, float64(len(instances)))
	}
	for name, n := range services {
		d := map[string]string{"ClusterName": c.Name, "ServiceName": name}
		add(NamespaceECS, "LiveTaskCount", "Count", d, float64(n.live))
		if on {
			add(NamespaceInsights, "RunningTaskCount", "Count", d, float64(n.running))
			add(NamespaceInsights, "PendingTaskCount", "Count", d, float64(n.pending))
			add(NamespaceInsights, "DesiredTaskCount", "Count", d, float64(n.desired))
		}
	}
	return out
}
