package view

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// ClusterCounts is what a cluster holds, tasks and services by launch type.
type ClusterCounts struct {
	Instances                                      int32 // that are not INACTIVE
	RunningEC2, RunningFargate, RunningExternal    int32 // tasks
	PendingEC2, PendingFargate, PendingExternal    int32
	ActiveEC2, ActiveFargate, ActiveExternal       int32 // services
	DrainingEC2, DrainingFargate, DrainingExternal int32
}

// AddTask counts a task that has not ended.
func (c *ClusterCounts) AddTask(t *model.Task) {
	switch s := t.Observed.Status; {
	case s == model.Running:
		add(t.LaunchType, &c.RunningEC2, &c.RunningFargate, &c.RunningExternal)
	case s.Before(model.Running):
		add(t.LaunchType, &c.PendingEC2, &c.PendingFargate, &c.PendingExternal)
	}
}

// AddService counts a service whose target is rev, which may be nil.
func (c *ClusterCounts) AddService(s *model.Service, rev *model.ServiceRevision) {
	launch := types.LaunchTypeEc2
	switch {
	case rev == nil:
	case fargate(rev):
		launch = types.LaunchTypeFargate
	default:
		launch = rev.LaunchType
	}
	switch s.Status {
	case "ACTIVE":
		add(launch, &c.ActiveEC2, &c.ActiveFargate, &c.ActiveExternal)
	case "DRAINING":
		add(launch, &c.DrainingEC2, &c.DrainingFargate, &c.DrainingExternal)
	}
}

func add(launch types.LaunchType, ec2, fargate, external *int32) {
	switch launch {
	case types.LaunchTypeFargate:
		*fargate++
	case types.LaunchTypeExternal:
		*external++
	default:
		*ec2++
	}
}

// Cluster draws a cluster with everything that include can ask for but its tags; the caller empties what was not asked.
func Cluster(c *model.Cluster, n ClusterCounts) types.Cluster {
	return types.Cluster{
		ClusterArn: &c.ARN, ClusterName: &c.Name, Status: &c.Status,
		RegisteredContainerInstancesCount: n.Instances, ActiveServicesCount: n.ActiveEC2 + n.ActiveFargate + n.ActiveExternal,
		RunningTasksCount: n.RunningEC2 + n.RunningFargate + n.RunningExternal,
		PendingTasksCount: n.PendingEC2 + n.PendingFargate + n.PendingExternal,
		Settings:          filled(c.Settings), Configuration: c.Configuration, ServiceConnectDefaults: c.ServiceConnectDefaults,
		CapacityProviders: filled(c.CapacityProviders), DefaultCapacityProviderStrategy: filled(c.DefaultCapacityProviderStrategy),
		Statistics: statistics(n), Tags: []types.Tag{},
	}
}

func statistics(n ClusterCounts) []types.KeyValuePair {
	var list []types.KeyValuePair
	for _, s := range []struct {
		name  string
		value int32
	}{
		{"runningEC2TasksCount", n.RunningEC2}, {"runningFargateTasksCount", n.RunningFargate},
		{"pendingEC2TasksCount", n.PendingEC2}, {"pendingFargateTasksCount", n.PendingFargate},
		{"runningExternalTasksCount", n.RunningExternal}, {"pendingExternalTasksCount", n.PendingExternal},
		{"runningManagedInstancesTasksCount", 0}, {"pendingManagedInstancesTasksCount", 0}, // that launch type is refused
		{"activeEC2ServiceCount", n.ActiveEC2}, {"activeFargateServiceCount", n.ActiveFargate},
		{"drainingEC2ServiceCount", n.DrainingEC2}, {"drainingFargateServiceCount", n.DrainingFargate},
		{"activeExternalServiceCount", n.ActiveExternal}, {"drainingExternalServiceCount", n.DrainingExternal},
		{"activeManagedInstancesServiceCount", 0}, {"drainingManagedInstancesServiceCount", 0},
	} {
		list = append(list, types.KeyValuePair{Name: new(s.name), Value: new(strconv.Itoa(int(s.value)))})
	}
	return list
}
