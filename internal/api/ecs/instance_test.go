package ecs

import (
	"fmt"
	"slices"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

func TestDescribeContainerInstance(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", func(in *sdk.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].PortMappings[0].HostPort = new(int32(8080))
	})
	task := r.run(1, "web")[0]
	r.observe(model.ARNTail(*task.TaskArn), func(t *model.Task) { t.Observed.Status = model.Running })
	r.define("dns", func(in *sdk.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].PortMappings = []types.PortMapping{{ContainerPort: new(int32(53)), HostPort: new(int32(53)),
			Protocol: "udp"}}
	})
	r.run(1, "dns")
	out := ok(r.describeContainerInstances(r.ctx(), &sdk.DescribeContainerInstancesInput{ContainerInstances: []string{instanceID,
		"x"}}))(t)
	equalJSON(t, "instance", out.ContainerInstances[0], `{
		"ContainerInstanceArn": "`+arnPrefix+`container-instance/default/`+instanceID+`", "Ec2InstanceId": "i-0123456789abcdef0",
		"Status": "ACTIVE", "Version": 1, "AgentConnected": true, "RegisteredAt": "2026-11-20T12:00:00Z",
		"RunningTasksCount": 1, "PendingTasksCount": 1, "Attachments": [], "Tags": [],
		"VersionInfo": {"AgentVersion": "0.1", "DockerVersion": "2.4.2"},
		"Attributes": [{"Name": "ecs.availability-zone", "Value": "us-east-1b"}, {"Name": "ecs.cpu-architecture", "Value": "x86_64"},
			{"Name": "ecs.os-type", "Value": "linux"}],
		"RegisteredResources": [{"Name": "CPU", "Type": "INTEGER", "IntegerValue": 2048},
			{"Name": "MEMORY", "Type": "INTEGER", "IntegerValue": 4096},
			{"Name": "PORTS", "Type": "STRINGSET", "StringSetValue": ["22", "2375", "2376", "4566", "51678", "51679", "51680"]},
			{"Name": "PORTS_UDP", "Type": "STRINGSET", "StringSetValue": []}],
		"RemainingResources": [{"Name": "CPU", "Type": "INTEGER", "IntegerValue": 1850},
			{"Name": "MEMORY", "Type": "INTEGER", "IntegerValue": 3896},
			{"Name": "PORTS", "Type": "STRINGSET", "StringSetValue": ["22", "2375", "2376", "4566", "8080", "51678", "51679", "51680"]},
			{"Name": "PORTS_UDP", "Type": "STRINGSET", "StringSetValue": ["53"]}]}`)
	if f := out.Failures; len(f) != 1 || *f[0].Arn != arnPrefix+"container-instance/default/x" {
		t.Errorf("failures: %+v", f)
	}
}

func TestContainerInstanceStates(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	arn := scope.InstanceARN("default", instanceID)
	list := func(in sdk.ListContainerInstancesInput) []string {
		return ok(r.listContainerInstances(r.ctx(), &in))(t).ContainerInstanceArns
	}
	task := r.run(1, "web")[0]
	ok(r.updateContainerInstancesState(r.ctx(), &sdk.UpdateContainerInstancesStateInput{
		ContainerInstances: []string{arn}, Status: "DRAINING"}))(t)
	if !slices.Equal(list(sdk.ListContainerInstancesInput{}), []string{arn}) ||
		len(list(sdk.ListContainerInstancesInput{Status: "ACTIVE"})) != 0 {
		t.Error("a DRAINING instance is listed, but not as ACTIVE")
	}
	if f := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: new("web")}))(t).Failures; len(f) != 1 {
		t.Errorf("a DRAINING instance takes no task: %+v", f)
	}
	_, err := r.deregisterContainerInstance(r.ctx(), &sdk.DeregisterContainerInstanceInput{ContainerInstance: &arn})
	refused(t, err, "InvalidParameterException", "Found running tasks on the instance.")
	out := ok(r.deregisterContainerInstance(r.ctx(), &sdk.DeregisterContainerInstanceInput{ContainerInstance: &arn,
		Force: new(true)}))(t)
	if *out.ContainerInstance.Status != "INACTIVE" || len(list(sdk.ListContainerInstancesInput{})) != 0 {
		t.Errorf("deregistered: %+v", out.ContainerInstance)
	}
	d := ok(r.describeTasks(r.ctx(), &sdk.DescribeTasksInput{Tasks: []string{*task.TaskArn}}))(t).Tasks[0]
	if *d.DesiredStatus != "STOPPED" || *d.StoppedReason != "Container instance deregistration forced by user" {
		t.Errorf("its task: %s, %s", *d.DesiredStatus, *d.StoppedReason)
	}
	_, err = r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: new("web")})
	refused(t, err, "InvalidParameterException", "No Container Instances were found in your cluster.")
	_, err = r.updateContainerInstancesState(r.ctx(), &sdk.UpdateContainerInstancesStateInput{
		ContainerInstances: []string{arn}, Status: "REGISTERING"})
	refused(t, err, "InvalidParameterException", "Container instances can be updated to the status ACTIVE or DRAINING only.")
}

func TestListContainerInstancesFilter(t *testing.T) {
	r := newRig(t)
	r.node()
	ok(r.putAttributes(r.ctx(), &sdk.PutAttributesInput{Attributes: []types.Attribute{
		{Name: new("disk"), Value: new("ssd"), TargetId: new(instanceID)}}}))(t)
	for filter, want := range map[string]int{
		"attribute:disk == ssd": 1, "attribute:disk == hdd": 0, "attribute:ecs.os-type == linux and runningTasksCount == 0": 1,
	} {
		out := ok(r.listContainerInstances(r.ctx(), &sdk.ListContainerInstancesInput{Filter: &filter}))(t)
		if len(out.ContainerInstanceArns) != want {
			t.Errorf("%s: %v", filter, out.ContainerInstanceArns)
		}
	}
	if _, err := r.listContainerInstances(r.ctx(), &sdk.ListContainerInstancesInput{Filter: new("disk ==")}); model.ErrorCode(err) !=
		"InvalidParameterException" {
		t.Errorf("a filter that cannot be read: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	r := newRig(t)
	r.node()
	attr := func(name, val string) types.Attribute {
		return types.Attribute{Name: &name, Value: &val, TargetId: new(instanceID), TargetType: "container-instance"}
	}
	put := func(list ...types.Attribute) error {
		_, err := r.putAttributes(r.ctx(), &sdk.PutAttributesInput{Attributes: list})
		return err
	}
	if err := put(attr("disk", "ssd"), attr("disk", "hdd"), attr("rack", "1")); err != nil {
		t.Fatal(err)
	}
	list := func(in sdk.ListAttributesInput) (got []string) {
		in.TargetType = "container-instance"
		for _, x := range ok(r.listAttributes(r.ctx(), &in))(t).Attributes {
			got = append(got, *x.Name+"="+value(x.Value))
		}
		return got
	}
	all := []string{"disk=hdd", "ecs.availability-zone=us-east-1b", "ecs.cpu-architecture=x86_64", "ecs.os-type=linux", "rack=1"}
	if got := list(sdk.ListAttributesInput{}); !slices.Equal(got, all) {
		t.Errorf("attributes %v", got)
	}
	if got := list(sdk.ListAttributesInput{AttributeName: new("rack"), AttributeValue: new("2")}); len(got) != 0 {
		t.Errorf("filtered %v", got)
	}
	refused(t, put(attr("ecs.os-type", "plan9")), "InvalidParameterException",
		"Attribute name 'ecs.os-type' is reserved: names cannot start with ecs. or com.amazonaws.ecs.")
	missingTarget := attr("a", "b")
	missingTarget.TargetId = new("x")
	refused(t, put(missingTarget), "TargetNotFoundException", "The specified target wasn't found: x")
	var many []types.Attribute
	for n := range 9 {
		many = append(many, attr(fmt.Sprint("n", n), ""))
	}
	refused(t, put(many...), "AttributeLimitExceededException", "A container instance can have at most 10 custom attributes.")
	if got := list(sdk.ListAttributesInput{}); !slices.Equal(got, all) {
		t.Errorf("a refused call left something behind: %v", got)
	}
	ok(r.deleteAttributes(r.ctx(), &sdk.DeleteAttributesInput{Attributes: []types.Attribute{attr("disk", "")}}))(t)
	if got := list(sdk.ListAttributesInput{AttributeName: new("disk")}); len(got) != 0 {
		t.Errorf("deleted, but there: %v", got)
	}
}
