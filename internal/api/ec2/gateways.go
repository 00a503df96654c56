package ec2

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createInternetGateway(ctx context.Context, in *ec2.CreateInternetGatewayInput) (*ec2.CreateInternetGatewayOutput, error) {
	tags, err := tagsFor(kindIGW, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	id := a.id("igw")
	row := &model.InternetGateway{ID: id, Gateway: types.InternetGateway{InternetGatewayId: &id, OwnerId: &a.scope.Account,
		Attachments: []types.InternetGatewayAttachment{}, Tags: tags}}
	return &ec2.CreateInternetGatewayOutput{InternetGateway: &row.Gateway}, a.update(ctx, func(tx store.Tx) error {
		if count(store.InternetGateways.Scan(tx, "")) >= maxVPCs {
			return model.Errorf("InternetGatewayLimitExceeded", "The maximum number of internet gateways has been reached.")
		}
		store.InternetGateways.Put(tx, row)
		return nil
	})
}

func (a *api) deleteInternetGateway(ctx context.Context, in *ec2.DeleteInternetGatewayInput) (*ec2.DeleteInternetGatewayOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		g, err := get(tx, store.InternetGateways, kindIGW, "internetGatewayId", in.InternetGatewayId)
		switch {
		case err != nil:
			return err
		case g.VPC() != "":
			return depends("internetGateway", g.ID)
		case g.ID == a.Network.id("igw"):
			return stays("internet gateway")
		}
		store.InternetGateways.Delete(tx, g.ID)
		return nil
	})
}

func (a *api) attachInternetGateway(ctx context.Context, in *ec2.AttachInternetGatewayInput) (*ec2.AttachInternetGatewayOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.InternetGateways, kindIGW, "internetGatewayId", in.InternetGatewayId)
		if err != nil {
			return err
		}
		v, err := get(tx, store.VPCs, kindVPC, "vpcId", in.VpcId)
		if err != nil {
			return err
		}
		if old.VPC() != "" {
			return model.Errorf("Resource.AlreadyAssociated", "resource %s is already attached to network %s", old.ID, old.VPC())
		}
		if count(store.InternetGateways.By(tx, store.ByVPC, v.ID)) > 0 {
			return invalid("Network %s already has an internet gateway attached", v.ID)
		}
		g := *old
		g.Gateway.Attachments = []types.InternetGatewayAttachment{{VpcId: &v.ID, State: types.AttachmentStatus("available")}}
		store.InternetGateways.Put(tx, &g)
		return nil
	})
}

func (a *api) detachInternetGateway(ctx context.Context, in *ec2.DetachInternetGatewayInput) (*ec2.DetachInternetGatewayOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.InternetGateways, kindIGW, "internetGatewayId", in.InternetGatewayId)
		if err != nil {
			return err
		}
		if old.VPC() == "" || old.VPC() != str(in.VpcId) {
			return model.Errorf("Gateway.NotAttached", "resource %s is not attached to network %s", old.ID, clip(str(in.VpcId)))
		}
		if old.ID == a.Network.id("igw") {
			return stays("internet gateway")
		}
		for n := range store.NATGateways.By(tx, store.ByVPC, old.VPC()) {
			if !n.Deleted() && n.Gateway.ConnectivityType != types.ConnectivityTypePrivate {
				return model.Errorf("DependencyViolation", "Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", old.VPC())
			}
		}
		g := *old
		g.Gateway.Attachments = []types.InternetGatewayAttachment{}
		store.InternetGateways.Put(tx, &g)
		return nil
	})
}

func (a *api) describeInternetGateways(_ context.Context, in *ec2.DescribeInternetGatewaysInput) (*ec2.DescribeInternetGatewaysOutput, error) {
	out := &ec2.DescribeInternetGatewaysOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.InternetGateways, out.NextToken, err = list(query{kindIGW, in.InternetGatewayIds, in.Filters, in.MaxResults, in.NextToken},
			store.InternetGateways.Scan(r, ""), func(g *model.InternetGateway) (types.InternetGateway, attributes) {
				has := attributes{"internet-gateway-id": {g.ID}, "owner-id": {str(g.Gateway.OwnerId)}, "attachment.vpc-id": nil, "attachment.state": nil}
				for _, x := range g.Gateway.Attachments {
					has["attachment.vpc-id"], has["attachment.state"] = []string{str(x.VpcId)}, []string{string(x.State)}
				}
				return g.Gateway, has.with(g.Gateway.Tags)
			})
		return err
	})
}

// How long a NAT gateway takes to come and how long one is remembered that is gone.
const (
	natPending = time.Second
	natKept    = time.Hour
)

// natState is what has become of a NAT gateway.
func natState(g *model.NATGateway, now time.Time) types.NatGatewayState {
	switch v := g.Gateway; {
	case v.DeleteTime != nil:
		return types.NatGatewayStateDeleted
	case v.CreateTime != nil && now.Sub(*v.CreateTime) < natPending:
		return types.NatGatewayStatePending
	}
	return types.NatGatewayStateAvailable
}

func (a *api) createNatGateway(ctx context.Context, in *ec2.CreateNatGatewayInput) (*ec2.CreateNatGatewayOutput, error) {
	tags, err := tagsFor(kindNAT, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	if len(in.SecondaryAllocationIds)+len(in.SecondaryPrivateIpAddresses) > 0 || in.SecondaryPrivateIpAddressCount != nil {
		return nil, model.Errorf("UnsupportedOperation", "Berth's NAT gateways have one address each.")
	}
	connectivity := in.ConnectivityType
	if connectivity == "" {
		connectivity = types.ConnectivityTypePublic
	}
	out := &ec2.CreateNatGatewayOutput{ClientToken: in.ClientToken}
	return out, a.update(ctx, func(tx store.Tx) error {
		if in.ClientToken != nil {
			for g := range store.NATGateways.Scan(tx, "") {
				if g.Token == *in.ClientToken {
					out.NatGateway = &g.Gateway
					return nil
				}
			}
		}
		s, err := get(tx, store.Subnets, kindSubnet, "subnetId", in.SubnetId)
		if err != nil {
			return err
		}
		now := a.Now()
		id, eni := a.id("nat"), a.id("eni")
		address := types.NatGatewayAddress{IsPrimary: new(true), NetworkInterfaceId: &eni, PrivateIp: new(lastOf(s.Range())), Status: types.NatGatewayAddressStatusSucceeded}
		if connectivity == types.ConnectivityTypePublic {
			if err := a.takeAddress(tx, in.AllocationId, s, &address); err != nil {
				return err
			}
		} else if in.AllocationId != nil {
			return model.Errorf("InvalidParameterCombination", "A private NAT gateway has no allocation")
		}
		row := &model.NATGateway{ID: id, Token: str(in.ClientToken), VPC: s.VPC, Subnet: s.ID, Gateway: types.NatGateway{NatGatewayId: &id, SubnetId: &s.ID, VpcId: &s.VPC, CreateTime: &now,
			ConnectivityType: connectivity, State: types.NatGatewayStatePending, NatGatewayAddresses: []types.NatGatewayAddress{address}, Tags: tags}}
		for _, old := range slices.Collect(store.NATGateways.Scan(tx, "")) {
			if old.Deleted() && now.Sub(*old.Gateway.DeleteTime) > natKept {
				store.NATGateways.Delete(tx, old.ID)
			}
		}
		store.NATGateways.Put(tx, row)
		out.NatGateway = &row.Gateway
		return nil
	})
}

// lastOf is the last address of a subnet that may be given.
func lastOf(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|1<<(32-p.Bits())-1)
	return netip.AddrFrom4(b).Prev().String()
}

// takeAddress ties an elastic address to a NAT gateway's interface.
func (a *api) takeAddress(tx store.Tx, allocation *string, s *model.Subnet, to *types.NatGatewayAddress) error {
	old, err := get(tx, store.Addresses, kindEIP, "allocationId", allocation)
	if err != nil {
		return err
	}
	if old.Address.AssociationId != nil {
		return model.Errorf("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", old.ID, *old.Address.AssociationId)
	}
	if count(store.InternetGateways.By(tx, store.ByVPC, s.VPC)) == 0 {
		return model.Errorf("Gateway.NotAttached", "Network %s has no Internet gateway attached", s.VPC)
	}
	e := *old
	association := a.id("eipassoc")
	e.Address.AssociationId, e.Address.NetworkInterfaceId, e.Address.PrivateIpAddress = &association, to.NetworkInterfaceId, to.PrivateIp
	e.Address.NetworkInterfaceOwnerId = &a.scope.Account
	to.AllocationId, to.AssociationId, to.PublicIp = &e.ID, &association, e.Address.PublicIp
	store.Addresses.Put(tx, &e)
	return nil
}

// freeAddresses unties what a NAT gateway had.
func freeAddresses(tx store.Tx, g *model.NATGateway) {
	for _, x := range g.Gateway.NatGatewayAddresses {
		old, ok := store.Addresses.Get(tx, str(x.AllocationId))
		if !ok || str(old.Address.AssociationId) != str(x.AssociationId) {
			continue
		}
		store.Addresses.Put(tx, loose(old))
	}
}

// loose is an address that is tied to nothing.
func loose(old *model.Address) *model.Address {
	e := *old
	e.Address.AssociationId, e.Address.NetworkInterfaceId, e.Address.PrivateIpAddress, e.Address.NetworkInterfaceOwnerId = nil, nil, nil, nil
	return &e
}

func (a *api) deleteNatGateway(ctx context.Context, in *ec2.DeleteNatGatewayInput) (*ec2.DeleteNatGatewayOutput, error) {
	return &ec2.DeleteNatGatewayOutput{NatGatewayId: in.NatGatewayId}, a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.NATGateways, kindNAT, "natGatewayId", in.NatGatewayId)
		if err != nil || old.Deleted() {
			return err
		}
		g := *old
		g.Gateway.DeleteTime = new(a.Now())
		freeAddresses(tx, old)
		store.NATGateways.Put(tx, &g)
		return nil
	})
}

func (a *api) describeNatGateways(_ context.Context, in *ec2.DescribeNatGatewaysInput) (*ec2.DescribeNatGatewaysOutput, error) {
	out := &ec2.DescribeNatGatewaysOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.NatGateways, out.NextToken, err = list(query{kindNAT, in.NatGatewayIds, in.Filter, in.MaxResults, in.NextToken},
			store.NATGateways.Scan(r, ""), func(g *model.NATGateway) (types.NatGateway, attributes) {
				v := g.Gateway
				v.State = natState(g, a.Now())
				return v, attributes{"nat-gateway-id": {g.ID}, "state": {string(v.State)}, "subnet-id": {g.Subnet}, "vpc-id": {g.VPC}}.with(v.Tags)
			})
		return err
	})
}

// public is where elastic addresses are from: a range for benchmarks that no network routes. Nothing is reached at them.
var public = netip.MustParsePrefix("198.18.0.0/15")

const maxAddresses = 100

func (a *api) allocateAddress(ctx context.Context, in *ec2.AllocateAddressInput) (*ec2.AllocateAddressOutput, error) {
	tags, err := tagsFor(kindEIP, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	if in.Address != nil || in.CustomerOwnedIpv4Pool != nil || in.PublicIpv4Pool != nil || in.IpamPoolId != nil {
		return nil, model.Errorf("UnsupportedOperation", "Berth chooses elastic addresses itself: there are no pools of them.")
	}
	out := &ec2.AllocateAddressOutput{Domain: types.DomainTypeVpc, NetworkBorderGroup: &a.scope.Region, PublicIpv4Pool: new("amazon")}
	return out, a.update(ctx, func(tx store.Tx) error {
		used := map[string]bool{}
		for e := range store.Addresses.Scan(tx, "") {
			used[str(e.Address.PublicIp)] = true
		}
		if len(used) >= maxAddresses {
			return model.Errorf("AddressLimitExceeded", "The maximum number of addresses has been reached.")
		}
		ip := public.Addr().Next()
		for used[ip.String()] {
			ip = ip.Next()
		}
		out.AllocationId, out.PublicIp = new(a.id("eipalloc")), new(ip.String())
		store.Addresses.Put(tx, &model.Address{ID: *out.AllocationId, AllocatedAt: a.Now(), Address: types.Address{AllocationId: out.AllocationId,
			PublicIp: out.PublicIp, Domain: types.DomainTypeVpc, NetworkBorderGroup: &a.scope.Region, PublicIpv4Pool: new("amazon"), Tags: tags}})
		return nil
	})
}

func (a *api) releaseAddress(ctx context.Context, in *ec2.ReleaseAddressInput) (*ec2.ReleaseAddressOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		e, err := get(tx, store.Addresses, kindEIP, "allocationId", in.AllocationId)
		if err != nil {
			return err
		}
		if e.Address.AssociationId != nil {
			return model.Errorf("InvalidIPAddress.InUse", "Address %s is in use.", str(e.Address.PublicIp))
		}
		store.Addresses.Delete(tx, e.ID)
		return nil
	})
}

func (a *api) disassociateAddress(ctx context.Context, in *ec2.DisassociateAddressInput) (*ec2.DisassociateAddressOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		for e := range store.Addresses.Scan(tx, "") {
			if e.Address.AssociationId == nil || *e.Address.AssociationId != str(in.AssociationId) {
				continue
			}
			for g := range store.NATGateways.Scan(tx, "") {
				for _, x := range g.Gateway.NatGatewayAddresses {
					if !g.Deleted() && str(x.AssociationId) == *in.AssociationId {
						return model.Errorf("AuthFailure", "You do not have permission to access the specified resource: it is a NAT gateway's.")
					}
				}
			}
			store.Addresses.Put(tx, loose(e))
			return nil
		}
		return noAssociation(in.AssociationId)
	})
}

func (a *api) describeAddresses(_ context.Context, in *ec2.DescribeAddressesInput) (*ec2.DescribeAddressesOutput, error) {
	out := &ec2.DescribeAddressesOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		q := query{kind: kindEIP, ids: in.AllocationIds, filters: in.Filters}
		for _, ip := range in.PublicIps {
			known := false
			for e := range store.Addresses.Scan(r, "") {
				known = known || str(e.Address.PublicIp) == ip
			}
			if !known {
				return model.Errorf("InvalidAddress.NotFound", "Address '%s' not found.", clip(ip))
			}
		}
		if len(in.PublicIps) > 0 {
			q.filters = append(slices.Clone(q.filters), types.Filter{Name: new("public-ip"), Values: in.PublicIps})
		}
		out.Addresses, _, err = list(q, store.Addresses.Scan(r, ""), func(e *model.Address) (types.Address, attributes) {
			v := e.Address
			return v, attributes{"allocation-id": {e.ID}, "association-id": {str(v.AssociationId)}, "domain": {"vpc"}, "public-ip": {str(v.PublicIp)},
				"network-interface-id": {str(v.NetworkInterfaceId)}, "private-ip-address": {str(v.PrivateIpAddress)},
				"network-border-group": {a.scope.Region}}.with(v.Tags).none("instance-id", "network-interface-owner-id")
		})
		return err
	})
}

func (a *api) describeAddressesAttribute(_ context.Context, in *ec2.DescribeAddressesAttributeInput) (*ec2.DescribeAddressesAttributeOutput, error) {
	out := &ec2.DescribeAddressesAttributeOutput{Addresses: []types.AddressAttribute{}}
	return out, a.view(func(r store.Reader) error {
		for _, id := range in.AllocationIds {
			e, err := get(r, store.Addresses, kindEIP, "allocationId", &id)
			if err != nil {
				return err
			}
			out.Addresses = append(out.Addresses, types.AddressAttribute{AllocationId: &e.ID, PublicIp: e.Address.PublicIp})
		}
		return nil
	})
}
