package ec2

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithy "github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
)

// rig is the API over a store in memory, with the SDK's client before it.
type rig struct {
	*testing.T
	*ec2.Client
	api   *api
	store store.Store
	now   time.Time
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, store: mem.New(store.Schema()), now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	t.Cleanup(func() { r.store.Close() })
	var n atomic.Int64
	conf := Config{Store: r.store, Network: DefaultNetwork(scope), Now: func() time.Time { return r.now },
		NewID: func() string { return fmt.Sprintf("%017x%015x", n.Add(1), 0) }}
	r.api = newAPI(conf)
	r.Client = ec2.NewFromConfig(wiretest.Serve(t, New(conf)))
	return r
}

// must returns what a call answered.
func must[Out any](t testing.TB) func(out Out, err error) Out {
	return func(out Out, err error) Out {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// refused wants a call's error to be named, and its text to hold something.
func refused(t testing.TB, err error, code, text string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("got %v, want %s: …%s…", err, code, text)
	}
}

// seen compares what the client read with what the handler returned: an element with a wrong name would be lost.
func seen[In, Out any](t testing.TB, in *In, handler func(context.Context, *In) (*Out, error),
	client func(context.Context, *In, ...func(*ec2.Options)) (*Out, error),
) *Out {
	t.Helper()
	want, err := handler(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	reflect.ValueOf(got).Elem().FieldByName("ResultMetadata").SetZero()
	if !reflect.DeepEqual(clean(got), clean(want)) {
		t.Errorf("the client read %+v\nof %+v", got, want)
	}
	return got
}

// clean makes empty lists nil: XML does not tell them apart.
func clean(v any) any {
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				return
			}
			for i := range v.NumField() {
				if v.Field(i).CanSet() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice:
			if v.Len() == 0 && v.CanSet() {
				v.SetZero()
			}
			for i := range v.Len() {
				walk(v.Index(i))
			}
		}
	}
	walk(reflect.ValueOf(v))
	return v
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

func tags(k types.ResourceType, name string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: k, Tags: []types.Tag{{Key: new("Name"), Value: &name}}}}
}

func TestClientsSeeTheDefaultNetwork(t *testing.T) {
	r := newRig(t)
	n := r.api.Network
	vpcs := seen(t, &ec2.DescribeVpcsInput{VpcIds: []string{n.VPC}}, r.api.describeVpcs, r.DescribeVpcs).Vpcs
	if len(vpcs) != 1 || !*vpcs[0].IsDefault || *vpcs[0].CidrBlock != CIDR {
		t.Errorf("%+v", vpcs)
	}
	subnets := seen(t, &ec2.DescribeSubnetsInput{SubnetIds: []string{n.Subnets[1].ID}}, r.api.describeSubnets, r.DescribeSubnets).Subnets
	if len(subnets) != 1 || *subnets[0].CidrBlock != "172.31.16.0/20" || *subnets[0].AvailableIpAddressCount != 4091 || *subnets[0].AvailabilityZoneId != "use1-az2" {
		t.Errorf("%+v", subnets)
	}
	groups := seen(t, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"default"}}, r.api.describeSecurityGroups, r.DescribeSecurityGroups).SecurityGroups
	if len(groups) != 1 || *groups[0].GroupId != n.SecurityGroup || *groups[0].IpPermissions[0].UserIdGroupPairs[0].GroupId != n.SecurityGroup {
		t.Errorf("%+v", groups)
	}
	if z := seen(t, &ec2.DescribeAvailabilityZonesInput{}, r.api.describeAvailabilityZones, r.DescribeAvailabilityZones).AvailabilityZones; len(z) != 3 {
		t.Errorf("%+v", z)
	}
	for _, a := range types.VpcAttributeName("").Values() {
		seen(t, &ec2.DescribeVpcAttributeInput{VpcId: &n.VPC, Attribute: a}, r.api.describeVpcAttribute, r.DescribeVpcAttribute)
	}
	if a := seen(t, &ec2.DescribeAccountAttributesInput{AttributeNames: []types.AccountAttributeName{"default-vpc"}}, r.api.describeAccountAttributes,
		r.DescribeAccountAttributes).AccountAttributes; len(a) != 1 || *a[0].AttributeValues[0].AttributeValue != n.VPC {
		t.Errorf("%+v", a)
	}
	if x := seen(t, &ec2.DescribeRouteTablesInput{}, r.api.describeRouteTables, r.DescribeRouteTables).RouteTables; len(x) != 1 || len(x[0].Routes) != 2 {
		t.Errorf("%+v", x)
	}
	if x := seen(t, &ec2.DescribeInternetGatewaysInput{}, r.api.describeInternetGateways, r.DescribeInternetGateways).InternetGateways; len(x) != 1 {
		t.Errorf("%+v", x)
	}
	if x := seen(t, &ec2.DescribeNetworkAclsInput{}, r.api.describeNetworkAcls, r.DescribeNetworkAcls).NetworkAcls; len(x) != 1 || len(x[0].Associations) != 3 {
		t.Errorf("%+v", x)
	}
	seen(t, &ec2.DescribeDhcpOptionsInput{}, r.api.describeDhcpOptions, r.DescribeDhcpOptions)
	seen(t, &ec2.DescribeRegionsInput{}, r.api.describeRegions, r.DescribeRegions)
	if x := seen(t, &ec2.DescribeSecurityGroupRulesInput{}, r.api.describeSecurityGroupRules, r.DescribeSecurityGroupRules).SecurityGroupRules; len(x) != 2 {
		t.Errorf("%+v", x)
	}
}

// TestVPCModule walks the path of terraform-aws-modules/vpc: make, read, refuse to delete what is needed, delete.
func TestVPCModule(t *testing.T) {
	r := newRig(t)
	vpc := must[*ec2.CreateVpcOutput](t)(r.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.0.1.0/16"), TagSpecifications: tags("vpc", "main")})).Vpc
	if *vpc.CidrBlock != "10.0.0.0/16" || vpc.State != types.VpcStatePending {
		t.Errorf("%+v", vpc)
	}
	_, err := r.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.0.128.0/20")})
	refused(t, err, "InvalidVpc.Conflict", "cannot have the same addresses")
	for _, f := range [][]types.Filter{{filter("association.main", "true"), filter("vpc-id", *vpc.VpcId)}} {
		if x := must[*ec2.DescribeRouteTablesOutput](t)(r.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: f})).RouteTables; len(x) != 1 {
			t.Errorf("%d main tables", len(x))
		}
	}
	igw := must[*ec2.CreateInternetGatewayOutput](t)(r.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})).InternetGateway.InternetGatewayId
	must[*ec2.AttachInternetGatewayOutput](t)(r.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: igw, VpcId: vpc.VpcId}))
	subnet := must[*ec2.CreateSubnetOutput](t)(r.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: new("10.0.101.0/24"),
		AvailabilityZone: new("us-east-1b"), TagSpecifications: tags("subnet", "public-b")})).Subnet
	_, err = r.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: new("10.0.101.128/25")})
	refused(t, err, "InvalidSubnet.Conflict", "The CIDR '10.0.101.128/25' conflicts with another subnet")
	_, err = r.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: new("10.1.0.0/24")})
	refused(t, err, "InvalidSubnet.Range", "The CIDR '10.1.0.0/24' is invalid.")
	must[*ec2.ModifySubnetAttributeOutput](t)(r.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: subnet.SubnetId,
		MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: new(true)}}))
	got := seen(t, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("tag:Name", "public-*"), filter("map-public-ip-on-launch", "true")}},
		r.api.describeSubnets, r.DescribeSubnets).Subnets
	if len(got) != 1 || *got[0].AvailableIpAddressCount != 251 || *got[0].AvailabilityZone != "us-east-1b" {
		t.Errorf("%+v", got)
	}
	table := must[*ec2.CreateRouteTableOutput](t)(r.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: vpc.VpcId})).RouteTable.RouteTableId
	must[*ec2.CreateRouteOutput](t)(r.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: table, DestinationCidrBlock: new(anywhere), GatewayId: igw}))
	_, err = r.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: table, DestinationCidrBlock: new(anywhere), GatewayId: igw})
	refused(t, err, "RouteAlreadyExists", "The route identified by 0.0.0.0/0 already exists.")
	association := must[*ec2.AssociateRouteTableOutput](t)(r.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: table, SubnetId: subnet.SubnetId})).AssociationId
	eip := must[*ec2.AllocateAddressOutput](t)(r.AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: types.DomainTypeVpc})).AllocationId
	nat := must[*ec2.CreateNatGatewayOutput](t)(r.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{AllocationId: eip, SubnetId: subnet.SubnetId})).NatGateway
	state := func() types.NatGatewayState {
		return seen(t, &ec2.DescribeNatGatewaysInput{NatGatewayIds: []string{*nat.NatGatewayId}}, r.api.describeNatGateways, r.DescribeNatGateways).NatGateways[0].State
	}
	if state() != types.NatGatewayStatePending {
		t.Error("a NAT gateway is available at once")
	}
	if r.now = r.now.Add(natPending); state() != types.NatGatewayStateAvailable {
		t.Error("a NAT gateway does not become available")
	}
	seen(t, &ec2.DescribeAddressesInput{AllocationIds: []string{*eip}}, r.api.describeAddresses, r.DescribeAddresses)
	_, err = r.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: eip})
	refused(t, err, "InvalidIPAddress.InUse", "in use")
	// Nothing that is needed goes.
	_, err = r.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc.VpcId})
	refused(t, err, "DependencyViolation", "The vpc '"+*vpc.VpcId+"' has dependencies and cannot be deleted.")
	_, err = r.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.SubnetId})
	refused(t, err, "DependencyViolation", "The subnet '")
	_, err = r.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: igw, VpcId: vpc.VpcId})
	refused(t, err, "DependencyViolation", "mapped public address")
	_, err = r.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table})
	refused(t, err, "DependencyViolation", "The routeTable '")
	// All of it goes in order.
	must[*ec2.DeleteNatGatewayOutput](t)(r.DeleteNatGateway(ctx, &ec2.DeleteNatGatewayInput{NatGatewayId: nat.NatGatewayId}))
	if state() != types.NatGatewayStateDeleted {
		t.Error("a NAT gateway stays")
	}
	must[*ec2.ReleaseAddressOutput](t)(r.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: eip}))
	must[*ec2.DisassociateRouteTableOutput](t)(r.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: association}))
	must[*ec2.DeleteRouteTableOutput](t)(r.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table}))
	must[*ec2.DeleteSubnetOutput](t)(r.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.SubnetId}))
	must[*ec2.DetachInternetGatewayOutput](t)(r.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: igw, VpcId: vpc.VpcId}))
	must[*ec2.DeleteInternetGatewayOutput](t)(r.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: igw}))
	must[*ec2.DeleteVpcOutput](t)(r.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc.VpcId}))
	r.store.View(func(v store.Reader) {
		for _, k := range store.Schema() {
			for row := range v.ScanRows(k.Name, "") {
				t.Errorf("%s is left: %+v", k.Name, row)
			}
		}
	})
}

// permissions is one rule.
func permissions(protocol string, from, to int32, cidr, group string) []types.IpPermission {
	p := types.IpPermission{IpProtocol: &protocol, FromPort: &from, ToPort: &to}
	if cidr != "" {
		p.IpRanges = []types.IpRange{{CidrIp: &cidr, Description: new("why")}}
	}
	if group != "" {
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: &group}}
	}
	return []types.IpPermission{p}
}

func TestSecurityGroups(t *testing.T) {
	r := newRig(t)
	group := must[*ec2.CreateSecurityGroupOutput](t)(r.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("web"), Description: new("d"),
		VpcId: &r.api.Network.VPC, TagSpecifications: tags("security-group", "web")})).GroupId
	other := must[*ec2.CreateSecurityGroupOutput](t)(r.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("alb"), Description: new("d")})).GroupId
	_, err := r.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("web"), Description: new("d")})
	refused(t, err, "InvalidGroup.Duplicate", "The security group 'web' already exists for VPC 'vpc-")
	allow := func(p []types.IpPermission) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
		return r.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: p,
			TagSpecifications: tags("security-group-rule", "rule")})
	}
	rules := must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(allow(append(permissions("TCP", 80, 80, "10.1.2.3/8", ""), permissions("6", 8080, 8081, "", *other)...))).SecurityGroupRules
	if len(rules) != 2 || *rules[0].CidrIpv4 != "10.0.0.0/8" || *rules[0].IpProtocol != "tcp" || *rules[1].ReferencedGroupInfo.GroupId != *other {
		t.Errorf("%+v", rules)
	}
	_, err = allow(permissions("tcp", 80, 80, "10.0.0.0/8", ""))
	refused(t, err, "InvalidPermission.Duplicate", `the specified rule "peer: 10.0.0.0/8, TCP, from port: 80, to port: 80, ALLOW" already exists`)
	_, err = allow(permissions("tcp", 80, 80, "", "sg-none"))
	refused(t, err, "InvalidGroup.NotFound", "The security group 'sg-none' does not exist")
	_, err = allow(permissions("tcp", 90, 80, "10.0.0.0/8", ""))
	refused(t, err, "InvalidParameterValue", "Invalid TCP/UDP port range (90:80)")
	_, err = allow(permissions("tcp", 90, 90, "10.0.0.0/33", ""))
	refused(t, err, "InvalidParameterValue", "CIDR block 10.0.0.0/33 is malformed")
	_, err = r.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: other})
	refused(t, err, "DependencyViolation", "resource "+*other+" has a dependent object")
	_, err = r.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &r.api.Network.SecurityGroup})
	refused(t, err, "CannotDelete", `name: "default" cannot be deleted by a user`)
	must[*ec2.ModifySecurityGroupRulesOutput](t)(r.ModifySecurityGroupRules(ctx, &ec2.ModifySecurityGroupRulesInput{GroupId: group, SecurityGroupRules: []types.SecurityGroupRuleUpdate{
		{SecurityGroupRuleId: rules[0].SecurityGroupRuleId, SecurityGroupRule: &types.SecurityGroupRuleRequest{IpProtocol: new("udp"), FromPort: new(int32(53)),
			ToPort: new(int32(53)), CidrIpv4: new("0.0.0.0/0"), Description: new("dns")}}}}))
	must[*ec2.UpdateSecurityGroupRuleDescriptionsIngressOutput](t)(r.UpdateSecurityGroupRuleDescriptionsIngress(ctx,
		&ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{GroupId: group, SecurityGroupRuleDescriptions: []types.SecurityGroupRuleDescription{
			{SecurityGroupRuleId: rules[1].SecurityGroupRuleId, Description: new("from the ALB")}}}))
	shown := seen(t, &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{filter("group-id", *group), filter("tag:Name", "rule")}},
		r.api.describeSecurityGroupRules, r.DescribeSecurityGroupRules).SecurityGroupRules
	if len(shown) != 2 || *shown[0].IpProtocol != "udp" || *shown[1].Description != "from the ALB" {
		t.Errorf("%+v", shown)
	}
	seen(t, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{filter("ip-permission.protocol", "udp")}}, r.api.describeSecurityGroups, r.DescribeSecurityGroups)
	must[*ec2.RevokeSecurityGroupIngressOutput](t)(r.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: group,
		SecurityGroupRuleIds: []string{*rules[0].SecurityGroupRuleId}}))
	must[*ec2.RevokeSecurityGroupIngressOutput](t)(r.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: group,
		IpPermissions: permissions("tcp", 8080, 8081, "", *other)}))
	must[*ec2.RevokeSecurityGroupEgressOutput](t)(r.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: group,
		IpPermissions: permissions("-1", 0, 0, anywhere, "")}))
	_, err = r.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: group, IpPermissions: permissions("-1", 0, 0, anywhere, "")})
	refused(t, err, "InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
	for _, g := range []*string{group, other} {
		must[*ec2.DeleteSecurityGroupOutput](t)(r.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: g}))
	}
	// The default group's rules may be taken away, and given back.
	must[*ec2.RevokeSecurityGroupIngressOutput](t)(r.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &r.api.Network.SecurityGroup,
		IpPermissions: permissions("-1", -1, -1, "", r.api.Network.SecurityGroup)}))
	if g := must[*ec2.DescribeSecurityGroupsOutput](t)(r.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})).SecurityGroups; len(g) != 1 || len(g[0].IpPermissions) != 0 {
		t.Errorf("%+v", g)
	}
}

func TestRulesHaveBounds(t *testing.T) {
	r := newRig(t)
	group := must[*ec2.CreateSecurityGroupOutput](t)(r.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("web"), Description: new("d")})).GroupId
	var p []types.IpPermission
	for port := range int32(maxRules) {
		p = append(p, permissions("tcp", port, port, "10.0.0.0/8", "")...)
	}
	must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(r.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: p}))
	_, err := r.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: permissions("udp", 1, 1, anywhere, "")})
	refused(t, err, "RulesPerSecurityGroupLimitExceeded", "maximum")
}

func TestAccessLists(t *testing.T) {
	r := newRig(t)
	n := r.api.Network
	acl := must[*ec2.CreateNetworkAclOutput](t)(r.CreateNetworkAcl(ctx, &ec2.CreateNetworkAclInput{VpcId: &n.VPC})).NetworkAcl
	in := &ec2.CreateNetworkAclEntryInput{NetworkAclId: acl.NetworkAclId, RuleNumber: new(int32(100)), Protocol: new("tcp"), CidrBlock: new(anywhere),
		RuleAction: types.RuleActionAllow, Egress: new(false), PortRange: &types.PortRange{From: new(int32(80)), To: new(int32(80))}}
	must[*ec2.CreateNetworkAclEntryOutput](t)(r.CreateNetworkAclEntry(ctx, in))
	_, err := r.CreateNetworkAclEntry(ctx, in)
	refused(t, err, "NetworkAclEntryAlreadyExists", "The network acl entry identified by 100 already exists.")
	first := must[*ec2.DescribeNetworkAclsOutput](t)(r.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{Filters: []types.Filter{filter("default", "true")}})).NetworkAcls[0]
	must[*ec2.ReplaceNetworkAclAssociationOutput](t)(r.ReplaceNetworkAclAssociation(ctx, &ec2.ReplaceNetworkAclAssociationInput{
		AssociationId: first.Associations[0].NetworkAclAssociationId, NetworkAclId: acl.NetworkAclId}))
	got := seen(t, &ec2.DescribeNetworkAclsInput{NetworkAclIds: []string{*acl.NetworkAclId}}, r.api.describeNetworkAcls, r.DescribeNetworkAcls).NetworkAcls[0]
	if len(got.Entries) != 3 || *got.Entries[1].Protocol != "6" || len(got.Associations) != 1 {
		t.Errorf("%+v", got)
	}
	_, err = r.DeleteNetworkAcl(ctx, &ec2.DeleteNetworkAclInput{NetworkAclId: acl.NetworkAclId})
	refused(t, err, "DependencyViolation", "has dependencies")
	must[*ec2.DeleteNetworkAclEntryOutput](t)(r.DeleteNetworkAclEntry(ctx, &ec2.DeleteNetworkAclEntryInput{NetworkAclId: acl.NetworkAclId, RuleNumber: new(int32(100)), Egress: new(false)}))
}

func TestTags(t *testing.T) {
	r := newRig(t)
	n := r.api.Network
	ids := []string{n.VPC, n.Subnets[0].ID, n.SecurityGroup, n.id("rtb"), n.id("igw"), n.id("acl"), n.id("dopt"), n.id("sgr", "in"), n.id("sgr", "out")}
	must[*ec2.CreateTagsOutput](t)(r.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: []types.Tag{{Key: new("team"), Value: new("a")}, {Key: new("b"), Value: new("")}}}))
	all := seen(t, &ec2.DescribeTagsInput{}, r.api.describeTags, r.DescribeTags).Tags
	if len(all) != 2*len(ids) {
		t.Errorf("%d tags", len(all))
	}
	if s := must[*ec2.DescribeSubnetsOutput](t)(r.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("tag-key", "team")}})).Subnets; len(s) != 1 {
		t.Errorf("%+v", s)
	}
	must[*ec2.DeleteTagsOutput](t)(r.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: ids, Tags: []types.Tag{{Key: new("team"), Value: new("other")}, {Key: new("b")}}}))
	page := must[*ec2.DescribeTagsOutput](t)(r.DescribeTags(ctx, &ec2.DescribeTagsInput{MaxResults: new(int32(5))}))
	rest := must[*ec2.DescribeTagsOutput](t)(r.DescribeTags(ctx, &ec2.DescribeTagsInput{MaxResults: new(int32(5)), NextToken: page.NextToken}))
	if len(page.Tags)+len(rest.Tags) != len(ids) || rest.NextToken != nil {
		t.Errorf("%d and %d tags", len(page.Tags), len(rest.Tags))
	}
	_, err := r.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{"vpc-0"}, Tags: []types.Tag{{Key: new("k")}}})
	refused(t, err, "InvalidVpcID.NotFound", "The vpc ID 'vpc-0' does not exist")
	_, err = r.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{n.VPC}, Tags: []types.Tag{{Key: new("aws:x")}}})
	refused(t, err, "InvalidParameterValue", "reserved")
}

func TestInterfacesOfTasks(t *testing.T) {
	r := newRig(t)
	n := r.api.Network
	task := &model.Task{ID: "t1", NodeID: "n1", Observed: model.Observed{Status: model.Running, Interface: &model.NetworkInterface{ENIID: "eni-00000000000000001",
		SubnetID: n.Subnets[0].ID, IPv4: "172.31.0.9", MAC: "0a:00", AttachmentID: "att"}}}
	if err := r.store.Update(ctx, func(tx store.Tx) error { store.Tasks.Put(tx, task); return nil }); err != nil {
		t.Fatal(err)
	}
	got := seen(t, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{filter("group-id", n.SecurityGroup)}}, r.api.describeNetworkInterfaces,
		r.DescribeNetworkInterfaces).NetworkInterfaces
	if len(got) != 1 || *got[0].PrivateIpAddress != "172.31.0.9" || *got[0].VpcId != n.VPC || *got[0].Groups[0].GroupName != "default" {
		t.Errorf("%+v", got)
	}
	if s := must[*ec2.DescribeSubnetsOutput](t)(r.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{n.Subnets[0].ID}})).Subnets; *s[0].AvailableIpAddressCount != 4090 {
		t.Errorf("%d addresses are free", *s[0].AvailableIpAddressCount)
	}
}

// TestFiltersThatDoNotExist holds for every Describe operation that has filters, where there is nothing to filter too.
func TestFiltersThatDoNotExist(t *testing.T) {
	r := newRig(t)
	bad := []types.Filter{filter("colour", "red")}
	for name, call := range map[string]func() error{
		"vpcs":    func() error { _, err := r.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: bad}); return err },
		"subnets": func() error { _, err := r.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: bad}); return err },
		"tables": func() error {
			_, err := r.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: bad})
			return err
		},
		"nats": func() error {
			_, err := r.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{Filter: bad})
			return err
		},
		"groups": func() error {
			_, err := r.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: bad})
			return err
		},
		"rules": func() error {
			_, err := r.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: bad})
			return err
		},
		"enis": func() error {
			_, err := r.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: bad})
			return err
		},
		"eips": func() error {
			_, err := r.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: bad})
			return err
		},
		"tags": func() error { _, err := r.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: bad}); return err },
	} {
		t.Run(name, func(t *testing.T) { refused(t, call(), "InvalidParameterValue", "The filter 'colour' is invalid") })
	}
}

func TestWildcards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?]{0,8}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab]{0,10}`).Draw(t, "s")
		re := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(pattern) + "$")
		if got, want := wild(pattern, s), re.MatchString(s); got != want {
			t.Errorf("%q in %q: %v, want %v", pattern, s, got, want)
		}
	})
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{{`a\*b`, "a*b", true}, {`a\*b`, "axb", false}, {`\?`, "?", true}, {`\?`, "x", false}, {strings.Repeat("*a", 100),
		strings.Repeat("a", 5000) + "b", false}} {
		if wild(c.pattern, c.s) != c.want {
			t.Errorf("%q in %q: not %v", c.pattern, c.s, c.want)
		}
	}
}
