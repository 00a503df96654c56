package ecs

import (
	"slices"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (r *rig) run(n int32, family string) []types.Task {
	r.t.Helper()
	return ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &family, Count: &n}))(r.t).Tasks
}

func TestStopTask(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	arn := *r.run(1, "web")[0].TaskArn
	id := model.ARNTail(arn)
	_, err := r.stopTask(r.ctx(), &sdk.StopTaskInput{Task: new("ffffffffffffffffffffffffffffffff")})
	refused(t, err, "InvalidParameterException", "The referenced task was not found.")
	out := ok(r.stopTask(r.ctx(), &sdk.StopTaskInput{Task: new("default/" + id)}))(t)
	if *out.Task.DesiredStatus != "STOPPED" || *out.Task.StoppedReason != "Task stopped by user" ||
		out.Task.StopCode != "UserInitiated" || *out.Task.LastStatus != "PENDING" || out.Task.Version != 2 {
		t.Errorf("stopped: %+v", out.Task)
	}
	// A second request changes nothing: the first reason stands.
	ok(r.stopTask(r.ctx(), &sdk.StopTaskInput{Task: &arn, Reason: new("again")}))(t)
	r.store.View(func(v store.Reader) {
		task, _ := store.Tasks.Get(v, id)
		if want := (model.StopRequest{Code: "UserInitiated", Reason: "Task stopped by user", At: r.clock}); *task.StopRequest != want {
			t.Errorf("request %+v", task.StopRequest)
		}
		if task.Desired != model.Running || task.Released {
			t.Error("what is desired is control's to write")
		}
	})
}

func TestListTasks(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("a", nil)
	r.define("b", nil)
	var arns []string
	for _, task := range append(r.run(3, "a"), r.run(2, "b")...) {
		arns = append(arns, *task.TaskArn)
	}
	ok(r.stopTask(r.ctx(), &sdk.StopTaskInput{Task: &arns[0]}))(t)
	for _, tt := range []struct {
		name string
		in   sdk.ListTasksInput
		want []string
	}{
		{"running by default", sdk.ListTasksInput{}, arns[1:]},
		{"stopped", sdk.ListTasksInput{DesiredStatus: "STOPPED"}, arns[:1]},
		{"pending matches nothing", sdk.ListTasksInput{DesiredStatus: "PENDING"}, nil},
		{"family", sdk.ListTasksInput{Family: new("b")}, arns[3:]},
		{"launch type", sdk.ListTasksInput{LaunchType: "FARGATE"}, nil},
		{"instance", sdk.ListTasksInput{ContainerInstance: new(instanceID)}, arns[1:]},
		{"started by", sdk.ListTasksInput{StartedBy: new("x")}, nil},
	} {
		if got := ok(r.listTasks(r.ctx(), &tt.in))(t).TaskArns; got == nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	first := ok(r.listTasks(r.ctx(), &sdk.ListTasksInput{MaxResults: new(int32(3))}))(t)
	second := ok(r.listTasks(r.ctx(), &sdk.ListTasksInput{MaxResults: new(int32(3)), NextToken: first.NextToken}))(t)
	if !slices.Equal(slices.Concat(first.TaskArns, second.TaskArns), arns[1:]) || second.NextToken != nil {
		t.Errorf("pages %v, %v", first.TaskArns, second.TaskArns)
	}
	_, err := r.listTasks(r.ctx(), &sdk.ListTasksInput{ServiceName: new("x")})
	refused(t, err, "ServiceNotFoundException", "Service not found.")
}

func TestDescribeTasks(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	arn := *r.run(1, "web")[0].TaskArn
	_, err := r.describeTasks(r.ctx(), &sdk.DescribeTasksInput{})
	refused(t, err, "InvalidParameterException", "Tasks cannot be empty.")
	other := arnPrefix + "task/other/" + model.ARNTail(arn)
	out := ok(r.describeTasks(r.ctx(), &sdk.DescribeTasksInput{Tasks: []string{arn, "nope", other, model.ARNTail(arn), "nope"}}))(t)
	var failed []string
	for _, f := range out.Failures {
		failed = append(failed, *f.Arn+" "+*f.Reason)
	}
	if len(out.Tasks) != 1 || !slices.Equal(failed, []string{"nope MISSING", other + " MISSING"}) {
		t.Errorf("%d tasks, failures %v", len(out.Tasks), failed)
	}
}

// TestDescribeRanTask: what the agent saw becomes what clients read.
func TestDescribeRanTask(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	arn := *r.run(1, "web")[0].TaskArn
	r.observe(model.ARNTail(arn), func(t *model.Task) {
		t.Version = 5
		t.Desired = model.Stopped
		c := t.Observed.Containers[0]
		c.Status, c.ExitCode, c.Reason, c.RuntimeID, c.ImageDigest = model.Stopped, new(int32(137)),
			"OutOfMemoryError: Container killed due to memory usage", "rt", "sha256:1"
		c.NetworkBindings = []types.NetworkBinding{{BindIP: new("0.0.0.0"), ContainerPort: new(int32(80)),
			HostPort: new(int32(49153)), Protocol: "tcp"}}
		t.Observed.Containers = []model.Container{c}
		t.Observed.Status, t.Observed.StopCode = model.Stopped, types.TaskStopCodeEssentialContainerExited
		t.Observed.StoppedReason = "Essential container in task exited"
		t.Observed.StartedAt, t.Observed.StoppedAt, t.Observed.ConnectivityAt = r.clock, r.clock, r.clock
	})
	task := ok(r.describeTasks(r.ctx(), &sdk.DescribeTasksInput{Tasks: []string{arn}}))(t).Tasks[0]
	if *task.LastStatus != "STOPPED" || task.StopCode != "EssentialContainerExited" ||
		*task.StoppedReason != "Essential container in task exited" || task.Connectivity != "CONNECTED" ||
		!task.StoppedAt.Equal(r.clock) || task.Version != 5 {
		t.Errorf("task: %+v", task)
	}
	equalJSON(t, "container", task.Containers[0], `{
		"ContainerArn": "`+*task.Containers[0].ContainerArn+`", "TaskArn": "`+arn+`", "Name": "web", "Image": "nginx",
		"ImageDigest": "sha256:1", "RuntimeId": "rt", "LastStatus": "STOPPED", "ExitCode": 137,
		"Reason": "OutOfMemoryError: Container killed due to memory usage", "HealthStatus": "UNKNOWN", "Cpu": "99", "Memory": "100",
		"NetworkInterfaces": [],
		"NetworkBindings": [{"BindIP": "0.0.0.0", "ContainerPort": 80, "HostPort": 49153, "Protocol": "tcp"}]}`)
}
