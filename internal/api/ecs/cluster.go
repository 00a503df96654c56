package ecs

import (
	"bytes"
	"context"
	"regexp"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/api/ecs/view"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxDescribed is how many things most Describe operations take.
const maxDescribed = 100

// namePattern is that of clusters and services.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

func (a *api) createCluster(ctx context.Context, in *sdk.CreateClusterInput) (*sdk.CreateClusterOutput, error) {
	name := value(in.ClusterName)
	if name == "" {
		name = model.DefaultCluster
	}
	if !namePattern.MatchString(name) {
		return nil, invalid("Cluster name '%s' is not valid: 1 to 255 letters, digits, hyphens and underscores.", name)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if err := bounded(in); err != nil {
		return nil, err
	}
	settings, err := clusterSettings(nil, in.Settings)
	if err != nil {
		return nil, err
	}
	wanted := &model.Cluster{
		Name: name, ARN: a.scope.ClusterARN(name), Status: active, Settings: settings, Configuration: in.Configuration,
		CapacityProviders: in.CapacityProviders, DefaultCapacityProviderStrategy: in.DefaultCapacityProviderStrategy,
		ServiceConnectDefaults: connectDefaults(in.ServiceConnectDefaults), Tags: in.Tags,
	}
	var out types.Cluster
	err = a.store.Update(ctx, func(tx store.Tx) error {
		if err := checkProviders(tx, in.CapacityProviders, in.DefaultCapacityProviderStrategy); err != nil {
			return err
		}
		c, exists := store.Clusters.Get(tx, name)
		if exists && c.Status == active {
			wanted.CreatedAt = c.CreatedAt
			if !same(c, wanted) {
				return invalid("Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
			}
		} else {
			if err := quota.Clusters.Admit(1 + count(store.Clusters.Scan(tx, ""), func(c *model.Cluster) bool { return c.Status == active })); err != nil {
				return err
			}
			wanted.CreatedAt = a.now()
			store.Clusters.Put(tx, wanted)
		}
		out = a.drawCluster(tx, wanted)
		out.Statistics, out.Tags = []types.KeyValuePair{}, filled(wanted.Tags)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.CreateClusterOutput{Cluster: &out}, nil
}

// same tells whether two values are stored alike; an empty list is the same as none.
func same(a, b any) bool {
	x, errX := model.EncodeJSON(a)
	y, errY := model.EncodeJSON(b)
	empty := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(":[]"), []byte(":null")) }
	return errX == nil && errY == nil && bytes.Equal(empty(x), empty(y))
}

// clusterSettings returns old changed by asked. containerInsights is the one setting there is, disabled until asked.
func clusterSettings(old, asked []types.ClusterSetting) ([]types.ClusterSetting, error) {
	settings := slices.Clone(old)
	if len(settings) == 0 {
		settings = []types.ClusterSetting{{Name: types.ClusterSettingNameContainerInsights, Value: new("disabled")}}
	}
	for _, s := range asked {
		if s.Name != types.ClusterSettingNameContainerInsights {
			return nil, invalid("Invalid setting 'name'")
		}
		if !slices.Contains([]string{"enabled", "disabled", "enhanced"}, value(s.Value)) {
			return nil, invalid("Invalid setting 'value'")
		}
		settings[0] = s
	}
	return settings, nil
}

func connectDefaults(in *types.ClusterServiceConnectDefaultsRequest) *types.ClusterServiceConnectDefaults {
	if in == nil || value(in.Namespace) == "" {
		return nil
	}
	return &types.ClusterServiceConnectDefaults{Namespace: in.Namespace}
}

// drawCluster draws a cluster with its counts and without its tags.
func (a *api) drawCluster(r store.Reader, c *model.Cluster) types.Cluster {
	var n view.ClusterCounts
	for _, i := range store.InstancesOf(r, c.Name) {
		if i.Status != inactive {
			n.Instances++
		}
	}
	for t := range store.Tasks.By(r, store.ByCluster, c.Name) {
		if !t.Ended() {
			n.AddTask(t)
		}
	}
	for s := range store.Services.By(r, store.ByCluster, c.Name) {
		rev, _ := store.ServiceRevisions.Get(r, s.Key()+"/"+s.RevisionID)
		n.AddService(s, rev)
	}
	return view.Cluster(c, n)
}

func (a *api) describeClusters(_ context.Context, in *sdk.DescribeClustersInput) (*sdk.DescribeClustersOutput, error) {
	refs := in.Clusters
	if len(refs) == 0 {
		refs = []string{model.DefaultCluster}
	}
	if len(refs) > maxDescribed {
		return nil, tooMany("Clusters", maxDescribed)
	}
	if err := included(in.Include, types.ClusterField("").Values()); err != nil {
		return nil, err
	}
	out := &sdk.DescribeClustersOutput{Clusters: []types.Cluster{}, Failures: []types.Failure{}}
	a.store.View(func(r store.Reader) {
		eachOnce(refs, func(ref string) (*model.Cluster, string, bool) {
			if c, err := a.anyCluster(r, &ref); err == nil {
				return c, c.ARN, true
			}
			return nil, arnOf(ref, a.scope.ClusterARN), false
		}, func(c *model.Cluster) {
			drawn := a.drawCluster(r, c)
			drawn.Tags = filled(c.Tags)
			out.Clusters = append(out.Clusters, include(drawn, in.Include))
		}, func(arn string) {
			out.Failures = append(out.Failures, failure(arn, missing))
		})
	})
	return out, nil
}

// include empties what was not asked for.
func include(c types.Cluster, asked []types.ClusterField) types.Cluster {
	for _, f := range []struct {
		field types.ClusterField
		drop  func()
	}{
		{types.ClusterFieldSettings, func() { c.Settings = []types.ClusterSetting{} }},
		{types.ClusterFieldStatistics, func() { c.Statistics = []types.KeyValuePair{} }},
		{types.ClusterFieldTags, func() { c.Tags = []types.Tag{} }},
		{types.ClusterFieldConfigurations, func() { c.Configuration = nil }},
	} {
		if !slices.Contains(asked, f.field) {
			f.drop()
		}
	}
	if slices.Contains(asked, types.ClusterFieldAttachments) {
		c.Attachments = []types.Attachment{}
	}
	return c
}

func (a *api) listClusters(_ context.Context, in *sdk.ListClustersInput) (*sdk.ListClustersOutput, error) {
	arns := []string{}
	a.store.View(func(r store.Reader) {
		for c := range store.Clusters.Scan(r, "") {
			if c.Status == active {
				arns = append(arns, c.ARN)
			}
		}
	})
	arns, next, err := page(arns, itself, false, in.NextToken, in.MaxResults, 100, 100)
	if err != nil {
		return nil, err
	}
	return &sdk.ListClustersOutput{ClusterArns: arns, NextToken: next}, nil
}

func itself(s string) string { return s }

// changeCluster changes an ACTIVE cluster and draws the result.
func (a *api) changeCluster(ctx context.Context, ref *string, change func(*model.Cluster) error) (*types.Cluster, error) {
	return a.changeClusterIn(ctx, ref, func(_ store.Reader, c *model.Cluster) error { return change(c) })
}

func (a *api) changeClusterIn(ctx context.Context, ref *string, change func(store.Reader, *model.Cluster) error) (*types.Cluster, error) {
	if value(ref) == "" {
		return nil, invalid("Cluster should not be null or empty.")
	}
	var out types.Cluster
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.anyCluster(tx, ref)
		if err != nil {
			return err
		}
		if c.Status != active {
			return clientError("Cluster was not ACTIVE.")
		}
		changed := *c
		if err := change(tx, &changed); err != nil {
			return err
		}
		store.Clusters.Put(tx, &changed)
		out = a.drawCluster(tx, &changed)
		out.Statistics, out.Attachments = []types.KeyValuePair{}, []types.Attachment{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

func (a *api) updateCluster(ctx context.Context, in *sdk.UpdateClusterInput) (*sdk.UpdateClusterOutput, error) {
	if err := bounded(in); err != nil {
		return nil, err
	}
	c, err := a.changeCluster(ctx, in.Cluster, func(c *model.Cluster) (err error) {
		if in.Configuration != nil {
			c.Configuration = in.Configuration
		}
		if in.ServiceConnectDefaults != nil {
			c.ServiceConnectDefaults = connectDefaults(in.ServiceConnectDefaults)
		}
		c.Settings, err = clusterSettings(c.Settings, in.Settings)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateClusterOutput{Cluster: c}, nil
}

func (a *api) updateClusterSettings(
	ctx context.Context, in *sdk.UpdateClusterSettingsInput,
) (*sdk.UpdateClusterSettingsOutput, error) {
	if len(in.Settings) == 0 {
		return nil, invalid("Settings cannot be empty.")
	}
	c, err := a.changeCluster(ctx, in.Cluster, func(c *model.Cluster) (err error) {
		c.Settings, err = clusterSettings(c.Settings, in.Settings)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateClusterSettingsOutput{Cluster: c}, nil
}

// deleteCluster makes a cluster without tasks and services INACTIVE. AWS refuses while there are container instances; Berth's
// go with the cluster, since nobody registered them: a node is an instance of every active cluster unless it says otherwise.
func (a *api) deleteCluster(ctx context.Context, in *sdk.DeleteClusterInput) (*sdk.DeleteClusterOutput, error) {
	if value(in.Cluster) == "" {
		return nil, invalid("Cluster should not be null or empty.")
	}
	var out types.Cluster
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.anyCluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		if c.Status == active {
			if err := clusterIsEmpty(tx, c.Name); err != nil {
				return err
			}
			changed := *c
			changed.Status = inactive
			c = &changed
			store.Clusters.Put(tx, c)
		}
		out = a.drawCluster(tx, c)
		out.Statistics = []types.KeyValuePair{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteClusterOutput{Cluster: &out}, nil
}

func clusterIsEmpty(r store.Reader, cluster string) error {
	for t := range store.Tasks.By(r, store.ByCluster, cluster) {
		if !t.Ended() {
			return model.Errorf("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
		}
	}
	for s := range store.Services.By(r, store.ByCluster, cluster) {
		if s.Status != inactive {
			return model.Errorf("ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active.")
		}
	}
	return nil
}
