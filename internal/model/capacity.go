package model

import (
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// CapacityProvider is a pool of nodes: those whose attribute berth.pool is its name, or that of its Auto Scaling group, whose ARN means nothing
// else here. Every field is written by the API.
type CapacityProvider struct {
	Name         string
	Group        types.AutoScalingGroupProvider // as it was asked for, with ECS's defaults
	UpdateStatus types.CapacityProviderUpdateStatus
	Tags         []types.Tag
	CreatedAt    time.Time
}

// AttributePool is the attribute of nodes that says to which capacity provider they belong.
const AttributePool = "berth.pool"

// Key is the name.
func (p *CapacityProvider) Key() string { return p.Name }

var poolPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// Pool is the constraint of tasks that run there.
func (p *CapacityProvider) Pool() types.PlacementConstraint {
	names := p.Name
	if p.Group.AutoScalingGroupArn != nil {
		_, group, ok := strings.Cut(*p.Group.AutoScalingGroupArn, ":autoScalingGroupName/")
		if ok && group != p.Name && poolPattern.MatchString(group) {
			names += ", " + group
		}
	}
	return types.PlacementConstraint{Type: types.PlacementConstraintTypeMemberOf, Expression: new("attribute:" + AttributePool + " in [" + names + "]")}
}

// FargateProvider tells whether a capacity provider is one of ECS's own.
func FargateProvider(name string) bool { return name == "FARGATE" || name == "FARGATE_SPOT" }
