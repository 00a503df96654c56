package ec2

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// EC2's quotas of security groups.
const (
	maxGroups = 2500
	maxRules  = 60 // each way
)

// newDefaultGroup is the group that a VPC begins with: its members reach each other, and everything.
func newDefaultGroup(id, vpc, in, out string) *model.SecurityGroup {
	return &model.SecurityGroup{ID: id, Name: model.DefaultGroup, Description: "default VPC security group", VPC: vpc, Rules: []model.SecurityGroupRule{
		{ID: in, Protocol: "-1", From: -1, To: -1, Group: id}, allOut(out)}}
}

func allOut(id string) model.SecurityGroupRule {
	return model.SecurityGroupRule{ID: id, Egress: true, Protocol: "-1", From: -1, To: -1, CIDR: anywhere}
}

var groupText = regexp.MustCompile(`^[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]*$`)

func (a *api) createSecurityGroup(ctx context.Context, in *ec2.CreateSecurityGroupInput) (*ec2.CreateSecurityGroupOutput, error) {
	name, description := str(in.GroupName), str(in.Description)
	switch {
	case name == "":
		return nil, missing("groupName")
	case description == "":
		return nil, missing("GroupDescription")
	case len(name) > 255 || !groupText.MatchString(name) || strings.HasPrefix(name, "sg-"):
		return nil, invalid("Value (%s) for parameter GroupName is invalid. Character sets beyond ASCII are not supported, and it may not begin with 'sg-'.", clip(name))
	case len(description) > 255 || !groupText.MatchString(description):
		return nil, invalid("Value (%s) for parameter GroupDescription is invalid. Character sets beyond ASCII are not supported.", clip(description))
	}
	tags, err := tagsFor(kindGroup, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	vpc := in.VpcId
	if vpc == nil {
		vpc = &a.Network.VPC
	}
	row := &model.SecurityGroup{ID: a.id("sg"), Name: name, Description: description, VPC: *vpc, Tags: tags, Rules: []model.SecurityGroupRule{allOut(a.id("sgr"))}}
	return &ec2.CreateSecurityGroupOutput{GroupId: &row.ID, SecurityGroupArn: new(a.groupARN(row.ID)), Tags: tags}, a.update(ctx, func(tx store.Tx) error {
		if _, err := get(tx, store.VPCs, kindVPC, "vpcId", vpc); err != nil {
			return err
		}
		if name == model.DefaultGroup {
			return model.Errorf("InvalidParameterValue", "Cannot use reserved security group name: %s", name)
		}
		for g := range store.SecurityGroups.By(tx, store.ByVPC, *vpc) {
			if g.Name == name {
				return model.Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, *vpc)
			}
		}
		if count(store.SecurityGroups.Scan(tx, "")) >= maxGroups {
			return model.Errorf("SecurityGroupLimitExceeded", "The maximum number of security groups has been reached.")
		}
		store.SecurityGroups.Put(tx, row)
		return nil
	})
}

func (a *api) groupARN(id string) string { return a.scope.ARN("ec2", "security-group/"+id) }

// groupOf finds a security group by id or, in the default VPC, by name.
func (a *api) groupOf(r store.Reader, id, name *string) (*model.SecurityGroup, error) {
	if id != nil || name == nil {
		return get(r, store.SecurityGroups, kindGroup, "groupId", id)
	}
	for g := range store.SecurityGroups.By(r, store.ByVPC, a.Network.VPC) {
		if g.Name == *name {
			return g, nil
		}
	}
	return nil, a.noGroupNamed(*name)
}

func (a *api) noGroupNamed(name string) error {
	return model.Errorf(kindGroup.code, "The security group '%s' does not exist in default VPC '%s'", clip(name), a.Network.VPC)
}

func (a *api) deleteSecurityGroup(ctx context.Context, in *ec2.DeleteSecurityGroupInput) (*ec2.DeleteSecurityGroupOutput, error) {
	out := &ec2.DeleteSecurityGroupOutput{Return: new(true)}
	return out, a.update(ctx, func(tx store.Tx) error {
		g, err := a.groupOf(tx, in.GroupId, in.GroupName)
		if err != nil {
			return err
		}
		out.GroupId = &g.ID
		if g.Name == model.DefaultGroup {
			return model.Errorf("CannotDelete", `the specified group: "%s" name: "default" cannot be deleted by a user`, g.ID)
		}
		if a.groupUsed(tx, g.ID) {
			return model.Errorf("DependencyViolation", "resource %s has a dependent object", g.ID)
		}
		store.SecurityGroups.Delete(tx, g.ID)
		return nil
	})
}

// groupUsed tells whether a task, a load balancer or another group's rule needs the group.
func (a *api) groupUsed(r store.Reader, id string) bool {
	for t := range a.attached(r) {
		if slices.Contains(a.groupsOf(r, t), id) {
			return true
		}
	}
	for l := range store.LoadBalancers.Scan(r, "") {
		if slices.Contains(l.LB.SecurityGroups, id) {
			return true
		}
	}
	for g := range store.SecurityGroups.Scan(r, "") {
		if g.ID != id && slices.ContainsFunc(g.Rules, func(x model.SecurityGroupRule) bool { return x.Group == id }) {
			return true
		}
	}
	return false
}

func (a *api) describeSecurityGroups(_ context.Context, in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	out := &ec2.DescribeSecurityGroupsOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		ids := slices.Clone(in.GroupIds)
		for _, name := range in.GroupNames {
			g, err := a.groupOf(r, nil, &name)
			if err != nil {
				return err
			}
			ids = append(ids, g.ID)
		}
		out.SecurityGroups, out.NextToken, err = list(query{kindGroup, ids, in.Filters, in.MaxResults, in.NextToken},
			store.SecurityGroups.Scan(r, ""), func(g *model.SecurityGroup) (types.SecurityGroup, attributes) {
				return a.showGroup(g), a.groupAttributes(r, g)
			})
		return err
	})
}

func (a *api) groupAttributes(r store.Reader, g *model.SecurityGroup) attributes {
	has := attributes{"group-id": {g.ID}, "group-name": {g.Name}, "vpc-id": {g.VPC}, "owner-id": {a.scope.Account}, "description": {g.Description}}
	for _, way := range []string{"", "egress."} {
		at := func(name string) string { return way + "ip-permission." + name }
		has.none(at("protocol"), at("cidr"), at("ipv6-cidr"), at("from-port"), at("to-port"), at("group-id"), at("group-name"), at("prefix-list-id"), at("user-id"))
		for _, x := range g.Rules {
			if x.Egress != (way != "") {
				continue
			}
			add := func(name, value string) {
				if value != "" {
					has[at(name)] = append(has[at(name)], value)
				}
			}
			add("protocol", x.Protocol)
			add("cidr", x.CIDR)
			add("ipv6-cidr", x.CIDR6)
			if x.Protocol != "-1" {
				add("from-port", strconv.Itoa(int(x.From)))
				add("to-port", strconv.Itoa(int(x.To)))
			}
			if x.Group != "" {
				add("group-id", x.Group)
				add("user-id", a.scope.Account)
				if o, ok := store.SecurityGroups.Get(r, x.Group); ok {
					add("group-name", o.Name)
				}
			}
		}
	}
	return has.with(g.Tags)
}

// showGroup is a group with its rules as permissions: those of the same protocol and ports are one.
func (a *api) showGroup(g *model.SecurityGroup) types.SecurityGroup {
	v := types.SecurityGroup{GroupId: &g.ID, GroupName: &g.Name, VpcId: &g.VPC, OwnerId: &a.scope.Account, Description: &g.Description,
		SecurityGroupArn: new(a.groupARN(g.ID)), Tags: g.Tags, IpPermissions: []types.IpPermission{}, IpPermissionsEgress: []types.IpPermission{}}
	for _, x := range g.Rules {
		into := &v.IpPermissions
		if x.Egress {
			into = &v.IpPermissionsEgress
		}
		i := slices.IndexFunc(*into, func(p types.IpPermission) bool {
			return *p.IpProtocol == x.Protocol && (x.Protocol == "-1" || *p.FromPort == x.From && *p.ToPort == x.To)
		})
		if i < 0 {
			p := types.IpPermission{IpProtocol: &x.Protocol, IpRanges: []types.IpRange{}, Ipv6Ranges: []types.Ipv6Range{}, PrefixListIds: []types.PrefixListId{},
				UserIdGroupPairs: []types.UserIdGroupPair{}}
			if x.Protocol != "-1" {
				p.FromPort, p.ToPort = &x.From, &x.To
			}
			*into = append(*into, p)
			i = len(*into) - 1
		}
		p := &(*into)[i]
		description := optional(x.Description)
		switch {
		case x.CIDR != "":
			p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: &x.CIDR, Description: description})
		case x.CIDR6 != "":
			p.Ipv6Ranges = append(p.Ipv6Ranges, types.Ipv6Range{CidrIpv6: &x.CIDR6, Description: description})
		case x.Group != "":
			p.UserIdGroupPairs = append(p.UserIdGroupPairs, types.UserIdGroupPair{GroupId: &x.Group, UserId: &a.scope.Account, Description: description})
		case x.PrefixList != "":
			p.PrefixListIds = append(p.PrefixListIds, types.PrefixListId{PrefixListId: &x.PrefixList, Description: description})
		}
	}
	return v
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
