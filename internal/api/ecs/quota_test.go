package ecs

import (
	"fmt"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestQuotas fills an account up to each of AWS's quotas: the last one that fits is accepted, and one more is refused.
func TestQuotas(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	create := func(name string, count int32) error {
		_, err := r.createService(r.ctx(), &sdk.CreateServiceInput{ServiceName: &name, TaskDefinition: new("web"), DesiredCount: &count})
		return err
	}
	update := func(in *sdk.UpdateServiceInput) error {
		in.Service = new("large")
		_, err := r.updateService(r.ctx(), in)
		return err
	}

	refused(t, create("large", 5001), "InvalidParameterException", "Desired count exceeds limit.")
	if err := create("large", 5000); err != nil {
		t.Error(err)
	}
	refused(t, update(&sdk.UpdateServiceInput{DesiredCount: new(int32(5001))}), "InvalidParameterException", "Desired count exceeds limit.")

	for n := range 4 {
		if err := update(&sdk.UpdateServiceInput{ForceNewDeployment: true}); err != nil {
			t.Errorf("deployment %d: %v", n+2, err)
		}
	}
	const tooMany = "5 active deployments exist, unable to create new deployment."
	refused(t, update(&sdk.UpdateServiceInput{ForceNewDeployment: true}), "InvalidParameterException", tooMany)
	if err := update(&sdk.UpdateServiceInput{DesiredCount: new(int32(1))}); err != nil {
		t.Errorf("what needs no deployment: %v", err)
	}

	r.write(func(tx store.Tx) {
		for n := range 4998 {
			store.Services.Put(tx, &model.Service{Cluster: "default", Name: fmt.Sprint("s", n), Status: "ACTIVE"})
		}
		store.Services.Put(tx, &model.Service{Cluster: "default", Name: "gone", Status: "INACTIVE"})
		for n := range 9998 {
			store.Clusters.Put(tx, &model.Cluster{Name: fmt.Sprint("c", n), Status: "ACTIVE"})
		}
		store.Families.Put(tx, &model.Family{Name: "old", LatestRevision: 999_999})
	})
	if err := create("last", 1); err != nil {
		t.Error(err)
	}
	refused(t, create("one-more", 1), "InvalidParameterException", "The cluster has 5000 services, which is the most there may be.")

	if _, err := r.createCluster(r.ctx(), &sdk.CreateClusterInput{ClusterName: new("last")}); err != nil {
		t.Error(err)
	}
	if _, err := r.createCluster(r.ctx(), &sdk.CreateClusterInput{ClusterName: new("last")}); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	_, err := r.createCluster(r.ctx(), &sdk.CreateClusterInput{ClusterName: new("one-more")})
	refused(t, err, "InvalidParameterException", "The account has 10000 clusters, which is the most there may be.")

	r.define("old", nil)
	in := &sdk.RegisterTaskDefinitionInput{Family: new("old")}
	in.ContainerDefinitions = append(in.ContainerDefinitions, webContainer())
	_, err = r.registerTaskDefinition(r.ctx(), in)
	refused(t, err, "ClientException", "The family has 1000000 revisions, which is the most there may be.")
}
