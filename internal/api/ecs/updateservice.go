package ecs

import (
	"cmp"
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) updateService(ctx context.Context, in *sdk.UpdateServiceInput) (*sdk.UpdateServiceOutput, error) {
	if err := checkUpdate(in); err != nil {
		return nil, err
	}
	if err := bounded(in); err != nil {
		return nil, err
	}
	if a.shrinks(in) {
		ctx = store.Freeing(ctx)
	}
	var out types.Service
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		old, err := a.service(tx, c.Name, value(in.Service))
		if err != nil {
			return err
		}
		if old.Status != active {
			return model.Errorf("ServiceNotActiveException", "Service was not ACTIVE.")
		}
		svc := *old
		if err := a.changeService(tx, c, &svc, in); err != nil {
			return err
		}
		out = a.drawService(tx, &svc, false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateServiceOutput{Service: &out}, nil
}

// shrinks tells whether in asks for fewer tasks than there are to be.
func (a *api) shrinks(in *sdk.UpdateServiceInput) (less bool) {
	if in.DesiredCount == nil {
		return false
	}
	a.store.View(func(r store.Reader) {
		if c, err := a.cluster(r, in.Cluster); err == nil {
			if s, err := a.service(r, c.Name, value(in.Service)); err == nil {
				less = *in.DesiredCount < s.DesiredCount
			}
		}
	})
	return less
}

// checkUpdate checks what needs no store.
func checkUpdate(in *sdk.UpdateServiceInput) error {
	switch {
	case value(in.Service) == "":
		return invalid("Service should not be null or empty.")
	case in.TaskDefinition != nil && *in.TaskDefinition == "":
		return invalid("Family should not be null or empty.")
	case in.DesiredCount != nil && *in.DesiredCount < 0:
		return invalid("Task count can not be lesser than 0")
	case in.DesiredCount != nil && int(*in.DesiredCount) > quota.Tasks.Max:
		return quota.Tasks.Refusal(int(*in.DesiredCount))
	case number(in.HealthCheckGracePeriodSeconds) < 0:
		return invalid("Health check grace period must be at least 0.")
	}
	if c := in.DeploymentController; c != nil && c.Type != "" && c.Type != types.DeploymentControllerTypeEcs {
		return notYet("the deployment controller " + string(c.Type))
	}
	if err := checkPropagate(in.PropagateTags); err != nil {
		return err
	}
	return checkRevisionSupport(in.ServiceConnectConfiguration, in.VolumeConfigurations,
		in.VpcLatticeConfigurations, in.GatewayConnectors)
}

// changeService applies in to svc and stores it, with a new revision and deployment when in asks for one or the target changes.
func (a *api) changeService(tx store.Tx, c *model.Cluster, svc *model.Service, in *sdk.UpdateServiceInput) error {
	current, ok := store.ServiceRevisions.Get(tx, svc.Key()+"/"+svc.RevisionID)
	if !ok {
		return model.Errorf("ServerException", "The service's current revision is missing.")
	}
	if err := changeSettings(svc, in); err != nil {
		return err
	}
	rev, def, err := a.nextRevision(tx, c, current, in)
	if err != nil {
		return err
	}
	how := launch{launchType: rev.LaunchType, strategy: rev.CapacityProviderStrategy}
	if err := how.checkPlacement(svc.Constraints, svc.Strategy); err != nil {
		return err
	}
	if svc.HealthCheckGracePeriodSeconds > 0 && len(rev.LoadBalancers) == 0 && in.HealthCheckGracePeriodSeconds != nil {
		return invalid("Health check grace period is only valid for services configured to use load balancers")
	}
	if !in.ForceNewDeployment && same(rev, *current) {
		store.Services.Put(tx, svc)
		return nil
	}
	if err := checkRevision(tx, &rev, def); err != nil {
		return err
	}
	if err := a.checkExists(tx, in.NetworkConfiguration); err != nil {
		return err
	}
	live := count(store.Deployments.Scan(tx, svc.Key()+"/"), (*model.Deployment).Live)
	if err := quota.Deployments.Admit(live + 1); err != nil {
		return err
	}
	a.deploy(tx, svc, rev)
	return nil
}

// changeSettings applies what triggers no deployment.
func changeSettings(svc *model.Service, in *sdk.UpdateServiceInput) (err error) {
	if in.DesiredCount != nil {
		svc.DesiredCount = *in.DesiredCount
	}
	svc.DeploymentConfiguration, err = deploymentConfiguration(in.DeploymentConfiguration, svc.DeploymentConfiguration)
	if err != nil {
		return err
	}
	// What an update does not say stays as it is (the SDK's documentation of AvailabilityZoneRebalancing).
	rebalancing := cmp.Or(in.AvailabilityZoneRebalancing, svc.AvailabilityZoneRebalancing, types.AvailabilityZoneRebalancingDisabled)
	if svc.AvailabilityZoneRebalancing, err = zoneRebalancing(rebalancing, &svc.DeploymentConfiguration); err != nil {
		return err
	}
	if in.HealthCheckGracePeriodSeconds != nil {
		svc.HealthCheckGracePeriodSeconds = *in.HealthCheckGracePeriodSeconds
	}
	if in.EnableECSManagedTags != nil {
		svc.EnableManagedTags = *in.EnableECSManagedTags
	}
	if in.EnableExecuteCommand != nil {
		svc.EnableExecuteCommand = *in.EnableExecuteCommand
	}
	if in.PropagateTags != "" {
		svc.PropagateTags = in.PropagateTags
	}
	if in.PlacementConstraints != nil {
		svc.Constraints = in.PlacementConstraints
	}
	if in.PlacementStrategy != nil {
		svc.Strategy = in.PlacementStrategy
	}
	return nil
}

// nextRevision is the revision that in asks for, equal to the current one when in changes nothing of it, and its definition.
func (a *api) nextRevision(
	r store.Reader, c *model.Cluster, current *model.ServiceRevision, in *sdk.UpdateServiceInput,
) (model.ServiceRevision, *types.TaskDefinition, error) {
	rev := *current
	def, err := a.nextDefinition(r, current, in)
	if err != nil {
		return rev, nil, err
	}
	rev.TaskDefinition = *def.TaskDefinitionArn
	if in.CapacityProviderStrategy != nil && !same(in.CapacityProviderStrategy, current.CapacityProviderStrategy) {
		if !in.ForceNewDeployment {
			return rev, nil, invalid("When switching from launch type to capacity provider strategy on an existing service, or making " +
				"a change to a capacity provider strategy on a service that is already using one, you must force a new deployment.")
		}
		if err := checkStrategy(in.CapacityProviderStrategy, c.CapacityProviders); err != nil {
			return rev, nil, err
		}
		rev.CapacityProviderStrategy, rev.LaunchType = in.CapacityProviderStrategy, ""
		if len(in.CapacityProviderStrategy) == 0 {
			rev.LaunchType = types.LaunchTypeEc2
			if current.LaunchType == types.LaunchTypeFargate || len(current.CapacityProviderStrategy) > 0 {
				rev.LaunchType = types.LaunchTypeFargate
			}
		}
	}
	if in.NetworkConfiguration != nil {
		rev.NetworkConfiguration = in.NetworkConfiguration
	}
	if in.LoadBalancers != nil {
		rev.LoadBalancers = in.LoadBalancers
	}
	if in.ServiceRegistries != nil {
		rev.ServiceRegistries = in.ServiceRegistries
	}
	if in.PlatformVersion != nil {
		rev.PlatformVersion = *in.PlatformVersion
	}
	if in.ServiceConnectConfiguration != nil {
		rev.ServiceConnect = in.ServiceConnectConfiguration
	}
	if in.Monitoring != nil {
		rev.Monitoring = in.Monitoring
	}
	return rev, def, nil
}

// nextDefinition is the definition to run: the one asked for, which must be ACTIVE, or the current one, whatever its status.
func (a *api) nextDefinition(
	r store.Reader, current *model.ServiceRevision, in *sdk.UpdateServiceInput,
) (*types.TaskDefinition, error) {
	if in.TaskDefinition == nil {
		d, ok := a.revision(r, current.TaskDefinition)
		if !ok {
			return nil, clientError("TaskDefinition not found.")
		}
		return &d.Definition, nil
	}
	d, ok := a.revision(r, *in.TaskDefinition)
	if ok && *d.Definition.TaskDefinitionArn == current.TaskDefinition {
		return &d.Definition, nil // what runs already may stay, INACTIVE or not
	}
	d, err := a.activeRevision(r, in.TaskDefinition)
	if err != nil {
		return nil, err
	}
	return &d.Definition, nil
}
