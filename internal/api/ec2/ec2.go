// Package ec2 shows clients a default VPC, its subnets and its security group: just enough for them to say where tasks and load
// balancers go. Nothing can be changed.
package ec2

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// New makes the service.
func New(n Network) *wire.Service {
	s := &wire.Service{Name: "ec2", Protocol: wire.EC2Query, Version: "2016-11-15",
		Namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
		Names:     elements}
	wire.Handle(s, n.describeVpcs)
	wire.Handle(s, n.describeVpcAttribute)
	wire.Handle(s, n.describeSubnets)
	wire.Handle(s, n.describeSecurityGroups)
	wire.Handle(s, n.describeAvailabilityZones)
	wire.Handle(s, n.describeAccountAttributes)
	wire.Handle(s, n.describeNetworkInterfaces)
	wire.Handle(s, n.describeRouteTables)
	wire.Handle(s, n.describeInternetGateways)
	return s
}

// elements are the response elements that are not the Go field with a small first letter (the model's xmlName traits).
var elements = map[string]string{
	"AccountAttributes": "accountAttributeSet", "AttributeValues": "attributeValueSet", "Associations": "associationSet",
	"Attachments": "attachmentSet", "AvailabilityZones": "availabilityZoneInfo", "AvailabilityZone.State": "zoneState",
	"InternetGateways": "internetGatewaySet", "Messages": "messageSet", "NetworkInterfaces": "networkInterfaceSet",
	"PropagatingVgws": "propagatingVgwSet", "RouteTables": "routeTableSet", "Routes": "routeSet",
	"SecurityGroup.Description": "groupDescription", "SecurityGroups": "securityGroupInfo", "Subnets": "subnetSet", "Tags": "tagSet",
	"UserIdGroupPairs": "groups", "Vpcs": "vpcSet",
}

func (n Network) describeVpcs(_ context.Context, in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	if err := known(in.VpcIds, []string{n.VPC}, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist"); err != nil {
		return nil, err
	}
	cidr, association := n.cidr.String(), n.id("vpc-cidr-assoc")
	out := &ec2.DescribeVpcsOutput{Vpcs: []types.Vpc{}}
	ok, err := matches(in.Filters, attributes{"vpc-id": n.VPC, "is-default": "true", "isDefault": "true", "cidr": cidr,
		"cidr-block-association.cidr-block": cidr, "cidr-block-association.association-id": association,
		"cidr-block-association.state": "associated", "dhcp-options-id": n.id("dopt"), "state": "available",
		"owner-id": n.scope.Account},
		"ipv6-cidr-block-association.ipv6-cidr-block", "ipv6-cidr-block-association.ipv6-pool",
		"ipv6-cidr-block-association.association-id", "ipv6-cidr-block-association.state")
	if ok {
		out.Vpcs = append(out.Vpcs, types.Vpc{VpcId: &n.VPC, CidrBlock: &cidr, IsDefault: new(true), State: types.VpcStateAvailable,
			OwnerId: &n.scope.Account, DhcpOptionsId: new(n.id("dopt")), InstanceTenancy: types.TenancyDefault,
			CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{{AssociationId: &association, CidrBlock: &cidr,
				CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated}}}})
	}
	return out, err
}

func (n Network) describeVpcAttribute(_ context.Context, in *ec2.DescribeVpcAttributeInput) (*ec2.DescribeVpcAttributeOutput,
	error) {
	if in.VpcId == nil {
		return nil, model.Errorf("MissingParameter", "The request must contain the parameter vpcId")
	}
	if *in.VpcId != n.VPC {
		return nil, model.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", *in.VpcId)
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
		return nil, model.Errorf("InvalidParameterValue", "Value (%.100s) for parameter attribute is invalid", in.Attribute)
	}
	return out, nil
}

func (n Network) describeSubnets(_ context.Context, in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	var ids []string
	for _, s := range n.Subnets {
		ids = append(ids, s.ID)
	}
	if err := known(in.SubnetIds, ids, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist"); err != nil {
		return nil, err
	}
	out := &ec2.DescribeSubnetsOutput{Subnets: []types.Subnet{}}
	for _, s := range n.Subnets {
		arn, free := n.scope.ARN("ec2", "subnet/"+s.ID), int32(1)<<(32-s.bits)-5 // AWS keeps five for itself
		ok, err := matches(in.Filters, attributes{"subnet-id": s.ID, "subnet-arn": arn, "vpc-id": n.VPC, "availability-zone": s.Zone,
			"availabilityZone": s.Zone, "availability-zone-id": s.ZoneID, "availabilityZoneId": s.ZoneID, "default-for-az": "true",
			"defaultForAz": "true", "cidr": s.CIDR, "cidr-block": s.CIDR, "cidrBlock": s.CIDR, "state": "available",
			"owner-id": n.scope.Account, "map-public-ip-on-launch": "true", "ipv6-native": "false",
			"available-ip-address-count": fmt.Sprint(free)},
			"ipv6-cidr-block-association.ipv6-cidr-block", "ipv6-cidr-block-association.association-id",
			"ipv6-cidr-block-association.state", "outpost-arn", "customer-owned-ipv4-pool")
		if err != nil {
			return nil, err
		}
		if ok && (len(in.SubnetIds) == 0 || slices.Contains(in.SubnetIds, s.ID)) {
			out.Subnets = append(out.Subnets, types.Subnet{SubnetId: &s.ID, SubnetArn: &arn, VpcId: &n.VPC, CidrBlock: &s.CIDR,
				AvailabilityZone: &s.Zone, AvailabilityZoneId: &s.ZoneID, DefaultForAz: new(true), MapPublicIpOnLaunch: new(true),
				State: types.SubnetStateAvailable, AvailableIpAddressCount: &free, OwnerId: &n.scope.Account,
				AssignIpv6AddressOnCreation: new(false), EnableDns64: new(false), Ipv6Native: new(false),
				MapCustomerOwnedIpOnLaunch: new(false), PrivateDnsNameOptionsOnLaunch: &types.PrivateDnsNameOptionsOnLaunch{
					HostnameType: types.HostnameTypeIpName, EnableResourceNameDnsARecord: new(false),
					EnableResourceNameDnsAAAARecord: new(false)}})
		}
	}
	return out, nil
}

func (n Network) describeSecurityGroups(_ context.Context,
	in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	const description = "default VPC security group"
	if err := known(in.GroupIds, []string{n.SecurityGroup}, "InvalidGroup.NotFound",
		"The security group '%s' does not exist"); err != nil {
		return nil, err
	}
	if err := known(in.GroupNames, []string{"default"}, "InvalidGroup.NotFound",
		"The security group '%s' does not exist in default VPC '"+
			n.VPC+"'"); err != nil {
		return nil, err
	}
	out := &ec2.DescribeSecurityGroupsOutput{SecurityGroups: []types.SecurityGroup{}}
	ok, err := matches(in.Filters, attributes{"group-id": n.SecurityGroup, "group-name": "default", "vpc-id": n.VPC,
		"owner-id": n.scope.Account, "description": description, "ip-permission.protocol": "-1",
		"ip-permission.group-id": n.SecurityGroup,
		"ip-permission.user-id":  n.scope.Account, "egress.ip-permission.protocol": "-1", "egress.ip-permission.cidr": "0.0.0.0/0"},
		"ip-permission.cidr", "ip-permission.from-port", "ip-permission.to-port", "ip-permission.group-name", "ip-permission.ipv6-cidr",
		"ip-permission.prefix-list-id", "egress.ip-permission.from-port", "egress.ip-permission.to-port",
		"egress.ip-permission.group-id",
		"egress.ip-permission.group-name", "egress.ip-permission.ipv6-cidr", "egress.ip-permission.prefix-list-id",
		"egress.ip-permission.user-id")
	if ok {
		out.SecurityGroups = append(out.SecurityGroups, types.SecurityGroup{GroupId: &n.SecurityGroup, GroupName: new("default"),
			VpcId: &n.VPC, OwnerId: &n.scope.Account, Description: new(description),
			SecurityGroupArn: new(n.scope.ARN("ec2", "security-group/"+n.SecurityGroup)),
			IpPermissions: []types.IpPermission{{IpProtocol: new("-1"), UserIdGroupPairs: []types.UserIdGroupPair{
				{GroupId: &n.SecurityGroup, UserId: &n.scope.Account}}}},
			IpPermissionsEgress: []types.IpPermission{{IpProtocol: new("-1"), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0")}}}}})
	}
	return out, err
}

func (n Network) describeAvailabilityZones(_ context.Context, in *ec2.DescribeAvailabilityZonesInput) (
	*ec2.DescribeAvailabilityZonesOutput, error,
) {
	const invalid, text = "InvalidParameterValue", "Invalid availability zone: [%s]"
	var names, ids []string
	for _, s := range n.Subnets {
		names, ids = append(names, s.Zone), append(ids, s.ZoneID)
	}
	if err := known(in.ZoneNames, names, invalid, text); err != nil {
		return nil, err
	}
	if err := known(in.ZoneIds, ids, invalid, text); err != nil {
		return nil, err
	}
	out := &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: []types.AvailabilityZone{}}
	for _, s := range n.Subnets {
		group := n.scope.Region + "-zg-1"
		ok, err := matches(in.Filters, attributes{"zone-name": s.Zone, "zone-id": s.ZoneID, "state": "available", "group-name": group,
			"region-name": n.scope.Region, "opt-in-status": "opt-in-not-required", "zone-type": "availability-zone"},
			"message", "parent-zone-id", "parent-zone-name", "group-long-name")
		if err != nil {
			return nil, err
		}
		if ok && (len(in.ZoneNames) == 0 || slices.Contains(in.ZoneNames, s.Zone)) && (len(in.ZoneIds) == 0 ||
			slices.Contains(in.ZoneIds, s.ZoneID)) {
			out.AvailabilityZones = append(out.AvailabilityZones, types.AvailabilityZone{ZoneName: &s.Zone, ZoneId: &s.ZoneID,
				RegionName: &n.scope.Region, State: types.AvailabilityZoneStateAvailable, Messages: []types.AvailabilityZoneMessage{},
				OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired, GroupName: &group,
				NetworkBorderGroup: &n.scope.Region, ZoneType: new("availability-zone")})
		}
	}
	return out, nil
}

func (n Network) describeAccountAttributes(_ context.Context, in *ec2.DescribeAccountAttributesInput) (
	*ec2.DescribeAccountAttributesOutput, error,
) {
	all := [][2]string{{"supported-platforms", "VPC"}, {"default-vpc", n.VPC}}
	for _, want := range in.AttributeNames {
		if !slices.ContainsFunc(all, func(a [2]string) bool { return a[0] == string(want) }) {
			return nil, model.Errorf("InvalidParameterValue",
				"Berth has no account attribute %.100s, only supported-platforms and default-vpc", want)
		}
	}
	out := &ec2.DescribeAccountAttributesOutput{AccountAttributes: []types.AccountAttribute{}}
	for _, a := range all {
		if len(in.AttributeNames) == 0 || slices.Contains(in.AttributeNames, types.AccountAttributeName(a[0])) {
			out.AccountAttributes = append(out.AccountAttributes, types.AccountAttribute{AttributeName: &a[0],
				AttributeValues: []types.AccountAttributeValue{{AttributeValue: &a[1]}}})
		}
	}
	return out, nil
}

// describeNetworkInterfaces lists none: the interfaces of tasks are shown by DescribeTasks only.
func (n Network) describeNetworkInterfaces(_ context.Context, in *ec2.DescribeNetworkInterfacesInput) (
	*ec2.DescribeNetworkInterfacesOutput, error,
) {
	if err := known(in.NetworkInterfaceIds, nil, "InvalidNetworkInterfaceID.NotFound",
		"The networkInterface ID '%s' does not exist"); err != nil {
		return nil, err
	}
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: []types.NetworkInterface{}}, nil
}

func (n Network) describeRouteTables(_ context.Context, in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput,
	error) {
	table, association, gateway := n.id("rtb"), n.id("rtbassoc"), n.id("igw")
	if err := known(in.RouteTableIds, []string{table}, "InvalidRouteTableID.NotFound",
		"The routeTable ID '%s' does not exist"); err != nil {
		return nil, err
	}
	out := &ec2.DescribeRouteTablesOutput{RouteTables: []types.RouteTable{}}
	ok, err := matches(in.Filters, attributes{"vpc-id": n.VPC, "route-table-id": table, "owner-id": n.scope.Account,
		"association.main":           "true",
		"association.route-table-id": table, "association.route-table-association-id": association},
		"association.subnet-id", "association.gateway-id", "route.destination-cidr-block", "route.destination-ipv6-cidr-block",
		"route.gateway-id",
		"route.nat-gateway-id", "route.transit-gateway-id", "route.vpc-peering-connection-id", "route.instance-id", "route.origin",
		"route.state",
		"route.destination-prefix-list-id", "route.egress-only-internet-gateway-id")
	if ok {
		active := types.RouteStateActive
		out.RouteTables = append(out.RouteTables, types.RouteTable{RouteTableId: &table, VpcId: &n.VPC, OwnerId: &n.scope.Account,
			Associations: []types.RouteTableAssociation{{Main: new(true), RouteTableId: &table, RouteTableAssociationId: &association,
				AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated}}},
			PropagatingVgws: []types.PropagatingVgw{},
			Routes: []types.Route{
				{DestinationCidrBlock: new(n.cidr.String()), GatewayId: new("local"), Origin: types.RouteOriginCreateRouteTable,
					State: active},
				{DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: &gateway, Origin: types.RouteOriginCreateRoute, State: active}}})
	}
	return out, err
}

func (n Network) describeInternetGateways(_ context.Context, in *ec2.DescribeInternetGatewaysInput) (
	*ec2.DescribeInternetGatewaysOutput, error,
) {
	gateway := n.id("igw")
	if err := known(in.InternetGatewayIds, []string{gateway}, "InvalidInternetGatewayID.NotFound",
		"The internetGateway ID '%s' does not exist"); err != nil {
		return nil, err
	}
	out := &ec2.DescribeInternetGatewaysOutput{InternetGateways: []types.InternetGateway{}}
	ok, err := matches(in.Filters, attributes{"internet-gateway-id": gateway, "attachment.vpc-id": n.VPC,
		"attachment.state": "available",
		"owner-id":         n.scope.Account})
	if ok {
		out.InternetGateways = append(out.InternetGateways, types.InternetGateway{InternetGatewayId: &gateway,
			OwnerId:     &n.scope.Account,
			Attachments: []types.InternetGatewayAttachment{{VpcId: &n.VPC, State: "available"}}})
	}
	return out, err
}

// known refuses the first wanted id that is not there; text has a verb for it.
func known(wanted, there []string, code, text string) error {
	for _, id := range wanted {
		if !slices.Contains(there, id) {
			return model.Errorf(code, "%s", strings.Replace(text, "%s", fmt.Sprintf("%.100s", id), 1))
		}
	}
	return nil
}
