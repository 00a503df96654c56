package ecs

import (
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestLaunchRefusals: placement, networks and sizes that a request to run cannot have.
func TestLaunchRefusals(t *testing.T) {
	r := newRig(t)
	r.node()
	web, vpc := r.define("web", nil), r.define("vpc", fargate)
	type in = *sdk.RunTaskInput
	constraint := func(c types.PlacementConstraint) []types.PlacementConstraint { return []types.PlacementConstraint{c} }
	strategy := func(s types.PlacementStrategy) []types.PlacementStrategy { return []types.PlacementStrategy{s} }
	asFargate := func(change func(in)) func(in) {
		return func(i in) {
			i.TaskDefinition, i.LaunchType, i.NetworkConfiguration = &vpc, "FARGATE", subnets()
			change(i)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(in)
		text   string
	}{
		{"constraint on Fargate", asFargate(func(i in) {
			i.PlacementConstraints = constraint(types.PlacementConstraint{Type: "distinctInstance"})
		}),
			"Placement constraints are not supported with FARGATE launch type."},
		{"strategy on Fargate", asFargate(func(i in) { i.PlacementStrategy = strategy(types.PlacementStrategy{Type: "random"}) }),
			"Placement strategies are not supported with FARGATE launch type."},
		{"subnets", asFargate(func(i in) { i.NetworkConfiguration.AwsvpcConfiguration.Subnets = nil }), "subnets can not be empty."},
		{"public address", asFargate(func(i in) {
			i.LaunchType, i.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp = "EC2",
				"ENABLED"
		}),
			"Assign public IP is not supported for this launch type."},
		{"platform of EC2", func(i in) { i.PlatformVersion = new("LATEST") },
			"The platform version must be null when specifying an EC2 launch type."},
		{"managed instances", func(i in) { i.LaunchType = "MANAGED_INSTANCES" },
			"Berth does not support the launch type MANAGED_INSTANCES yet."},
		{"distinct with expression", func(i in) {
			i.PlacementConstraints = constraint(types.PlacementConstraint{Type: "distinctInstance", Expression: new("a")})
		}, "A placement constraint of type distinctInstance cannot have an expression."},
		{"constraint type", func(i in) { i.PlacementConstraints = constraint(types.PlacementConstraint{Type: "x"}) },
			"Invalid placement constraint type 'x'. It must be distinctInstance or memberOf."},
		{"spread of nothing", func(i in) { i.PlacementStrategy = strategy(types.PlacementStrategy{Type: "spread"}) },
			"A placement strategy of type spread must have a field."},
		{"six strategies", func(i in) { i.PlacementStrategy = make([]types.PlacementStrategy, 6) },
			"placementStrategy can have at most 5 items."},
		{"service tags", func(i in) { i.PropagateTags = "SERVICE" },
			"Tags can be propagated from the task definition only: a standalone task has no service."},
		{"overrides", func(i in) {
			i.Overrides = &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{
				{Name: new("web"), Command: []string{strings.Repeat("x", 9000)}}}}
		}, "Container Overrides length must be at most 8192"},
		{"provider", func(i in) {
			i.CapacityProviderStrategy = []types.CapacityProviderStrategyItem{{CapacityProvider: new("FARGATE"), Weight: 1}}
		}, "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster: " +
			"FARGATE."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &sdk.RunTaskInput{TaskDefinition: &web}
			tt.change(in)
			_, err := r.runTask(r.ctx(), in)
			refused(t, err, "InvalidParameterException", tt.text)
		})
	}
}

// TestMemberOf: an expression decides where tasks go, and one that cannot be read is refused where it is given.
func TestMemberOf(t *testing.T) {
	r := newRig(t)
	r.node()
	def := r.define("web", nil)
	run := func(expression string) (*sdk.RunTaskOutput, error) {
		return r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: &def, PlacementConstraints: []types.PlacementConstraint{
			{Type: "memberOf", Expression: &expression}}})
	}
	if out := ok(run("attribute:ecs.os-type == linux"))(t); len(out.Tasks) != 1 {
		t.Errorf("linux: %+v", out.Failures)
	}
	if out := ok(run("attribute:ecs.os-type == windows"))(t); len(out.Failures) != 1 ||
		*out.Failures[0].Reason != "MemberOf placement constraint unsatisfied." {
		t.Errorf("windows: %+v", out.Failures)
	}
	if _, err := run("attribute:ecs.os-type =="); err == nil {
		t.Error("an expression that cannot be read was accepted")
	}
	_, err := r.registerTaskDefinition(r.ctx(), &sdk.RegisterTaskDefinitionInput{Family: new("x"),
		ContainerDefinitions: []types.ContainerDefinition{webContainer()},
		PlacementConstraints: []types.TaskDefinitionPlacementConstraint{{Type: "memberOf", Expression: new("((")}}})
	if err == nil {
		t.Error("a task definition with such an expression was accepted")
	}
}

// TestHugeDefinition: what cannot be kept is refused with AWS's text.
func TestHugeDefinition(t *testing.T) {
	r := newRig(t)
	c := webContainer()
	c.Command = []string{strings.Repeat("x", 70000)}
	_, err := r.registerTaskDefinition(r.ctx(), &sdk.RegisterTaskDefinitionInput{Family: new("x"),
		ContainerDefinitions: []types.ContainerDefinition{c}})
	if err == nil || !strings.Contains(err.Error(), "Max allowed length is '65536' bytes.") {
		t.Errorf("a definition of 70 kB: %v", err)
	}
}

// TestSwitchToCapacityProviders of a service needs a forced deployment.
func TestSwitchToCapacityProviders(t *testing.T) {
	r := newRig(t)
	r.define("vpc", fargate)
	ok(r.putClusterCapacityProviders(r.ctx(), &sdk.PutClusterCapacityProvidersInput{Cluster: new("default"),
		CapacityProviders: []string{"FARGATE_SPOT"}}))(t)
	r.create("s", func(in *sdk.CreateServiceInput) {
		in.TaskDefinition, in.LaunchType, in.NetworkConfiguration = new("vpc"), "FARGATE", subnets()
	})
	in := &sdk.UpdateServiceInput{Service: new("s"), CapacityProviderStrategy: []types.CapacityProviderStrategyItem{
		{CapacityProvider: new("FARGATE_SPOT"), Weight: 1}}}
	_, err := r.updateService(r.ctx(), in)
	refused(t, err, "InvalidParameterException", "When switching from launch type to capacity provider strategy on an existing "+
		"service, or making a change to a capacity provider strategy on a service that is already using one, you must force a new "+
		"deployment.")
	in.ForceNewDeployment = true
	svc := ok(r.updateService(r.ctx(), in))(t).Service
	if len(svc.CapacityProviderStrategy) != 1 || svc.LaunchType != "" || *svc.Deployments[0].PlatformVersion != "1.4.0" {
		t.Errorf("switched: %+v", svc)
	}
}
