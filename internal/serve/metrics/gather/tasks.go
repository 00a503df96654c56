// Package gather makes metrics of what is measured: of what nodes say that their tasks use, of what the proxy counts, and of what the store
// has of services. Each server gathers for its own sessions and its own proxy; the metrics of all servers add up.
package gather

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
)

// The namespaces, as AWS names them.
const (
	NamespaceECS      = "AWS/ECS"
	NamespaceInsights = "ECS/ContainerInsights"
	NamespaceALB      = "AWS/ApplicationELB"
)

// Gatherer makes samples and hands them to Sink.
type Gatherer struct {
	Store store.Store
	Sink  func([]model.Sample)
	Now   func() time.Time

	mu      sync.Mutex
	minutes map[string]*minute // by task
	counted proxy.Snapshot     // the last one
	hosts   time.Time          // when the hosts were told last
}

// minute adds up what a task used in a minute.
type minute struct {
	task  *model.Task
	begin time.Time
	over  time.Duration
	cpu   time.Duration
	bytes [2]uint64
	// memory is the sum of measurements, of which there are n.
	memory float64
	n      int
}

// unbounded is what a task's CPU is compared with that reserves none: one CPU.
const unbounded = 1024

// Usage takes what tasks of a node use. What is said of another node's tasks is dropped.
func (g *Gatherer) Usage(node string, u model.Usage) {
	now := g.Now()
	begin := now.Truncate(time.Minute)
	tasks := make([]*model.Task, len(u.Tasks))
	g.Store.View(func(r store.Reader) {
		for i := range u.Tasks {
			if t, ok := store.Tasks.Get(r, u.Tasks[i].TaskID); ok && t.NodeID == node {
				tasks[i] = t
			}
		}
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []model.Sample
	for i, t := range tasks {
		use := &u.Tasks[i]
		if t == nil || use.Over <= 0 || use.Over > time.Hour || use.CPU < 0 {
			continue
		}
		m := g.minutes[t.ID]
		if m != nil && !m.begin.Equal(begin) {
			out = append(out, g.close(m)...)
			m = nil
		}
		if m == nil {
			m = &minute{begin: begin}
			if g.minutes == nil {
				g.minutes = map[string]*minute{}
			}
			g.minutes[t.ID] = m
		}
		m.task, m.over, m.cpu = t, m.over+use.Over, m.cpu+use.CPU
		m.bytes[0] += use.Received
		m.bytes[1] += use.Sent
		m.memory, m.n = m.memory+float64(use.Memory>>20), m.n+1
		units, mib := cpuUnits(use.CPU, use.Over), float64(use.Memory>>20)
		out = append(out, perTask(t, now, units, mib, use)...)
		for _, d := range owners(t) {
			out = append(out, utilization(t, d, now, model.GrainFine, units, mib)...)
		}
	}
	if len(out) > 0 {
		g.Sink(out)
	}
}

func cpuUnits(cpu, over time.Duration) float64 { return 1024 * cpu.Seconds() / over.Seconds() }

// owners are the dimensions under which a task counts.
func owners(t *model.Task) []map[string]string {
	all := []map[string]string{{"ClusterName": t.Cluster}}
	if t.Service != "" {
		all = append(all, map[string]string{"ClusterName": t.Cluster, "ServiceName": t.Service})
	}
	return all
}

// utilization compares a task's use with what it reserves.
func utilization(t *model.Task, d map[string]string, at time.Time, grain model.Grain, units, mib float64) []model.Sample {
	reserved := float64(t.Needs.CPU)
	if reserved == 0 {
		reserved = unbounded
	}
	s := model.Sample{Namespace: NamespaceECS, Name: "CPUUtilization", Dimensions: d, Unit: "Percent", Time: at, Value: 100 * units / reserved, Grain: grain}
	if t.Needs.Memory == 0 {
		return []model.Sample{s}
	}
	memory := s
	memory.Name, memory.Value = "MemoryUtilization", 100*math.Floor(mib)/float64(t.Needs.Memory)
	return []model.Sample{s, memory}
}

// perTask is for the console.
func perTask(t *model.Task, at time.Time, units, mib float64, use *model.TaskUsage) []model.Sample {
	d := map[string]string{"TaskId": t.ID}
	s := func(name, unit string, v float64) model.Sample {
		return model.Sample{Namespace: metrics.NamespaceTasks, Name: name, Dimensions: d, Unit: unit, Time: at, Value: v}
	}
	all := []model.Sample{s("CpuUtilized", "None", units), s("MemoryUtilized", "Megabytes", mib)}
	if use.Received+use.Sent > 0 {
		all = append(all, s("NetworkRxBytes", "Bytes/Second", float64(use.Received)/use.Over.Seconds()),
			s("NetworkTxBytes", "Bytes/Second", float64(use.Sent)/use.Over.Seconds()))
	}
	return all
}

// close makes the samples of a minute that is over: one a task, so that a metric's SampleCount is the number of its tasks. It needs the lock.
func (g *Gatherer) close(m *minute) (out []model.Sample) {
	delete(g.minutes, m.task.ID)
	if m.n == 0 {
		return nil
	}
	units, mib := cpuUnits(m.cpu, m.over), m.memory/float64(m.n)
	dimensions := owners(m.task)
	for _, d := range dimensions {
		out = append(out, utilization(m.task, d, m.begin, model.GrainCoarse, units, mib)...)
	}
	if !g.insights(m.task.Cluster) {
		return out
	}
	dimensions = append(dimensions, map[string]string{"ClusterName": m.task.Cluster, "TaskDefinitionFamily": m.task.Family})
	for _, d := range dimensions {
		for _, x := range []struct {
			name, unit string
			v          float64
		}{
			{"CpuUtilized", "None", units}, {"CpuReserved", "None", float64(m.task.Needs.CPU)},
			{"MemoryUtilized", "Megabytes", mib}, {"MemoryReserved", "Megabytes", float64(m.task.Needs.Memory)},
			{"NetworkRxBytes", "Bytes/Second", float64(m.bytes[0]) / m.over.Seconds()},
			{"NetworkTxBytes", "Bytes/Second", float64(m.bytes[1]) / m.over.Seconds()},
		} {
			out = append(out, model.Sample{Namespace: NamespaceInsights, Name: x.name, Dimensions: d, Unit: x.unit, Time: m.begin, Value: x.v, Grain: model.GrainCoarse})
		}
	}
	return out
}

// insights tells whether a cluster wants Container Insights.
func (g *Gatherer) insights(cluster string) (on bool) {
	g.Store.View(func(r store.Reader) {
		if c, ok := store.Clusters.Get(r, cluster); ok {
			on = insights(c)
		}
	})
	return on
}

func insights(c *model.Cluster) bool {
	return slices.ContainsFunc(c.Settings, func(s setting) bool {
		return s.Name == "containerInsights" && s.Value != nil && *s.Value != "disabled" && *s.Value != ""
	})
}

// Tick closes the minutes that are over: call it every few seconds.
func (g *Gatherer) Tick() {
	begin := g.Now().Truncate(time.Minute)
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []model.Sample
	for _, id := range slices.Sorted(maps.Keys(g.minutes)) {
		if m := g.minutes[id]; m.begin.Before(begin) {
			out = append(out, g.close(m)...)
		}
	}
	if len(out) > 0 {
		g.Sink(out)
	}
}
