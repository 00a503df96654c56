package ecs

import (
	"context"
	"fmt"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// BenchmarkRunTask places tasks one by one on a cluster of a thousand nodes.
func BenchmarkRunTask(b *testing.B) {
	st := mem.New(store.Schema())
	defer st.Close()
	a := newAPI(Config{Store: st, Scope: scope})
	ctx := context.Background()
	err := st.Update(ctx, func(tx store.Tx) error {
		for n := range 1000 {
			id := fmt.Sprintf("%032d", n)
			store.Nodes.Put(tx, &model.Node{ID: id, CPU: 1 << 40, Memory: 1 << 40, Arch: "amd64", Connected: true})
			store.Instances.Put(tx, &model.Instance{ID: id, Cluster: "default", NodeID: id, Status: active})
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := a.createCluster(ctx, &sdk.CreateClusterInput{}); err != nil {
		b.Fatal(err)
	}
	if _, err := a.registerTaskDefinition(ctx, &sdk.RegisterTaskDefinitionInput{Family: new("web"),
		ContainerDefinitions: []types.ContainerDefinition{webContainer()}}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		out, err := a.runTask(ctx, &sdk.RunTaskInput{TaskDefinition: new("web")})
		if err != nil || len(out.Tasks) != 1 {
			b.Fatal(err, out)
		}
	}
}
