package view

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

var (
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
	noon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
)

// TestTaskOverrides: one entry for each container, what was asked where it was asked; the container's sizes follow it.
func TestTaskOverrides(t *testing.T) {
	task := &model.Task{
		ID: "t", Cluster: "c", InstanceID: "i", LaunchType: types.LaunchTypeEc2,
		Overrides: types.TaskOverride{TaskRoleArn: new("role"), ContainerOverrides: []types.ContainerOverride{
			{Name: new("b"), Cpu: new(int32(7)), Memory: new(int32(9))}}},
		Observed: model.Observed{Status: model.Running, Containers: []model.Container{{Name: "a"}, {Name: "b"}}},
	}
	def := &types.TaskDefinition{ContainerDefinitions: []types.ContainerDefinition{
		{Name: new("a"), Cpu: 1, MemoryReservation: new(int32(5))}, {Name: new("b"), Cpu: 2, Memory: new(int32(64))}}}
	got := Task(scope, task, def, nil)
	want := []types.ContainerOverride{{Name: new("a")}, {Name: new("b"), Cpu: new(int32(7)), Memory: new(int32(9))}}
	if !reflect.DeepEqual(got.Overrides.ContainerOverrides, want) || *got.Overrides.TaskRoleArn != "role" {
		t.Errorf("overrides %+v", got.Overrides)
	}
	a, b := got.Containers[0], got.Containers[1]
	if *a.Cpu != "1" || *a.MemoryReservation != "5" || a.Memory != nil || *b.Cpu != "7" || *b.Memory != "9" {
		t.Errorf("sizes: %+v %+v", a, b)
	}
	if *got.ContainerInstanceArn != scope.InstanceARN("c", "i") || got.PlatformVersion != nil || got.EphemeralStorage != nil {
		t.Errorf("an EC2 task shows its instance and nothing of Fargate: %+v", got)
	}
	if len(task.Overrides.ContainerOverrides) != 1 {
		t.Error("the stored task changed")
	}
}

// TestTaskOfDeletedDefinition: history stays readable.
func TestTaskOfDeletedDefinition(t *testing.T) {
	got := Task(scope, &model.Task{Observed: model.Observed{Containers: []model.Container{{Name: "a"}}}}, nil, nil)
	if len(got.Containers) != 1 || *got.Containers[0].Cpu != "0" || got.Attachments == nil ||
		got.Containers[0].NetworkBindings == nil {
		t.Errorf("task: %+v", got)
	}
}

// TestTaskOnTheWayOut: the statuses that clients see between a request to stop and the end.
func TestTaskOnTheWayOut(t *testing.T) {
	running := model.Observed{Status: model.Running}
	asked := &model.StopRequest{Code: types.TaskStopCodeUserInitiated, Reason: "why"}
	for _, tt := range []struct {
		name          string
		task          model.Task
		last, desired string
	}{
		{"running", model.Task{Desired: model.Running, Observed: running}, "RUNNING", "RUNNING"},
		{"asked", model.Task{Desired: model.Running, Observed: running, StopRequest: asked}, "RUNNING", "STOPPED"},
		{"draining", model.Task{Desired: model.Stopped, Observed: running, StopRequest: asked}, "DEACTIVATING", "STOPPED"},
		{"released", model.Task{Desired: model.Stopped, Released: true, Observed: running, StopRequest: asked}, "RUNNING", "STOPPED"},
		{"ended by itself", model.Task{Desired: model.Running, Observed: model.Observed{Status: model.Stopped}}, "STOPPED", "STOPPED"},
	} {
		got := Task(scope, &tt.task, nil, nil)
		if *got.LastStatus != tt.last || *got.DesiredStatus != tt.desired {
			t.Errorf("%s: %s, desired %s; want %s, %s", tt.name, *got.LastStatus, *got.DesiredStatus, tt.last, tt.desired)
		}
	}
}

func TestTaskInterface(t *testing.T) {
	task := &model.Task{LaunchType: types.LaunchTypeFargate, Observed: model.Observed{
		Containers: []model.Container{{Name: "a"}},
		Interface: &model.NetworkInterface{AttachmentID: "att", ENIID: "eni-1", SubnetID: "subnet-1", MAC: "0a:00", IPv4: "10.0.0.9",
			Status: "ATTACHED"},
	}}
	got := Task(scope, task, nil, &model.Node{Declaration: model.Declaration{Arch: "arm64"}})
	var details []string
	for _, d := range got.Attachments[0].Details {
		details = append(details, *d.Name+"="+*d.Value)
	}
	want := []string{"subnetId=subnet-1", "networkInterfaceId=eni-1", "macAddress=0a:00", "privateIPv4Address=10.0.0.9"}
	if !slices.Equal(details, want) || *got.Attachments[0].Status != "ATTACHED" {
		t.Errorf("attachment %v", details)
	}
	if n := got.Containers[0].NetworkInterfaces; len(n) != 1 || *n[0].PrivateIpv4Address != "10.0.0.9" ||
		*n[0].AttachmentId != "att" {
		t.Errorf("network interfaces %+v", n)
	}
	if *got.Attributes[0].Value != "arm64" || *got.AvailabilityZone != "us-east-1a" {
		t.Errorf("node: %+v, %s", got.Attributes, *got.AvailabilityZone)
	}
}

// TestInstanceSharesItsNode: tasks of other clusters take resources, but are not counted as this cluster's.
func TestInstanceSharesItsNode(t *testing.T) {
	node := &model.Node{Declaration: model.Declaration{CPU: 1024, Memory: 1024}}
	binding := types.NetworkBinding{HostPort: new(int32(49153)), Protocol: types.TransportProtocolTcp}
	mine := &model.Task{Cluster: "c", InstanceID: "i", Needs: model.Resources{CPU: 100, Memory: 10},
		Observed: model.Observed{Status: model.Running,
			Containers: []model.Container{{NetworkBindings: []types.NetworkBinding{binding}}}}}
	other := &model.Task{Cluster: "d", InstanceID: "j", Needs: model.Resources{CPU: 200, Memory: 20,
		Ports: []model.HostPort{{Port: 53, Protocol: "udp"}}}, Observed: model.Observed{Status: model.Running}}
	got := Instance(scope, &model.Instance{ID: "i", Cluster: "c"}, node, []*model.Task{mine, other}, []int32{80})
	left := got.RemainingResources
	if left[0].IntegerValue != 724 || left[1].IntegerValue != 994 || got.RunningTasksCount != 1 {
		t.Errorf("left %+v, running %d", left, got.RunningTasksCount)
	}
	if !slices.Contains(left[2].StringSetValue, "49153") || !slices.Contains(left[2].StringSetValue, "80") || !slices.Equal(left[3].StringSetValue, []string{"53"}) {
		t.Errorf("ports %v, %v", left[2].StringSetValue, left[3].StringSetValue)
	}
	if r := got.RegisteredResources; r[0].IntegerValue != 1024 || slices.Contains(r[2].StringSetValue, "49153") || slices.Contains(r[2].StringSetValue, "80") {
		t.Errorf("registered %+v", r)
	}
}

func TestServiceOfFargate(t *testing.T) {
	s := &ServiceState{
		Service: &model.Service{Cluster: "c", Name: "s", Status: "ACTIVE", DesiredCount: 1, RevisionID: "1"},
		Revisions: map[string]*model.ServiceRevision{"1": {ID: "1", TaskDefinition: "td",
			CapacityProviderStrategy: []types.CapacityProviderStrategyItem{{CapacityProvider: new("FARGATE_SPOT"), Weight: 1}}}},
		Deployments: []*model.Deployment{
			{ID: "ecs-svc/0", RevisionID: "0", Status: model.DeploymentInactive, CreatedAt: noon},
			{ID: "ecs-svc/1", RevisionID: "1", Status: model.DeploymentPrimary, CreatedAt: noon,
				RolloutState: types.DeploymentRolloutStateCompleted, ServiceDeploymentID: "x"},
		},
	}
	got := Service(scope, s)
	if *got.PlatformVersion != "LATEST" || *got.PlatformFamily != "Linux" || got.LaunchType != "" {
		t.Errorf("platform: %+v", got)
	}
	if len(got.Deployments) != 1 || *got.Deployments[0].PlatformVersion != "1.4.0" {
		t.Errorf("only live deployments, with the version that runs: %+v", got.Deployments)
	}
	if got.CurrentServiceDeployment != nil {
		t.Errorf("nothing rolls out, yet %s is current", *got.CurrentServiceDeployment)
	}
}

func TestClusterCounts(t *testing.T) {
	var n ClusterCounts
	for _, task := range []model.Task{
		{LaunchType: "FARGATE", Observed: model.Observed{Status: model.Running}},
		{LaunchType: "FARGATE", Observed: model.Observed{Status: model.Provisioning}},
		{LaunchType: "EC2", Observed: model.Observed{Status: model.Running}},
		{LaunchType: "EC2", Observed: model.Observed{Status: model.Stopping}},
	} {
		n.AddTask(&task)
	}
	n.AddService(&model.Service{Status: "ACTIVE"}, &model.ServiceRevision{LaunchType: "FARGATE"})
	n.AddService(&model.Service{Status: "DRAINING"}, nil)
	want := ClusterCounts{RunningEC2: 1, RunningFargate: 1, PendingFargate: 1, ActiveFargate: 1, DrainingEC2: 1}
	if n != want {
		t.Errorf("counts %+v", n)
	}
	if c := Cluster(&model.Cluster{}, n); c.RunningTasksCount != 2 || c.PendingTasksCount != 1 || c.ActiveServicesCount != 1 {
		t.Errorf("cluster %+v", c)
	}
}
