package ecs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var scope = model.Scope{Account: "000000000000", Region: "us-east-1"}

const (
	arnPrefix  = "arn:aws:ecs:us-east-1:000000000000:"
	instanceID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	groupARN   = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/0123456789abcdef"
)

// rig is an API over a store in memory with a clock and ids that the test knows.
type rig struct {
	*api
	t     *testing.T
	clock time.Time
	ids   int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	st := mem.New(store.Schema())
	t.Cleanup(func() { st.Close() })
	r.api = newAPI(Config{
		Store: st, Scope: scope, Now: func() time.Time { return r.clock },
		NewID: func() string { r.ids++; return fmt.Sprintf("%032x", r.ids) },
	})
	ok(r.createCluster(r.ctx(), &sdk.CreateClusterInput{}))(t)
	return r
}

func (r *rig) ctx() context.Context { return context.Background() }

// write changes the store as other rooms would.
func (r *rig) write(f func(tx store.Tx)) {
	r.t.Helper()
	if err := r.store.Update(r.ctx(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		r.t.Fatal(err)
	}
}

// node adds a node of 2048 CPU units and 4096 MiB that is an instance of the default cluster.
func (r *rig) node() {
	r.t.Helper()
	r.write(func(tx store.Tx) {
		store.Nodes.Put(tx, &model.Node{ID: "n1", Connected: true,
			Declaration: model.Declaration{CPU: 2048, Memory: 4096, ReservedPorts: []int32{22, 4566}, Arch: "amd64", Version: "0.1",
				Attributes: map[string]string{"ecs.os-type": "linux", "ecs.availability-zone": "us-east-1b"}, RuntimeVersion: "2.4.2"}})
		store.Instances.Put(tx, &model.Instance{
			ID: instanceID, ARN: scope.InstanceARN("default", instanceID), Cluster: "default", NodeID: "n1",
			EC2ID: "i-0123456789abcdef0", Status: "ACTIVE", RegisteredAt: r.clock, Version: 1,
		})
	})
}

// observe changes a task as its agent would.
func (r *rig) observe(id string, change func(t *model.Task)) {
	r.t.Helper()
	r.write(func(tx store.Tx) {
		t, found := store.Tasks.Get(tx, id)
		if !found {
			r.t.Fatalf("no task %s", id)
		}
		changed := *t
		change(&changed)
		store.Tasks.Put(tx, &changed)
	})
}

func webContainer() types.ContainerDefinition {
	return types.ContainerDefinition{
		Name: new("web"), Image: new("nginx"), Cpu: 99, Memory: new(int32(100)),
		PortMappings: []types.PortMapping{{ContainerPort: new(int32(80))}},
	}
}

// define registers a definition and returns its ARN.
func (r *rig) define(family string, change func(*sdk.RegisterTaskDefinitionInput)) string {
	r.t.Helper()
	in := &sdk.RegisterTaskDefinitionInput{Family: &family, ContainerDefinitions: []types.ContainerDefinition{webContainer()}}
	if change != nil {
		change(in)
	}
	return *ok(r.registerTaskDefinition(r.ctx(), in))(r.t).TaskDefinition.TaskDefinitionArn
}

func fargate(in *sdk.RegisterTaskDefinitionInput) {
	in.NetworkMode, in.Cpu, in.Memory = types.NetworkModeAwsvpc, new("256"), new("512")
	in.RequiresCompatibilities = []types.Compatibility{types.CompatibilityFargate}
}

func subnets() *types.NetworkConfiguration {
	return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{"subnet-1"}}}
}

// targetGroup adds a target group that a listener forwards to.
func (r *rig) targetGroup(kind elbtypes.TargetTypeEnum, attached bool) {
	r.t.Helper()
	r.write(func(tx store.Tx) {
		store.TargetGroups.Put(tx, &model.TargetGroup{ARN: groupARN, Name: "web", Group: elbtypes.TargetGroup{TargetType: kind}})
		actions := []elbtypes.Action{}
		if attached {
			actions = append(actions, elbtypes.Action{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: new(groupARN)})
		}
		store.Listeners.Put(tx, &model.Listener{ARN: "listener", Listener: elbtypes.Listener{DefaultActions: actions}})
	})
}

// ok takes what an operation returned and fails the test on an error.
func ok[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return v
	}
}

// refused checks that an operation was refused with exactly this code and text.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	if conflict, is := errors.AsType[*types.ConflictException](err); is {
		err = &model.Error{Code: "ConflictException", Message: *conflict.Message}
	}
	if e, is := errors.AsType[*model.Error](err); !is || e.Code != code || e.Message != text {
		t.Errorf("\n got %v\nwant %s: %s", err, code, text)
	}
}

// equalJSON compares a shape with its golden JSON.
func equalJSON(t *testing.T, name string, got any, want string) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var x, y any
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &y); err != nil {
		t.Fatalf("%s: golden: %v", name, err)
	}
	gx, _ := json.MarshalIndent(pruned(x), "", " ")
	gy, _ := json.MarshalIndent(pruned(y), "", " ")
	if string(gx) != string(gy) {
		t.Errorf("%s:\n got %s\nwant %s", name, gx, gy)
	}
}

// pruned drops what the protocol would leave out: null, false, 0 and "". Empty lists stay, they are part of the contract.
func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if x = pruned(x); x != nil {
				out[k] = x
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, x := range v {
			out = append(out, pruned(x))
		}
		return out
	case string:
		if v == "" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}
