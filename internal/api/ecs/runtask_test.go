package ecs

import (
	"errors"
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// TestRunTaskFargate is the example: registered as it stands, run with launch type FARGATE.
func TestRunTaskFargate(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("webserver", fargate)
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{
		TaskDefinition: new("webserver"), LaunchType: "FARGATE", NetworkConfiguration: subnets(), EnableECSManagedTags: true,
		Tags: []types.Tag{{Key: new("a"), Value: new("b")}}, StartedBy: new("me"),
	}))(t)
	if out.Failures == nil || len(out.Failures) != 0 || len(out.Tasks) != 1 {
		t.Fatalf("tasks and failures: %+v", out)
	}
	id := model.ARNTail(*out.Tasks[0].TaskArn)
	equalJSON(t, "task", out.Tasks[0], `{
		"TaskArn": "`+arnPrefix+`task/default/`+id+`", "ClusterArn": "`+arnPrefix+`cluster/default",
		"TaskDefinitionArn": "`+def+`", "LastStatus": "PROVISIONING", "DesiredStatus": "RUNNING",
		"LaunchType": "FARGATE", "PlatformVersion": "1.4.0", "PlatformFamily": "Linux", "Group": "family:webserver",
		"StartedBy": "me", "Version": 1, "Cpu": "256", "Memory": "512", "HealthStatus": "UNKNOWN",
		"CreatedAt": "2026-11-20T12:00:00Z", "AvailabilityZone": "us-east-1b",
		"EphemeralStorage": {"SizeInGiB": 20}, "FargateEphemeralStorage": {"SizeInGiB": 20},
		"Attributes": [{"Name": "ecs.cpu-architecture", "Value": "x86_64"}], "InferenceAccelerators": [],
		"Attachments": [{"Id": "00000000-0000-0000-0000-000000000003", "Type": "ElasticNetworkInterface", "Status": "PRECREATED",
			"Details": [{"Name": "subnetId", "Value": "subnet-1"}, {"Name": "networkInterfaceId", "Value": "eni-00000000000000000"}]}],
		"Overrides": {"ContainerOverrides": [{"Name": "web"}], "InferenceAcceleratorOverrides": []},
		"Tags": [{"Key": "a", "Value": "b"}, {"Key": "aws:ecs:clusterName", "Value": "default"}],
		"Containers": [{"ContainerArn": "`+arnPrefix+`container/default/`+id+`/00000000-0000-0000-0000-000000000002",
			"TaskArn": "`+arnPrefix+`task/default/`+id+`", "Name": "web", "Image": "nginx", "LastStatus": "PENDING",
			"NetworkInterfaces": [], "Cpu": "99", "Memory": "100"}]}`)
	r.store.View(func(v store.Reader) {
		task, _ := store.Tasks.Get(v, id)
		if task.InstanceID != instanceID || task.NodeID != "n1" || !task.PlacedAt.Equal(r.clock) || task.Desired != model.Running {
			t.Errorf("stored: %+v", task)
		}
	})
}

func TestRunTaskRefusals(t *testing.T) {
	r := newRig(t)
	bridge, vpc := r.define("bridge", nil), r.define("vpc", fargate)
	old := r.define("old", nil)
	ok(r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: &old}))(t)
	_, err := r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &bridge})
	refused(t, err, "InvalidParameterException", "No Container Instances were found in your cluster.")
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &vpc, LaunchType: "FARGATE", NetworkConfiguration: subnets()}))(t)
	if len(out.Tasks) != 0 || len(out.Failures) != 1 || *out.Failures[0].Reason != "RESOURCE:FARGATE" {
		t.Errorf("Fargate without a node is a failure with HTTP 200: %+v", out.Failures)
	}
	r.node()
	for _, tt := range []struct {
		name, code, text string
		in               sdk.RunTaskInput
	}{
		{"unknown", "ClientException", "TaskDefinition not found.", sdk.RunTaskInput{TaskDefinition: new("nope")}},
		{"inactive", "ClientException", "TaskDefinition is inactive", sdk.RunTaskInput{TaskDefinition: &old}},
		{"count", "InvalidParameterException", "Count must be between 1 and 10.",
			sdk.RunTaskInput{TaskDefinition: &bridge, Count: new(int32(11))}},
		{"launch type", "InvalidParameterException", "launch type should be one of [EC2,FARGATE,EXTERNAL,FMI,MANAGED_INSTANCES]",
			sdk.RunTaskInput{TaskDefinition: &bridge, LaunchType: "FARGAT"}},
		{"both", "InvalidParameterException", "Specify either Launch Type or Capacity Provider Strategy, but not both.",
			sdk.RunTaskInput{TaskDefinition: &bridge, LaunchType: "EC2",
				CapacityProviderStrategy: []types.CapacityProviderStrategyItem{{CapacityProvider: new("FARGATE")}}}},
		{"incompatible", "InvalidParameterException", "Task definition does not support launch_type FARGATE.",
			sdk.RunTaskInput{TaskDefinition: &bridge, LaunchType: "FARGATE"}},
		{"no network", "InvalidParameterException", "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
			sdk.RunTaskInput{TaskDefinition: &vpc, LaunchType: "FARGATE"}},
		{"network of bridge", "InvalidParameterException",
			"Network Configuration is not valid for the given networkMode of this task definition.",
			sdk.RunTaskInput{TaskDefinition: &bridge, NetworkConfiguration: subnets()}},
		{"override", "InvalidParameterException", "Override for container named x is not a container in the TaskDefinition.",
			sdk.RunTaskInput{TaskDefinition: &bridge, Overrides: &types.TaskOverride{
				ContainerOverrides: []types.ContainerOverride{{Name: new("x")}}}}},
		{"platform", "PlatformUnknownException", "The specified platform version does not exist.", sdk.RunTaskInput{
			TaskDefinition: &vpc, LaunchType: "FARGATE", NetworkConfiguration: subnets(), PlatformVersion: new("9")}},
		{"cluster", "ClusterNotFoundException", "Cluster not found.", sdk.RunTaskInput{TaskDefinition: &bridge, Cluster: new("x")}},
		{"ebs", "InvalidParameterException", "Berth does not support volumeConfigurations (EBS volumes) yet.", sdk.RunTaskInput{
			TaskDefinition: &bridge, VolumeConfigurations: []types.TaskVolumeConfiguration{{Name: new("v")}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.runTask(r.ctx(), &tt.in)
			refused(t, err, tt.code, tt.text)
		})
	}
	if list := ok(r.listTasks(r.ctx(), &sdk.ListTasksInput{}))(t); len(list.TaskArns) != 0 {
		t.Errorf("a refused run left tasks: %v", list.TaskArns)
	}
}

// TestRunTaskFills: what fits runs, the rest comes back as failures of one answer.
func TestRunTaskFills(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("big", func(in *sdk.RegisterTaskDefinitionInput) { in.Memory = new("1500") })
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, Count: new(int32(3))}))(t)
	if len(out.Tasks) != 2 || len(out.Failures) != 1 {
		t.Fatalf("4096 MiB hold two of 1500: %d tasks, failures %+v", len(out.Tasks), out.Failures)
	}
	if f := out.Failures[0]; *f.Reason != "RESOURCE:MEMORY" || *f.Arn != scope.InstanceARN("default", instanceID) {
		t.Errorf("failure: %s %s", *f.Reason, *f.Arn)
	}
	again := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def}))(t)
	if len(again.Tasks) != 0 {
		t.Error("a later run must see what the earlier one took")
	}
}

func TestRunTaskTokens(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("web", nil)
	in := &sdk.RunTaskInput{TaskDefinition: &def, Count: new(int32(2)), ClientToken: new("token")}
	arns := func(out *sdk.RunTaskOutput) (list []string) {
		for _, t := range out.Tasks {
			list = append(list, *t.TaskArn)
		}
		return list
	}
	first := arns(ok(r.runTask(r.ctx(), in))(t))
	if again := arns(ok(r.runTask(r.ctx(), in))(t)); !slices.Equal(first, again) {
		t.Errorf("a replay returns the same tasks: %v, %v", first, again)
	}
	other := *in
	other.Count = new(int32(1))
	_, err := r.runTask(r.ctx(), &other)
	refused(t, err, "ConflictException", "The RunTask request could not be processed due to conflicts. "+
		"The provided clientToken is already in use with a different request.")
	if conflict, is := errors.AsType[*types.ConflictException](err); !is || !slices.Equal(conflict.ResourceIds, first) {
		t.Errorf("the conflict names the tasks: %+v", conflict)
	}
	r.clock = r.clock.Add(25 * time.Hour)
	if later := arns(ok(r.runTask(r.ctx(), &other))(t)); slices.Contains(first, later[0]) {
		t.Error("a token is forgotten after a day")
	}
	r.clock = r.clock.Add(25 * time.Hour)
	ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, ClientToken: new("another")}))(t)
	r.store.View(func(v store.Reader) {
		if n := len(slices.Collect(store.Idempotencies.Scan(v, "RunTask/"))); n != 1 {
			t.Errorf("expired tokens must be swept, %d are left", n)
		}
	})
}

func TestRunTaskGPU(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("gpu", func(in *sdk.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].ResourceRequirements = []types.ResourceRequirement{{Type: "GPU", Value: new("1")}}
	})
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def}))(t)
	if len(out.Tasks) != 0 || len(out.Failures) != 1 || *out.Failures[0].Reason != "RESOURCE:GPU" {
		t.Errorf("no node has GPUs: %+v", out)
	}
}

func TestStartTask(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("web", nil)
	out := ok(r.startTask(r.ctx(), &sdk.StartTaskInput{TaskDefinition: &def, Group: new("g"),
		ContainerInstances: []string{instanceID, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}))(t)
	if len(out.Tasks) != 1 || *out.Tasks[0].ContainerInstanceArn != scope.InstanceARN("default", instanceID) ||
		*out.Tasks[0].Group != "g" || *out.Tasks[0].LastStatus != "PENDING" {
		t.Errorf("started: %+v", out.Tasks)
	}
	if f := out.Failures; len(f) != 1 || *f[0].Reason != "MISSING" ||
		*f[0].Arn != scope.InstanceARN("default", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb") {
		t.Errorf("failures: %+v", f)
	}
	_, err := r.startTask(r.ctx(), &sdk.StartTaskInput{TaskDefinition: &def})
	refused(t, err, "InvalidParameterException", "Container instances must have between 1 and 10 elements.")
}

func TestTagsOfTasks(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("web", func(in *sdk.RegisterTaskDefinitionInput) {
		in.Tags = []types.Tag{{Key: new("from"), Value: new("definition")}}
	})
	task := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, PropagateTags: "TASK_DEFINITION"}))(t).Tasks[0]
	ok(r.tagResource(r.ctx(), &sdk.TagResourceInput{ResourceArn: task.TaskArn, Tags: []types.Tag{{Key: new("x"),
		Value: new("1")}}}))(t)
	ok(r.tagResource(r.ctx(), &sdk.TagResourceInput{ResourceArn: task.TaskArn, Tags: []types.Tag{{Key: new("x"),
		Value: new("2")}}}))(t)
	equalJSON(t, "tags", ok(r.listTagsForResource(r.ctx(), &sdk.ListTagsForResourceInput{ResourceArn: task.TaskArn}))(t).Tags,
		`[{"Key": "from", "Value": "definition"}, {"Key": "x", "Value": "2"}]`)
	ok(r.untagResource(r.ctx(), &sdk.UntagResourceInput{ResourceArn: task.TaskArn, TagKeys: []string{"from"}}))(t)
	in := &sdk.DescribeTasksInput{Tasks: []string{*task.TaskArn}}
	if d := ok(r.describeTasks(r.ctx(), in))(t); d.Tasks[0].Tags == nil || len(d.Tasks[0].Tags) != 0 {
		t.Errorf("tags without include: %+v", d.Tasks[0].Tags)
	}
	in.Include = []types.TaskField{"TAGS"}
	if d := ok(r.describeTasks(r.ctx(), in))(t); len(d.Tasks[0].Tags) != 1 {
		t.Errorf("tags with include: %+v", d.Tasks[0].Tags)
	}
}
