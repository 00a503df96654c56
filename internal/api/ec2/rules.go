package ec2

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// protocolOf is a protocol as EC2 keeps it: by name where it has one.
func protocolOf(text string) (string, error) {
	switch lower := strings.ToLower(text); lower {
	case "tcp", "udp", "icmp", "icmpv6", "-1":
		return lower, nil
	case "all":
		return "-1", nil
	case "6":
		return "tcp", nil
	case "17":
		return "udp", nil
	case "1":
		return "icmp", nil
	case "58":
		return "icmpv6", nil
	case "":
		return "", missing("ipProtocol")
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 255 {
		return strconv.Itoa(n), nil
	}
	return "", invalid("Invalid value '%s' for IP protocol. Unknown protocol.", clip(text))
}

// checkPorts sets the bounds of a rule.
func checkPorts(x *model.SecurityGroupRule, from, to *int32) error {
	x.From, x.To = -1, -1
	if x.Protocol != "tcp" && x.Protocol != "udp" && x.Protocol != "icmp" && x.Protocol != "icmpv6" {
		return nil // other protocols have no ports
	}
	icmp := strings.HasPrefix(x.Protocol, "icmp")
	if from == nil || to == nil {
		if icmp {
			return nil
		}
		return invalid("Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
	}
	x.From, x.To = *from, *to
	switch {
	case icmp && (x.From < -1 || x.From > 255 || x.To < -1 || x.To > 255):
		return invalid("ICMP type (%d) or code (%d) out of range", x.From, x.To)
	case icmp:
	case x.From == -1 && x.To == -1:
		x.From, x.To = 0, 65535
	case x.From < 0 || x.From > 65535 || x.To < 0 || x.To > 65535:
		return invalid("Invalid value '%d-%d' for portRange. Ports must be between 0 and 65535.", x.From, x.To)
	case x.From > x.To:
		return invalid("Invalid TCP/UDP port range (%d:%d)", x.From, x.To)
	}
	return nil
}

// checkCIDR is a range in the form that rules keep it.
func checkCIDR(text string, six bool) (string, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4() == six {
		return "", invalid("CIDR block %s is malformed", clip(text))
	}
	return p.Masked().String(), nil
}

// rulesOf are the rules that permissions stand for.
func (a *api) rulesOf(r store.Reader, g *model.SecurityGroup, egress bool, all []types.IpPermission) (rules []model.SecurityGroupRule, err error) {
	if len(all) == 0 {
		return nil, missing("ipPermissions")
	}
	for _, p := range all {
		x := model.SecurityGroupRule{Egress: egress}
		if x.Protocol, err = protocolOf(str(p.IpProtocol)); err != nil {
			return nil, err
		}
		if err := checkPorts(&x, p.FromPort, p.ToPort); err != nil {
			return nil, err
		}
		before := len(rules)
		add := func(x model.SecurityGroupRule, description *string) error {
			x.Description = str(description)
			if len(x.Description) > 255 || !groupText.MatchString(x.Description) {
				return invalid("Invalid rule description. Valid descriptions are strings less than 256 characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*")
			}
			x.ID = a.id("sgr")
			rules = append(rules, x)
			return nil
		}
		for _, v := range p.IpRanges {
			if x.CIDR, err = checkCIDR(str(v.CidrIp), false); err == nil {
				err = add(x, v.Description)
			}
			if err != nil {
				return nil, err
			}
		}
		x.CIDR = ""
		for _, v := range p.Ipv6Ranges {
			if x.CIDR6, err = checkCIDR(str(v.CidrIpv6), true); err == nil {
				err = add(x, v.Description)
			}
			if err != nil {
				return nil, err
			}
		}
		x.CIDR6 = ""
		for _, v := range p.UserIdGroupPairs {
			peer, err := a.peer(r, g, v.GroupId, v.GroupName)
			if err == nil {
				x.Group = peer
				err = add(x, v.Description)
			}
			if err != nil {
				return nil, err
			}
		}
		for _, v := range p.PrefixListIds {
			return nil, model.Errorf("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", clip(str(v.PrefixListId)))
		}
		if len(rules) == before {
			return nil, missing("source")
		}
	}
	return rules, nil
}

// peer is the group that a rule names; it must be of the same VPC.
func (a *api) peer(r store.Reader, g *model.SecurityGroup, id, name *string) (string, error) {
	if id == nil && name != nil {
		for o := range store.SecurityGroups.By(r, store.ByVPC, g.VPC) {
			if o.Name == *name {
				return o.ID, nil
			}
		}
		return "", a.noGroupNamed(*name)
	}
	o, err := get(r, store.SecurityGroups, kindGroup, "groupId", id)
	if err != nil {
		return "", err
	}
	if o.VPC != g.VPC {
		return "", model.Errorf(kindGroup.code, "You have specified two resources that belong to different networks.")
	}
	return o.ID, nil
}

// peerText is a rule as refusals spell it.
func peerText(x model.SecurityGroupRule) string {
	protocol := strings.ToUpper(x.Protocol)
	if x.Protocol == "-1" {
		return fmt.Sprintf("peer: %s, ALL, ALLOW", x.CIDR+x.CIDR6+x.Group)
	}
	return fmt.Sprintf("peer: %s, %s, from port: %d, to port: %d, ALLOW", x.CIDR+x.CIDR6+x.Group, protocol, x.From, x.To)
}

// changeGroup stores what change makes of a copy of the group.
func (a *api) changeGroup(ctx context.Context, id, name *string, change func(tx store.Tx, g *model.SecurityGroup) error) error {
	return a.update(ctx, func(tx store.Tx) error {
		old, err := a.groupOf(tx, id, name)
		if err != nil {
			return err
		}
		g := *old
		g.Rules = slices.Clone(old.Rules)
		if err := change(tx, &g); err != nil {
			return err
		}
		store.SecurityGroups.Put(tx, &g)
		return nil
	})
}

// permission is the old way to name one rule: beside a list of permissions.
func permission(all []types.IpPermission, cidr, protocol *string, from, to *int32, group *string) []types.IpPermission {
	if cidr == nil && group == nil {
		return all
	}
	p := types.IpPermission{IpProtocol: protocol, FromPort: from, ToPort: to}
	if cidr != nil {
		p.IpRanges = []types.IpRange{{CidrIp: cidr}}
	}
	if group != nil {
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupName: group}}
	}
	return append(slices.Clone(all), p)
}

func (a *api) authorize(ctx context.Context, id, name *string, egress bool, all []types.IpPermission, specs []types.TagSpecification) ([]types.SecurityGroupRule, error) {
	tags, err := tagsFor(kindRule, specs)
	if err != nil {
		return nil, err
	}
	var shown []types.SecurityGroupRule
	err = a.changeGroup(ctx, id, name, func(tx store.Tx, g *model.SecurityGroup) error {
		rules, err := a.rulesOf(tx, g, egress, all)
		if err != nil {
			return err
		}
		shown = nil
		for _, x := range rules {
			x.Tags = tags
			if slices.ContainsFunc(g.Rules, x.Same) {
				return model.Errorf("InvalidPermission.Duplicate", "the specified rule %q already exists", peerText(x))
			}
			g.Rules = append(g.Rules, x)
			shown = append(shown, a.showRule(tx, g, x))
		}
		if n := count(way(g, egress)); n > maxRules {
			return model.Errorf("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
		}
		return nil
	})
	return shown, err
}

// way are the rules of one direction.
func way(g *model.SecurityGroup, egress bool) iter.Seq[model.SecurityGroupRule] {
	return func(yield func(model.SecurityGroupRule) bool) {
		for _, x := range g.Rules {
			if x.Egress == egress && !yield(x) {
				return
			}
		}
	}
}

func (a *api) authorizeSecurityGroupIngress(ctx context.Context, in *ec2.AuthorizeSecurityGroupIngressInput) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	all := permission(in.IpPermissions, in.CidrIp, in.IpProtocol, in.FromPort, in.ToPort, in.SourceSecurityGroupName)
	out := &ec2.AuthorizeSecurityGroupIngressOutput{Return: new(true)}
	rules, err := a.authorize(ctx, in.GroupId, in.GroupName, false, all, in.TagSpecifications)
	out.SecurityGroupRules = rules
	return out, err
}

func (a *api) authorizeSecurityGroupEgress(ctx context.Context, in *ec2.AuthorizeSecurityGroupEgressInput) (*ec2.AuthorizeSecurityGroupEgressOutput, error) {
	all := permission(in.IpPermissions, in.CidrIp, in.IpProtocol, in.FromPort, in.ToPort, in.SourceSecurityGroupName)
	rules, err := a.authorize(ctx, in.GroupId, nil, true, all, in.TagSpecifications)
	return &ec2.AuthorizeSecurityGroupEgressOutput{Return: new(true), SecurityGroupRules: rules}, err
}

// revoke removes rules by their ids or by what they allow.
func (a *api) revoke(ctx context.Context, id, name *string, egress bool, all []types.IpPermission, ids []string) ([]types.RevokedSecurityGroupRule, error) {
	revoked := []types.RevokedSecurityGroupRule{}
	err := a.changeGroup(ctx, id, name, func(tx store.Tx, g *model.SecurityGroup) error {
		revoked = revoked[:0]
		take := func(i int) {
			x := g.Rules[i]
			revoked = append(revoked, types.RevokedSecurityGroupRule{SecurityGroupRuleId: &x.ID, GroupId: &g.ID, IsEgress: &x.Egress, IpProtocol: &x.Protocol,
				FromPort: &x.From, ToPort: &x.To, CidrIpv4: optional(x.CIDR), CidrIpv6: optional(x.CIDR6), ReferencedGroupId: optional(x.Group),
				Description: optional(x.Description)})
			g.Rules = slices.Delete(g.Rules, i, i+1)
		}
		for _, rule := range ids {
			i := slices.IndexFunc(g.Rules, func(x model.SecurityGroupRule) bool { return x.ID == rule && x.Egress == egress })
			if i < 0 {
				return kindRule.none(rule)
			}
			take(i)
		}
		if len(ids) > 0 {
			return nil
		}
		rules, err := a.rulesOf(tx, g, egress, all)
		if err != nil {
			return err
		}
		for _, x := range rules {
			i := slices.IndexFunc(g.Rules, x.Same)
			if i < 0 {
				return model.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			take(i)
		}
		return nil
	})
	return revoked, err
}

func (a *api) revokeSecurityGroupIngress(ctx context.Context, in *ec2.RevokeSecurityGroupIngressInput) (*ec2.RevokeSecurityGroupIngressOutput, error) {
	all := permission(in.IpPermissions, in.CidrIp, in.IpProtocol, in.FromPort, in.ToPort, in.SourceSecurityGroupName)
	gone, err := a.revoke(ctx, in.GroupId, in.GroupName, false, all, in.SecurityGroupRuleIds)
	return &ec2.RevokeSecurityGroupIngressOutput{Return: new(true), RevokedSecurityGroupRules: gone}, err
}

func (a *api) revokeSecurityGroupEgress(ctx context.Context, in *ec2.RevokeSecurityGroupEgressInput) (*ec2.RevokeSecurityGroupEgressOutput, error) {
	all := permission(in.IpPermissions, in.CidrIp, in.IpProtocol, in.FromPort, in.ToPort, in.SourceSecurityGroupName)
	gone, err := a.revoke(ctx, in.GroupId, nil, true, all, in.SecurityGroupRuleIds)
	return &ec2.RevokeSecurityGroupEgressOutput{Return: new(true), RevokedSecurityGroupRules: gone}, err
}

func (a *api) modifySecurityGroupRules(ctx context.Context, in *ec2.ModifySecurityGroupRulesInput) (*ec2.ModifySecurityGroupRulesOutput, error) {
	if len(in.SecurityGroupRules) == 0 {
		return nil, missing("SecurityGroupRule")
	}
	return &ec2.ModifySecurityGroupRulesOutput{Return: new(true)}, a.changeGroup(ctx, in.GroupId, nil, func(tx store.Tx, g *model.SecurityGroup) error {
		for _, u := range in.SecurityGroupRules {
			i := slices.IndexFunc(g.Rules, func(x model.SecurityGroupRule) bool { return x.ID == str(u.SecurityGroupRuleId) })
			if i < 0 {
				return kindRule.none(str(u.SecurityGroupRuleId))
			}
			if u.SecurityGroupRule == nil {
				return missing("SecurityGroupRule")
			}
			v, old := u.SecurityGroupRule, g.Rules[i]
			p := types.IpPermission{IpProtocol: v.IpProtocol, FromPort: v.FromPort, ToPort: v.ToPort}
			switch {
			case v.CidrIpv4 != nil:
				p.IpRanges = []types.IpRange{{CidrIp: v.CidrIpv4, Description: v.Description}}
			case v.CidrIpv6 != nil:
				p.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: v.CidrIpv6, Description: v.Description}}
			case v.ReferencedGroupId != nil:
				p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: v.ReferencedGroupId, Description: v.Description}}
			case v.PrefixListId != nil:
				p.PrefixListIds = []types.PrefixListId{{PrefixListId: v.PrefixListId}}
			}
			next, err := a.rulesOf(tx, g, old.Egress, []types.IpPermission{p})
			if err != nil {
				return err
			}
			next[0].ID, next[0].Tags = old.ID, old.Tags
			if j := slices.IndexFunc(g.Rules, next[0].Same); j >= 0 && j != i {
				return model.Errorf("InvalidPermission.Duplicate", "the specified rule %q already exists", peerText(next[0]))
			}
			g.Rules[i] = next[0]
		}
		return nil
	})
}

// describeAnew gives rules other descriptions.
func (a *api) describeAnew(ctx context.Context, id, name *string, egress bool, all []types.IpPermission, by []types.SecurityGroupRuleDescription) error {
	return a.changeGroup(ctx, id, name, func(tx store.Tx, g *model.SecurityGroup) error {
		for _, d := range by {
			i := slices.IndexFunc(g.Rules, func(x model.SecurityGroupRule) bool { return x.ID == str(d.SecurityGroupRuleId) && x.Egress == egress })
			if i < 0 {
				return kindRule.none(str(d.SecurityGroupRuleId))
			}
			g.Rules[i].Description = str(d.Description)
		}
		if len(by) > 0 {
			return nil
		}
		rules, err := a.rulesOf(tx, g, egress, all)
		if err != nil {
			return err
		}
		for _, x := range rules {
			i := slices.IndexFunc(g.Rules, x.Same)
			if i < 0 {
				return model.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			g.Rules[i].Description = x.Description
		}
		return nil
	})
}

func (a *api) updateSecurityGroupRuleDescriptionsIngress(ctx context.Context, in *ec2.UpdateSecurityGroupRuleDescriptionsIngressInput) (
	*ec2.UpdateSecurityGroupRuleDescriptionsIngressOutput, error,
) {
	err := a.describeAnew(ctx, in.GroupId, in.GroupName, false, in.IpPermissions, in.SecurityGroupRuleDescriptions)
	return &ec2.UpdateSecurityGroupRuleDescriptionsIngressOutput{Return: new(true)}, err
}

func (a *api) updateSecurityGroupRuleDescriptionsEgress(ctx context.Context, in *ec2.UpdateSecurityGroupRuleDescriptionsEgressInput) (
	*ec2.UpdateSecurityGroupRuleDescriptionsEgressOutput, error,
) {
	err := a.describeAnew(ctx, in.GroupId, in.GroupName, true, in.IpPermissions, in.SecurityGroupRuleDescriptions)
	return &ec2.UpdateSecurityGroupRuleDescriptionsEgressOutput{Return: new(true)}, err
}

// showRule is a rule as DescribeSecurityGroupRules shows it.
func (a *api) showRule(r store.Reader, g *model.SecurityGroup, x model.SecurityGroupRule) types.SecurityGroupRule {
	v := types.SecurityGroupRule{SecurityGroupRuleId: &x.ID, GroupId: &g.ID, GroupOwnerId: &a.scope.Account, IsEgress: &x.Egress, IpProtocol: &x.Protocol,
		FromPort: &x.From, ToPort: &x.To, CidrIpv4: optional(x.CIDR), CidrIpv6: optional(x.CIDR6), PrefixListId: optional(x.PrefixList),
		Description: optional(x.Description), Tags: x.Tags, SecurityGroupRuleArn: new(a.scope.ARN("ec2", "security-group-rule/"+x.ID))}
	if x.Group != "" {
		v.ReferencedGroupInfo = &types.ReferencedSecurityGroup{GroupId: &x.Group, UserId: &a.scope.Account}
		if o, ok := store.SecurityGroups.Get(r, x.Group); ok {
			v.ReferencedGroupInfo.VpcId = &o.VPC
		}
	}
	return v
}

// ruleRow is a rule with its group, for lists.
type ruleRow struct {
	group *model.SecurityGroup
	model.SecurityGroupRule
}

// Key is the rule's id.
func (x *ruleRow) Key() string { return x.ID }

func (a *api) describeSecurityGroupRules(_ context.Context, in *ec2.DescribeSecurityGroupRulesInput) (*ec2.DescribeSecurityGroupRulesOutput, error) {
	out := &ec2.DescribeSecurityGroupRulesOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.SecurityGroupRules, out.NextToken, err = list(query{kindRule, in.SecurityGroupRuleIds, in.Filters, in.MaxResults, in.NextToken},
			allRules(r), func(x *ruleRow) (types.SecurityGroupRule, attributes) {
				if x.group == nil {
					x.group = &model.SecurityGroup{}
				}
				return a.showRule(r, x.group, x.SecurityGroupRule),
					attributes{"group-id": {x.group.ID}, "security-group-rule-id": {x.ID}}.with(x.Tags)
			})
		return err
	})
}

func allRules(r store.Reader) iter.Seq[*ruleRow] {
	return func(yield func(*ruleRow) bool) {
		for g := range store.SecurityGroups.Scan(r, "") {
			for _, x := range g.Rules {
				if !yield(&ruleRow{g, x}) {
					return
				}
			}
		}
	}
}
