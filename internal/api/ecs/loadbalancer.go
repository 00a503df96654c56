package ecs

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/ecs/quota"
	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/store"
)

// checkLoadBalancers checks the load balancers of a service that runs def.
func checkLoadBalancers(r store.Reader, list []types.LoadBalancer, def *types.TaskDefinition) error {
	if err := quota.TargetGroups.Admit(len(list)); err != nil {
		return err
	}
	for _, lb := range list {
		if err := checkLoadBalancer(r, lb, def); err != nil {
			return err
		}
	}
	return nil
}

func checkLoadBalancer(r store.Reader, lb types.LoadBalancer, def *types.TaskDefinition) error {
	switch {
	case value(lb.LoadBalancerName) != "":
		return invalid("Berth does not support Classic Load Balancers: give a targetGroupArn instead of a loadBalancerName.")
	case lb.AdvancedConfiguration != nil:
		return notYet("advancedConfiguration of a load balancer")
	case value(lb.TargetGroupArn) == "":
		return invalid("targetGroupArn should not be null or empty.")
	case value(lb.ContainerName) == "":
		return invalid("The container name of a load balancer should not be null or empty.")
	case lb.ContainerPort == nil:
		return invalid("The container port of a load balancer should not be null.")
	}
	c := taskdef.Container(def, *lb.ContainerName)
	if c == nil {
		return invalid("The container %s does not exist in the task definition.", *lb.ContainerName)
	}
	port := func(p types.PortMapping) bool { return number(p.ContainerPort) == *lb.ContainerPort }
	if !slices.ContainsFunc(c.PortMappings, port) {
		return invalid("The container %s did not have a container port %d defined.", *lb.ContainerName, *lb.ContainerPort)
	}
	return checkTargetGroup(r, *lb.TargetGroupArn, def.NetworkMode)
}

func checkTargetGroup(r store.Reader, arn string, mode types.NetworkMode) error {
	g, ok := store.TargetGroups.Get(r, arn)
	if !ok {
		return invalid("The target group with targetGroupArn %s does not exist.", arn)
	}
	if !attached(r, arn) {
		return invalid("The target group with targetGroupArn %s does not have an associated load balancer.", arn)
	}
	if mode == "" {
		mode = types.NetworkModeBridge
	}
	wanted := elbtypes.TargetTypeEnumInstance
	if mode == types.NetworkModeAwsvpc {
		wanted = elbtypes.TargetTypeEnumIp
	}
	kind := g.Group.TargetType
	if kind == "" {
		kind = elbtypes.TargetTypeEnumInstance
	}
	if kind != wanted {
		return invalid("The provided target group %s has target type %s, which is incompatible with the %s network mode specified "+
			"in the task definition.", arn, kind, mode)
	}
	return nil
}

// attached tells whether a listener or a rule forwards to the target group.
func attached(r store.Reader, arn string) bool {
	for l := range store.Listeners.Scan(r, "") {
		if forwards(l.Listener.DefaultActions, arn) {
			return true
		}
	}
	for rule := range store.Rules.Scan(r, "") {
		if forwards(rule.Rule.Actions, arn) {
			return true
		}
	}
	return false
}

func forwards(actions []elbtypes.Action, arn string) bool {
	return slices.ContainsFunc(actions, func(a elbtypes.Action) bool {
		if value(a.TargetGroupArn) == arn {
			return true
		}
		return a.ForwardConfig != nil && slices.ContainsFunc(a.ForwardConfig.TargetGroups, func(t elbtypes.TargetGroupTuple) bool {
			return value(t.TargetGroupArn) == arn
		})
	})
}
