package ecs

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestTerraformWaits walks the path of wait_for_steady_state (ecs.md 0.4): the PRIMARY deployment, created after the operation
// began, its service deployment by the digits of its id, then that one's status.
func TestTerraformWaits(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.create("s", nil)
	r.clock = r.clock.Add(time.Minute)
	began := r.clock
	ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), ForceNewDeployment: true}))(t)
	primary := r.describe("s").Deployments[0]
	if primary.CreatedAt.Before(began) {
		t.Fatalf("the PRIMARY deployment is from %v, the update from %v", primary.CreatedAt, began)
	}
	list := ok(r.listServiceDeployments(r.ctx(), &sdk.ListServiceDeploymentsInput{
		Service: new("s"), Cluster: new("default"), CreatedAt: &types.CreatedAt{After: &began}}))(t).ServiceDeployments
	if len(list) != 1 {
		t.Fatalf("service deployments since the update: %+v", list)
	}
	digits := strings.TrimPrefix(*primary.Id, "ecs-svc/")
	if !strings.Contains(*list[0].TargetServiceRevisionArn, digits) {
		t.Errorf("%s does not contain %s", *list[0].TargetServiceRevisionArn, digits)
	}
	out := ok(r.describeServiceDeployments(r.ctx(), &sdk.DescribeServiceDeploymentsInput{
		ServiceDeploymentArns: []string{*list[0].ServiceDeploymentArn, "arn:x"}}))(t)
	d := out.ServiceDeployments[0]
	if d.Status != "IN_PROGRESS" || *d.TargetServiceRevision.Arn != *list[0].TargetServiceRevisionArn ||
		len(d.SourceServiceRevisions) != 1 || d.TargetServiceRevision.RequestedTaskCount != 2 ||
		d.DeploymentCircuitBreaker.Status != "DISABLED" || d.DeploymentCircuitBreaker.Threshold != 3 {
		t.Errorf("service deployment: %+v", d)
	}
	if len(out.Failures) != 1 || *out.Failures[0].Reason != "MISSING" {
		t.Errorf("failures: %+v", out.Failures)
	}
	rev := ok(r.describeServiceRevisions(r.ctx(), &sdk.DescribeServiceRevisionsInput{
		ServiceRevisionArns: []string{*d.TargetServiceRevision.Arn}}))(t).ServiceRevisions[0]
	equalJSON(t, "revision", rev, `{
		"ServiceRevisionArn": "`+*d.TargetServiceRevision.Arn+`", "ServiceArn": "`+arnPrefix+`service/default/s",
		"ClusterArn": "`+arnPrefix+`cluster/default", "TaskDefinition": "`+arnPrefix+`task-definition/web:1", "LaunchType": "EC2",
		"CapacityProviderStrategy": [], "LoadBalancers": [], "ServiceRegistries": [], "VolumeConfigurations": [],
		"ContainerImages": [{"ContainerName": "web", "Image": "nginx"}], "CreatedAt": "2026-11-20T12:01:00Z"}`)
}

func TestListServiceDeployments(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.create("s", nil)
	for range 2 {
		r.clock = r.clock.Add(time.Minute)
		ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), ForceNewDeployment: true}))(t)
	}
	all := ok(r.listServiceDeployments(r.ctx(), &sdk.ListServiceDeploymentsInput{Service: new("s")}))(t).ServiceDeployments
	if !slices.IsSortedFunc(all, func(a, b types.ServiceDeploymentBrief) int { return b.CreatedAt.Compare(*a.CreatedAt) }) ||
		len(all) != 3 {
		t.Errorf("newest first: %+v", all)
	}
	var paged []types.ServiceDeploymentBrief
	in := &sdk.ListServiceDeploymentsInput{Service: new(arnPrefix + "service/default/s"), MaxResults: new(int32(2))}
	for {
		out := ok(r.listServiceDeployments(r.ctx(), in))(t)
		paged = append(paged, out.ServiceDeployments...)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if len(paged) != 3 || *paged[2].ServiceDeploymentArn != *all[2].ServiceDeploymentArn {
		t.Errorf("pages: %+v", paged)
	}
	for status, want := range map[types.ServiceDeploymentStatus]int{"IN_PROGRESS": 3, "SUCCESSFUL": 0} {
		out := ok(r.listServiceDeployments(r.ctx(), &sdk.ListServiceDeploymentsInput{
			Service: new("s"), Status: []types.ServiceDeploymentStatus{status}}))(t)
		if out.ServiceDeployments == nil || len(out.ServiceDeployments) != want {
			t.Errorf("status %s: %d, want %d", status, len(out.ServiceDeployments), want)
		}
	}
	_, err := r.listServiceDeployments(r.ctx(), &sdk.ListServiceDeploymentsInput{Service: new("x")})
	refused(t, err, "ServiceNotFoundException", "Service not found.")
}

func TestStopServiceDeployment(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	arn := r.create("s", nil).CurrentServiceDeployment
	_, err := r.stopServiceDeployment(r.ctx(), &sdk.StopServiceDeploymentInput{ServiceDeploymentArn: new(*arn + "x")})
	refused(t, err, "ServiceDeploymentNotFoundException", "The service deployment was not found.")
	ok(r.stopServiceDeployment(r.ctx(), &sdk.StopServiceDeploymentInput{ServiceDeploymentArn: arn, StopType: "ROLLBACK"}))(t)
	d := ok(r.describeServiceDeployments(r.ctx(), &sdk.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{*arn}}))(t)
	if s := d.ServiceDeployments[0].Status; s != "ROLLBACK_REQUESTED" {
		t.Errorf("status %s", s)
	}
	r.write(func(tx store.Tx) {
		for d := range store.Deployments.Scan(tx, "default/s/") {
			changed := *d
			changed.State = types.ServiceDeploymentStatusSuccessful
			store.Deployments.Put(tx, &changed)
		}
	})
	_, err = r.stopServiceDeployment(r.ctx(), &sdk.StopServiceDeploymentInput{ServiceDeploymentArn: arn})
	refused(t, err, "ConflictException", "The service deployment cannot be stopped because its status is SUCCESSFUL.")
	if c, is := errors.AsType[*types.ConflictException](err); !is || c.ResourceIds[0] != *arn {
		t.Errorf("the conflict names the deployment: %v", err)
	}
}

// TestRollbackShapes: what control writes when it rolls back is what clients read.
func TestRollbackShapes(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	first := r.create("s", nil)
	r.clock = r.clock.Add(time.Minute)
	bad := ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), ForceNewDeployment: true}))(t).Service
	goodDigits, badID := model.ARNTail(*first.Deployments[0].Id), *bad.Deployments[0].Id
	r.clock = r.clock.Add(time.Minute)
	r.write(func(tx store.Tx) {
		d, _ := store.Deployments.Get(tx, "default/s/"+model.ARNTail(badID))
		failed := *d
		failed.Status, failed.RolloutState, failed.RolledBackBy = "ACTIVE", "FAILED", "ecs-svc/7"
		failed.State, failed.StateReason = "ROLLBACK_IN_PROGRESS", "because"
		failed.BreakerTripped, failed.FailedTasks = true, 3
		store.Deployments.Put(tx, &failed)
		store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/7", Cluster: "default", Service: "s", RevisionID: goodDigits,
			Status: "PRIMARY", RolloutState: "IN_PROGRESS", RollbackOf: badID, CreatedAt: r.clock})
		s, _ := store.Services.Get(tx, "default/s")
		changed := *s
		changed.RevisionID = goodDigits
		changed.DeploymentConfiguration.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}
		store.Services.Put(tx, &changed)
	})
	svc := r.describe("s")
	if *svc.Deployments[0].Id != "ecs-svc/7" || *svc.CurrentServiceDeployment != *bad.CurrentServiceDeployment {
		t.Errorf("while rolling back, the failed service deployment is the current one: %+v", svc)
	}
	list := ok(r.listServiceDeployments(r.ctx(), &sdk.ListServiceDeploymentsInput{Service: new("s")}))(t).ServiceDeployments
	if len(list) != 2 {
		t.Errorf("a rollback is no service deployment of its own: %d", len(list))
	}
	d := ok(r.describeServiceDeployments(r.ctx(), &sdk.DescribeServiceDeploymentsInput{
		ServiceDeploymentArns: []string{*bad.CurrentServiceDeployment}}))(t).ServiceDeployments[0]
	if d.Status != "ROLLBACK_IN_PROGRESS" || d.DeploymentCircuitBreaker.Status != "TRIGGERED" || d.Rollback == nil ||
		*d.Rollback.ServiceRevisionArn != arnPrefix+"service-revision/default/s/"+goodDigits || !d.Rollback.StartedAt.Equal(r.clock) {
		t.Errorf("rolled back: %+v", d)
	}
}
