package ecs

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func TestCreateClusterIsIdempotent(t *testing.T) {
	r := newRig(t)
	in := &sdk.CreateClusterInput{
		ClusterName: new("c"), CapacityProviders: []string{"FARGATE"}, Tags: []types.Tag{{Key: new("a"), Value: new("b")}},
		Settings: []types.ClusterSetting{{Name: "containerInsights", Value: new("enabled")}},
	}
	first := ok(r.createCluster(r.ctx(), in))(t)
	equalJSON(t, "cluster", first.Cluster, `{
		"ClusterArn": "`+arnPrefix+`cluster/c", "ClusterName": "c", "Status": "ACTIVE",
		"Settings": [{"Name": "containerInsights", "Value": "enabled"}], "CapacityProviders": ["FARGATE"],
		"DefaultCapacityProviderStrategy": [], "Tags": [{"Key": "a", "Value": "b"}],
		"Statistics": []}`)
	ok(r.createCluster(r.ctx(), in))(t)
	in.CapacityProviders = nil
	_, err := r.createCluster(r.ctx(), in)
	refused(t, err, "InvalidParameterException",
		"Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
}

func TestDescribeClusters(t *testing.T) {
	r := newRig(t)
	out := ok(r.describeClusters(r.ctx(), &sdk.DescribeClustersInput{Clusters: []string{"default", "x"}}))(t)
	c := out.Clusters[0]
	if len(c.Settings) != 0 || c.Settings == nil || c.Statistics == nil || len(c.Statistics) != 0 || c.Tags == nil {
		t.Errorf("what was not included must be []: %+v", c)
	}
	if f := out.Failures; len(f) != 1 || *f[0].Arn != arnPrefix+"cluster/x" || *f[0].Reason != "MISSING" {
		t.Errorf("failures: %+v", f)
	}
	out = ok(r.describeClusters(r.ctx(), &sdk.DescribeClustersInput{Include: []types.ClusterField{"SETTINGS"}}))(t)
	if s := out.Clusters[0].Settings; len(s) != 1 || *s[0].Value != "disabled" {
		t.Errorf("no names mean the default cluster, with its settings: %+v", s)
	}
}

func TestUnknownAndInactiveCluster(t *testing.T) {
	r := newRig(t)
	ok(r.createCluster(r.ctx(), &sdk.CreateClusterInput{ClusterName: new("gone")}))(t)
	ok(r.deleteCluster(r.ctx(), &sdk.DeleteClusterInput{Cluster: new("gone")}))(t)
	for _, tt := range []struct{ cluster, text string }{
		{"nope", "Cluster not found."},
		{"arn:aws:ecs:eu-west-1:000000000000:cluster/default", "Cluster not found."},
		{"gone", "The referenced cluster was inactive."},
		{arnPrefix + "cluster/gone", "The referenced cluster was inactive."},
	} {
		_, err := r.listTasks(r.ctx(), &sdk.ListTasksInput{Cluster: &tt.cluster})
		refused(t, err, "ClusterNotFoundException", tt.text)
	}
	_, err := r.updateCluster(r.ctx(), &sdk.UpdateClusterInput{Cluster: new("gone")})
	refused(t, err, "ClientException", "Cluster was not ACTIVE.")
	if out := ok(r.describeClusters(r.ctx(),
		&sdk.DescribeClustersInput{Clusters: []string{"gone"}}))(t); *out.Clusters[0].Status != "INACTIVE" {
		t.Errorf("a deleted cluster stays describable: %+v", out)
	}
	if out := ok(r.listClusters(r.ctx(), &sdk.ListClustersInput{}))(t); !slices.Equal(out.ClusterArns,
		[]string{arnPrefix + "cluster/default"}) {
		t.Errorf("listed: %v", out.ClusterArns)
	}
	ok(r.createCluster(r.ctx(), &sdk.CreateClusterInput{ClusterName: new("gone")}))(t)
}

func TestDeleteClusterRefusals(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("web", nil)
	ok(r.createService(r.ctx(), &sdk.CreateServiceInput{ServiceName: new("s"), TaskDefinition: &def,
		DesiredCount: new(int32(0))}))(t)
	task := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def}))(t).Tasks[0]
	_, err := r.deleteCluster(r.ctx(), &sdk.DeleteClusterInput{Cluster: new("default")})
	refused(t, err, "ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
	r.observe(model.ARNTail(*task.TaskArn), func(t *model.Task) { t.Observed.Status = model.Stopped })
	_, err = r.deleteCluster(r.ctx(), &sdk.DeleteClusterInput{Cluster: new("default")})
	refused(t, err, "ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active.")
	r.write(func(tx store.Tx) {
		s, _ := store.Services.Get(tx, "default/s")
		changed := *s
		changed.Status = inactive
		store.Services.Put(tx, &changed)
	})
	out := ok(r.deleteCluster(r.ctx(), &sdk.DeleteClusterInput{Cluster: new("default")}))(t)
	if *out.Cluster.Status != "INACTIVE" || out.Cluster.RegisteredContainerInstancesCount != 0 {
		t.Errorf("deleted: %+v", out.Cluster)
	}
}

func TestCapacityProviders(t *testing.T) {
	r := newRig(t)
	item := func(name string, base, weight int32) types.CapacityProviderStrategyItem {
		return types.CapacityProviderStrategyItem{CapacityProvider: &name, Base: base, Weight: weight}
	}
	both := []string{"FARGATE", "FARGATE_SPOT"}
	for _, tt := range []struct {
		providers []string
		strategy  []types.CapacityProviderStrategyItem
		text      string
	}{
		{[]string{"mine"}, nil, "The specified capacity provider does not exist. Specify a valid name or ARN and try again."},
		{[]string{"FARGATE"}, []types.CapacityProviderStrategyItem{item("FARGATE_SPOT", 0, 1)},
			"The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster: " +
				"FARGATE_SPOT."},
		{both, []types.CapacityProviderStrategyItem{item("FARGATE", 1, 1), item("FARGATE_SPOT", 1, 1)},
			"Only one capacity provider in a capacity provider strategy can have a base defined."},
		{both, []types.CapacityProviderStrategyItem{item("FARGATE", 0, 0)},
			"At least one capacity provider in a capacity provider strategy must have a weight greater than 0."},
	} {
		_, err := r.putClusterCapacityProviders(r.ctx(), &sdk.PutClusterCapacityProvidersInput{
			Cluster: new("default"), CapacityProviders: tt.providers, DefaultCapacityProviderStrategy: tt.strategy})
		refused(t, err, "InvalidParameterException", tt.text)
	}
	ok(r.putClusterCapacityProviders(r.ctx(), &sdk.PutClusterCapacityProvidersInput{
		Cluster: new("default"), CapacityProviders: both,
		DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{item("FARGATE", 1, 0), item("FARGATE_SPOT", 0, 1)},
	}))(t)
	r.node()
	def := r.define("web", fargate)
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, Count: new(int32(3)), NetworkConfiguration: subnets()}))(t)
	var got []string
	for _, task := range out.Tasks {
		got = append(got, string(task.LaunchType)+"/"+*task.CapacityProviderName)
	}
	if !slices.Equal(got, []string{"FARGATE/FARGATE", "FARGATE/FARGATE_SPOT", "FARGATE/FARGATE_SPOT"}) {
		t.Errorf("the cluster's default strategy gives %v", got)
	}
	list := ok(r.describeCapacityProviders(r.ctx(), &sdk.DescribeCapacityProvidersInput{}))(t)
	if len(list.CapacityProviders) != 2 ||
		*list.CapacityProviders[1].CapacityProviderArn != arnPrefix+"capacity-provider/FARGATE_SPOT" {
		t.Errorf("described: %+v", list)
	}
}

// TestPools: capacity providers of clients are pools of nodes, by an attribute; a task that fits nowhere in its pool waits.
func TestPools(t *testing.T) {
	r := newRig(t)
	group := &types.AutoScalingGroupProvider{AutoScalingGroupArn: new("arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/big")}
	for _, c := range []struct {
		in   sdk.CreateCapacityProviderInput
		text string
	}{
		{sdk.CreateCapacityProviderInput{AutoScalingGroupProvider: group}, "Capacity provider name can not be null or empty."},
		{sdk.CreateCapacityProviderInput{Name: new("a b"), AutoScalingGroupProvider: group}, "The specified capacity provider name is invalid. Up to 255"},
		{sdk.CreateCapacityProviderInput{Name: new("ECSpool"), AutoScalingGroupProvider: group}, "The specified capacity provider name is invalid. The name cannot be prefixed"},
		{sdk.CreateCapacityProviderInput{Name: new("pool")}, "The Auto Scaling group ARN can not be null or empty."},
		{sdk.CreateCapacityProviderInput{Name: new("pool"), ManagedInstancesProvider: &types.CreateManagedInstancesProviderConfiguration{}},
			"Berth does not support capacity providers of managed instances yet."},
		{sdk.CreateCapacityProviderInput{Name: new("pool"), AutoScalingGroupProvider: &types.AutoScalingGroupProvider{AutoScalingGroupArn: new("x"),
			ManagedScaling: &types.ManagedScaling{TargetCapacity: new(int32(101))}}}, "The managed scaling targetCapacity must be between 1 and 100."},
	} {
		if _, err := r.createCapacityProvider(r.ctx(), &c.in); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, want %q", err, c.text)
		}
	}
	in := &sdk.CreateCapacityProviderInput{Name: new("pool"), AutoScalingGroupProvider: group, Tags: []types.Tag{{Key: new("a"), Value: new("b")}}}
	made := ok(r.createCapacityProvider(r.ctx(), in))(t).CapacityProvider
	if made.Status != "ACTIVE" || made.UpdateStatus != "CREATE_COMPLETE" || *made.AutoScalingGroupProvider.ManagedScaling.TargetCapacity != 100 ||
		*made.CapacityProviderArn != arnPrefix+"capacity-provider/pool" || len(made.Tags) != 1 {
		t.Errorf("made: %+v", made)
	}
	if _, err := r.createCapacityProvider(r.ctx(), in); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("made twice: %v", err)
	}
	updated := ok(r.updateCapacityProvider(r.ctx(), &sdk.UpdateCapacityProviderInput{Name: made.CapacityProviderArn, AutoScalingGroupProvider: &types.AutoScalingGroupProviderUpdate{
		ManagedScaling: &types.ManagedScaling{TargetCapacity: new(int32(80))}}}))(t).CapacityProvider
	if s := updated.AutoScalingGroupProvider.ManagedScaling; *s.TargetCapacity != 80 || *s.MaximumScalingStepSize != 10000 || updated.UpdateStatus != "UPDATE_COMPLETE" {
		t.Errorf("updated: %+v", updated)
	}
	list := ok(r.describeCapacityProviders(r.ctx(), &sdk.DescribeCapacityProvidersInput{CapacityProviders: []string{"pool", "none"}}))(t)
	if len(list.CapacityProviders) != 1 || len(list.CapacityProviders[0].Tags) != 0 || len(list.Failures) != 1 || *list.Failures[0].Reason != "MISSING" {
		t.Errorf("described: %+v", list)
	}

	r.node()
	def := r.define("web", nil)
	item := func(name string) []types.CapacityProviderStrategyItem {
		return []types.CapacityProviderStrategyItem{{CapacityProvider: &name, Weight: 1}}
	}
	_, err := r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, CapacityProviderStrategy: item("pool")})
	refused(t, err, "InvalidParameterException", "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster: pool.")
	both := []string{"pool", "FARGATE"}
	ok(r.putClusterCapacityProviders(r.ctx(), &sdk.PutClusterCapacityProvidersInput{Cluster: new("default"), CapacityProviders: both}))(t)
	_, err = r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, CapacityProviderStrategy: append(item("pool"), item("FARGATE")...)})
	refused(t, err, "InvalidParameterException", "A capacity provider strategy cannot contain a mix of capacity providers using Auto Scaling groups and Fargate.")
	run := func() types.Task {
		t.Helper()
		out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, CapacityProviderStrategy: item("pool")}))(t)
		if len(out.Tasks) != 1 || len(out.Failures) != 0 {
			t.Fatalf("%+v", out)
		}
		return out.Tasks[0]
	}
	if task := run(); *task.LastStatus != "PROVISIONING" || task.ContainerInstanceArn != nil || *task.CapacityProviderName != "pool" || task.LaunchType != "EC2" {
		t.Errorf("without a machine: %+v", task)
	}
	r.write(func(tx store.Tx) {
		for n := range store.Nodes.Scan(tx, "") {
			pooled := *n
			pooled.Attributes = maps.Clone(n.Attributes)
			if pooled.Attributes == nil {
				pooled.Attributes = map[string]string{}
			}
			pooled.Attributes[model.AttributePool] = "big" // the group's name
			store.Nodes.Put(tx, &pooled)
		}
	})
	if task := run(); task.ContainerInstanceArn == nil {
		t.Errorf("with a machine: %+v", task)
	}
	for what, f := range map[string]func() error{
		"taken from its cluster": func() error {
			_, err := r.putClusterCapacityProviders(r.ctx(), &sdk.PutClusterCapacityProvidersInput{Cluster: new("default"), CapacityProviders: []string{}})
			return err
		},
		"deleted": func() error {
			_, err := r.deleteCapacityProvider(r.ctx(), &sdk.DeleteCapacityProviderInput{CapacityProvider: new("pool")})
			return err
		},
	} {
		if _, in := errors.AsType[*types.ResourceInUseException](f()); !in {
			t.Errorf("a provider with tasks is %s", what)
		}
	}
	r.write(func(tx store.Tx) {
		for task := range store.Tasks.Scan(tx, "") {
			ended := *task
			ended.Observed.Status = model.Stopped
			store.Tasks.Put(tx, &ended)
		}
	})
	ok(r.putClusterCapacityProviders(r.ctx(), &sdk.PutClusterCapacityProvidersInput{Cluster: new("default"), CapacityProviders: []string{}}))(t)
	gone := ok(r.deleteCapacityProvider(r.ctx(), &sdk.DeleteCapacityProviderInput{CapacityProvider: new("pool")}))(t).CapacityProvider
	list = ok(r.describeCapacityProviders(r.ctx(), &sdk.DescribeCapacityProvidersInput{CapacityProviders: []string{"pool"}}))(t)
	if gone.Status != "INACTIVE" || len(list.Failures) != 1 {
		t.Errorf("deleted: %+v, %+v", gone, list)
	}
}
