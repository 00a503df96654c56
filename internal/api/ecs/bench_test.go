package ecs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// BenchmarkRunTask runs tasks one by one on a cluster of 10,000 nodes with 200,000 tasks, and tells how long the transaction takes in
// which they are checked, placed and stored.
func BenchmarkRunTask(b *testing.B) {
	st := mem.New(store.Schema())
	defer st.Close()
	a := newAPI(Config{Store: st, Scope: scope})
	ctx := context.Background()
	if _, err := a.createCluster(ctx, &sdk.CreateClusterInput{}); err != nil {
		b.Fatal(err)
	}
	if _, err := a.registerTaskDefinition(ctx, &sdk.RegisterTaskDefinitionInput{Family: new("web"),
		ContainerDefinitions: []types.ContainerDefinition{webContainer()}}); err != nil {
		b.Fatal(err)
	}
	const nodes, tasks = 10_000, 200_000
	for at := 0; at < nodes+tasks; at += 10_000 {
		err := st.Update(ctx, func(tx store.Tx) error {
			for n := at; n < at+10_000; n++ {
				if id := fmt.Sprintf("%032x", n); n < nodes {
					store.Nodes.Put(tx, &model.Node{ID: id, Connected: true,
						Declaration: model.Declaration{CPU: 65536, Memory: 262144, Arch: "amd64",
							Attributes: map[string]string{"ecs.availability-zone": fmt.Sprint(n % 3)}}})
				} else {
					store.Tasks.Put(tx, &model.Task{ID: id, Cluster: "default", Service: fmt.Sprint("s", n%nodes), Group: fmt.Sprint("service:s", n%nodes),
						NodeID: fmt.Sprintf("%032x", n%nodes), InstanceID: "i", Needs: model.Resources{CPU: 128, Memory: 256}})
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		out, err := a.runTask(ctx, &sdk.RunTaskInput{TaskDefinition: new("web")})
		if err != nil || len(out.Tasks) != 1 {
			b.Fatal(err, out)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
}
