package ec2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// reserved are the addresses of a subnet that AWS keeps for itself.
const reserved = 5

func newSubnet(id, vpc, cidr, zone, zoneID string, scope model.Scope) *model.Subnet {
	return &model.Subnet{ID: id, VPC: vpc, Subnet: types.Subnet{SubnetId: &id, SubnetArn: new(scope.ARN("ec2", "subnet/"+id)), VpcId: &vpc,
		CidrBlock: &cidr, AvailabilityZone: &zone, AvailabilityZoneId: &zoneID, DefaultForAz: new(false), MapPublicIpOnLaunch: new(false),
		State: types.SubnetStateAvailable, OwnerId: new(scope.Account), AssignIpv6AddressOnCreation: new(false), EnableDns64: new(false),
		Ipv6Native: new(false), MapCustomerOwnedIpOnLaunch: new(false), PrivateDnsNameOptionsOnLaunch: &types.PrivateDnsNameOptionsOnLaunch{
			HostnameType: types.HostnameTypeIpName, EnableResourceNameDnsARecord: new(false), EnableResourceNameDnsAAAARecord: new(false)}}}
}

// zone is the zone that a request names, by name or id; the first one when it names none.
func (a *api) zone(name, id *string) (Subnet, error) {
	if name == nil && id == nil {
		return a.Network.Subnets[0], nil
	}
	for _, s := range a.Network.Subnets {
		if s.Zone == str(name) || s.ZoneID == str(id) {
			return s, nil
		}
	}
	return Subnet{}, invalid("Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %s.",
		clip(str(name)+str(id)), a.zoneNames())
}

func (a *api) zoneNames() (all string) {
	for i, s := range a.Network.Subnets {
		if i > 0 {
			all += ", "
		}
		all += s.Zone
	}
	return all
}

func (a *api) createSubnet(ctx context.Context, in *ec2.CreateSubnetInput) (*ec2.CreateSubnetOutput, error) {
	if in.CidrBlock == nil {
		return nil, missing("cidrBlock")
	}
	p, err := netip.ParsePrefix(*in.CidrBlock)
	if err != nil || !p.Addr().Is4() {
		return nil, invalid("Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", clip(*in.CidrBlock))
	}
	if p = p.Masked(); p.Bits() < 16 || p.Bits() > 28 {
		return nil, model.Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid.", p)
	}
	if in.Ipv6CidrBlock != nil || truth(in.Ipv6Native) || in.OutpostArn != nil {
		return nil, model.Errorf("UnsupportedOperation", "Berth's subnets have neither IPv6 nor Outposts.")
	}
	zone, err := a.zone(in.AvailabilityZone, in.AvailabilityZoneId)
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(kindSubnet, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	row := newSubnet(a.id("subnet"), str(in.VpcId), p.String(), zone.Zone, zone.ZoneID, a.scope)
	row.Subnet.Tags = tags
	err = a.update(ctx, func(tx store.Tx) error { return a.putSubnet(tx, row, p) })
	if err != nil {
		return nil, err
	}
	shown := row.Subnet
	shown.AvailableIpAddressCount = new(room(p))
	return &ec2.CreateSubnetOutput{Subnet: &shown}, nil
}

func room(p netip.Prefix) int32 { return int32(1)<<(32-p.Bits()) - reserved }

// putSubnet stores a new subnet that fits into its VPC. It follows the VPC's default access list.
func (a *api) putSubnet(tx store.Tx, row *model.Subnet, p netip.Prefix) error {
	v, err := get(tx, store.VPCs, kindVPC, "vpcId", row.Subnet.VpcId)
	if err != nil {
		return err
	}
	inside := func(r netip.Prefix) bool { return r.Contains(p.Addr()) && r.Bits() <= p.Bits() }
	if !slices.ContainsFunc(v.Ranges(), inside) {
		return model.Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid.", p)
	}
	n := 0
	for o := range store.Subnets.By(tx, store.ByVPC, v.ID) {
		if n++; o.Range().Overlaps(p) {
			return model.Errorf("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", p)
		}
	}
	if n >= maxSubnets {
		return model.Errorf("SubnetLimitExceeded", "The maximum number of subnets has been reached.")
	}
	if truth(v.VPC.IsDefault) && p.Bits() > 26 {
		return model.Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid: machines have their addresses of the default VPC in blocks of 64.", p)
	}
	store.Subnets.Put(tx, row)
	for l := range store.NetworkACLs.By(tx, store.ByVPC, v.ID) {
		if truth(l.ACL.IsDefault) {
			c := *l
			c.ACL.Associations = append(slices.Clone(l.ACL.Associations), types.NetworkAclAssociation{NetworkAclAssociationId: new(a.id("aclassoc")),
				NetworkAclId: &c.ID, SubnetId: &row.ID})
			store.NetworkACLs.Put(tx, &c)
			break
		}
	}
	return nil
}

func (a *api) deleteSubnet(ctx context.Context, in *ec2.DeleteSubnetInput) (*ec2.DeleteSubnetOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		s, err := get(tx, store.Subnets, kindSubnet, "subnetId", in.SubnetId)
		if err != nil {
			return err
		}
		if truth(s.Subnet.DefaultForAz) {
			return stays("subnets")
		}
		if a.subnetUsed(tx, s) {
			return depends("subnet", s.ID)
		}
		for _, l := range slices.Collect(store.NetworkACLs.By(tx, store.ByVPC, s.VPC)) {
			c := *l
			c.ACL.Associations = slices.DeleteFunc(slices.Clone(l.ACL.Associations), func(x types.NetworkAclAssociation) bool { return str(x.SubnetId) == s.ID })
			store.NetworkACLs.Put(tx, &c)
		}
		for _, t := range slices.Collect(store.RouteTables.By(tx, store.ByVPC, s.VPC)) {
			c := *t
			c.Table.Associations = slices.DeleteFunc(slices.Clone(t.Table.Associations), func(x types.RouteTableAssociation) bool { return str(x.SubnetId) == s.ID })
			store.RouteTables.Put(tx, &c)
		}
		store.Subnets.Delete(tx, s.ID)
		return nil
	})
}

// subnetUsed tells whether something lives in the subnet.
func (a *api) subnetUsed(r store.Reader, s *model.Subnet) bool {
	for n := range store.NATGateways.By(r, store.ByVPC, s.VPC) {
		if n.Subnet == s.ID && !n.Deleted() {
			return true
		}
	}
	for t := range a.attached(r) {
		if t.Observed.Interface.SubnetID == s.ID {
			return true
		}
	}
	for l := range store.LoadBalancers.Scan(r, "") {
		for _, z := range l.LB.AvailabilityZones {
			if str(z.SubnetId) == s.ID {
				return true
			}
		}
	}
	return false
}

func (a *api) describeSubnets(_ context.Context, in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	out := &ec2.DescribeSubnetsOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		used := map[string]int32{}
		for t := range a.attached(r) {
			used[t.Observed.Interface.SubnetID]++
		}
		out.Subnets, out.NextToken, err = list(query{kindSubnet, in.SubnetIds, in.Filters, in.MaxResults, in.NextToken},
			store.Subnets.Scan(r, ""), func(s *model.Subnet) (types.Subnet, attributes) {
				v := s.Subnet
				free := max(room(s.Range())-used[s.ID], 0)
				v.AvailableIpAddressCount = &free
				zone, zoneID, first, cidr := []string{str(v.AvailabilityZone)}, []string{str(v.AvailabilityZoneId)}, yesNo(v.DefaultForAz), []string{str(v.CidrBlock)}
				return v, attributes{"subnet-id": {s.ID}, "subnet-arn": {str(v.SubnetArn)}, "vpc-id": {s.VPC}, "availability-zone": zone,
					"availabilityZone": zone, "availability-zone-id": zoneID, "availabilityZoneId": zoneID, "default-for-az": first, "defaultForAz": first,
					"cidr": cidr, "cidr-block": cidr, "cidrBlock": cidr, "state": {string(v.State)}, "owner-id": {str(v.OwnerId)},
					"map-public-ip-on-launch": yesNo(v.MapPublicIpOnLaunch), "ipv6-native": {"false"}, "enable-dns64": yesNo(v.EnableDns64),
					"available-ip-address-count": {fmt.Sprint(free)}}.with(v.Tags).none("ipv6-cidr-block-association.ipv6-cidr-block",
					"ipv6-cidr-block-association.association-id", "ipv6-cidr-block-association.state", "outpost-arn", "customer-owned-ipv4-pool",
					"map-customer-owned-ip-on-launch", "private-dns-name-options-on-launch.hostname-type")
			})
		return err
	})
}

func (a *api) modifySubnetAttribute(ctx context.Context, in *ec2.ModifySubnetAttributeInput) (*ec2.ModifySubnetAttributeOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.Subnets, kindSubnet, "subnetId", in.SubnetId)
		if err != nil {
			return err
		}
		s, given := *old, 0
		options := *s.Subnet.PrivateDnsNameOptionsOnLaunch
		s.Subnet.PrivateDnsNameOptionsOnLaunch = &options
		for _, c := range []struct {
			to    *types.AttributeBooleanValue
			field **bool
		}{{in.MapPublicIpOnLaunch, &s.Subnet.MapPublicIpOnLaunch}, {in.AssignIpv6AddressOnCreation, &s.Subnet.AssignIpv6AddressOnCreation},
			{in.EnableDns64, &s.Subnet.EnableDns64}, {in.EnableResourceNameDnsARecordOnLaunch, &options.EnableResourceNameDnsARecord},
			{in.EnableResourceNameDnsAAAARecordOnLaunch, &options.EnableResourceNameDnsAAAARecord}} {
			if c.to != nil && c.to.Value != nil {
				*c.field = c.to.Value
				given++
			}
		}
		if truth(s.Subnet.AssignIpv6AddressOnCreation) || truth(s.Subnet.EnableDns64) {
			return invalid("Berth's subnets have no IPv6.")
		}
		if in.PrivateDnsHostnameTypeOnLaunch != "" {
			options.HostnameType = in.PrivateDnsHostnameTypeOnLaunch
			given++
		}
		if given != 1 {
			return model.Errorf("InvalidParameterCombination", "Exactly one attribute that Berth knows must be given")
		}
		store.Subnets.Put(tx, &s)
		return nil
	})
}
