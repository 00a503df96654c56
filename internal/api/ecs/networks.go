package ecs

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/store"
)

// checkExists refuses subnets and security groups that there are none of, in the words that ECS hands on from EC2.
func (a *api) checkExists(r store.Reader, n *types.NetworkConfiguration) error {
	if a.networks == nil || n == nil || n.AwsvpcConfiguration == nil {
		return nil
	}
	r = a.networks.Over(r)
	vpc := ""
	for _, id := range n.AwsvpcConfiguration.Subnets {
		s, ok := store.Subnets.Get(r, id)
		if !ok {
			return invalid("Error retrieving subnet information for [%.100s]: The subnet ID '%.100s' does not exist (ErrorCode: InvalidSubnetID.NotFound)", id, id)
		}
		if vpc != "" && s.VPC != vpc {
			return invalid("All subnets must be in the same VPC.")
		}
		vpc = s.VPC
	}
	for _, id := range n.AwsvpcConfiguration.SecurityGroups {
		g, ok := store.SecurityGroups.Get(r, id)
		if !ok {
			return invalid("Error retrieving security group information for [%.100s]: The security group '%.100s' does not exist (ErrorCode: InvalidGroup.NotFound)", id, id)
		}
		if g.VPC != vpc {
			return invalid("Security groups and subnets must be in the same VPC: %s is in %s, the subnets in %s.", id, g.VPC, vpc)
		}
	}
	return nil
}
