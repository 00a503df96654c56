package view

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// ClusterCounts is what a cluster holds.
type ClusterCounts struct {
	Instances      int32 // that are not INACTIVE
	ActiveServices int32
	// Tasks by launch type; Draining counts services of status DRAINING.
	RunningEC2, RunningFargate, PendingEC2, PendingFargate int32
	DrainingServices                                       int32
}

// Add counts a task that has not ended.
func (c *ClusterCounts) Add(t *model.Task) {
	fargate := t.LaunchType == types.LaunchTypeFargate
	switch s := t.Observed.Status; {
	case s == model.Running && fargate:
		c.RunningFargate++
	case s == model.Running:
		c.RunningEC2++
	case s.Before(model.Running) && fargate:
		c.PendingFargate++
	case s.Before(model.Running):
		c.PendingEC2++
	}
}

// Cluster draws a cluster with everything that include can ask for but its tags; the caller empties what was not asked.
func Cluster(c *model.Cluster, n ClusterCounts) types.Cluster {
	return types.Cluster{
		ClusterArn: &c.ARN, ClusterName: &c.Name, Status: &c.Status,
		RegisteredContainerInstancesCount: n.Instances, ActiveServicesCount: n.ActiveServices,
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
		{"activeEC2ServiceCount", 0}, {"activeFargateServiceCount", 0},
		{"drainingEC2ServiceCount", 0}, {"drainingFargateServiceCount", 0},
	} {
		list = append(list, types.KeyValuePair{Name: new(s.name), Value: new(strconv.Itoa(int(s.value)))})
	}
	return list
}
