package ecs

import (
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/task"
	"github.com/berthdev/berth/internal/store"
)

func (r *rig) create(name string, change func(*sdk.CreateServiceInput)) *types.Service {
	r.t.Helper()
	return ok(r.createService(r.ctx(), r.createInput(name, change)))(r.t).Service
}

func (r *rig) createInput(name string, change func(*sdk.CreateServiceInput)) *sdk.CreateServiceInput {
	in := &sdk.CreateServiceInput{ServiceName: &name, TaskDefinition: new("web"), DesiredCount: new(int32(2))}
	if change != nil {
		change(in)
	}
	return in
}

func (r *rig) describe(name string) types.Service {
	r.t.Helper()
	out := ok(r.describeServices(r.ctx(), &sdk.DescribeServicesInput{Services: []string{name}}))(r.t)
	if len(out.Services) != 1 {
		r.t.Fatalf("service %s: %+v", name, out.Failures)
	}
	return out.Services[0]
}

// serviceTask adds a task of a service's deployment, as control would, and lets it run.
func (r *rig) serviceTask(service, deployment string, status model.TaskStatus) {
	r.t.Helper()
	r.write(func(tx store.Tx) {
		def, _ := r.revision(tx, "web")
		t := task.New(task.Spec{Scope: scope, Cluster: "default", Definition: def, Now: r.clock, NewID: r.newID,
			Service: service, Deployment: deployment})
		t.Observed.Status = status
		store.Tasks.Put(tx, t)
	})
}

func TestCreateServiceShape(t *testing.T) {
	r := newRig(t)
	def := r.define("web", nil)
	svc := r.create("shop", nil)
	digits := strings.TrimPrefix(*svc.Deployments[0].Id, "ecs-svc/")
	if len(digits) != 19 {
		t.Errorf("a deployment's id has 19 digits: %s", digits)
	}
	deploymentID := model.ARNTail(*svc.CurrentServiceDeployment)
	if len(deploymentID) != 21 {
		t.Errorf("a service deployment's id has 21 characters: %s", deploymentID)
	}
	equalJSON(t, "service", svc, `{
		"ServiceArn": "`+arnPrefix+`service/default/shop", "ServiceName": "shop", "ClusterArn": "`+arnPrefix+`cluster/default",
		"Status": "ACTIVE", "DesiredCount": 2, "TaskDefinition": "`+def+`", "LaunchType": "EC2",
		"LoadBalancers": [], "ServiceRegistries": [], "PlacementConstraints": [], "PlacementStrategy": [],
		"Events": [], "Tags": [], "SchedulingStrategy": "REPLICA", "DeploymentController": {"Type": "ECS"},
		"PropagateTags": "NONE", "AvailabilityZoneRebalancing": "ENABLED", "ResourceManagementType": "CUSTOMER",
		"CreatedBy": "arn:aws:iam::000000000000:root", "CreatedAt": "2026-11-20T12:00:00Z",
		"DeploymentConfiguration": {"MaximumPercent": 200, "MinimumHealthyPercent": 100, "Strategy": "ROLLING",
			"DeploymentCircuitBreaker": {"ResetOnHealthyTask": true, "ThresholdConfiguration": {"Type": "BOUNDED_PERCENT", "Value": 50}}},
		"CurrentServiceDeployment": "`+arnPrefix+`service-deployment/default/shop/`+deploymentID+`",
		"CurrentServiceRevisions": [{"Arn": "`+arnPrefix+`service-revision/default/shop/`+digits+`", "RequestedTaskCount": 2}],
		"Deployments": [{"Id": "ecs-svc/`+digits+`", "Status": "PRIMARY", "DesiredCount": 2, "TaskDefinition": "`+def+`",
			"LaunchType": "EC2", "RolloutState": "IN_PROGRESS", "RolloutStateReason": "ECS deployment ecs-svc/`+digits+` in progress.",
			"CreatedAt": "2026-11-20T12:00:00Z", "UpdatedAt": "2026-11-20T12:00:00Z"}]}`)
	if *svc.HealthCheckGracePeriodSeconds != 0 || *svc.DeploymentConfiguration.BakeTimeInMinutes != 0 {
		t.Error("zeroes that are defaults must be given, not left out")
	}
}

func TestCreateServiceIdempotency(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	token := func(in *sdk.CreateServiceInput) { in.ClientToken = new("once") }
	first := r.create("shop", token)
	if again := r.create("shop", func(in *sdk.CreateServiceInput) {
		token(in)
		in.Tags = []types.Tag{{Key: new("other"), Value: new("tags")}}
	}); *again.Deployments[0].Id != *first.Deployments[0].Id {
		t.Error("an identical request returns the same service")
	}
	_, err := r.createService(r.ctx(), r.createInput("shop", func(in *sdk.CreateServiceInput) { in.DesiredCount = new(int32(3)) }))
	refused(t, err, "InvalidParameterException", "Creation of service was not idempotent.")
	_, err = r.createService(r.ctx(), r.createInput("shop", nil)) // the same, without the token
	refused(t, err, "InvalidParameterException", "Creation of service was not idempotent.")
	ok(r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("shop"), Force: new(true)}))(t)
	_, err = r.createService(r.ctx(), r.createInput("shop", nil))
	refused(t, err, "InvalidParameterException", "Unable to Start a service that is still Draining.")
	r.write(func(tx store.Tx) {
		s, _ := store.Services.Get(tx, "default/shop")
		changed := *s
		changed.Status = inactive
		store.Services.Put(tx, &changed)
	})
	again := r.create("shop", nil)
	if len(again.Deployments) != 1 || *again.Deployments[0].Id == *first.Deployments[0].Id {
		t.Errorf("a name that is INACTIVE is free again, without the old deployments: %+v", again.Deployments)
	}
}

func TestCreateServiceRefusals(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.define("vpc", fargate)
	type in = *sdk.CreateServiceInput
	percent := func(maximum, minimum int32) *types.DeploymentConfiguration {
		return &types.DeploymentConfiguration{MaximumPercent: &maximum, MinimumHealthyPercent: &minimum}
	}
	for _, tt := range []struct {
		name   string
		change func(in)
		code   string // "" means InvalidParameterException
		text   string
	}{
		{"no count", func(i in) { i.DesiredCount = nil }, "", "DesiredCount is missing"},
		{"negative", func(i in) { i.DesiredCount = new(int32(-1)) }, "", "DesiredCount can not be lesser than 0"},
		{"maximum low", func(i in) { i.DeploymentConfiguration = percent(99, 50) }, "", "maximumPercent must be at least 100"},
		{"maximum high", func(i in) { i.DeploymentConfiguration = percent(201, 50) }, "", "maximumPercent must be at most 200"},
		{"minimum high", func(i in) { i.DeploymentConfiguration = percent(200, 101) }, "", "minimumHealthyPercent must be at most 100"},
		{"blocked", func(i in) { i.DeploymentConfiguration = percent(100, 100) }, "",
			"Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments."},
		{"rebalancing", func(i in) { i.DeploymentConfiguration, i.AvailabilityZoneRebalancing = percent(100, 0), "ENABLED" }, "",
			"Availability Zone Rebalancing does not support maximumPercent <= 100 % as deployment configuration."},
		{"definition", func(i in) { i.TaskDefinition = new("x") }, "ClientException", "TaskDefinition not found."},
		{"cluster", func(i in) { i.Cluster = new("x") }, "ClusterNotFoundException", "Cluster not found."},
		{"network", func(i in) { i.TaskDefinition, i.LaunchType = new("vpc"), "FARGATE" }, "",
			"Network Configuration must be provided when networkMode 'awsvpc' is specified."},
		{"grace", func(i in) { i.HealthCheckGracePeriodSeconds = new(int32(9)) }, "",
			"Health check grace period is only valid for services configured to use load balancers"},
		{"daemon", func(i in) { i.SchedulingStrategy = "DAEMON" }, "", "Berth does not support the scheduling strategy DAEMON yet."},
		{"external", func(i in) { i.DeploymentController = &types.DeploymentController{Type: "EXTERNAL"} }, "",
			"Berth does not support the deployment controller EXTERNAL yet."},
		{"blue/green", func(i in) { i.DeploymentConfiguration = &types.DeploymentConfiguration{Strategy: "BLUE_GREEN"} }, "",
			"Berth does not support the deployment strategy BLUE_GREEN yet."},
		{"connect", func(i in) { i.ServiceConnectConfiguration = &types.ServiceConnectConfiguration{Enabled: true} }, "",
			"Berth does not support Service Connect yet."},
		{"registries", func(i in) { i.ServiceRegistries = []types.ServiceRegistry{{RegistryArn: new("r")}} }, "",
			"The service registry with registryArn r does not exist."},
		{"volumes", func(i in) { i.VolumeConfigurations = []types.ServiceVolumeConfiguration{{Name: new("v")}} }, "",
			"Berth does not support volumeConfigurations (EBS volumes) yet."},
		{"expression", func(i in) {
			i.PlacementConstraints = []types.PlacementConstraint{{Type: "memberOf"}}
		}, "", "A placement constraint of type memberOf must have an expression."},
		{"strategy", func(i in) { i.PlacementStrategy = []types.PlacementStrategy{{Type: "binpack", Field: new("disk")}} }, "",
			"The field of a placement strategy of type binpack must be cpu or memory."},
		{"name", func(i in) { i.ServiceName = new("a b") }, "",
			"Service name 'a b' is not valid: 1 to 255 letters, digits, hyphens and underscores."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.createService(r.ctx(), r.createInput("s", tt.change))
			if tt.code == "" {
				tt.code = "InvalidParameterException"
			}
			refused(t, err, tt.code, tt.text)
		})
	}
}

func TestCreateServiceChecksTargetGroups(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.define("vpc", fargate)
	balanced := func(def, container string, port int32) *sdk.CreateServiceInput {
		return r.createInput("s", func(in *sdk.CreateServiceInput) {
			in.TaskDefinition = &def
			if def == "vpc" {
				in.LaunchType, in.NetworkConfiguration = "FARGATE", subnets()
			}
			in.LoadBalancers = []types.LoadBalancer{{TargetGroupArn: new(groupARN), ContainerName: &container, ContainerPort: &port}}
		})
	}
	_, err := r.createService(r.ctx(), balanced("web", "x", 80))
	refused(t, err, "InvalidParameterException", "The container x does not exist in the task definition.")
	_, err = r.createService(r.ctx(), balanced("web", "web", 81))
	refused(t, err, "InvalidParameterException", "The container web did not have a container port 81 defined.")
	_, err = r.createService(r.ctx(), balanced("web", "web", 80))
	refused(t, err, "InvalidParameterException", "The target group with targetGroupArn "+groupARN+" does not exist.")
	r.targetGroup("instance", false)
	_, err = r.createService(r.ctx(), balanced("web", "web", 80))
	refused(t, err, "InvalidParameterException",
		"The target group with targetGroupArn "+groupARN+" does not have an associated load balancer.")
	r.targetGroup("instance", true)
	_, err = r.createService(r.ctx(), balanced("vpc", "web", 80))
	refused(t, err, "InvalidParameterException", "The provided target group "+groupARN+" has target type instance, which is "+
		"incompatible with the awsvpc network mode specified in the task definition.")
	svc := ok(r.createService(r.ctx(), balanced("web", "web", 80)))(t).Service
	if len(svc.LoadBalancers) != 1 || *svc.LoadBalancers[0].TargetGroupArn != groupARN {
		t.Errorf("load balancers: %+v", svc.LoadBalancers)
	}
}

// TestUpdateServiceTriggers: which changes begin a deployment (ecs.md 1.4).
func TestUpdateServiceTriggers(t *testing.T) {
	type in = *sdk.UpdateServiceInput
	for _, tt := range []struct {
		name    string
		change  func(in)
		deploys bool
	}{
		{"count", func(i in) { i.DesiredCount = new(int32(5)) }, false},
		{"same definition", func(i in) { i.TaskDefinition = new("vpc:1") }, false},
		{"new definition", func(i in) { i.TaskDefinition = new("vpc:2") }, true},
		{"bare family is the newest", func(i in) { i.TaskDefinition = new("vpc") }, true},
		{"force", func(i in) { i.ForceNewDeployment = true }, true},
		{"same network", func(i in) { i.NetworkConfiguration = subnets() }, false},
		{"new network", func(i in) {
			i.NetworkConfiguration = &types.NetworkConfiguration{
				AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{"subnet-2"}},
			}
		}, true},
		{"platform", func(i in) { i.PlatformVersion = new("1.4.0") }, true},
		{"configuration", func(i in) {
			i.DeploymentConfiguration = &types.DeploymentConfiguration{MaximumPercent: new(int32(150))}
		}, false},
		{"tags and exec", func(i in) { i.EnableECSManagedTags, i.EnableExecuteCommand = new(true), new(true) }, false},
		{"zones", func(i in) { i.AvailabilityZoneRebalancing = "DISABLED" }, false},
		{"no load balancers still", func(i in) { i.LoadBalancers = []types.LoadBalancer{} }, false},
		{"monitoring", func(i in) {
			i.Monitoring = &types.MonitoringConfiguration{MetricConfigurations: []types.MetricConfiguration{{}}}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.define("web", nil)
			r.define("vpc", fargate)
			r.define("vpc", fargate)
			old := r.create("s", func(c *sdk.CreateServiceInput) {
				c.TaskDefinition, c.LaunchType, c.NetworkConfiguration = new("vpc:1"), "FARGATE", subnets()
			})
			r.clock = r.clock.Add(time.Second)
			u := &sdk.UpdateServiceInput{Service: old.ServiceArn}
			tt.change(u)
			svc := ok(r.updateService(r.ctx(), u))(t).Service
			if got := len(svc.Deployments) == 2; got != tt.deploys {
				t.Fatalf("a new deployment: %v, want %v", got, tt.deploys)
			}
			if !tt.deploys {
				return
			}
			primary, was := svc.Deployments[0], svc.Deployments[1]
			if *primary.Status != "PRIMARY" || *was.Status != "ACTIVE" || *was.Id != *old.Deployments[0].Id || *primary.Id == *was.Id {
				t.Errorf("deployments: %+v", svc.Deployments)
			}
		})
	}
}

func TestUpdateServiceKeepsWhatItWasNotAsked(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.create("s", func(in *sdk.CreateServiceInput) {
		in.DeploymentConfiguration = &types.DeploymentConfiguration{MaximumPercent: new(int32(150)),
			MinimumHealthyPercent:    new(int32(50)),
			DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}
		in.PlacementStrategy = []types.PlacementStrategy{{Type: "spread", Field: new("instanceId")}}
	})
	svc := ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"),
		DeploymentConfiguration: &types.DeploymentConfiguration{MaximumPercent: new(int32(120))}}))(t).Service
	c := svc.DeploymentConfiguration
	if *c.MaximumPercent != 120 || *c.MinimumHealthyPercent != 50 || !c.DeploymentCircuitBreaker.Enable ||
		*c.DeploymentCircuitBreaker.ResetOnHealthyTask != true || len(svc.PlacementStrategy) != 1 || svc.DesiredCount != 2 {
		t.Errorf("updated: %+v", svc)
	}
}

func TestUpdateServiceRefusals(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	_, err := r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s")})
	refused(t, err, "ServiceNotFoundException", "Service not found.")
	r.create("s", nil)
	_, err = r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), TaskDefinition: new("x")})
	refused(t, err, "ClientException", "TaskDefinition not found.")
	// An INACTIVE definition that runs already may stay, but cannot be chosen anew.
	ok(r.deregisterTaskDefinition(r.ctx(), &sdk.DeregisterTaskDefinitionInput{TaskDefinition: new("web:1")}))(t)
	ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), DesiredCount: new(int32(1)),
		TaskDefinition: new("web:1")}))(t)
	ok(r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("s"), Force: new(true)}))(t)
	_, err = r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), DesiredCount: new(int32(1))})
	refused(t, err, "ServiceNotActiveException", "Service was not ACTIVE.")
}

func TestDeleteService(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.create("s", nil)
	_, err := r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("x")})
	refused(t, err, "ServiceNotFoundException", "")
	_, err = r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("s")})
	refused(t, err, "InvalidParameterException", "The service cannot be stopped while it is scaled above 0.")
	ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"), DesiredCount: new(int32(0)),
		ForceNewDeployment: true}))(t)
	_, err = r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("s")})
	refused(t, err, "InvalidParameterException", "The service cannot be stopped while deployments are active.")
	out := ok(r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("s"), Force: new(true)}))(t).Service
	if *out.Status != "DRAINING" || out.DesiredCount != 0 {
		t.Errorf("deleted: %s, %d", *out.Status, out.DesiredCount)
	}
	ok(r.deleteService(r.ctx(), &sdk.DeleteServiceInput{Service: new("s")}))(t)
	if list := ok(r.listServices(r.ctx(), &sdk.ListServicesInput{}))(t); list.ServiceArns == nil || len(list.ServiceArns) != 0 {
		t.Errorf("a DRAINING service is not listed: %v", list.ServiceArns)
	}
	if s := r.describe("s"); *s.Status != "DRAINING" {
		t.Errorf("but described: %s", *s.Status)
	}
}

// TestCountsOfDeployments: what the services-stable waiter looks at.
func TestCountsOfDeployments(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	old := *r.create("s", nil).Deployments[0].Id
	r.serviceTask("s", old, model.Running)
	r.serviceTask("s", old, model.Running)
	r.serviceTask("s", old, model.Stopped)
	svc := r.describe("s")
	if d := svc.Deployments[0]; svc.RunningCount != 2 || d.RunningCount != 2 || d.PendingCount != 0 || d.DesiredCount != 2 {
		t.Errorf("before: %+v", d)
	}
	r.clock = r.clock.Add(time.Minute)
	primary := *ok(r.updateService(r.ctx(), &sdk.UpdateServiceInput{Service: new("s"),
		ForceNewDeployment: true}))(t).Service.Deployments[0].Id
	r.serviceTask("s", primary, model.Pending)
	svc = r.describe("s")
	a, b := svc.Deployments[0], svc.Deployments[1]
	if *a.Id != primary || a.PendingCount != 1 || a.RunningCount != 0 || b.RunningCount != 2 || b.DesiredCount != 2 ||
		svc.RunningCount != 2 || svc.PendingCount != 1 || len(svc.CurrentServiceRevisions) != 2 {
		t.Errorf("rolling: %+v", svc.Deployments)
	}
}

func TestDescribeServicesMissing(t *testing.T) {
	r := newRig(t)
	out := ok(r.describeServices(r.ctx(), &sdk.DescribeServicesInput{Services: []string{"a", arnPrefix + "service/other/b"}}))(t)
	var got []string
	for _, f := range out.Failures {
		got = append(got, *f.Arn+" "+*f.Reason)
	}
	if out.Services == nil || !slices.Equal(got, []string{
		arnPrefix + "service/default/a MISSING", arnPrefix + "service/other/b MISSING"}) {
		t.Errorf("failures %v", got)
	}
	_, err := r.describeServices(r.ctx(), &sdk.DescribeServicesInput{})
	refused(t, err, "InvalidParameterException", "Services cannot be empty.")
}

func TestListServicesPages(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	for _, name := range strings.Split("abcdefghijkl", "") {
		r.create(name, nil)
	}
	first := ok(r.listServices(r.ctx(), &sdk.ListServicesInput{}))(t)
	second := ok(r.listServices(r.ctx(), &sdk.ListServicesInput{NextToken: first.NextToken}))(t)
	if len(first.ServiceArns) != 10 || len(second.ServiceArns) != 2 || second.NextToken != nil {
		t.Errorf("ten a page by default: %d, %d", len(first.ServiceArns), len(second.ServiceArns))
	}
}
