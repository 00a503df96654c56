package view

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// ClusterCounts is what a cluster holds, tasks and services by launch type.
type ClusterCounts struct {
	Instances                                              int32 // that are not INACTIVE
	RunningEC2, RunningFargate, PendingEC2, PendingFargate int32
	ActiveEC2, ActiveFargate, DrainingEC2, DrainingFargate int32 // services
}

// AddTask counts a task that has not ended.
func (c *ClusterCounts) AddTask(t *model.Task) {
	fargate := t.LaunchType == types.LaunchTypeFargate
	switch s := t.Observed.Status; {
	case s == model.Running:
		add(fargate, &c.RunningFargate, &c.RunningEC2)
	case s.Before(model.Running):
		add(fargate, &c.PendingFargate, &c.PendingEC2)
	}
}

// AddService counts a service whose target is rev, which may be nil.
func (c *ClusterCounts) AddService(s *model.Service, rev *model.ServiceRevision) {
	fargate := rev != nil && fargate(rev)
	switch s.Status {
	case "ACTIVE":
		add(fargate, &c.ActiveFargate, &c.ActiveEC2)
	case "DRAINING":
		add(fargate, &c.DrainingFargate, &c.DrainingEC2)
	}
}

func add(fargate bool, yes, no *int32) {
	if fargate {
		*yes++
	} else {
		*no++
	}
}

// Cluster draws a cluster with everything that include can ask for but its tags; the caller empties what was not asked.
func Cluster(c *model.Cluster, n ClusterCounts) types.Cluster {
	return types.Cluster{
		ClusterArn: &c.ARN, ClusterName: &c.Name, Status: &c.Status,
		RegisteredContainerInstancesCount: n.Instances, ActiveServicesCount: n.ActiveEC2 + n.ActiveFargate,
		RunningTasksCount: n.RunningEC2 + n.RunningFargate, PendingTasksCount: n.PendingEC2 + n.PendingFargate,
		Settings: filled(c.Settings), Configuration: c.Configuration, ServiceConnectDefaults: c.ServiceConnectDefaults,
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
		{"activeEC2ServiceCount", n.ActiveEC2}, {"activeFargateServiceCount", n.ActiveFargate},
		{"drainingEC2ServiceCount", n.DrainingEC2}, {"drainingFargateServiceCount", n.DrainingFargate},
	} {
		list = append(list, types.KeyValuePair{Name: new(s.name), Value: new(strconv.Itoa(int(s.value)))})
	}
	return list
}
