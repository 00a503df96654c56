package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/store/mem"
)

// plant is a cluster of many nodes and services whose nodes do at once what they are told.
type plant struct {
	b   *testing.B
	st  store.Store
	now time.Time
	c   *control.Control
	ids atomic.Int64 // control calls for them in several goroutines
}

func newPlant(b *testing.B, st store.Store, nodes int) *plant {
	p := &plant{b: b, st: st, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p.c = control.New(control.Config{Store: st, Scope: scope, Now: func() time.Time { return p.now }, Pace: model.PaceFast,
		NewID: func() string { return fmt.Sprintf("%032x", p.ids.Add(1)) }, Log: slog.New(slog.DiscardHandler)})
	p.update(func(tx store.Tx) {
		store.Clusters.Put(tx, &model.Cluster{Name: "default", ARN: scope.ClusterARN("default"), Status: "ACTIVE"})
		for k := range nodes {
			store.Nodes.Put(tx, &model.Node{ID: fmt.Sprintf("n%05d", k), Connected: true, Epoch: 1,
				Declaration: model.Declaration{CPU: 1 << 20, Memory: 1 << 20, Attributes: map[string]string{"ecs.availability-zone": fmt.Sprint("z", k%3)}}})
		}
		store.TaskDefinitions.Put(tx, &model.TaskDefinition{Family: "web", Revision: 1, Definition: types.TaskDefinition{
			Family: new("web"), NetworkMode: types.NetworkModeBridge, Status: types.TaskDefinitionStatusActive,
			ContainerDefinitions: []types.ContainerDefinition{{Name: new("c"), Image: new("i"), Memory: new(int32(100))}}}})
	})
	return p
}

func (p *plant) update(f func(tx store.Tx)) {
	p.b.Helper()
	if err := p.st.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		p.b.Fatal(err)
	}
}

// service asks for a service of count tasks.
func (p *plant) service(name string, count int32) {
	p.update(func(tx store.Tx) {
		id := fmt.Sprintf("%019d", p.ids.Add(1))
		store.Services.Put(tx, &model.Service{Cluster: "default", Name: name, Status: "ACTIVE", CreatedAt: p.now, DesiredCount: count,
			RevisionID: id})
		store.ServiceRevisions.Put(tx, &model.ServiceRevision{ID: id, Cluster: "default", Service: name,
			TaskDefinition: scope.TaskDefinitionARN("web", 1), LaunchType: types.LaunchTypeEc2})
		store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/" + id, Cluster: "default", Service: name, RevisionID: id,
			Status: model.DeploymentPrimary, RolloutState: types.DeploymentRolloutStateInProgress,
			State: types.ServiceDeploymentStatusInProgress, CreatedAt: p.now, UpdatedAt: p.now})
	})
}

func (p *plant) step() {
	p.b.Helper()
	if _, err := p.c.Step(context.Background()); err != nil {
		p.b.Fatal(err)
	}
}

// runAll makes every placed task RUNNING, as many at a time as agents report.
func (p *plant) runAll() {
	var starting []*model.Task
	p.st.View(func(r store.Reader) {
		for t := range store.Tasks.By(r, store.ByState, store.TaskLive) {
			if t.Observed.Status.Before(model.Running) {
				starting = append(starting, t)
			}
		}
	})
	for some := range slices.Chunk(starting, 256) {
		p.update(func(tx store.Tx) {
			for _, old := range some {
				t := *old
				t.Observed.Status, t.Observed.StartedAt = model.Running, p.now
				store.Tasks.Put(tx, &t)
			}
		})
	}
}

func (p *plant) placed() int {
	n := 0
	p.st.View(func(r store.Reader) {
		for range store.Tasks.By(r, store.ByState, store.TaskLive) {
			n++
		}
	})
	return n
}

// BenchmarkScale is control over 10,000 nodes, 10,000 services and 200,000 tasks in memory: what a change costs, what nothing costs, and
// what a look at everything does.
func BenchmarkScale(b *testing.B) {
	const nodes, services, each = 10_000, 10_000, 20
	p := newPlant(b, mem.New(store.Schema()), nodes)
	defer p.st.Close()
	p.step()
	for k := range services {
		p.service(fmt.Sprintf("s%05d", k), each)
	}
	once := func(name string, f func(b *testing.B)) { // what is done once reports its own numbers
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			f(b)
			b.N = 1
		})
	}
	began := time.Now()
	p.step()
	took := time.Since(began)
	if p.placed() != services*each {
		b.Fatalf("%d tasks are placed", p.placed())
	}
	p.rest()
	once("first rollout", func(b *testing.B) { b.ReportMetric(services*each/took.Seconds(), "placements/s") })
	once("memory of store, places and control", func(b *testing.B) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc>>20), "MB")
	})
	once("a look at everything", func(b *testing.B) {
		began := time.Now()
		if _, err := control.New(p.c.Config).Step(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s")
	})
	once("idle", func(b *testing.B) {
		between, a := p.idle()
		b.ReportMetric(between, "%core-between-repairs")
		b.ReportMetric(a.Seconds(), "s-of-CPU/repair")
	})

	var tasks []*model.Task
	p.st.View(func(r store.Reader) { tasks = slices.Collect(store.Tasks.By(r, store.ByState, store.TaskLive)) })
	b.Run("one report", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			old := tasks[n*7919%len(tasks)]
			p.update(func(tx store.Tx) {
				t := *old
				t.Observed.Seq, t.Version = int64(n+1), t.Version+1
				store.Tasks.Put(tx, &t)
			})
			p.step()
		}
	})
	b.Run("one start", func(b *testing.B) {
		before := p.placed()
		for n := 0; b.Loop(); n++ {
			p.update(func(tx store.Tx) {
				old, _ := store.Services.Get(tx, fmt.Sprintf("default/s%05d", n*7919%services))
				s := *old
				s.DesiredCount++
				store.Services.Put(tx, &s)
			})
			p.step()
		}
		if p.placed() == before {
			b.Fatal("nothing was started")
		}
	})
}

// rest lets all tasks run until the services are steady.
func (p *plant) rest() {
	for range 3 {
		p.runAll()
		p.step()
		p.now = p.now.Add(5 * time.Second)
		p.step()
	}
}

// idle runs control for a while in which nothing happens: what it takes, in percent of one core, between two repairs, and what a
// repair takes.
func (p *plant) idle() (between float64, repair time.Duration) {
	c := p.c.Config
	c.Now = time.Now
	c.Repair = 20 * time.Second
	idle := control.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- idle.Run(ctx) }()
	time.Sleep(10 * time.Second) // the first look at everything is over
	was := cpu()
	time.Sleep(time.Until(began.Add(19 * time.Second)))
	between = 100 * float64(cpu()-was) / float64(9*time.Second)
	was = cpu()
	time.Sleep(c.Repair + 2*time.Second)
	repair = cpu() - was
	cancel()
	if err := <-done; err != nil {
		p.b.Fatal(err)
	}
	return between, repair
}

// cpu is what the process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFloor stores 10,000 placed tasks durably, ten a transaction, from as many goroutines as control has: what BenchmarkPlacement
// cannot beat on this disk.
func BenchmarkFloor(b *testing.B) {
	const services, each = 1000, 10
	var took time.Duration
	for b.Loop() {
		st, err := etcd.Open(context.Background(), etcd.Config{Dir: b.TempDir(), Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		var g errgroup.Group
		g.SetLimit(32)
		for s := range services {
			g.Go(func() error {
				return st.Update(context.Background(), func(tx store.Tx) error {
					for k := range each {
						store.Tasks.Put(tx, &model.Task{ID: fmt.Sprintf("%032d", s*each+k), Cluster: "default", Service: fmt.Sprint(s),
							NodeID: fmt.Sprintf("n%05d", s), InstanceID: fmt.Sprintf("%032d", s), Desired: model.Running, Version: 1})
					}
					return nil
				})
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
		st.Close()
	}
	b.ReportMetric(float64(services*each*b.N)/took.Seconds(), "tasks/s")
}

// BenchmarkPlacement makes 1,000 services of 10 tasks on 1,000 nodes at once, as control runs, and counts placements a second.
func BenchmarkPlacement(b *testing.B) {
	for _, durable := range []bool{false, true} {
		b.Run(map[bool]string{false: "mem", true: "etcd with fsync"}[durable], func(b *testing.B) {
			const services, each = 1000, 10
			var took time.Duration
			for b.Loop() {
				st := store.Store(mem.New(store.Schema()))
				if durable {
					dir, err := os.MkdirTemp("", "berth-bench-")
					if err != nil {
						b.Fatal(err)
					}
					defer os.RemoveAll(dir)
					st, err = etcd.Open(context.Background(), etcd.Config{Dir: dir, Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
					if err != nil {
						b.Fatal(err)
					}
				}
				p := newPlant(b, st, 1000)
				for k := range services {
					p.service(fmt.Sprint("s", k), each)
				}
				ctx, cancel := context.WithCancel(context.Background())
				tasks := st.Watch(ctx, store.Tasks.All())
				began := time.Now()
				done := make(chan error, 1)
				go func() { done <- p.c.Run(ctx) }()
				placed := map[string]bool{}
				for len(placed) < services*each {
					<-tasks.C()
					batch := tasks.Take()
					if batch.All {
						b.Fatal("too much changed to be counted")
					}
					for _, c := range batch.Changes {
						if t, ok := c.New.(*model.Task); ok && t.NodeID != "" {
							placed[t.ID] = true
						}
					}
				}
				took += time.Since(began)
				cancel()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				st.Close()
			}
			b.ReportMetric(float64(services*each*b.N)/took.Seconds(), "placements/s")
		})
	}
}
