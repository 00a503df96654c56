package elb_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/api/elb"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// TestNetworksMustExist: a load balancer's subnets and groups are those of EC2.
func TestNetworksMustExist(t *testing.T) {
	st := mem.New(store.Schema())
	defer st.Close()
	subnet := func(id, vpc, zone string) store.ComputedRow {
		return store.Subnets.Computed(&model.Subnet{ID: id, VPC: vpc, Subnet: ec2types.Subnet{SubnetId: &id, AvailabilityZone: &zone}})
	}
	rows := store.Compute(subnet("subnet-1", "vpc-1", "a"), subnet("subnet-2", "vpc-1", "b"), subnet("subnet-3", "vpc-1", "a"), subnet("subnet-4", "vpc-2", "c"),
		subnet("subnet-5", "vpc-2", "a"), store.VPCs.Computed(&model.VPC{ID: "vpc-1"}),
		store.SecurityGroups.Computed(&model.SecurityGroup{ID: "sg-1", Name: "default", VPC: "vpc-1"}), store.SecurityGroups.Computed(&model.SecurityGroup{ID: "sg-2", VPC: "vpc-2"}),
		store.InternetGateways.Computed(&model.InternetGateway{ID: "igw", Gateway: ec2types.InternetGateway{Attachments: []ec2types.InternetGatewayAttachment{{VpcId: new("vpc-1")}}}}))
	c := awselb.NewFromConfig(wiretest.Serve(t, elb.New(elb.Config{Store: st, Scope: scope, Now: time.Now, NewID: func() string { return strings.Repeat("0", 32) },
		Log: slog.New(slog.DiscardHandler), Networks: rows})))
	for _, bad := range []struct {
		subnets, groups []string
		scheme          types.LoadBalancerSchemeEnum
		want            string
	}{
		{[]string{"subnet-1", "subnet-9"}, nil, "", "SubnetNotFound: The subnet ID 'subnet-9' does not exist"},
		{[]string{"subnet-1", "subnet-3"}, nil, "", "InvalidConfigurationRequest: A load balancer cannot be attached to multiple subnets in the same Availability Zone"},
		{[]string{"subnet-1", "subnet-4"}, nil, "", "InvalidConfigurationRequest: All subnets must belong to the same VPC: 'vpc-1'"},
		{[]string{"subnet-4", "subnet-5"}, nil, "", "InvalidSubnet: VPC vpc-2 has no internet gateway"},
		{[]string{"subnet-1", "subnet-2"}, []string{"sg-9"}, "", "InvalidSecurityGroup: The security group 'sg-9' does not exist"},
		{[]string{"subnet-1", "subnet-2"}, []string{"sg-2"}, "", "InvalidConfigurationRequest: One or more security groups are invalid"},
	} {
		_, err := c.CreateLoadBalancer(ctx, &awselb.CreateLoadBalancerInput{Name: new("lb"), Subnets: bad.subnets, SecurityGroups: bad.groups, Scheme: bad.scheme})
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%v %v: %v, want %s", bad.subnets, bad.groups, err, bad.want)
		}
	}
	out, err := c.CreateLoadBalancer(ctx, &awselb.CreateLoadBalancerInput{Name: new("lb"), Subnets: []string{"subnet-1", "subnet-2"}})
	if err != nil || *out.LoadBalancers[0].VpcId != "vpc-1" || out.LoadBalancers[0].SecurityGroups[0] != "sg-1" || *out.LoadBalancers[0].AvailabilityZones[1].ZoneName != "b" {
		t.Fatalf("%+v %v", out, err)
	}
	arn := out.LoadBalancers[0].LoadBalancerArn
	if _, err := c.SetSubnets(ctx, &awselb.SetSubnetsInput{LoadBalancerArn: arn, Subnets: []string{"subnet-2", "subnet-9"}}); err == nil {
		t.Error("a subnet that is not there is taken later")
	}
	if _, err := c.SetSecurityGroups(ctx, &awselb.SetSecurityGroupsInput{LoadBalancerArn: arn, SecurityGroups: []string{"sg-2"}}); err == nil {
		t.Error("a group of another VPC is taken later")
	}
	_, err = c.CreateTargetGroup(ctx, &awselb.CreateTargetGroupInput{Name: new("g"), Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, VpcId: new("vpc-9")})
	if err == nil || !strings.Contains(err.Error(), "ValidationError: The VPC ID 'vpc-9' is not found") {
		t.Errorf("a target group in no VPC: %v", err)
	}
}
