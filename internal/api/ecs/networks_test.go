package ecs

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

func TestSubnetsAndGroupsMustExist(t *testing.T) {
	st := mem.New(store.Schema())
	defer st.Close()
	a := newAPI(Config{Store: st, Networks: store.Compute(store.Subnets.Computed(&model.Subnet{ID: "subnet-1", VPC: "vpc-1"}),
		store.Subnets.Computed(&model.Subnet{ID: "subnet-2", VPC: "vpc-2"}), store.SecurityGroups.Computed(&model.SecurityGroup{ID: "sg-1", VPC: "vpc-1"}),
		store.SecurityGroups.Computed(&model.SecurityGroup{ID: "sg-2", VPC: "vpc-2"}))})
	for _, c := range []struct {
		subnets, groups []string
		want            string
	}{
		{[]string{"subnet-1"}, nil, ""},
		{[]string{"subnet-1"}, []string{"sg-1"}, ""},
		{[]string{"subnet-9"}, nil, "Error retrieving subnet information for [subnet-9]: The subnet ID 'subnet-9' does not exist (ErrorCode: InvalidSubnetID.NotFound)"},
		{[]string{"subnet-1", "subnet-2"}, nil, "All subnets must be in the same VPC."},
		{[]string{"subnet-1"}, []string{"sg-9"}, "The security group 'sg-9' does not exist (ErrorCode: InvalidGroup.NotFound)"},
		{[]string{"subnet-1"}, []string{"sg-2"}, "Security groups and subnets must be in the same VPC"},
	} {
		var err error
		st.View(func(r store.Reader) {
			err = a.checkExists(r, &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: c.subnets, SecurityGroups: c.groups}})
		})
		if c.want == "" && err != nil || c.want != "" && (model.ErrorCode(err) != "InvalidParameterException" || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v %v: %v, want %q", c.subnets, c.groups, err, c.want)
		}
	}
}
