package elb

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// place gives a load balancer's subnets their zones, and says which VPC they are in. Subnets must exist, be of one VPC, and each of
// another zone.
func (a *api) place(r store.Reader, scheme types.LoadBalancerSchemeEnum, zones []types.AvailabilityZone) (placed []types.AvailabilityZone, vpc string, err error) {
	if a.Networks == nil {
		return zones, a.VPC, nil
	}
	r = a.Networks.Over(r)
	placed = slices.Clone(zones)
	var met []string
	for i, z := range placed {
		s, ok := store.Subnets.Get(r, text(z.SubnetId))
		if !ok {
			return nil, "", model.Errorf("SubnetNotFound", "The subnet ID '%.100s' does not exist", text(z.SubnetId))
		}
		zone := text(s.Subnet.AvailabilityZone)
		switch {
		case vpc != "" && vpc != s.VPC:
			return nil, "", model.Errorf("InvalidConfigurationRequest", "All subnets must belong to the same VPC: '%s'", vpc)
		case slices.Contains(met, zone):
			return nil, "", model.Errorf("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		}
		vpc, met = s.VPC, append(met, zone)
		placed[i].ZoneName = &zone
	}
	if scheme == types.LoadBalancerSchemeEnumInternetFacing && !some(store.InternetGateways.By(r, store.ByVPC, vpc)) {
		return nil, "", model.Errorf("InvalidSubnet", "VPC %s has no internet gateway", vpc)
	}
	return placed, vpc, nil
}

func some[T any](all func(func(T) bool)) bool {
	for range all {
		return true
	}
	return false
}

// guards are a load balancer's security groups: those that were asked for, which must be of its VPC, or the VPC's default one.
func (a *api) guards(r store.Reader, vpc string, asked []string) ([]string, error) {
	if a.Networks == nil {
		if len(asked) == 0 && a.SecurityGroup != "" {
			return []string{a.SecurityGroup}, nil
		}
		return asked, nil
	}
	r = a.Networks.Over(r)
	for _, id := range asked {
		g, ok := store.SecurityGroups.Get(r, id)
		if !ok {
			return nil, model.Errorf("InvalidSecurityGroup", "The security group '%.100s' does not exist", id)
		}
		if g.VPC != vpc {
			return nil, model.Errorf("InvalidConfigurationRequest", "One or more security groups are invalid: %s is in another VPC", id)
		}
	}
	if len(asked) > 0 {
		return asked, nil
	}
	return []string{store.DefaultGroup(r, vpc)}, nil
}
