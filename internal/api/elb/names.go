package elb

import (
	"strconv"

	"github.com/berthdev/berth/internal/model"
)

// portText is the port that a target's health is asked at.
func portText(g *model.TargetGroup, t *model.Target) string {
	if p := text(g.Group.HealthCheckPort); p != "traffic-port" {
		return p
	}
	return strconv.Itoa(int(t.Port))
}

// modelled is every operation of Elastic Load Balancing v2 in the SDK's model; a test checks that it is whole.
var modelled = []string{
	"AddListenerCertificates", "AddTags", "AddTrustStoreRevocations", "CreateListener", "CreateLoadBalancer", "CreateRule",
	"CreateTargetGroup", "CreateTrustStore", "DeleteListener", "DeleteLoadBalancer", "DeleteRule",
	"DeleteSharedTrustStoreAssociation", "DeleteTargetGroup", "DeleteTrustStore", "DeregisterTargets", "DescribeAccountLimits",
	"DescribeCapacityReservation", "DescribeListenerAttributes", "DescribeListenerCertificates", "DescribeListeners",
	"DescribeLoadBalancerAttributes", "DescribeLoadBalancers", "DescribeRules", "DescribeSSLPolicies", "DescribeTags",
	"DescribeTargetGroupAttributes", "DescribeTargetGroups", "DescribeTargetHealth", "DescribeTrustStoreAssociations",
	"DescribeTrustStoreRevocations", "DescribeTrustStores", "GetResourcePolicy", "GetTrustStoreCaCertificatesBundle",
	"GetTrustStoreRevocationContent", "ModifyCapacityReservation", "ModifyIpPools", "ModifyListener",
	"ModifyListenerAttributes", "ModifyLoadBalancerAttributes", "ModifyRule", "ModifyTargetGroup",
	"ModifyTargetGroupAttributes", "ModifyTrustStore", "RegisterTargets", "RemoveListenerCertificates", "RemoveTags",
	"RemoveTrustStoreRevocations", "SetIpAddressType", "SetRulePriorities", "SetSecurityGroups", "SetSubnets",
}
