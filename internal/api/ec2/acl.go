package ec2

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Access lists are stored and described; they filter nothing: security groups do.

// lastEntry is the number of the entry that refuses the rest.
const lastEntry = 32767

func entry(number int32, egress bool, action types.RuleAction) types.NetworkAclEntry {
	return types.NetworkAclEntry{CidrBlock: new(anywhere), Egress: &egress, Protocol: new("-1"), RuleAction: action, RuleNumber: &number}
}

func newACL(id, vpc, owner string, isDefault bool) *model.NetworkACL {
	acl := &model.NetworkACL{ID: id, VPC: vpc, ACL: types.NetworkAcl{NetworkAclId: &id, VpcId: &vpc, OwnerId: &owner, IsDefault: &isDefault}}
	for _, egress := range []bool{true, false} {
		if isDefault {
			acl.ACL.Entries = append(acl.ACL.Entries, entry(100, egress, types.RuleActionAllow))
		}
		acl.ACL.Entries = append(acl.ACL.Entries, entry(lastEntry, egress, types.RuleActionDeny))
	}
	return acl
}

func (a *api) createNetworkAcl(ctx context.Context, in *ec2.CreateNetworkAclInput) (*ec2.CreateNetworkAclOutput, error) {
	tags, err := tagsFor(kindACL, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	row := newACL(a.id("acl"), str(in.VpcId), a.scope.Account, false)
	row.ACL.Tags = tags
	return &ec2.CreateNetworkAclOutput{NetworkAcl: &row.ACL}, a.update(ctx, func(tx store.Tx) error {
		if _, err := get(tx, store.VPCs, kindVPC, "vpcId", in.VpcId); err != nil {
			return err
		}
		store.NetworkACLs.Put(tx, row)
		return nil
	})
}

func (a *api) deleteNetworkAcl(ctx context.Context, in *ec2.DeleteNetworkAclInput) (*ec2.DeleteNetworkAclOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		l, err := get(tx, store.NetworkACLs, kindACL, "networkAclId", in.NetworkAclId)
		switch {
		case err != nil:
			return err
		case truth(l.ACL.IsDefault):
			return invalid("cannot delete default network ACL %s", l.ID)
		case len(l.ACL.Associations) > 0:
			return depends("networkAcl", l.ID)
		}
		store.NetworkACLs.Delete(tx, l.ID)
		return nil
	})
}

func (a *api) describeNetworkAcls(_ context.Context, in *ec2.DescribeNetworkAclsInput) (*ec2.DescribeNetworkAclsOutput, error) {
	out := &ec2.DescribeNetworkAclsOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.NetworkAcls, out.NextToken, err = list(query{kindACL, in.NetworkAclIds, in.Filters, in.MaxResults, in.NextToken},
			store.NetworkACLs.Scan(r, ""), func(l *model.NetworkACL) (types.NetworkAcl, attributes) {
				has := attributes{"network-acl-id": {l.ID}, "vpc-id": {l.VPC}, "default": yesNo(l.ACL.IsDefault), "owner-id": {str(l.ACL.OwnerId)},
					"association.network-acl-id": nil, "association.association-id": nil, "association.subnet-id": nil, "entry.cidr": nil,
					"entry.egress": nil, "entry.protocol": nil, "entry.rule-action": nil, "entry.rule-number": nil}
				for _, x := range l.ACL.Associations {
					has["association.network-acl-id"] = []string{l.ID}
					has["association.association-id"] = append(has["association.association-id"], str(x.NetworkAclAssociationId))
					has["association.subnet-id"] = append(has["association.subnet-id"], str(x.SubnetId))
				}
				for _, e := range l.ACL.Entries {
					has["entry.cidr"] = append(has["entry.cidr"], str(e.CidrBlock))
					has["entry.egress"] = append(has["entry.egress"], yesNo(e.Egress)...)
					has["entry.protocol"] = append(has["entry.protocol"], str(e.Protocol))
					has["entry.rule-action"] = append(has["entry.rule-action"], string(e.RuleAction))
					has["entry.rule-number"] = append(has["entry.rule-number"], strconv.Itoa(int(*e.RuleNumber)))
				}
				return l.ACL, has.with(l.ACL.Tags).none("entry.ipv6-cidr", "entry.icmp.code", "entry.icmp.type", "entry.port-range.from", "entry.port-range.to")
			})
		return err
	})
}

// changeACL stores what change makes of a copy of the list.
func (a *api) changeACL(ctx context.Context, id *string, change func(l *model.NetworkACL) error) error {
	return a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.NetworkACLs, kindACL, "networkAclId", id)
		if err != nil {
			return err
		}
		l := *old
		l.ACL.Entries = slices.Clone(old.ACL.Entries)
		if err := change(&l); err != nil {
			return err
		}
		slices.SortFunc(l.ACL.Entries, func(x, y types.NetworkAclEntry) int {
			if truth(x.Egress) != truth(y.Egress) {
				if truth(x.Egress) {
					return -1
				}
				return 1
			}
			return cmp.Compare(*x.RuleNumber, *y.RuleNumber)
		})
		store.NetworkACLs.Put(tx, &l)
		return nil
	})
}

// checkEntry is an entry as a request gives it.
func checkEntry(number *int32, egress *bool, protocol, cidr, cidr6 *string, action types.RuleAction, ports *types.PortRange, icmp *types.IcmpTypeCode) (types.NetworkAclEntry, error) {
	e := types.NetworkAclEntry{RuleNumber: number, Egress: new(truth(egress)), Protocol: protocol, CidrBlock: cidr, Ipv6CidrBlock: cidr6, RuleAction: action,
		PortRange: ports, IcmpTypeCode: icmp}
	switch {
	case number == nil:
		return e, missing("ruleNumber")
	case *number < 1 || *number > 32766:
		return e, invalid("Value (%d) for parameter ruleNumber is invalid. The rule number must be between 1 and 32766.", *number)
	case action != types.RuleActionAllow && action != types.RuleActionDeny:
		return e, invalid("Value (%s) for parameter ruleAction is invalid.", clip(string(action)))
	case (cidr == nil) == (cidr6 == nil):
		return e, missing("cidrBlock")
	}
	if p, err := netip.ParsePrefix(str(cidr) + str(cidr6)); err != nil || p.Addr().Is4() != (cidr != nil) {
		return e, invalid("Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", clip(str(cidr)+str(cidr6)))
	}
	n, err := strconv.Atoi(str(protocol))
	if p, ok := numbers[str(protocol)]; ok {
		n, err = p, nil
	}
	if err != nil || n < -1 || n > 255 {
		return e, invalid("Value (%s) for parameter protocol is invalid. Unknown protocol.", clip(str(protocol)))
	}
	e.Protocol = new(strconv.Itoa(n))
	return e, nil
}

// numbers are those of the protocols that have a name.
var numbers = map[string]int{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "all": -1}

func at(entries []types.NetworkAclEntry, number int32, egress bool) int {
	return slices.IndexFunc(entries, func(e types.NetworkAclEntry) bool { return *e.RuleNumber == number && truth(e.Egress) == egress })
}

func (a *api) createNetworkAclEntry(ctx context.Context, in *ec2.CreateNetworkAclEntryInput) (*ec2.CreateNetworkAclEntryOutput, error) {
	e, err := checkEntry(in.RuleNumber, in.Egress, in.Protocol, in.CidrBlock, in.Ipv6CidrBlock, in.RuleAction, in.PortRange, in.IcmpTypeCode)
	if err != nil {
		return nil, err
	}
	return nil, a.changeACL(ctx, in.NetworkAclId, func(l *model.NetworkACL) error {
		if at(l.ACL.Entries, *e.RuleNumber, *e.Egress) >= 0 {
			return model.Errorf("NetworkAclEntryAlreadyExists", "The network acl entry identified by %d already exists.", *e.RuleNumber)
		}
		if len(l.ACL.Entries) >= 42 { // 20 each way, and the last two
			return model.Errorf("NetworkAclEntryLimitExceeded", "The maximum number of network acl entries has been reached.")
		}
		l.ACL.Entries = append(l.ACL.Entries, e)
		return nil
	})
}

func (a *api) replaceNetworkAclEntry(ctx context.Context, in *ec2.ReplaceNetworkAclEntryInput) (*ec2.ReplaceNetworkAclEntryOutput, error) {
	e, err := checkEntry(in.RuleNumber, in.Egress, in.Protocol, in.CidrBlock, in.Ipv6CidrBlock, in.RuleAction, in.PortRange, in.IcmpTypeCode)
	if err != nil {
		return nil, err
	}
	return nil, a.changeACL(ctx, in.NetworkAclId, func(l *model.NetworkACL) error {
		i := at(l.ACL.Entries, *e.RuleNumber, *e.Egress)
		if i < 0 {
			return noEntry(*e.RuleNumber)
		}
		l.ACL.Entries[i] = e
		return nil
	})
}

func noEntry(number int32) error {
	return model.Errorf("InvalidNetworkAclEntry.NotFound", "The network acl entry identified by %d does not exist.", number)
}

func (a *api) deleteNetworkAclEntry(ctx context.Context, in *ec2.DeleteNetworkAclEntryInput) (*ec2.DeleteNetworkAclEntryOutput, error) {
	return nil, a.changeACL(ctx, in.NetworkAclId, func(l *model.NetworkACL) error {
		if in.RuleNumber == nil {
			return missing("ruleNumber")
		}
		i := at(l.ACL.Entries, *in.RuleNumber, truth(in.Egress))
		if i < 0 || *in.RuleNumber == lastEntry {
			return noEntry(*in.RuleNumber)
		}
		l.ACL.Entries = slices.Delete(l.ACL.Entries, i, i+1)
		return nil
	})
}

func (a *api) replaceNetworkAclAssociation(ctx context.Context, in *ec2.ReplaceNetworkAclAssociationInput) (*ec2.ReplaceNetworkAclAssociationOutput, error) {
	out := &ec2.ReplaceNetworkAclAssociationOutput{NewAssociationId: new(a.id("aclassoc"))}
	return out, a.update(ctx, func(tx store.Tx) error {
		next, err := get(tx, store.NetworkACLs, kindACL, "networkAclId", in.NetworkAclId)
		if err != nil {
			return err
		}
		for old := range store.NetworkACLs.By(tx, store.ByVPC, next.VPC) {
			i := slices.IndexFunc(old.ACL.Associations, func(x types.NetworkAclAssociation) bool {
				return str(x.NetworkAclAssociationId) == str(in.AssociationId)
			})
			if i < 0 {
				continue
			}
			subnet := old.ACL.Associations[i].SubnetId
			from := *old
			from.ACL.Associations = slices.Delete(slices.Clone(old.ACL.Associations), i, i+1)
			store.NetworkACLs.Put(tx, &from)
			to := *next
			if next.ID == from.ID {
				to = from
			}
			to.ACL.Associations = append(slices.Clone(to.ACL.Associations), types.NetworkAclAssociation{NetworkAclAssociationId: out.NewAssociationId,
				NetworkAclId: &to.ID, SubnetId: subnet})
			store.NetworkACLs.Put(tx, &to)
			return nil
		}
		return noAssociation(in.AssociationId)
	})
}

func noAssociation(id *string) error {
	return model.Errorf("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", clip(str(id)))
}
