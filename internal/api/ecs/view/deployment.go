package view

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/deploy"
	"github.com/berthdev/berth/internal/plan/task"
)

// DeploymentStatus is the status of a service deployment as clients see it: a stop that was asked for shows at once, even before
// control acts on it.
func DeploymentStatus(d *model.Deployment) types.ServiceDeploymentStatus {
	if d.State != types.ServiceDeploymentStatusInProgress && d.State != types.ServiceDeploymentStatusPending {
		return d.State
	}
	switch d.StopRequested {
	case types.StopServiceDeploymentStopTypeAbort:
		return types.ServiceDeploymentStatusStopRequested
	case types.StopServiceDeploymentStopTypeRollback:
		return types.ServiceDeploymentStatusRollbackRequested
	}
	return d.State
}

// DeploymentBrief draws a service deployment as ListServiceDeployments does.
func DeploymentBrief(scope model.Scope, d *model.Deployment) types.ServiceDeploymentBrief {
	return types.ServiceDeploymentBrief{
		ServiceDeploymentArn: new(scope.ServiceDeploymentARN(d.Cluster, d.Service, d.ServiceDeploymentID)),
		ServiceArn:           new(scope.ServiceARN(d.Cluster, d.Service)), ClusterArn: new(scope.ClusterARN(d.Cluster)),
		TargetServiceRevisionArn: new(scope.ServiceRevisionARN(d.Cluster, d.Service, d.RevisionID)),
		Status:                   DeploymentStatus(d), StatusReason: some(d.StateReason),
		CreatedAt: at(d.CreatedAt), StartedAt: at(d.StartedAt), FinishedAt: at(d.FinishedAt),
	}
}

// ServiceDeployment draws one service deployment of s.
func ServiceDeployment(scope model.Scope, s *ServiceState, d *model.Deployment) types.ServiceDeployment {
	brief := DeploymentBrief(scope, d)
	out := types.ServiceDeployment{
		ServiceDeploymentArn: brief.ServiceDeploymentArn, ServiceArn: brief.ServiceArn, ClusterArn: brief.ClusterArn,
		Status: brief.Status, StatusReason: brief.StatusReason, LifecycleStage: d.Stage,
		CreatedAt: brief.CreatedAt, StartedAt: brief.StartedAt, FinishedAt: brief.FinishedAt,
		StoppedAt: at(d.StoppedAt), UpdatedAt: at(d.UpdatedAt),
		DeploymentConfiguration:  &s.Service.DeploymentConfiguration,
		DeploymentCircuitBreaker: breaker(s.Service, d),
		TargetServiceRevision:    s.revisionSummary(scope, d, d.RevisionID),
		SourceServiceRevisions:   []types.ServiceRevisionSummary{},
	}
	for _, id := range d.SourceRevisionIDs {
		out.SourceServiceRevisions = append(out.SourceServiceRevisions, *s.revisionSummary(scope, d, id))
	}
	if back := s.byID(d.RolledBackBy); back != nil {
		out.Rollback = &types.Rollback{
			Reason: some(d.StateReason), StartedAt: at(back.CreatedAt),
			ServiceRevisionArn: new(scope.ServiceRevisionARN(d.Cluster, d.Service, back.RevisionID)),
		}
	}
	return out
}

// revisionSummary counts the tasks of one revision, whichever deployments started them.
func (s *ServiceState) revisionSummary(scope model.Scope, d *model.Deployment, revision string) *types.ServiceRevisionSummary {
	of := map[string]bool{}
	primary := false
	for _, other := range s.Deployments {
		if other.RevisionID == revision {
			of[other.ID] = true
			primary = primary || other.Status == model.DeploymentPrimary
		}
	}
	var c counts
	for _, t := range s.Tasks {
		if of[t.Deployment] {
			c.add(t)
		}
	}
	requested := c.wanted
	if primary {
		requested = s.Service.DesiredCount
	}
	return &types.ServiceRevisionSummary{
		Arn:                new(scope.ServiceRevisionARN(d.Cluster, d.Service, revision)),
		RequestedTaskCount: requested, RunningTaskCount: c.running, PendingTaskCount: c.pending,
	}
}

func breaker(svc *model.Service, d *model.Deployment) *types.ServiceDeploymentCircuitBreaker {
	b := svc.DeploymentConfiguration.DeploymentCircuitBreaker
	out := &types.ServiceDeploymentCircuitBreaker{
		FailureCount: d.BreakerCount, Threshold: deploy.BreakerThreshold(svc),
		Status: types.ServiceDeploymentRollbackMonitorsStatusMonitoring,
	}
	switch {
	case b == nil || !b.Enable:
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusDisabled
	case d.BreakerTripped:
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusTriggered
	case !d.FinishedAt.IsZero():
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusMonitoringComplete
	}
	return out
}

// ServiceRevision draws a revision. def, its task definition, may be nil when that was deleted since; digests are the images that
// its tasks run, by container name, as far as they are known.
func ServiceRevision(
	scope model.Scope, r *model.ServiceRevision, def *types.TaskDefinition, digests map[string]string,
) types.ServiceRevision {
	out := types.ServiceRevision{
		ServiceRevisionArn: &r.ARN, ServiceArn: new(scope.ServiceARN(r.Cluster, r.Service)),
		ClusterArn: new(scope.ClusterARN(r.Cluster)), TaskDefinition: &r.TaskDefinition, LaunchType: r.LaunchType,
		CapacityProviderStrategy: filled(r.CapacityProviderStrategy), NetworkConfiguration: r.NetworkConfiguration,
		LoadBalancers: filled(r.LoadBalancers), ServiceRegistries: filled(r.ServiceRegistries),
		VolumeConfigurations: filled(r.VolumeConfigurations), ServiceConnectConfiguration: r.ServiceConnect,
		Monitoring: r.Monitoring, ContainerImages: []types.ContainerImage{}, CreatedAt: at(r.CreatedAt),
	}
	if fargate(r) {
		out.PlatformFamily, out.PlatformVersion = new(platformFamily), new(platformVersion(r.PlatformVersion))
	}
	if def != nil {
		for i := range def.ContainerDefinitions {
			c := &def.ContainerDefinitions[i]
			out.ContainerImages = append(out.ContainerImages, types.ContainerImage{
				ContainerName: c.Name, Image: c.Image, ImageDigest: some(digests[*c.Name])})
		}
	}
	return out
}

func platformVersion(asked string) string { return task.ResolvePlatformVersion(asked) }
