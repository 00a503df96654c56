// Package ec2 shows clients a default VPC, its subnets and its security group: just enough for them to say where tasks and load
// balancers go. Nothing can be changed.
package ec2

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/wire"
)

// CIDR is that of AWS's default VPC; the addresses that tasks really get are the node's own.
const CIDR = "172.31.0.0/16"

// zones are the letters of the region's availability zones; each has one subnet.
var zones = []string{"a", "b", "c"}

// Network is the default VPC. Its ids are made from the account and the region, and so are the same after a reinstallation.
type Network struct {
	VPC           string
	SecurityGroup string
	Subnets       []Subnet
	scope         model.Scope
}

// Subnet is one zone's part of the VPC.
type Subnet struct {
	ID, Zone, ZoneID, CIDR string
}

// DefaultNetwork is the network of an account in a region.
func DefaultNetwork(s model.Scope) Network {
	n := Network{VPC: id(s, "vpc"), SecurityGroup: id(s, "sg"), scope: s}
	for i, z := range zones {
		n.Subnets = append(n.Subnets, Subnet{ID: id(s, "subnet", z), Zone: s.Region + z, ZoneID: fmt.Sprintf("%s-az%d", shortRegion(s.Region), i+1),
			CIDR: fmt.Sprintf("172.31.%d.0/20", 16*i)})
	}
	return n
}

// shortRegion is "use1" for us-east-1.
func shortRegion(region string) string {
	parts := strings.Split(region, "-")
	if len(parts) < 3 {
		return region
	}
	return parts[0] + parts[1][:1] + parts[len(parts)-1]
}

func id(s model.Scope, kind string, more ...string) string {
	sum := sha256.Sum256([]byte(s.Account + s.Region + kind + strings.Join(more, "")))
	return kind + "-" + hex.EncodeToString(sum[:])[:17]
}

// New makes the service.
func New(n Network) *wire.Service {
	s := &wire.Service{Name: "ec2", Protocol: wire.EC2Query, Version: "2016-11-15", Namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
		Names: names, Modelled: modelled}
	wire.Handle(s, "DescribeVpcs", nil, n.describeVpcs)
	wire.Handle(s, "DescribeSubnets", nil, n.describeSubnets)
	wire.Handle(s, "DescribeSecurityGroups", nil, n.describeSecurityGroups)
	wire.Handle(s, "DescribeAvailabilityZones", nil, n.describeAvailabilityZones)
	wire.Handle(s, "DescribeVpcAttribute", nil, n.describeVpcAttribute)
	wire.Handle(s, "DescribeAccountAttributes", nil, n.describeAccountAttributes)
	wire.Handle(s, "DescribeNetworkInterfaces", nil, n.describeNetworkInterfaces)
	wire.Handle(s, "DescribeRouteTables", nil, n.describeRouteTables)
	return s
}

// names are the response elements that are not the Go field with a small first letter (EC2's ec2QueryName and xmlName traits).
var names = map[string]string{
	"Vpcs": "vpcSet", "Subnets": "subnetSet", "SecurityGroups": "securityGroupInfo", "AvailabilityZones": "availabilityZoneInfo",
	"Tags": "tagSet", "CidrBlockAssociationSet": "cidrBlockAssociationSet", "Ipv6CidrBlockAssociationSet": "ipv6CidrBlockAssociationSet",
	"IpPermissions": "ipPermissions", "IpPermissionsEgress": "ipPermissionsEgress", "UserIdGroupPairs": "groups",
	"Description": "groupDescription", "State": "state", "AccountAttributes": "accountAttributeSet", "AttributeValues": "attributeValueSet",
	"NetworkInterfaces": "networkInterfaceSet", "RouteTables": "routeTableSet", "Messages": "messageSet",
	"ZoneName": "zoneName", "OptInStatus": "optInStatus", "GroupName": "groupName", "Routes": "routeSet", "Associations": "associationSet",
}

func (n Network) describeVpcs(_ context.Context, in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	v := types.Vpc{VpcId: &n.VPC, CidrBlock: new(CIDR), IsDefault: new(true), State: types.VpcStateAvailable, OwnerId: &n.scope.Account,
		DhcpOptionsId: new(id(n.scope, "dopt")), InstanceTenancy: types.TenancyDefault,
		CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{{AssociationId: new(id(n.scope, "vpc-cidr-assoc")), CidrBlock: new(CIDR),
			CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated}}}}
	for _, want := range in.VpcIds {
		if want != n.VPC {
			return nil, model.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", want)
		}
	}
	out := &ec2.DescribeVpcsOutput{Vpcs: []types.Vpc{}}
	ok, err := matches(in.Filters, map[string]string{"vpc-id": n.VPC, "is-default": "true", "isDefault": "true", "cidr": CIDR,
		"cidr-block": CIDR, "state": "available", "owner-id": n.scope.Account})
	if ok {
		out.Vpcs = append(out.Vpcs, v)
	}
	return out, err
}

func (n Network) describeSubnets(_ context.Context, in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	for _, want := range in.SubnetIds {
		if !slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.ID == want }) {
			return nil, model.Errorf("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", want)
		}
	}
	out := &ec2.DescribeSubnetsOutput{Subnets: []types.Subnet{}}
	for _, s := range n.Subnets {
		if len(in.SubnetIds) > 0 && !slices.Contains(in.SubnetIds, s.ID) {
			continue
		}
		ok, err := matches(in.Filters, map[string]string{"subnet-id": s.ID, "vpc-id": n.VPC, "availability-zone": s.Zone,
			"availabilityZone": s.Zone, "availability-zone-id": s.ZoneID, "default-for-az": "true", "defaultForAz": "true", "cidr-block": s.CIDR,
			"state": "available", "owner-id": n.scope.Account, "map-public-ip-on-launch": "true"})
		if err != nil {
			return nil, err
		}
		if ok {
			out.Subnets = append(out.Subnets, types.Subnet{SubnetId: &s.ID, VpcId: &n.VPC, CidrBlock: &s.CIDR, AvailabilityZone: &s.Zone,
				AvailabilityZoneId: &s.ZoneID, DefaultForAz: new(true), MapPublicIpOnLaunch: new(true), State: types.SubnetStateAvailable,
				AvailableIpAddressCount: new(int32(4091)), OwnerId: &n.scope.Account, AssignIpv6AddressOnCreation: new(false),
				SubnetArn: new(n.scope.ARN("ec2", "subnet/"+s.ID))})
		}
	}
	return out, nil
}

func (n Network) describeSecurityGroups(_ context.Context, in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	for _, want := range in.GroupIds {
		if want != n.SecurityGroup {
			return nil, model.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", want)
		}
	}
	out := &ec2.DescribeSecurityGroupsOutput{SecurityGroups: []types.SecurityGroup{}}
	if len(in.GroupNames) > 0 && !slices.Contains(in.GroupNames, "default") {
		return nil, model.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", in.GroupNames[0])
	}
	ok, err := matches(in.Filters, map[string]string{"group-id": n.SecurityGroup, "group-name": "default", "vpc-id": n.VPC,
		"owner-id": n.scope.Account, "description": "default VPC security group"})
	if ok {
		all := []types.IpPermission{{IpProtocol: new("-1"), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0")}}}}
		self := []types.IpPermission{{IpProtocol: new("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &n.SecurityGroup,
			UserId: &n.scope.Account}}}}
		out.SecurityGroups = append(out.SecurityGroups, types.SecurityGroup{GroupId: &n.SecurityGroup, GroupName: new("default"), VpcId: &n.VPC,
			OwnerId: &n.scope.Account, Description: new("default VPC security group"), IpPermissions: self, IpPermissionsEgress: all,
			SecurityGroupArn: new(n.scope.ARN("ec2", "security-group/"+n.SecurityGroup))})
	}
	return out, err
}

func (n Network) describeAvailabilityZones(_ context.Context, in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	out := &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: []types.AvailabilityZone{}}
	for _, s := range n.Subnets {
		ok, err := matches(in.Filters, map[string]string{"zone-name": s.Zone, "zone-id": s.ZoneID, "state": "available",
			"region-name": n.scope.Region, "opt-in-status": "opt-in-not-required", "zone-type": "availability-zone"})
		if err != nil {
			return nil, err
		}
		if ok && (len(in.ZoneNames) == 0 || slices.Contains(in.ZoneNames, s.Zone)) && (len(in.ZoneIds) == 0 || slices.Contains(in.ZoneIds, s.ZoneID)) {
			out.AvailabilityZones = append(out.AvailabilityZones, types.AvailabilityZone{ZoneName: &s.Zone, ZoneId: &s.ZoneID,
				RegionName: &n.scope.Region, OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired, GroupName: &n.scope.Region,
				NetworkBorderGroup: &n.scope.Region, ZoneType: new("availability-zone")})
		}
	}
	return out, nil
}

func (n Network) describeVpcAttribute(_ context.Context, in *ec2.DescribeVpcAttributeInput) (*ec2.DescribeVpcAttributeOutput, error) {
	if in.VpcId == nil || *in.VpcId != n.VPC {
		return nil, model.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", value(in.VpcId))
	}
	out := &ec2.DescribeVpcAttributeOutput{VpcId: &n.VPC}
	yes, no := &types.AttributeBooleanValue{Value: new(true)}, &types.AttributeBooleanValue{Value: new(false)}
	switch in.Attribute {
	case types.VpcAttributeNameEnableDnsSupport:
		out.EnableDnsSupport = yes
	case types.VpcAttributeNameEnableDnsHostnames:
		out.EnableDnsHostnames = yes
	case types.VpcAttributeNameEnableNetworkAddressUsageMetrics:
		out.EnableNetworkAddressUsageMetrics = no
	default:
		return nil, model.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid", in.Attribute)
	}
	return out, nil
}

func (n Network) describeAccountAttributes(_ context.Context, in *ec2.DescribeAccountAttributesInput) (*ec2.DescribeAccountAttributesOutput, error) {
	out := &ec2.DescribeAccountAttributesOutput{AccountAttributes: []types.AccountAttribute{}}
	for _, a := range [][2]string{{"supported-platforms", "VPC"}, {"default-vpc", n.VPC}} {
		if len(in.AttributeNames) == 0 || slices.Contains(in.AttributeNames, types.AccountAttributeName(a[0])) {
			out.AccountAttributes = append(out.AccountAttributes, types.AccountAttribute{AttributeName: &a[0],
				AttributeValues: []types.AccountAttributeValue{{AttributeValue: &a[1]}}})
		}
	}
	return out, nil
}

// describeNetworkInterfaces lists none: the interfaces of tasks are shown by DescribeTasks only.
func (n Network) describeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: []types.NetworkInterface{}}, nil
}

func (n Network) describeRouteTables(_ context.Context, in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	table := id(n.scope, "rtb")
	out := &ec2.DescribeRouteTablesOutput{RouteTables: []types.RouteTable{}}
	ok, err := matches(in.Filters, map[string]string{"vpc-id": n.VPC, "association.main": "true", "route-table-id": table})
	if ok {
		out.RouteTables = append(out.RouteTables, types.RouteTable{RouteTableId: &table, VpcId: &n.VPC, OwnerId: &n.scope.Account,
			Associations: []types.RouteTableAssociation{{Main: new(true), RouteTableId: &table, RouteTableAssociationId: new(id(n.scope, "rtbassoc"))}},
			Routes: []types.Route{{DestinationCidrBlock: new(CIDR), GatewayId: new("local"), Origin: types.RouteOriginCreateRouteTable,
				State: types.RouteStateActive}}})
	}
	return out, err
}

// matches tells whether attributes pass every filter; a value may contain * and ?.
func matches(filters []types.Filter, attributes map[string]string) (bool, error) {
	for _, f := range filters {
		name := value(f.Name)
		if strings.HasPrefix(name, "tag:") || name == "tag-key" {
			return false, nil // nothing here has tags
		}
		have, known := attributes[name]
		if !known {
			return false, model.Errorf("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		if !slices.ContainsFunc(f.Values, func(pattern string) bool { return wild(pattern, have) }) {
			return false, nil
		}
	}
	return true, nil
}

// wild matches * to any text and ? to any one character.
func wild(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	switch pattern[0] {
	case '*':
		return wild(pattern[1:], s) || s != "" && wild(pattern, s[1:])
	case '?':
		return s != "" && wild(pattern[1:], s[1:])
	}
	return s != "" && s[0] == pattern[0] && wild(pattern[1:], s[1:])
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
