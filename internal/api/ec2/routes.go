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

// Routes are stored and described; nothing follows them: tasks of every subnet reach what their security groups allow, and machines
// translate what leaves.

func newRouteTable(id, vpc, owner string, ranges []string) *model.RouteTable {
	t := &model.RouteTable{ID: id, VPC: vpc, Table: types.RouteTable{RouteTableId: &id, VpcId: &vpc, OwnerId: &owner}}
	for _, cidr := range ranges {
		t.Table.Routes = append(t.Table.Routes, localRoute(cidr))
	}
	return t
}

func localRoute(cidr string) types.Route {
	return types.Route{DestinationCidrBlock: &cidr, GatewayId: new("local"), Origin: types.RouteOriginCreateRouteTable, State: types.RouteStateActive}
}

// association ties a table to a subnet, or to all that have none: then it is the main one.
func association(id, table, subnet string) types.RouteTableAssociation {
	x := types.RouteTableAssociation{Main: new(subnet == ""), RouteTableId: &table, RouteTableAssociationId: &id,
		AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated}}
	if subnet != "" {
		x.SubnetId = &subnet
	}
	return x
}

// localRoutes gives the VPC's tables a route to each of its ranges.
func (a *api) localRoutes(tx store.Tx, v *model.VPC) error {
	for _, old := range slices.Collect(store.RouteTables.By(tx, store.ByVPC, v.ID)) {
		t := *old
		t.Table.Routes = nil
		for _, c := range v.VPC.CidrBlockAssociationSet {
			t.Table.Routes = append(t.Table.Routes, localRoute(str(c.CidrBlock)))
		}
		for _, r := range old.Table.Routes {
			if str(r.GatewayId) != "local" {
				t.Table.Routes = append(t.Table.Routes, r)
			}
		}
		store.RouteTables.Put(tx, &t)
	}
	return nil
}

func (a *api) createRouteTable(ctx context.Context, in *ec2.CreateRouteTableInput) (*ec2.CreateRouteTableOutput, error) {
	tags, err := tagsFor(kindTable, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	out := &ec2.CreateRouteTableOutput{}
	return out, a.update(ctx, func(tx store.Tx) error {
		v, err := get(tx, store.VPCs, kindVPC, "vpcId", in.VpcId)
		if err != nil {
			return err
		}
		if count(store.RouteTables.By(tx, store.ByVPC, v.ID)) >= 200 {
			return model.Errorf("RouteTableLimitExceeded", "The maximum number of route tables has been reached.")
		}
		var ranges []string
		for _, c := range v.VPC.CidrBlockAssociationSet {
			ranges = append(ranges, str(c.CidrBlock))
		}
		row := newRouteTable(a.id("rtb"), v.ID, a.scope.Account, ranges)
		row.Table.Tags = tags
		store.RouteTables.Put(tx, row)
		out.RouteTable = &row.Table
		return nil
	})
}

func (a *api) deleteRouteTable(ctx context.Context, in *ec2.DeleteRouteTableInput) (*ec2.DeleteRouteTableOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		t, err := get(tx, store.RouteTables, kindTable, "routeTableId", in.RouteTableId)
		if err != nil {
			return err
		}
		if len(t.Table.Associations) > 0 {
			return depends("routeTable", t.ID)
		}
		store.RouteTables.Delete(tx, t.ID)
		return nil
	})
}

func (a *api) describeRouteTables(_ context.Context, in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	out := &ec2.DescribeRouteTablesOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		out.RouteTables, out.NextToken, err = list(query{kindTable, in.RouteTableIds, in.Filters, in.MaxResults, in.NextToken},
			store.RouteTables.Scan(r, ""), func(t *model.RouteTable) (types.RouteTable, attributes) {
				has := attributes{"vpc-id": {t.VPC}, "route-table-id": {t.ID}, "owner-id": {str(t.Table.OwnerId)}, "association.main": nil,
					"association.route-table-id": nil, "association.route-table-association-id": nil, "association.subnet-id": nil,
					"route.destination-cidr-block": nil, "route.gateway-id": nil, "route.nat-gateway-id": nil, "route.origin": nil, "route.state": nil}
				for _, x := range t.Table.Associations {
					has["association.main"] = append(has["association.main"], yesNo(x.Main)...)
					has["association.route-table-id"] = []string{t.ID}
					has["association.route-table-association-id"] = append(has["association.route-table-association-id"], str(x.RouteTableAssociationId))
					if x.SubnetId != nil {
						has["association.subnet-id"] = append(has["association.subnet-id"], *x.SubnetId)
					}
				}
				for _, x := range t.Table.Routes {
					has["route.destination-cidr-block"] = append(has["route.destination-cidr-block"], str(x.DestinationCidrBlock))
					has["route.gateway-id"] = append(has["route.gateway-id"], str(x.GatewayId))
					has["route.nat-gateway-id"] = append(has["route.nat-gateway-id"], str(x.NatGatewayId))
					has["route.origin"] = append(has["route.origin"], string(x.Origin))
					has["route.state"] = append(has["route.state"], string(x.State))
				}
				return t.Table, has.with(t.Table.Tags).none("association.gateway-id", "route.destination-ipv6-cidr-block", "route.transit-gateway-id",
					"route.vpc-peering-connection-id", "route.instance-id", "route.destination-prefix-list-id", "route.egress-only-internet-gateway-id")
			})
		return err
	})
}

// changeTable stores what change makes of a copy of the table.
func (a *api) changeTable(ctx context.Context, id *string, change func(tx store.Tx, t *model.RouteTable) error) error {
	return a.update(ctx, func(tx store.Tx) error {
		old, err := get(tx, store.RouteTables, kindTable, "routeTableId", id)
		if err != nil {
			return err
		}
		t := *old
		t.Table.Routes, t.Table.Associations = slices.Clone(old.Table.Routes), slices.Clone(old.Table.Associations)
		if err := change(tx, &t); err != nil {
			return err
		}
		store.RouteTables.Put(tx, &t)
		return nil
	})
}

// target is what a route leads to: one of a request's ids.
type target struct{ gateway, nat, other *string }

// route is a new route of the table.
func (a *api) route(tx store.Tx, t *model.RouteTable, cidr *string, to target) (types.Route, error) {
	r := types.Route{DestinationCidrBlock: cidr, Origin: types.RouteOriginCreateRoute, State: types.RouteStateActive}
	if cidr == nil {
		return r, missing("destinationCidrBlock")
	}
	p, err := netip.ParsePrefix(*cidr)
	if err != nil || !p.Addr().Is4() {
		return r, invalid("Value (%s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", clip(*cidr))
	}
	r.DestinationCidrBlock = new(p.Masked().String())
	switch {
	case to.other != nil:
		return r, model.Errorf("UnsupportedOperation", "Berth's routes lead to internet gateways and NAT gateways only.")
	case to.nat != nil:
		n, err := get(tx, store.NATGateways, kindNAT, "natGatewayId", to.nat)
		if err != nil || n.Deleted() {
			return r, model.Errorf("InvalidNatGatewayID.NotFound", "The natGateway ID '%s' does not exist", clip(*to.nat))
		}
		r.NatGatewayId = &n.ID
		return r, nil
	case to.gateway == nil:
		return r, model.Errorf("MissingParameter", "The request must contain exactly one of gatewayId, natGatewayId, networkInterfaceId, vpcPeeringConnectionId, egressOnlyInternetGatewayId, transitGatewayId, localGatewayId, carrierGatewayId, instanceId or vpcEndpointId")
	}
	g, err := get(tx, store.InternetGateways, kindIGW, "gatewayId", to.gateway)
	if err != nil {
		return r, model.Errorf("InvalidGatewayID.NotFound", "The gateway ID '%s' does not exist", clip(*to.gateway))
	}
	if g.VPC() != t.VPC {
		return r, invalid("route table %s and network gateway %s belong to different networks", t.ID, g.ID)
	}
	r.GatewayId = &g.ID
	return r, nil
}

func routeTo(routes []types.Route, cidr *string) int {
	p, err := netip.ParsePrefix(str(cidr))
	if err != nil {
		return -1
	}
	return slices.IndexFunc(routes, func(r types.Route) bool { return str(r.DestinationCidrBlock) == p.Masked().String() })
}

func otherTarget(all ...*string) *string {
	for _, one := range all {
		if one != nil {
			return one
		}
	}
	return nil
}

func (a *api) createRoute(ctx context.Context, in *ec2.CreateRouteInput) (*ec2.CreateRouteOutput, error) {
	to := target{in.GatewayId, in.NatGatewayId, otherTarget(in.CarrierGatewayId, in.CoreNetworkArn, in.EgressOnlyInternetGatewayId, in.InstanceId,
		in.LocalGatewayId, in.NetworkInterfaceId, in.TransitGatewayId, in.VpcEndpointId, in.VpcPeeringConnectionId)}
	return &ec2.CreateRouteOutput{Return: new(true)}, a.changeTable(ctx, in.RouteTableId, func(tx store.Tx, t *model.RouteTable) error {
		if i := routeTo(t.Table.Routes, in.DestinationCidrBlock); i >= 0 {
			return model.Errorf("RouteAlreadyExists", "The route identified by %s already exists.", *t.Table.Routes[i].DestinationCidrBlock)
		}
		r, err := a.route(tx, t, in.DestinationCidrBlock, to)
		if err != nil {
			return err
		}
		if len(t.Table.Routes) >= 500 {
			return model.Errorf("RouteLimitExceeded", "The maximum number of routes has been reached.")
		}
		t.Table.Routes = append(t.Table.Routes, r)
		return nil
	})
}

func noRoute(t *model.RouteTable, cidr *string) error {
	return model.Errorf("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", clip(str(cidr)), t.ID)
}

func (a *api) replaceRoute(ctx context.Context, in *ec2.ReplaceRouteInput) (*ec2.ReplaceRouteOutput, error) {
	to := target{in.GatewayId, in.NatGatewayId, otherTarget(in.CarrierGatewayId, in.CoreNetworkArn, in.EgressOnlyInternetGatewayId, in.InstanceId,
		in.LocalGatewayId, in.NetworkInterfaceId, in.TransitGatewayId, in.VpcEndpointId, in.VpcPeeringConnectionId)}
	return nil, a.changeTable(ctx, in.RouteTableId, func(tx store.Tx, t *model.RouteTable) error {
		i := routeTo(t.Table.Routes, in.DestinationCidrBlock)
		if i < 0 {
			return noRoute(t, in.DestinationCidrBlock)
		}
		if truth(in.LocalTarget) && str(t.Table.Routes[i].GatewayId) == "local" {
			return nil
		}
		r, err := a.route(tx, t, in.DestinationCidrBlock, to)
		t.Table.Routes[i] = r
		return err
	})
}

func (a *api) deleteRoute(ctx context.Context, in *ec2.DeleteRouteInput) (*ec2.DeleteRouteOutput, error) {
	return nil, a.changeTable(ctx, in.RouteTableId, func(_ store.Tx, t *model.RouteTable) error {
		i := routeTo(t.Table.Routes, in.DestinationCidrBlock)
		if i < 0 {
			return noRoute(t, in.DestinationCidrBlock)
		}
		if str(t.Table.Routes[i].GatewayId) == "local" {
			return invalid("cannot remove local route %s in route table %s", *t.Table.Routes[i].DestinationCidrBlock, t.ID)
		}
		t.Table.Routes = slices.Delete(t.Table.Routes, i, i+1)
		return nil
	})
}

func (a *api) associateRouteTable(ctx context.Context, in *ec2.AssociateRouteTableInput) (*ec2.AssociateRouteTableOutput, error) {
	id := a.id("rtbassoc")
	return &ec2.AssociateRouteTableOutput{AssociationId: &id, AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated}},
		a.changeTable(ctx, in.RouteTableId, func(tx store.Tx, t *model.RouteTable) error {
			if in.GatewayId != nil {
				return model.Errorf("UnsupportedOperation", "Berth's route tables are associated with subnets only.")
			}
			s, err := get(tx, store.Subnets, kindSubnet, "subnetId", in.SubnetId)
			if err != nil {
				return err
			}
			if s.VPC != t.VPC {
				return invalid("Route table %s and subnet %s belong to different networks", t.ID, s.ID)
			}
			for o := range store.RouteTables.By(tx, store.ByVPC, t.VPC) {
				if slices.ContainsFunc(o.Table.Associations, func(x types.RouteTableAssociation) bool { return str(x.SubnetId) == s.ID }) {
					return model.Errorf("Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", t.ID)
				}
			}
			t.Table.Associations = append(t.Table.Associations, association(id, t.ID, s.ID))
			return nil
		})
}

// tableOf finds the table that has an association, and its place there.
func tableOf(tx store.Tx, id *string) (*model.RouteTable, int, error) {
	for t := range store.RouteTables.Scan(tx, "") {
		i := slices.IndexFunc(t.Table.Associations, func(x types.RouteTableAssociation) bool { return str(x.RouteTableAssociationId) == str(id) })
		if i >= 0 {
			return t, i, nil
		}
	}
	return nil, 0, noAssociation(id)
}

func (a *api) replaceRouteTableAssociation(ctx context.Context, in *ec2.ReplaceRouteTableAssociationInput) (*ec2.ReplaceRouteTableAssociationOutput, error) {
	id := a.id("rtbassoc")
	return &ec2.ReplaceRouteTableAssociationOutput{NewAssociationId: &id, AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated}},
		a.update(ctx, func(tx store.Tx) error {
			old, i, err := tableOf(tx, in.AssociationId)
			if err != nil {
				return err
			}
			next, err := get(tx, store.RouteTables, kindTable, "routeTableId", in.RouteTableId)
			if err != nil {
				return err
			}
			if next.VPC != old.VPC {
				return invalid("route table %s and route table %s belong to different networks", next.ID, old.ID)
			}
			moved, from := old.Table.Associations[i], *old
			from.Table.Associations = slices.Delete(slices.Clone(old.Table.Associations), i, i+1)
			store.RouteTables.Put(tx, &from)
			to := *next
			if to.ID == from.ID {
				to = from
			}
			to.Table.Associations = append(slices.Clone(to.Table.Associations), association(id, to.ID, str(moved.SubnetId)))
			store.RouteTables.Put(tx, &to)
			return nil
		})
}

func (a *api) disassociateRouteTable(ctx context.Context, in *ec2.DisassociateRouteTableInput) (*ec2.DisassociateRouteTableOutput, error) {
	return nil, a.update(ctx, func(tx store.Tx) error {
		old, i, err := tableOf(tx, in.AssociationId)
		if err != nil {
			return err
		}
		if truth(old.Table.Associations[i].Main) {
			return invalid("cannot disassociate the main route table association %s", *in.AssociationId)
		}
		t := *old
		t.Table.Associations = slices.Delete(slices.Clone(old.Table.Associations), i, i+1)
		store.RouteTables.Put(tx, &t)
		return nil
	})
}
