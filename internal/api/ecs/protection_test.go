package ecs

import (
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func TestTaskProtection(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	tasks := r.run(3, "web")
	arn := func(i int) string { return *tasks[i].TaskArn }
	for i, deployment := range []string{"ecs-svc/2", "ecs-svc/1"} { // the third is nobody's
		r.observe(model.ARNTail(arn(i)), func(t *model.Task) { t.Service, t.Deployment = "s", deployment })
	}
	r.write(func(tx store.Tx) {
		store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/2", Cluster: "default", Service: "s", Status: "PRIMARY"})
		store.Deployments.Put(tx, &model.Deployment{ID: "ecs-svc/1", Cluster: "default", Service: "s", Status: "ACTIVE"})
	})
	out := ok(r.updateTaskProtection(r.ctx(), &sdk.UpdateTaskProtectionInput{ProtectionEnabled: true,
		Tasks: []string{arn(0), arn(1), arn(2), "ffffffffffffffffffffffffffffffff"}}))(t)
	reasons := map[string]string{}
	for _, f := range out.Failures {
		reasons[*f.Arn] = *f.Reason
	}
	if len(out.ProtectedTasks) != 1 || *out.ProtectedTasks[0].TaskArn != arn(0) || !out.ProtectedTasks[0].ExpirationDate.Equal(r.clock.Add(2*time.Hour)) ||
		reasons[arn(1)] != "DEPLOYMENT_BLOCKED" || reasons[arn(2)] != "TASK_NOT_VALID" || reasons[arnPrefix+"task/default/ffffffffffffffffffffffffffffffff"] != "MISSING" {
		t.Errorf("%+v %v", out.ProtectedTasks, reasons)
	}
	if got := ok(r.getTaskProtection(r.ctx(), &sdk.GetTaskProtectionInput{}))(t); len(got.ProtectedTasks) != 1 || !got.ProtectedTasks[0].ProtectionEnabled {
		t.Errorf("%+v", got)
	}
	r.clock = r.clock.Add(2 * time.Hour)
	got := ok(r.getTaskProtection(r.ctx(), &sdk.GetTaskProtectionInput{Tasks: []string{arn(0)}}))(t)
	if len(got.ProtectedTasks) != 1 || got.ProtectedTasks[0].ProtectionEnabled || got.ProtectedTasks[0].ExpirationDate != nil {
		t.Errorf("after its end: %+v", got)
	}
	_, err := r.updateTaskProtection(r.ctx(), &sdk.UpdateTaskProtectionInput{Tasks: []string{arn(0)}, ExpiresInMinutes: new(int32(2881))})
	refused(t, err, "InvalidParameterException", "expiresInMinutes should be between 1 and 2880.")
	_, err = r.updateTaskProtection(r.ctx(), &sdk.UpdateTaskProtectionInput{})
	refused(t, err, "InvalidParameterException", "Tasks cannot be empty.")
}

// TestGPUsAreCounted: a machine's GPUs are given by count, and RESOURCE:GPU says that there are no more.
func TestGPUsAreCounted(t *testing.T) {
	r := newRig(t)
	r.node()
	r.write(func(tx store.Tx) {
		n, _ := store.Nodes.Get(tx, "n1")
		changed := *n
		changed.GPUs = 3
		store.Nodes.Put(tx, &changed)
	})
	r.define("gpu", func(in *sdk.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: new("2")}}
	})
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: new("gpu"), Count: new(int32(2))}))(t)
	if len(out.Tasks) != 1 || len(out.Failures) != 1 || *out.Failures[0].Reason != "RESOURCE:GPU" {
		t.Errorf("%+v", out)
	}
}
