package task

import (
	"fmt"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

var scope = model.Scope{Account: "000000000000", Region: "us-east-1"}

func ids() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("%032x", n) }
}

func definition(mode types.NetworkMode, containers ...types.ContainerDefinition) *model.TaskDefinition {
	return &model.TaskDefinition{Family: "web", Revision: 3, Definition: types.TaskDefinition{
		NetworkMode: mode, ContainerDefinitions: containers,
	}}
}

func TestNewAwsvpc(t *testing.T) {
	def := definition(types.NetworkModeAwsvpc,
		types.ContainerDefinition{Name: new("web"), Image: new("nginx")},
		types.ContainerDefinition{Name: new("log"), Image: new("fluent")})
	def.Definition.Cpu, def.Definition.Memory = new("256"), new("512")
	def.Definition.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{
		Type: types.TaskDefinitionPlacementConstraintTypeMemberOf, Expression: new("attribute:a == b")}}
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	task := New(Spec{
		Scope: scope, Cluster: "c", Definition: def, Now: now, NewID: ids(),
		Service: "shop", Deployment: "ecs-svc/123", LaunchType: types.LaunchTypeFargate, PlatformVersion: "LATEST",
		NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{
			Subnets: []string{"subnet-1", "subnet-2"}}},
		Constraints: []types.PlacementConstraint{{Type: types.PlacementConstraintTypeDistinctInstance}},
	})
	want := &model.Task{
		ID:             "00000000000000000000000000000001",
		ARN:            "arn:aws:ecs:us-east-1:000000000000:task/c/00000000000000000000000000000001",
		Cluster:        "c",
		TaskDefinition: "arn:aws:ecs:us-east-1:000000000000:task-definition/web:3", Family: "web", Revision: 3,
		Group: "service:shop", StartedBy: "ecs-svc/123", Service: "shop", Deployment: "ecs-svc/123",
		LaunchType: types.LaunchTypeFargate, PlatformVersion: "1.4.0", NetworkMode: types.NetworkModeAwsvpc,
		NetworkConfiguration: task.NetworkConfiguration,
		Constraints: []types.PlacementConstraint{
			{Type: types.PlacementConstraintTypeMemberOf, Expression: new("attribute:a == b")},
			{Type: types.PlacementConstraintTypeDistinctInstance}},
		CreatedAt: now, Needs: model.Resources{CPU: 256, Memory: 512, ENIs: 1}, Desired: model.Running, Version: 1,
		Observed: model.Observed{
			Status: model.Provisioning, Health: types.HealthStatusUnknown,
			Containers: []model.Container{
				{Name: "web", ID: "00000000-0000-0000-0000-000000000002", Image: "nginx", Status: model.Pending,
					Health: types.HealthStatusUnknown},
				{Name: "log", ID: "00000000-0000-0000-0000-000000000003", Image: "fluent", Status: model.Pending,
					Health: types.HealthStatusUnknown},
			},
			Interface: &model.NetworkInterface{AttachmentID: "00000000-0000-0000-0000-000000000004",
				ENIID: "eni-00000000000000000", SubnetID: "subnet-1", Status: "PRECREATED"},
		},
	}
	if !reflect.DeepEqual(task, want) {
		t.Errorf("New:\n got %+v\nwant %+v", task, want)
	}
}

func TestNewStandaloneDefaults(t *testing.T) {
	task := New(Spec{Scope: scope, Cluster: "c", ID: "x", NewID: ids(),
		Definition: definition("", types.ContainerDefinition{Name: new("a"), Memory: new(int32(64))})})
	if task.ID != "x" || task.Group != "family:web" || task.StartedBy != "" || task.LaunchType != types.LaunchTypeEc2 ||
		task.NetworkMode != types.NetworkModeBridge || task.PlatformVersion != "" {
		t.Errorf("defaults: %+v", task)
	}
	if task.Observed.Status != model.Pending || task.Observed.Interface != nil {
		t.Errorf("a bridge task begins PENDING without an interface: %+v", task.Observed)
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	if id := task.Observed.Containers[0].ID; !uuid.MatchString(id) {
		t.Errorf("container id %q is no UUID", id)
	}
}

func TestNeeds(t *testing.T) {
	port := func(container, host int32, proto types.TransportProtocol) types.PortMapping {
		return types.PortMapping{ContainerPort: new(container), HostPort: new(host), Protocol: proto}
	}
	soft := types.ContainerDefinition{Name: new("a"), Cpu: 10, Memory: new(int32(100)), MemoryReservation: new(int32(40)),
		PortMappings: []types.PortMapping{port(80, 8080, "tcp"), port(81, 0, "tcp"), port(53, 53, "udp"), port(82, 8080, "")}}
	hard := types.ContainerDefinition{Name: new("b"), Cpu: 20, Memory: new(int32(64))}
	sized := definition(types.NetworkModeBridge, soft, hard)
	sized.Definition.Cpu, sized.Definition.Memory = new("512"), new("1024")
	bridgePorts := []model.HostPort{{Port: 8080, Protocol: "tcp"}, {Port: 53, Protocol: "udp"}}
	for _, tt := range []struct {
		name string
		def  *model.TaskDefinition
		over types.TaskOverride
		want model.Resources
	}{
		{"sums of containers", definition(types.NetworkModeBridge, soft, hard), types.TaskOverride{},
			model.Resources{CPU: 30, Memory: 104, Ports: bridgePorts}},
		{"task level", sized, types.TaskOverride{}, model.Resources{CPU: 512, Memory: 1024, Ports: bridgePorts}},
		{"task override", sized, types.TaskOverride{Cpu: new("256"), Memory: new("2048")},
			model.Resources{CPU: 256, Memory: 2048, Ports: bridgePorts}},
		{"container override", definition(types.NetworkModeNone, soft, hard), types.TaskOverride{
			ContainerOverrides: []types.ContainerOverride{
				{Name: new("a"), Cpu: new(int32(1)), MemoryReservation: new(int32(7))},
				{Name: new("b"), Memory: new(int32(9))}}},
			model.Resources{CPU: 21, Memory: 16}},
		{"host takes container ports", definition(types.NetworkModeHost, soft), types.TaskOverride{},
			model.Resources{CPU: 10, Memory: 40, Ports: []model.HostPort{
				{Port: 8080, Protocol: "tcp"}, {Port: 81, Protocol: "tcp"}, {Port: 53, Protocol: "udp"}}}},
		{"awsvpc has its own ports", definition(types.NetworkModeAwsvpc, soft), types.TaskOverride{},
			model.Resources{CPU: 10, Memory: 40, ENIs: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Needs(&tt.def.Definition, tt.over); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Needs = %+v, want %+v", got, tt.want)
			}
		})
	}
}
