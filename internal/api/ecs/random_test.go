package ecs

import (
	"context"
	"errors"
	"reflect"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

// words are the strings of random requests: many mean something to the rig.
var words = []string{"", "web", "vpc", "web:1", "s", "default", "subnet-1", groupARN, instanceID, "FARGATE", "FARGATE_SPOT",
	"1024", "2 GB",
	"arn:aws:ecs:us-east-1:000000000000:task-definition/vpc:1", "arn:", "/", "containerInsights", "enabled", "attribute:a == b",
	"CMD", "80-90"}

// try runs an operation on a request that is right but for a few of its members, which are random: it must answer or refuse by
// name, and neither panic nor fail in itself.
func try[In, Out any](t *rapid.T, name string, right In, op func(context.Context, *In) (*Out, error)) {
	v := reflect.ValueOf(&right).Elem()
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		if f := v.Field(rapid.IntRange(0, v.NumField()-1).Draw(t, "member")); f.CanSet() {
			wiretest.Fill(t, f, words, 1)
		}
	}
	_, err := op(context.Background(), &right)
	if err == nil {
		return
	}
	_, named := errors.AsType[*model.Error](err)
	_, conflict := errors.AsType[*types.ConflictException](err)
	if !named && !conflict {
		t.Fatalf("%s failed in itself: %v", name, err)
	}
}

func TestRandomRequests(t *testing.T) {
	r := newRig(t)
	r.node()
	r.targetGroup("instance", true)
	r.define("web", nil)
	r.define("vpc", fargate)
	service := sdk.CreateServiceInput{ServiceName: new("s"), TaskDefinition: new("web"), DesiredCount: new(int32(1)),
		LoadBalancers: []types.LoadBalancer{{TargetGroupArn: new(groupARN), ContainerName: new("web"), ContainerPort: new(int32(80))}}}
	arn := ok(r.createService(r.ctx(), &service))(t).Service.CurrentServiceDeployment
	rapid.Check(t, func(t *rapid.T) {
		try(t, "RegisterTaskDefinition", sdk.RegisterTaskDefinitionInput{Family: new("x"),
			ContainerDefinitions: []types.ContainerDefinition{webContainer()}}, r.registerTaskDefinition)
		container := webContainer()
		wiretest.Fill(t, reflect.ValueOf(&container).Elem().Field(rapid.IntRange(0, 40).Draw(t, "member")), words, 2)
		try(t, "RegisterTaskDefinition", sdk.RegisterTaskDefinitionInput{Family: new("x"),
			ContainerDefinitions: []types.ContainerDefinition{container}}, r.registerTaskDefinition)
		try(t, "ListTaskDefinitions", sdk.ListTaskDefinitionsInput{}, r.listTaskDefinitions)
		try(t, "RunTask", sdk.RunTaskInput{TaskDefinition: new("x")}, r.runTask)
		try(t, "RunTask", sdk.RunTaskInput{TaskDefinition: new("vpc"), LaunchType: "FARGATE", NetworkConfiguration: subnets()},
			r.runTask)
		try(t, "StartTask", sdk.StartTaskInput{TaskDefinition: new("web"), ContainerInstances: []string{instanceID}}, r.startTask)
		try(t, "StopTask", sdk.StopTaskInput{}, r.stopTask)
		try(t, "DescribeTasks", sdk.DescribeTasksInput{Tasks: []string{"x"}}, r.describeTasks)
		try(t, "ListTasks", sdk.ListTasksInput{}, r.listTasks)
		name := service
		name.ServiceName = new(rapid.StringMatching("[a-z]{1,3}").Draw(t, "name"))
		try(t, "CreateService", name, r.createService)
		try(t, "UpdateService", sdk.UpdateServiceInput{Service: new("s")}, r.updateService)
		try(t, "DescribeServices", sdk.DescribeServicesInput{Services: []string{"s"}}, r.describeServices)
		try(t, "ListServices", sdk.ListServicesInput{}, r.listServices)
		try(t, "ListServiceDeployments", sdk.ListServiceDeploymentsInput{Service: new("s")}, r.listServiceDeployments)
		try(t, "DescribeServiceDeployments", sdk.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{*arn}},
			r.describeServiceDeployments)
		try(t, "StopServiceDeployment", sdk.StopServiceDeploymentInput{ServiceDeploymentArn: arn}, r.stopServiceDeployment)
		try(t, "CreateCluster", sdk.CreateClusterInput{ClusterName: new("c")}, r.createCluster)
		try(t, "UpdateCluster", sdk.UpdateClusterInput{Cluster: new("c")}, r.updateCluster)
		try(t, "DescribeClusters", sdk.DescribeClustersInput{}, r.describeClusters)
		try(t, "PutClusterCapacityProviders", sdk.PutClusterCapacityProvidersInput{Cluster: new("c")}, r.putClusterCapacityProviders)
		try(t, "DescribeCapacityProviders", sdk.DescribeCapacityProvidersInput{}, r.describeCapacityProviders)
		try(t, "DescribeContainerInstances", sdk.DescribeContainerInstancesInput{ContainerInstances: []string{instanceID}},
			r.describeContainerInstances)
		try(t, "ListContainerInstances", sdk.ListContainerInstancesInput{}, r.listContainerInstances)
		try(t, "PutAttributes", sdk.PutAttributesInput{}, r.putAttributes)
		try(t, "ListAttributes", sdk.ListAttributesInput{TargetType: "container-instance"}, r.listAttributes)
		try(t, "TagResource", sdk.TagResourceInput{ResourceArn: new(arnPrefix + "service/default/s")}, r.tagResource)
		try(t, "PutAccountSetting", sdk.PutAccountSettingInput{Name: "awsvpcTrunking", Value: new("enabled")}, r.putAccountSetting)
		try(t, "ListAccountSettings", sdk.ListAccountSettingsInput{}, r.listAccountSettings)
	})
}
