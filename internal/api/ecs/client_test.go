package ecs

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// oneKey knows one caller.
type oneKey struct{}

func (oneKey) Secret(id, _ string) (string, wire.Caller, error) {
	if id != "AKIDTEST" {
		return "", wire.Caller{}, model.Errorf("UnrecognizedClientException", "unknown key")
	}
	return "secret", wire.Caller{Account: scope.Account, ARN: "arn:aws:iam::000000000000:user/test"}, nil
}

// serve puts the rig's API behind a real endpoint and returns the SDK's client of it.
func (r *rig) serve() (client *sdk.Client, url string) {
	r.t.Helper()
	service := New(Config{Store: r.store, Scope: scope})
	server := httptest.NewServer(wire.NewEndpoint(wire.Config{
		Keys: oneKey{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Services: []*wire.Service{service}}))
	r.t.Cleanup(server.Close)
	return sdk.New(sdk.Options{
		BaseEndpoint: &server.URL, Region: scope.Region, RetryMaxAttempts: 3, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", "secret", ""),
	}), server.URL
}

// post sends a signed raw JSON request, as people do who have only a file.
func post(t *testing.T, url, operation, body string) map[string]any {
	t.Helper()
	status, out := ask(t, url, operation, body)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %v", operation, status, out)
	}
	return out
}

// TestSeedOverTheWire: the task definition, as raw JSON with numbers as strings, registers and runs.
func TestSeedOverTheWire(t *testing.T) {
	r := newRig(t)
	r.node()
	_, url := r.serve()
	out := post(t, url, "RegisterTaskDefinition", `{"family":"webserver","containerDefinitions":[{"name":"web","image":"nginx",`+
		`"memory":"100","cpu":"99"}],"requiresCompatibilities":["FARGATE"],"networkMode":"awsvpc","memory":"512","cpu":"256"}`)
	def := out["taskDefinition"].(map[string]any)
	container := def["containerDefinitions"].([]any)[0].(map[string]any)
	for _, list := range []string{"environment", "mountPoints", "portMappings", "volumesFrom", "systemControls"} {
		if v, is := container[list].([]any); !is || len(v) != 0 {
			t.Errorf("%s must be [], got %v", list, container[list])
		}
	}
	if container["memory"] != 100.0 || container["cpu"] != 99.0 || def["registeredBy"] != "arn:aws:iam::000000000000:user/test" {
		t.Errorf("definition: %v", def)
	}
	out = post(t, url, "RunTask", `{"taskDefinition":"webserver","launchType":"FARGATE","count":"2",`+
		`"networkConfiguration":{"awsvpcConfiguration":{"subnets":["subnet-1"]}}}`)
	if tasks, failures := out["tasks"].([]any), out["failures"].([]any); len(tasks) != 2 || len(failures) != 0 {
		t.Errorf("run: %v", out)
	}
}

// TestClientAndWaiters: the SDK's own client and the inputs that its waiters look at.
func TestClientAndWaiters(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	client, _ := r.serve()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	run, err := client.RunTask(ctx, &sdk.RunTaskInput{TaskDefinition: new("web")})
	if err != nil {
		t.Fatal(err)
	}
	r.observe(model.ARNTail(*run.Tasks[0].TaskArn), func(t *model.Task) { t.Observed.Status = model.Running })
	describe := &sdk.DescribeTasksInput{Tasks: []string{*run.Tasks[0].TaskArn}}
	if err := sdk.NewTasksRunningWaiter(client).Wait(ctx, describe, time.Second); err != nil {
		t.Errorf("tasks-running: %v", err)
	}
	r.observe(model.ARNTail(*run.Tasks[0].TaskArn), func(t *model.Task) { t.Observed.Status = model.Stopped })
	if err := sdk.NewTasksStoppedWaiter(client).Wait(ctx, describe, time.Second); err != nil {
		t.Errorf("tasks-stopped: %v", err)
	}
	made, err := client.CreateService(ctx, &sdk.CreateServiceInput{ServiceName: new("s"), TaskDefinition: new("web"),
		DesiredCount: new(int32(1))})
	if err != nil {
		t.Fatal(err)
	}
	r.serviceTask("s", *made.Service.Deployments[0].Id, model.Running)
	services := &sdk.DescribeServicesInput{Services: []string{"s"}}
	if err := sdk.NewServicesStableWaiter(client).Wait(ctx, services, time.Second); err != nil {
		t.Errorf("services-stable: %v", err)
	}
	r.write(func(tx store.Tx) {
		s, _ := store.Services.Get(tx, "default/s")
		changed := *s
		changed.Status = inactive
		store.Services.Put(tx, &changed)
	})
	if err := sdk.NewServicesInactiveWaiter(client).Wait(ctx, services, time.Second); err != nil {
		t.Errorf("services-inactive: %v", err)
	}
}

// TestErrorsOverTheWire: clients get the SDK's own error types, and a named refusal of what is not served.
func TestErrorsOverTheWire(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	client, _ := r.serve()
	ctx := context.Background()
	_, err := client.ListTasks(ctx, &sdk.ListTasksInput{Cluster: new("x")})
	if _, is := errors.AsType[*types.ClusterNotFoundException](err); !is {
		t.Errorf("ClusterNotFoundException: %v", err)
	}
	in := &sdk.RunTaskInput{TaskDefinition: new("web"), ClientToken: new("t")}
	first, err := client.RunTask(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	in.Count = new(int32(2))
	_, err = client.RunTask(ctx, in)
	if c, is := errors.AsType[*types.ConflictException](err); !is || len(c.ResourceIds) != 1 ||
		c.ResourceIds[0] != *first.Tasks[0].TaskArn {
		t.Errorf("ConflictException with its resourceIds: %v", err)
	}
	_, err = client.ExecuteCommand(ctx, &sdk.ExecuteCommandInput{Command: new("sh"), Interactive: true,
		Task: first.Tasks[0].TaskArn})
	if e, is := errors.AsType[smithy.APIError](err); !is || e.ErrorCode() == "" || e.ErrorCode() == "UnknownOperationException" {
		t.Errorf("an operation of AWS that Berth lacks: %v", err)
	}
}
