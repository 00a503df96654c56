package places

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	plantask "github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/store/mem"
)

// The size that the issue names, how many tasks a transaction places, and how many transactions go on at once: as control does.
const (
	benchNodes    = 10_000
	benchServices = 10_000
	benchTasks    = 200_000
	benchBatch    = 100
	benchWorkers  = 16
)

var (
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
	begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ids   atomic.Uint64
)

func newID() string {
	id := make([]byte, 16)
	for k, n := 0, ids.Add(1)*0x9e3779b97f4a7c15; k < 8; k, n = k+1, n>>8 {
		id[k], id[15-k] = byte(n), byte(n*31)
	}
	return hex.EncodeToString(id)
}

// serviceTask is a task of one of many services, as control makes it.
func serviceTask(n int) *model.Task {
	def := &model.TaskDefinition{Family: "web", Revision: 1, Definition: types.TaskDefinition{Family: new("web"), NetworkMode: types.NetworkModeAwsvpc,
		ContainerDefinitions: []types.ContainerDefinition{{Name: new("app"), Image: new("registry/app:v1"), Cpu: 128, Memory: new(int32(256))}}}}
	return plantask.New(plantask.Spec{Scope: scope, Cluster: "default", Definition: def, Now: begun, NewID: newID, Service: fmt.Sprint("service-", n%benchServices),
		Deployment: fmt.Sprintf("ecs-svc/%019d", n%benchServices), NetworkConfiguration: &types.NetworkConfiguration{
			AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{"subnet-0a1b2c3d4e5f60718"}}}})
}

// fill makes the nodes and places the tasks. It tells how long each placement took.
func fill(b *testing.B, st store.Store, k *Keeper, tasks int) {
	update := func(f func(tx store.Tx)) {
		if err := st.Update(ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	update(func(tx store.Tx) {
		store.Clusters.Put(tx, &model.Cluster{Name: "default", ARN: scope.ClusterARN("default"), Status: "ACTIVE"})
		for n := range benchNodes {
			store.Nodes.Put(tx, &model.Node{ID: newID(), Connected: true,
				Declaration: model.Declaration{CPU: 65536, Memory: 262144, Arch: "amd64", ReservedPorts: []int32{22, 2375, 2376},
					Attributes: map[string]string{"ecs.availability-zone": fmt.Sprint("us-east-1", string(rune('a'+n%3)))}}})
		}
	})
	for at := 0; at < tasks; at += 2000 {
		update(func(tx store.Tx) { placeMany(b, tx, k, at, 2000, nil) })
	}
}

// placeMany places and stores n tasks.
func placeMany(b *testing.B, tx store.Tx, k *Keeper, at, n int, took func(time.Duration)) {
	for i := range n {
		t := serviceTask(at + i)
		began := time.Now()
		d := k.Place(tx, t)
		if took != nil {
			took(time.Since(began))
		}
		if d.NodeID == "" {
			b.Errorf("not placed: %+v", d)
			return
		}
		t.NodeID, t.InstanceID, t.PlacedAt = d.NodeID, d.InstanceID, begun
		store.Tasks.Put(tx, t)
	}
}

// BenchmarkPlacements places tasks of 10,000 services, in transactions of 100, on 10,000 nodes that hold 200,000 tasks: how many a
// second are placed and stored, what CPU one takes in all, and how long the choice of a place takes. Beside it stands the floor: what the same disk takes when
// the same bytes are written and synced, a transaction at a time.
func BenchmarkPlacements(b *testing.B) {
	for _, kind := range []string{"mem", "etcd"} {
		b.Run(kind, func(b *testing.B) {
			dir := b.TempDir()
			st := store.Store(mem.New(store.Schema()))
			if kind == "etcd" {
				var err error
				st, err = etcd.Open(ctx, etcd.Config{Dir: filepath.Join(dir, "etcd"), Kinds: store.Schema(), Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
			}
			defer st.Close()
			k := New(st)
			fill(b, st, k, benchTasks)
			var mu sync.Mutex
			var took []time.Duration
			total := 0
			var before, after unix.Rusage
			_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
			for b.Loop() {
				const round = 20_000
				var wg sync.WaitGroup
				var next atomic.Int64
				for range benchWorkers {
					wg.Go(func() {
						for at := int(next.Add(benchBatch)); at <= round; at = int(next.Add(benchBatch)) {
							var mine []time.Duration
							err := st.Update(ctx, func(tx store.Tx) error {
								placeMany(b, tx, k, total+at, benchBatch, func(d time.Duration) { mine = append(mine, d) })
								return nil
							})
							if err != nil {
								b.Error(err)
							}
							mu.Lock()
							took = append(took, mine...)
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				total += round
			}
			_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
			slices.Sort(took)
			b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "placements/s")
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "choice-p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "choice-p99-µs")
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/1000/float64(total), "cpu-µs/placement")
			b.ReportMetric(0, "ns/op")
			if kind == "etcd" {
				b.ReportMetric(floor(b, dir), "floor/s")
			}
		})
	}
}

// floor is how many tasks a second a loop writes that appends a batch's JSON to a file and syncs it.
func floor(b *testing.B, dir string) float64 {
	var batch []byte
	for n := range benchBatch {
		row, err := model.EncodeJSON(serviceTask(n))
		if err != nil {
			b.Fatal(err)
		}
		batch = append(batch, row...)
	}
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const batches = 200
	began := time.Now()
	for range batches {
		if _, err := f.Write(batch); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return batches * benchBatch / time.Since(began).Seconds()
}
