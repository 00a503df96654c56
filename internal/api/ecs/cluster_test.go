package ecs

import (
	"slices"
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
		{[]string{"mine"}, nil, "The specified capacity provider 'mine' was not found. Berth has FARGATE and FARGATE_SPOT."},
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
