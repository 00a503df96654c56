package ec2

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithy "github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
)

// stock serves n to the SDK's client.
func stock(t *testing.T, n Network) *ec2.Client {
	return ec2.NewFromConfig(wiretest.Serve(t, New(n)))
}

// seen compares what the client read with what the handler returned: an element with a wrong name would be lost.
func seen[In, Out any](t *testing.T, in *In, handler func(context.Context, *In) (*Out, error),
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
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the client read %+v\nof %+v", got, want)
	}
	return got
}

func TestClientsSeeTheDefaultNetwork(t *testing.T) {
	n := DefaultNetwork(scope)
	c := stock(t, n)
	vpcs := seen(t, &ec2.DescribeVpcsInput{VpcIds: []string{n.VPC}}, n.describeVpcs, c.DescribeVpcs).Vpcs
	if len(vpcs) != 1 || !*vpcs[0].IsDefault || *vpcs[0].CidrBlock != CIDR {
		t.Errorf("%+v", vpcs)
	}
	subnets := seen(t, &ec2.DescribeSubnetsInput{SubnetIds: []string{n.Subnets[0].ID, n.Subnets[1].ID}}, n.describeSubnets,
		c.DescribeSubnets).Subnets
	if len(subnets) != 2 || *subnets[1].CidrBlock != "172.31.16.0/20" || *subnets[1].AvailableIpAddressCount != 4091 ||
		*subnets[0].AvailabilityZone != "us-east-1a" || *subnets[0].AvailabilityZoneId != "use1-az1" {
		t.Errorf("%+v", subnets)
	}
	groups := seen(t, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"default"}}, n.describeSecurityGroups,
		c.DescribeSecurityGroups).SecurityGroups
	if len(groups) != 1 || *groups[0].GroupId != n.SecurityGroup ||
		*groups[0].IpPermissions[0].UserIdGroupPairs[0].GroupId != n.SecurityGroup {
		t.Errorf("%+v", groups)
	}
	zones := seen(t, &ec2.DescribeAvailabilityZonesInput{}, n.describeAvailabilityZones,
		c.DescribeAvailabilityZones).AvailabilityZones
	if len(zones) != 3 || zones[0].State != types.AvailabilityZoneStateAvailable {
		t.Errorf("%+v", zones)
	}
	for _, a := range types.VpcAttributeName("").Values() {
		seen(t, &ec2.DescribeVpcAttributeInput{VpcId: &n.VPC, Attribute: a}, n.describeVpcAttribute, c.DescribeVpcAttribute)
	}
	if a := seen(t, &ec2.DescribeAccountAttributesInput{AttributeNames: []types.AccountAttributeName{"default-vpc"}},
		n.describeAccountAttributes,
		c.DescribeAccountAttributes).AccountAttributes; len(a) != 1 || *a[0].AttributeValues[0].AttributeValue != n.VPC {
		t.Errorf("%+v", a)
	}
	seen(t, &ec2.DescribeNetworkInterfacesInput{}, n.describeNetworkInterfaces, c.DescribeNetworkInterfaces)
	if r := seen(t, &ec2.DescribeRouteTablesInput{}, n.describeRouteTables, c.DescribeRouteTables).RouteTables; len(r) != 1 ||
		len(r[0].Routes) != 2 {
		t.Errorf("%+v", r)
	}
	if g := seen(t, &ec2.DescribeInternetGatewaysInput{}, n.describeInternetGateways,
		c.DescribeInternetGateways).InternetGateways; len(g) != 1 {
		t.Errorf("%+v", g)
	}
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

func TestFiltersOfSubnets(t *testing.T) {
	n := DefaultNetwork(scope)
	for _, c := range []struct {
		filters []types.Filter
		want    string // letters of the zones
	}{
		{nil, "abc"},
		{[]types.Filter{filter("vpc-id", n.VPC), filter("default-for-az", "true")}, "abc"},
		{[]types.Filter{filter("vpc-id", "vpc-0")}, ""},
		{[]types.Filter{filter("availability-zone", "us-east-1a", "us-east-1c")}, "ac"},
		{[]types.Filter{filter("availabilityZone", "us-*b")}, "b"},
		{[]types.Filter{filter("cidr-block", "172.31.?.0/20")}, "a"},
		{[]types.Filter{filter("state", "available"), filter("subnet-id", n.Subnets[2].ID)}, "c"},
		{[]types.Filter{filter("tag:Name", "*")}, ""},
		{[]types.Filter{filter("tag-key", "Name")}, ""},
		{[]types.Filter{filter("outpost-arn", "*")}, ""},
		{[]types.Filter{filter("state")}, ""},
	} {
		out, err := n.describeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: c.filters})
		if err != nil {
			t.Errorf("%v: %v", c.filters, err)
			continue
		}
		got := ""
		for _, s := range out.Subnets {
			got += strings.TrimPrefix(*s.AvailabilityZone, scope.Region)
		}
		if got != c.want {
			t.Errorf("%v found %q, want %q", c.filters, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	n := DefaultNetwork(scope)
	c := stock(t, n)
	none := []string{"none-1"}
	for _, r := range []struct {
		call func() error
		want string
	}{
		{func() error { _, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: none}); return err },
			"InvalidVpcID.NotFound: The vpc ID 'none-1' does not exist"},
		{func() error { _, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: none}); return err },
			"InvalidSubnetID.NotFound: The subnet ID 'none-1' does not exist"},
		{func() error {
			_, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: none})
			return err
		}, "InvalidGroup.NotFound: The security group 'none-1' does not exist"},
		{func() error {
			_, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupNames: none})
			return err
		}, "InvalidGroup.NotFound: The security group 'none-1' does not exist in default VPC '" + n.VPC + "'"},
		{func() error {
			_, err := c.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{ZoneNames: none})
			return err
		}, "InvalidParameterValue: Invalid availability zone: [none-1]"},
		{func() error {
			_, err := c.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: none})
			return err
		}, "InvalidNetworkInterfaceID.NotFound: The networkInterface ID 'none-1' does not exist"},
		{func() error {
			_, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("colour", "red")}})
			return err
		}, "InvalidParameterValue: The filter 'colour' is invalid"},
		{func() error {
			_, err := c.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &n.VPC, Attribute: "colour"})
			return err
		}, "InvalidParameterValue: Value (colour) for parameter attribute is invalid"},
		{func() error {
			_, err := c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("d")})
			return err
		}, "UnsupportedOperationException: Berth does not support ec2:CreateSecurityGroup yet"},
	} {
		e, ok := errors.AsType[smithy.APIError](r.call())
		if !ok || e.ErrorCode()+": "+e.ErrorMessage() != r.want {
			t.Errorf("%v, want %s", e, r.want)
		}
	}
}

func TestNetworksOfOtherSizes(t *testing.T) {
	n, err := NewNetwork(scope, netip.MustParsePrefix("10.1.2.0/24"))
	if err != nil || n.Subnets[2].CIDR != "10.1.2.32/28" || n.VPC != DefaultNetwork(scope).VPC {
		t.Errorf("%v %+v", err, n)
	}
	if other := DefaultNetwork(model.Scope{Account: "000000000000", Region: "eu-west-1"}); other.VPC == n.VPC {
		t.Error("two regions share a VPC")
	}
	for _, bad := range []string{"10.0.0.0/8", "10.0.0.0/25", "10.0.0.1/16", "fd00::/20"} {
		if _, err := NewNetwork(scope, netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for region, want := range map[string]string{"us-east-1": "use1", "ap-southeast-2": "apse2", "eu-central-1": "euc1",
		"us-gov-west-1": "usgw1",
		"local":         "local"} {
		if got := shortRegion(region); got != want {
			t.Errorf("%s is %s in short, want %s", region, got, want)
		}
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
