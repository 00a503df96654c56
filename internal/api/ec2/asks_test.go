package ec2

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestAsks(t *testing.T) {
	r := newRig(t)
	n := r.api.Network
	must[*ec2.CreateTagsOutput](t)(r.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{n.SecurityGroup}, Tags: []types.Tag{{Key: new("team"), Value: new("a")}}}))
	arn := "arn:aws:ec2:us-east-1:000000000000:"
	for _, c := range []struct {
		operation string
		input     any
		want      string
	}{
		{"DescribeVpcs", &ec2.DescribeVpcsInput{VpcIds: []string{n.VPC}}, "[]"},
		{"CreateVpc", &ec2.CreateVpcInput{CidrBlock: new("10.0.0.0/16")}, "[{ec2:CreateVpc [" + arn + "vpc/*] map[ec2:Region:[us-east-1]] []}]"},
		{"CreateSubnet", &ec2.CreateSubnetInput{VpcId: new("vpc-1"), TagSpecifications: tags("subnet", "x")},
			"[{ec2:CreateSubnet [" + arn + "subnet/* " + arn + "vpc/vpc-1] map[aws:RequestTag/Name:[x] aws:TagKeys:[Name] ec2:Region:[us-east-1]] []} " +
				"{ec2:CreateTags [" + arn + "subnet/*] map[aws:RequestTag/Name:[x] aws:TagKeys:[Name] ec2:CreateAction:[CreateSubnet] ec2:Region:[us-east-1]] []}]"},
		{"DeleteSecurityGroup", &ec2.DeleteSecurityGroupInput{GroupId: &n.SecurityGroup},
			"[{ec2:DeleteSecurityGroup [" + arn + "security-group/" + n.SecurityGroup + "] map[aws:ResourceTag/team:[a] ec2:Region:[us-east-1] ec2:ResourceTag/team:[a]] []}]"},
		{"CreateTags", &ec2.CreateTagsInput{Resources: []string{"rtb-1", "nonsense"}, Tags: []types.Tag{{Key: new("k"), Value: new("v")}}},
			"[{ec2:CreateTags [" + arn + "*/nonsense " + arn + "route-table/rtb-1] map[aws:RequestTag/k:[v] aws:TagKeys:[k] ec2:Region:[us-east-1]] []}]"},
		{"DeleteVpc", &ec2.DeleteVpcInput{}, "[{ec2:DeleteVpc [] map[ec2:Region:[us-east-1]] []}]"},
	} {
		if got := fmt.Sprint(r.api.asks(ctx, c.operation, c.input)); got != c.want {
			t.Errorf("%s asks\n%s, want\n%s", c.operation, got, c.want)
		}
	}
}
