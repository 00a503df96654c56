package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

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
	ids int
}

func newPlant(b *testing.B, st store.Store, nodes int) *plant {
	p := &plant{b: b, st: st, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p.c = control.New(control.Config{Store: st, Scope: scope, Now: func() time.Time { return p.now }, Pace: model.PaceFast,
		NewID: func() string { p.ids++; return fmt.Sprintf("%032x", p.ids) }, Log: slog.New(slog.DiscardHandler)})
	p.update(func(tx store.Tx) {
		store.Clusters.Put(tx, &model.Cluster{Name: "default", ARN: scope.ClusterARN("default"), Status: "ACTIVE"})
		for k := range nodes {
			store.Nodes.Put(tx, &model.Node{ID: fmt.Sprintf("n%04d", k), CPU: 1 << 20, Memory: 1 << 20, Connected: true, Epoch: 1,
				Attributes: map[string]string{"ecs.availability-zone": fmt.Sprint("z", k%3)}})
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
		p.ids++
		id := fmt.Sprintf("%019d", p.ids)
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

// runAll makes every placed task RUNNING.
func (p *plant) runAll() {
	p.update(func(tx store.Tx) {
		for _, old := range slices.Collect(store.Tasks.By(tx, store.ByState, store.TaskLive)) {
			if old.Observed.Status.Before(model.Running) {
				t := *old
				t.Observed.Status, t.Observed.StartedAt = model.Running, p.now
				store.Tasks.Put(tx, &t)
			}
		}
	})
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

// BenchmarkPass is one look at 1,000 steady services of 3 tasks on 100 nodes, and one in which one task has changed.
func BenchmarkPass(b *testing.B) {
	p := newPlant(b, mem.New(store.Schema()), 100)
	for k := range 1000 {
		p.service(fmt.Sprint("s", k), 3)
	}
	began := time.Now()
	p.step()
	b.Logf("first pass, which makes and places %d tasks: %s", p.placed(), time.Since(began))
	for range 4 {
		p.runAll()
		p.now = p.now.Add(10 * time.Second)
		p.step()
	}
	b.Run("nothing to do", func(b *testing.B) {
		for b.Loop() {
			p.step()
		}
	})
	b.Run("one task changed", func(b *testing.B) {
		for b.Loop() {
			p.update(func(tx store.Tx) {
				for t := range store.Tasks.By(tx, store.ByState, store.TaskLive) {
					c := *t
					c.Version++
					store.Tasks.Put(tx, &c)
					return
				}
			})
			p.step()
		}
	})
}

// BenchmarkPlacement makes 100 services of 100 tasks on 1,000 nodes, stored durably, and counts placements a second.
func BenchmarkPlacement(b *testing.B) {
	for _, durable := range []bool{false, true} {
		b.Run(map[bool]string{false: "mem", true: "etcd with fsync"}[durable], func(b *testing.B) {
			total := 0
			for b.Loop() {
				b.StopTimer()
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
				p.step()
				b.StartTimer()
				for k := range 100 {
					p.service(fmt.Sprint("s", k), 100)
					if k%10 == 9 {
						p.step()
					}
				}
				for p.placed() < 10_000 {
					p.step()
				}
				b.StopTimer()
				total += p.placed()
				st.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "placements/s")
		})
	}
}
