package ecs

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const errNotIdempotent = "Creation of service was not idempotent."

func (a *api) createService(ctx context.Context, in *sdk.CreateServiceInput) (*sdk.CreateServiceOutput, error) {
	if err := checkCreate(in); err != nil {
		return nil, err
	}
	if err := bounded(in); err != nil {
		return nil, err
	}
	plain := *in
	plain.Tags = nil // the same request with other tags is the same request
	hash, err := digest(plain)
	if err != nil {
		return nil, err
	}
	var out types.Service
	err = a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		svc, exists := store.Services.Get(tx, c.Name+"/"+*in.ServiceName)
		if exists && svc.Status == draining {
			return invalid("Unable to Start a service that is still Draining.")
		}
		if exists && svc.Status == active {
			rec, ok := a.recall(tx, "CreateService", c.Name, svc.Name)
			if value(in.ClientToken) == "" || !ok || rec.Request != hash {
				return invalid(errNotIdempotent)
			}
		} else {
			if svc, err = a.putNewService(tx, c, in, a.caller(ctx)); err != nil {
				return err
			}
			a.remember(tx, &model.Idempotency{Operation: "CreateService", Cluster: c.Name, Token: svc.Name, Request: hash})
		}
		out = a.drawService(tx, svc, true)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.CreateServiceOutput{Service: &out}, nil
}

// checkCreate checks what needs no store.
func checkCreate(in *sdk.CreateServiceInput) error {
	if value(in.ServiceName) == "" {
		return invalid("Service name should not be null or empty.")
	}
	if !namePattern.MatchString(*in.ServiceName) {
		return invalid("Service name '%s' is not valid: 1 to 255 letters, digits, hyphens and underscores.", *in.ServiceName)
	}
	if err := checkServiceSupport(in); err != nil {
		return err
	}
	switch {
	case in.DesiredCount == nil:
		return invalid("DesiredCount is missing")
	case *in.DesiredCount < 0:
		return invalid("DesiredCount can not be lesser than 0")
	case int(*in.DesiredCount) > quota.Tasks.Max:
		return quota.Tasks.Refusal(int(*in.DesiredCount))
	case len(value(in.ClientToken)) > maxServiceToken:
		return invalid("idempotency token longer than %d.", maxServiceToken)
	case number(in.HealthCheckGracePeriodSeconds) < 0:
		return invalid("Health check grace period must be at least 0.")
	case number(in.HealthCheckGracePeriodSeconds) > 0 && len(in.LoadBalancers) == 0:
		return invalid("Health check grace period is only valid for services configured to use load balancers")
	}
	if err := checkPropagate(in.PropagateTags); err != nil {
		return err
	}
	return checkTags(in.Tags)
}

func checkPropagate(p types.PropagateTags) error {
	return oneOf("propagateTags", p, []types.PropagateTags{types.PropagateTagsTaskDefinition, types.PropagateTagsService, types.PropagateTagsNone})
}

// checkServiceSupport refuses what Berth would have to act on and cannot.
func checkServiceSupport(in *sdk.CreateServiceInput) error {
	switch in.SchedulingStrategy {
	case "", types.SchedulingStrategyReplica:
	case types.SchedulingStrategyDaemon:
		return notYet("the scheduling strategy DAEMON")
	default:
		return oneOf("Scheduling strategy", in.SchedulingStrategy, in.SchedulingStrategy.Values())
	}
	if c := in.DeploymentController; c != nil && c.Type != "" && c.Type != types.DeploymentControllerTypeEcs {
		if !slices.Contains(c.Type.Values(), c.Type) {
			return invalid("Invalid deployment controller type '%s'. It must be ECS, CODE_DEPLOY or EXTERNAL.", c.Type)
		}
		return notYet("the deployment controller " + string(c.Type))
	}
	return checkRevisionSupport(in.ServiceConnectConfiguration, in.VolumeConfigurations,
		in.VpcLatticeConfigurations, in.GatewayConnectors)
}

func checkRevisionSupport(
	connect *types.ServiceConnectConfiguration, volumes []types.ServiceVolumeConfiguration,
	lattice []types.VpcLatticeConfiguration, gateways []types.GatewayConnector,
) error {
	switch {
	case connect != nil && (connect.Enabled || len(connect.ContainerConfigurations) > 0):
		return notYet("Service Connect")
	case len(volumes) > 0:
		return notYet("volumeConfigurations (EBS volumes)")
	case len(lattice) > 0:
		return notYet("VPC Lattice")
	case len(gateways) > 0:
		return notYet("gateway connectors")
	}
	return nil
}

// putNewService stores a service with its first revision and deployment.
func (a *api) putNewService(tx store.Tx, c *model.Cluster, in *sdk.CreateServiceInput, by string) (*model.Service, error) {
	config, err := deploymentConfiguration(in.DeploymentConfiguration, types.DeploymentConfiguration{})
	if err != nil {
		return nil, err
	}
	zones, err := zoneRebalancing(in.AvailabilityZoneRebalancing, &config)
	if err != nil {
		return nil, err
	}
	others := count(store.Services.By(tx, store.ByCluster, c.Name), func(s *model.Service) bool { return s.Status != inactive })
	if err := quota.Services.Admit(others + 1); err != nil {
		return nil, err
	}
	how, err := resolveLaunch(c, in.LaunchType, in.CapacityProviderStrategy)
	if err != nil {
		return nil, err
	}
	if err := how.checkPlacement(in.PlacementConstraints, in.PlacementStrategy); err != nil {
		return nil, err
	}
	def, err := a.activeRevision(tx, in.TaskDefinition)
	if err != nil {
		return nil, err
	}
	rev := model.ServiceRevision{
		TaskDefinition: *def.Definition.TaskDefinitionArn, LaunchType: how.launchType, CapacityProviderStrategy: how.strategy,
		PlatformVersion: value(in.PlatformVersion), NetworkConfiguration: in.NetworkConfiguration, LoadBalancers: in.LoadBalancers, ServiceRegistries: in.ServiceRegistries,
		ServiceConnect: in.ServiceConnectConfiguration, Monitoring: in.Monitoring,
	}
	if err := checkRevision(tx, &rev, &def.Definition); err != nil {
		return nil, err
	}
	if err := a.checkExists(tx, in.NetworkConfiguration); err != nil {
		return nil, err
	}
	svc := &model.Service{
		Cluster: c.Name, Name: *in.ServiceName, ARN: a.scope.ServiceARN(c.Name, *in.ServiceName), DesiredCount: *in.DesiredCount,
		SchedulingStrategy:      types.SchedulingStrategyReplica,
		DeploymentController:    &types.DeploymentController{Type: types.DeploymentControllerTypeEcs},
		DeploymentConfiguration: config, HealthCheckGracePeriodSeconds: number(in.HealthCheckGracePeriodSeconds),
		Constraints: in.PlacementConstraints, Strategy: in.PlacementStrategy, PropagateTags: in.PropagateTags,
		EnableManagedTags: in.EnableECSManagedTags, EnableExecuteCommand: in.EnableExecuteCommand,
		AvailabilityZoneRebalancing: zones, RoleARN: a.serviceRole(in.Role, len(in.LoadBalancers) > 0), CreatedBy: by, CreatedAt: a.now(), Tags: in.Tags,
		Status: active,
	}
	if svc.PropagateTags == "" {
		svc.PropagateTags = types.PropagateTagsNone
	}
	forget(tx, svc.Key())
	a.deploy(tx, svc, rev)
	return svc, nil
}

// serviceRole is the role by which a service works with its load balancers: the one it was given, else the service-linked one; none
// without load balancers.
func (a *api) serviceRole(role *string, balanced bool) string {
	if value(role) != "" || !balanced {
		return value(role)
	}
	return "arn:" + model.Partition + ":iam::" + a.scope.Account +
		":role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
}

// checkRevision checks that def can be run as rev says.
func checkRevision(r store.Reader, rev *model.ServiceRevision, def *types.TaskDefinition) error {
	how := launch{launchType: rev.LaunchType, strategy: rev.CapacityProviderStrategy}
	var version *string
	if rev.PlatformVersion != "" {
		version = &rev.PlatformVersion
	}
	if err := how.check(def, version); err != nil {
		return err
	}
	if err := how.checkNetwork(def, rev.NetworkConfiguration); err != nil {
		return err
	}
	if err := taskdef.Runnable(def); err != nil {
		return err
	}
	if taskdef.NeedsNeuron(def) {
		return notYet("services whose task definition needs Neuron devices")
	}
	if err := checkRegistries(r, rev.ServiceRegistries, def); err != nil {
		return err
	}
	return checkLoadBalancers(r, rev.LoadBalancers, def)
}

// forget removes what is left of a service of the same name that was deleted: its deployments must not be rolled back to.
func forget(tx store.Tx, service string) {
	var deployments, revisions []string
	for d := range store.Deployments.Scan(tx, service+"/") {
		deployments = append(deployments, d.Key())
	}
	for r := range store.ServiceRevisions.Scan(tx, service+"/") {
		revisions = append(revisions, r.Key())
	}
	for _, key := range deployments {
		store.Deployments.Delete(tx, key)
	}
	for _, key := range revisions {
		store.ServiceRevisions.Delete(tx, key)
	}
}

// deploy stores rev as a new revision of svc, makes it the target of a new PRIMARY deployment, and stores svc. The deployment
// that was PRIMARY becomes ACTIVE; everything after that is control's.
func (a *api) deploy(tx store.Tx, svc *model.Service, rev model.ServiceRevision) {
	now := a.now()
	digits := deploymentDigits(a.newID())
	rev.ID, rev.ARN = digits, a.scope.ServiceRevisionARN(svc.Cluster, svc.Name, digits)
	rev.Cluster, rev.Service, rev.CreatedAt = svc.Cluster, svc.Name, now
	store.ServiceRevisions.Put(tx, &rev)
	d := &model.Deployment{
		ID: "ecs-svc/" + digits, ServiceDeploymentID: serviceDeploymentID(a.newID()), Cluster: svc.Cluster, Service: svc.Name,
		RevisionID: digits, Status: model.DeploymentPrimary, RolloutState: types.DeploymentRolloutStateInProgress,
		RolloutStateReason: "ECS deployment ecs-svc/" + digits + " in progress.",
		State:              types.ServiceDeploymentStatusInProgress, Stage: types.ServiceDeploymentLifecycleStageReconcileService,
		CreatedAt: now, StartedAt: now, UpdatedAt: now,
	}
	var old []*model.Deployment
	for o := range store.Deployments.Scan(tx, svc.Key()+"/") {
		if o.Live() {
			old = append(old, o)
		}
	}
	for _, o := range old {
		if !slices.Contains(d.SourceRevisionIDs, o.RevisionID) {
			d.SourceRevisionIDs = append(d.SourceRevisionIDs, o.RevisionID)
		}
		if o.Status == model.DeploymentPrimary {
			replaced := *o
			replaced.Status, replaced.UpdatedAt = model.DeploymentActive, now
			store.Deployments.Put(tx, &replaced)
		}
	}
	store.Deployments.Put(tx, d)
	svc.RevisionID = digits
	store.Services.Put(tx, svc)
}
