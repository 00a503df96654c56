package ec2

import (
	"context"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const anywhere = "0.0.0.0/0"

// EC2's quotas of a region.
const (
	maxVPCs    = 100
	maxSubnets = 200
	maxRanges  = 5
)

func associated(id, cidr string) types.VpcCidrBlockAssociation {
	return types.VpcCidrBlockAssociation{AssociationId: &id, CidrBlock: &cidr,
		CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated}}
}

// checkRange is a CIDR block that a VPC may have. AWS takes what has bits behind the mask, and cuts them off.
func checkRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() {
		return p, invalid("Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", clip(text))
	}
	if p.Bits() < 16 || p.Bits() > 28 {
		return p, model.Errorf("InvalidVpc.Range", "The CIDR '%s' is invalid.", clip(text))
	}
	p = p.Masked()
	for _, never := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"} {
		if netip.MustParsePrefix(never).Overlaps(p) {
			return p, model.Errorf("InvalidVpc.Range", "The CIDR '%s' is invalid.", clip(text))
		}
	}
	return p, nil
}

// alone refuses a range that another VPC has a part of. Tasks of all VPCs are routed in one table on each machine, where an address tells
// which task speaks.
func alone(r store.Reader, p netip.Prefix) error {
	for v := range store.VPCs.Scan(r, "") {
		for _, o := range v.Ranges() {
			if o.Overlaps(p) {
				return model.Errorf("InvalidVpc.Conflict", "The CIDR '%s' conflicts with %s of %s: Berth's machines route all VPCs side by side, "+
					"so two of them cannot have the same addresses. Choose another range.", p, o, v.ID)
			}
		}
	}
	return nil
}

func (a *api) createVpc(ctx context.Context, in *ec2.CreateVpcInput) (*ec2.CreateVpcOutput, error) {
	if in.CidrBlock == nil {
		return nil, missing("cidrBlock")
	}
	p, err := checkRange(*in.CidrBlock)
	if err != nil {
		return nil, err
	}
	if truth(in.AmazonProvidedIpv6CidrBlock) || in.Ipv6CidrBlock != nil || in.Ipv4IpamPoolId != nil {
		return nil, model.Errorf("UnsupportedOperation", "Berth's networks have neither IPv6 nor IPAM pools.")
	}
	tenancy := in.InstanceTenancy
	if tenancy == "" {
		tenancy = types.TenancyDefault
	}
	if tenancy != types.TenancyDefault && tenancy != types.TenancyDedicated {
		return nil, invalid("Value (%s) for parameter instanceTenancy is invalid.", clip(string(tenancy)))
	}
	tags, err := tagsFor(kindVPC, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	id, cidr, owner := a.id("vpc"), p.String(), a.scope.Account
	row := &model.VPC{ID: id, DNSSupport: true, VPC: types.Vpc{VpcId: &id, CidrBlock: &cidr, IsDefault: new(false), State: types.VpcStateAvailable,
		OwnerId: &owner, DhcpOptionsId: new(a.Network.id("dopt")), InstanceTenancy: tenancy, Tags: tags,
		CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{associated(a.id("vpc-cidr-assoc"), cidr)}}}
	table := newRouteTable(a.id("rtb"), id, owner, []string{cidr})
	table.Table.Associations = []types.RouteTableAssociation{association(a.id("rtbassoc"), table.ID, "")}
	err = a.update(ctx, func(tx store.Tx) error {
		if err := alone(tx, p); err != nil {
			return err
		}
		if count(store.VPCs.Scan(tx, "")) >= maxVPCs {
			return model.Errorf("VpcLimitExceeded", "The maximum number of VPCs has been reached.")
		}
		store.VPCs.Put(tx, row)
		store.RouteTables.Put(tx, table)
		store.NetworkACLs.Put(tx, newACL(a.id("acl"), id, owner, true))
		store.SecurityGroups.Put(tx, newDefaultGroup(a.id("sg"), id, a.id("sgr"), a.id("sgr")))
		return nil
	})
	if err != nil {
		return nil, err
	}
	shown := row.VPC
	shown.State = types.VpcStatePending
	return &ec2.CreateVpcOutput{Vpc: &shown}, nil
}

func count[T any](all func(func(T) bool)) (n int) {
	for range all {
		n++
	}
	return n
}

func (a *api) deleteVpc(ctx context.Context, in *ec2.DeleteVpcInput) (*ec2.DeleteVpcOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		v, err := get(tx, store.VPCs, kindVPC, "vpcId", in.VpcId)
		if err != nil {
			return err
		}
		if truth(v.VPC.IsDefault) {
			return model.Errorf("OperationNotPermitted", "Berth keeps the default VPC: tasks without a subnet of their own live there.")
		}
		busy := count(store.Subnets.By(tx, store.ByVPC, v.ID)) + count(store.InternetGateways.By(tx, store.ByVPC, v.ID))
		var tables, acls, groups []string
		for t := range store.RouteTables.By(tx, store.ByVPC, v.ID) {
			if tables = append(tables, t.ID); !t.Main() {
				busy++
			}
		}
		for l := range store.NetworkACLs.By(tx, store.ByVPC, v.ID) {
			if acls = append(acls, l.ID); !truth(l.ACL.IsDefault) {
				busy++
			}
		}
		for g := range store.SecurityGroups.By(tx, store.ByVPC, v.ID) {
			if groups = append(groups, g.ID); g.Name != model.DefaultGroup {
				busy++
			}
		}
		if busy > 0 {
			return depends("vpc", v.ID)
		}
		for _, id := range tables {
			store.RouteTables.Delete(tx, id)
		}
		for _, id := range acls {
			store.NetworkACLs.Delete(tx, id)
		}
		for _, id := range groups {
			store.SecurityGroups.Delete(tx, id)
		}
		for _, n := range slices.Collect(store.NATGateways.By(tx, store.ByVPC, v.ID)) { // those that are only remembered
			store.NATGateways.Delete(tx, n.ID)
		}
		store.VPCs.Delete(tx, v.ID)
		return nil
	})
}

func (a *api) describeVpcs(_ context.Context, in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	out := &ec2.DescribeVpcsOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.Vpcs, out.NextToken, err = list(query{kindVPC, in.VpcIds, in.Filters, in.MaxResults, in.NextToken}, store.VPCs.Scan(r, ""),
			func(v *model.VPC) (types.Vpc, attributes) {
				isDefault := yesNo(v.VPC.IsDefault)
				has := attributes{"vpc-id": {v.ID}, "is-default": isDefault, "isDefault": isDefault, "cidr": {str(v.VPC.CidrBlock)},
					"dhcp-options-id": {str(v.VPC.DhcpOptionsId)}, "state": {string(v.VPC.State)}, "owner-id": {str(v.VPC.OwnerId)},
					"cidr-block-association.cidr-block": nil, "cidr-block-association.association-id": nil, "cidr-block-association.state": {"associated"}}
				for _, c := range v.VPC.CidrBlockAssociationSet {
					has["cidr-block-association.cidr-block"] = append(has["cidr-block-association.cidr-block"], str(c.CidrBlock))
					has["cidr-block-association.association-id"] = append(has["cidr-block-association.association-id"], str(c.AssociationId))
				}
				return v.VPC, has.with(v.VPC.Tags).none("ipv6-cidr-block-association.ipv6-cidr-block", "ipv6-cidr-block-association.ipv6-pool",
					"ipv6-cidr-block-association.association-id", "ipv6-cidr-block-association.state")
			})
		return err
	})
}

// yesNo is what filters see of a boolean.
func yesNo(b *bool) []string {
	if truth(b) {
		return []string{"true"}
	}
	return []string{"false"}
}

func (a *api) describeVpcAttribute(_ context.Context, in *ec2.DescribeVpcAttributeInput) (*ec2.DescribeVpcAttributeOutput, error) {
	out := &ec2.DescribeVpcAttributeOutput{VpcId: in.VpcId}
	return out, a.view(func(r store.Reader) error {
		v, err := get(r, store.VPCs, kindVPC, "vpcId", in.VpcId)
		if err != nil {
			return err
		}
		switch in.Attribute {
		case types.VpcAttributeNameEnableDnsSupport:
			out.EnableDnsSupport = &types.AttributeBooleanValue{Value: &v.DNSSupport}
		case types.VpcAttributeNameEnableDnsHostnames:
			out.EnableDnsHostnames = &types.AttributeBooleanValue{Value: &v.DNSHostnames}
		case types.VpcAttributeNameEnableNetworkAddressUsageMetrics:
			out.EnableNetworkAddressUsageMetrics = &types.AttributeBooleanValue{Value: &v.AddressUsage}
		default:
			return invalid("Value (%s) for parameter attribute is invalid", clip(string(in.Attribute)))
		}
		return nil
	})
}

// changeVPC stores what change makes of a copy of the VPC.
func (a *api) changeVPC(ctx context.Context, id *string, change func(tx store.Tx, v *model.VPC) error) error {
	return a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.VPCs, kindVPC, "vpcId", id)
		if err != nil {
			return err
		}
		v := *old
		if err := change(tx, &v); err != nil {
			return err
		}
		store.VPCs.Put(tx, &v)
		return nil
	})
}

func (a *api) modifyVpcAttribute(ctx context.Context, in *ec2.ModifyVpcAttributeInput) (*ec2.ModifyVpcAttributeOutput, error) {
	return nil, a.changeVPC(ctx, in.VpcId, func(_ store.Tx, v *model.VPC) error {
		given := 0
		for _, c := range []struct {
			to    *types.AttributeBooleanValue
			field *bool
		}{{in.EnableDnsSupport, &v.DNSSupport}, {in.EnableDnsHostnames, &v.DNSHostnames}, {in.EnableNetworkAddressUsageMetrics, &v.AddressUsage}} {
			if c.to != nil && c.to.Value != nil {
				*c.field = *c.to.Value
				given++
			}
		}
		if given != 1 {
			return model.Errorf("InvalidParameterCombination", "Exactly one attribute must be given")
		}
		return nil
	})
}

func (a *api) associateVpcCidrBlock(ctx context.Context, in *ec2.AssociateVpcCidrBlockInput) (*ec2.AssociateVpcCidrBlockOutput, error) {
	if in.CidrBlock == nil {
		return nil, model.Errorf("UnsupportedOperation", "Berth's networks have IPv4 ranges that are given by CIDR only.")
	}
	p, err := checkRange(*in.CidrBlock)
	if err != nil {
		return nil, err
	}
	added := associated(a.id("vpc-cidr-assoc"), p.String())
	return &ec2.AssociateVpcCidrBlockOutput{VpcId: in.VpcId, CidrBlockAssociation: &added}, a.changeVPC(ctx, in.VpcId, func(tx store.Tx, v *model.VPC) error {
		if truth(v.VPC.IsDefault) {
			return model.Errorf("OperationNotPermitted", "The default VPC gets more ranges by `berth network`, not by its API.")
		}
		if len(v.VPC.CidrBlockAssociationSet) >= maxRanges {
			return model.Errorf("CidrLimitExceeded", "This network '%s' has met its maximum number of allowed CIDRs: %d", v.ID, maxRanges)
		}
		if err := alone(tx, p); err != nil {
			return err
		}
		v.VPC.CidrBlockAssociationSet = append(slices.Clone(v.VPC.CidrBlockAssociationSet), added)
		return a.localRoutes(tx, v)
	})
}

func (a *api) disassociateVpcCidrBlock(ctx context.Context, in *ec2.DisassociateVpcCidrBlockInput) (*ec2.DisassociateVpcCidrBlockOutput, error) {
	out := &ec2.DisassociateVpcCidrBlockOutput{}
	return out, a.update(ctx, func(tx store.Tx) error {
		for old := range store.VPCs.Scan(tx, "") {
			i := slices.IndexFunc(old.VPC.CidrBlockAssociationSet, func(c types.VpcCidrBlockAssociation) bool {
				return str(c.AssociationId) == str(in.AssociationId)
			})
			if i < 0 {
				continue
			}
			gone, v := old.VPC.CidrBlockAssociationSet[i], *old
			if str(gone.CidrBlock) == str(v.VPC.CidrBlock) {
				return model.Errorf("OperationNotPermitted", "The vpc CIDR block with association ID %s may not be disassociated. It is the primary IPv4 CIDR block of the VPC", *in.AssociationId)
			}
			p := v.Ranges()[i]
			for s := range store.Subnets.By(tx, store.ByVPC, v.ID) {
				if s.Range().Overlaps(p) {
					return depends("vpc CIDR block", p.String())
				}
			}
			v.VPC.CidrBlockAssociationSet = slices.Delete(slices.Clone(old.VPC.CidrBlockAssociationSet), i, i+1)
			gone.CidrBlockState = &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeDisassociated}
			out.VpcId, out.CidrBlockAssociation = &v.ID, &gone
			store.VPCs.Put(tx, &v)
			return a.localRoutes(tx, &v)
		}
		return model.Errorf("InvalidVpcCidrBlockAssociationID.NotFound", "The vpc CIDR block association ID '%s' does not exist", clip(str(in.AssociationId)))
	})
}

func (a *api) createDhcpOptions(ctx context.Context, in *ec2.CreateDhcpOptionsInput) (*ec2.CreateDhcpOptionsOutput, error) {
	if len(in.DhcpConfigurations) == 0 {
		return nil, missing("DhcpConfiguration")
	}
	tags, err := tagsFor(kindDHCP, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	id := a.id("dopt")
	row := &model.DHCPOptions{ID: id, Options: types.DhcpOptions{DhcpOptionsId: &id, OwnerId: &a.scope.Account, Tags: tags}}
	for _, c := range in.DhcpConfigurations {
		conf := types.DhcpConfiguration{Key: c.Key}
		for _, v := range c.Values {
			conf.Values = append(conf.Values, types.AttributeValue{Value: &v})
		}
		row.Options.DhcpConfigurations = append(row.Options.DhcpConfigurations, conf)
	}
	return &ec2.CreateDhcpOptionsOutput{DhcpOptions: &row.Options}, a.update(ctx, func(tx store.Tx) error {
		store.DHCPOptions.Put(tx, row)
		return nil
	})
}

func (a *api) deleteDhcpOptions(ctx context.Context, in *ec2.DeleteDhcpOptionsInput) (*ec2.DeleteDhcpOptionsOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		o, err := get(tx, store.DHCPOptions, kindDHCP, "dhcpOptionsId", in.DhcpOptionsId)
		if err != nil {
			return err
		}
		for v := range store.VPCs.Scan(tx, "") {
			if str(v.VPC.DhcpOptionsId) == o.ID {
				return depends("dhcpOptions", o.ID)
			}
		}
		if o.ID == a.Network.id("dopt") {
			return stays("DHCP options")
		}
		store.DHCPOptions.Delete(tx, o.ID)
		return nil
	})
}

func (a *api) describeDhcpOptions(_ context.Context, in *ec2.DescribeDhcpOptionsInput) (*ec2.DescribeDhcpOptionsOutput, error) {
	out := &ec2.DescribeDhcpOptionsOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.DhcpOptions, out.NextToken, err = list(query{kindDHCP, in.DhcpOptionsIds, in.Filters, in.MaxResults, in.NextToken},
			store.DHCPOptions.Scan(r, ""), func(o *model.DHCPOptions) (types.DhcpOptions, attributes) {
				has := attributes{"dhcp-options-id": {o.ID}, "owner-id": {str(o.Options.OwnerId)}, "key": nil, "value": nil}
				for _, c := range o.Options.DhcpConfigurations {
					has["key"] = append(has["key"], str(c.Key))
					for _, v := range c.Values {
						has["value"] = append(has["value"], str(v.Value))
					}
				}
				return o.Options, has.with(o.Options.Tags)
			})
		return err
	})
}

func (a *api) associateDhcpOptions(ctx context.Context, in *ec2.AssociateDhcpOptionsInput) (*ec2.AssociateDhcpOptionsOutput, error) {
	return nil, a.changeVPC(ctx, in.VpcId, func(tx store.Tx, v *model.VPC) error {
		if str(in.DhcpOptionsId) == "default" {
			v.VPC.DhcpOptionsId = new(a.Network.id("dopt"))
			return nil
		}
		o, err := get(tx, store.DHCPOptions, kindDHCP, "dhcpOptionsId", in.DhcpOptionsId)
		if err == nil {
			v.VPC.DhcpOptionsId = &o.ID
		}
		return err
	})
}
