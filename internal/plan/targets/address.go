package targets

import (
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

const zoneAttribute = "ecs.availability-zone"

// ready tells whether a task may take requests: it runs, its containers' own checks pass, and nobody wants it to stop.
func ready(t *task) bool {
	return t.Observed.Status == model.Running && !ending(t.Task.Task) && !t.Lost &&
		(!t.ContainerChecks || t.Observed.Health == ecstypes.HealthStatusHealthy)
}

// address makes the target of a task in one target group, or nil while it has no address that the group's type can use.
//
// With a network interface of its own (awsvpc) a task is reached at that interface's address and the container's port; else at
// its node's address and the host's port. A group of type instance shows the instance's EC2 id, one of type ip the address.
func (p *planner) address(t *task, lb ecstypes.LoadBalancer) *model.Target {
	if lb.TargetGroupArn == nil || lb.ContainerName == nil || lb.ContainerPort == nil {
		return nil
	}
	group := p.in.Groups[*lb.TargetGroupArn]
	if group == nil {
		return nil
	}
	target := &model.Target{TargetGroupARN: *lb.TargetGroupArn, Task: t.ID, RegisteredAt: p.in.Now}
	node := p.in.Nodes[t.NodeID]
	if node != nil {
		target.AZ = node.Attributes[zoneAttribute]
	}
	byIP := group.Group.TargetType == elbtypes.TargetTypeEnumIp
	if t.NetworkMode == ecstypes.NetworkModeAwsvpc {
		if !byIP || t.Observed.Interface == nil || t.Observed.Interface.IPv4 == "" {
			return nil
		}
		target.ID, target.Address, target.Port = t.Observed.Interface.IPv4, t.Observed.Interface.IPv4, *lb.ContainerPort
		return target
	}
	port := t.HostPort(*lb.ContainerName, *lb.ContainerPort)
	if node == nil || node.Address == "" || port == 0 {
		return nil
	}
	target.ID, target.Address, target.Port = model.EC2ID(node.ID), node.Address, port
	if byIP {
		target.ID = node.Address
	}
	return target
}
