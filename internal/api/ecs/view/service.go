package view

import (
	"cmp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// ServiceState is everything that the shapes of a service are drawn from.
type ServiceState struct {
	Service     *model.Service
	Revisions   map[string]*model.ServiceRevision // by id
	Deployments []*model.Deployment               // in any order
	Tasks       []*model.Task                     // those that have not ended suffice
	Events      []types.ServiceEvent              // newest first
}

// counts is how many tasks of a deployment or revision are where.
type counts struct{ wanted, running, pending int32 }

func (c *counts) add(t *model.Task) {
	if t.Ended() {
		return
	}
	if DesiredStatus(t) == model.Running {
		c.wanted++
	}
	switch s := t.LastStatus(); {
	case s == model.Running:
		c.running++
	case s.Before(model.Running) && DesiredStatus(t) == model.Running:
		c.pending++
	}
}

func (s *ServiceState) count(deployment string) counts {
	var c counts
	for _, t := range s.Tasks {
		if deployment == "" || t.Deployment == deployment {
			c.add(t)
		}
	}
	return c
}

// Live returns the deployments that DescribeServices shows: the primary one, then the others, newest first.
func (s *ServiceState) Live() []*model.Deployment {
	var live []*model.Deployment
	for _, d := range s.Deployments {
		if d.Live() {
			live = append(live, d)
		}
	}
	if len(live) == 0 && len(s.Deployments) > 0 { // a deleted service shows its last one
		last := *slices.MinFunc(s.Deployments, newestFirst)
		last.Status = model.DeploymentPrimary
		live = append(live, &last)
	}
	slices.SortFunc(live, func(a, b *model.Deployment) int {
		if p := primaryLast(a) - primaryLast(b); p != 0 {
			return p
		}
		return newestFirst(a, b)
	})
	return live
}

func primaryLast(d *model.Deployment) int {
	if d.Status == model.DeploymentPrimary {
		return 0
	}
	return 1
}

func newestFirst(a, b *model.Deployment) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
}

// Service draws a service without its tags.
func Service(scope model.Scope, s *ServiceState) types.Service {
	svc, rev := s.Service, s.Revisions[s.Service.RevisionID]
	if rev == nil {
		rev = &model.ServiceRevision{}
	}
	all := s.count("")
	out := types.Service{
		ServiceArn: &svc.ARN, ServiceName: &svc.Name, ClusterArn: new(scope.ClusterARN(svc.Cluster)), Status: &svc.Status,
		DesiredCount: svc.DesiredCount, RunningCount: all.running, PendingCount: all.pending,
		TaskDefinition: &rev.TaskDefinition, LaunchType: rev.LaunchType, CapacityProviderStrategy: rev.CapacityProviderStrategy,
		NetworkConfiguration: rev.NetworkConfiguration,
		LoadBalancers:        filled(rev.LoadBalancers), ServiceRegistries: filled(rev.ServiceRegistries),
		SchedulingStrategy: svc.SchedulingStrategy, DeploymentController: svc.DeploymentController,
		DeploymentConfiguration: &svc.DeploymentConfiguration, PlacementConstraints: filled(svc.Constraints),
		PlacementStrategy: filled(svc.Strategy), PropagateTags: svc.PropagateTags, EnableECSManagedTags: svc.EnableManagedTags,
		EnableExecuteCommand:        svc.EnableExecuteCommand,
		AvailabilityZoneRebalancing: svc.AvailabilityZoneRebalancing, ResourceManagementType: types.ResourceManagementTypeCustomer,
		HealthCheckGracePeriodSeconds: &svc.HealthCheckGracePeriodSeconds,
		RoleArn:                       some(svc.RoleARN), CreatedBy: some(svc.CreatedBy), CreatedAt: at(svc.CreatedAt),
		Events: filled(s.Events), Deployments: []types.Deployment{},
		CurrentServiceRevisions: []types.ServiceCurrentRevisionSummary{},
	}
	if fargate(rev) {
		out.PlatformFamily, out.PlatformVersion = new(platformFamily), new(cmp.Or(rev.PlatformVersion, "LATEST"))
	}
	for _, d := range s.Live() {
		out.Deployments = append(out.Deployments, s.deployment(d))
		out.CurrentServiceRevisions = append(out.CurrentServiceRevisions, s.currentRevision(scope, d))
	}
	out.CurrentServiceDeployment = some(s.currentDeployment(scope))
	return out
}

// fargate tells whether tasks of the revision are Fargate's, by launch type or by capacity provider.
func fargate(rev *model.ServiceRevision) bool {
	return rev.LaunchType == types.LaunchTypeFargate || len(rev.CapacityProviderStrategy) > 0
}

// wanted is a deployment's desiredCount: the service's for the primary one, what is left of the others.
func (s *ServiceState) wanted(d *model.Deployment, c counts) int32 {
	if d.Status == model.DeploymentPrimary {
		return s.Service.DesiredCount
	}
	return c.wanted
}

func (s *ServiceState) deployment(d *model.Deployment) types.Deployment {
	c := s.count(d.ID)
	out := types.Deployment{
		Id: &d.ID, Status: &d.Status, DesiredCount: s.wanted(d, c), RunningCount: c.running, PendingCount: c.pending,
		FailedTasks: d.FailedTasks, RolloutState: d.RolloutState, RolloutStateReason: some(d.RolloutStateReason),
		CreatedAt: at(d.CreatedAt), UpdatedAt: at(d.UpdatedAt),
	}
	if rev := s.Revisions[d.RevisionID]; rev != nil {
		out.TaskDefinition, out.LaunchType = &rev.TaskDefinition, rev.LaunchType
		out.CapacityProviderStrategy, out.NetworkConfiguration = rev.CapacityProviderStrategy, rev.NetworkConfiguration
		out.ServiceConnectConfiguration, out.VolumeConfigurations = rev.ServiceConnect, rev.VolumeConfigurations
		if fargate(rev) {
			out.PlatformFamily, out.PlatformVersion = new(platformFamily), new(platformVersion(rev.PlatformVersion))
		}
	}
	return out
}

func (s *ServiceState) currentRevision(scope model.Scope, d *model.Deployment) types.ServiceCurrentRevisionSummary {
	c := s.count(d.ID)
	return types.ServiceCurrentRevisionSummary{
		Arn:                new(scope.ServiceRevisionARN(d.Cluster, d.Service, d.RevisionID)),
		RequestedTaskCount: s.wanted(d, c), RunningTaskCount: c.running, PendingTaskCount: c.pending,
	}
}

// currentDeployment is the ARN of the service deployment that is rolling out or back, "" when none is.
func (s *ServiceState) currentDeployment(scope model.Scope) string {
	for _, d := range s.Deployments {
		if d.Status == model.DeploymentPrimary && d.RolloutState == types.DeploymentRolloutStateInProgress {
			id := d.ServiceDeploymentID
			if from := s.byID(d.RollbackOf); id == "" && from != nil {
				id = from.ServiceDeploymentID
			}
			if id != "" {
				return scope.ServiceDeploymentARN(d.Cluster, d.Service, id)
			}
		}
	}
	return ""
}

func (s *ServiceState) byID(id string) *model.Deployment {
	for _, d := range s.Deployments {
		if d.ID == id && id != "" {
			return d
		}
	}
	return nil
}

// filled returns s, or an empty list for nil: ECS returns such lists as [].
func filled[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
