package store

import "github.com/berthdev/berth/internal/model"

// ByVPC lists what belongs to a VPC, by its id.
const ByVPC = "vpc"

// The tables of EC2's networks, most of them by ByVPC.
var (
	VPCs    = table[model.VPC]("ec2-vpcs")
	Subnets = table[model.Subnet]("ec2-subnets",
		by(ByVPC, func(s *model.Subnet) string { return s.VPC }))
	RouteTables = table[model.RouteTable]("ec2-routes",
		by(ByVPC, func(t *model.RouteTable) string { return t.VPC }))
	InternetGateways = table[model.InternetGateway]("ec2-igws",
		by(ByVPC, func(g *model.InternetGateway) string { return g.VPC() }))
	NATGateways = table[model.NATGateway]("ec2-nats",
		by(ByVPC, func(g *model.NATGateway) string { return g.VPC }))
	Addresses   = table[model.Address]("ec2-addresses")
	NetworkACLs = table[model.NetworkACL]("ec2-acls",
		by(ByVPC, func(a *model.NetworkACL) string { return a.VPC }))
	DHCPOptions    = table[model.DHCPOptions]("ec2-dhcp")
	SecurityGroups = table[model.SecurityGroup]("ec2-groups",
		by(ByVPC, func(g *model.SecurityGroup) string { return g.VPC }))
)

// GroupsOf are the security groups of a task in awsvpc mode: those that were asked for, or the default group of its subnet's VPC.
func GroupsOf(r Reader, t *model.Task) []string {
	subnet := ""
	if c := t.NetworkConfiguration; c != nil && c.AwsvpcConfiguration != nil {
		if len(c.AwsvpcConfiguration.SecurityGroups) > 0 {
			return c.AwsvpcConfiguration.SecurityGroups
		}
		if len(c.AwsvpcConfiguration.Subnets) > 0 {
			subnet = c.AwsvpcConfiguration.Subnets[0]
		}
	}
	if t.Observed.Interface != nil && t.Observed.Interface.SubnetID != "" {
		subnet = t.Observed.Interface.SubnetID
	}
	if g := DefaultGroup(r, VPCOf(r, subnet)); g != "" {
		return []string{g}
	}
	return nil
}

// VPCOf is the VPC of a subnet; the default one for a subnet that nobody knows.
func VPCOf(r Reader, subnet string) string {
	if s, ok := Subnets.Get(r, subnet); ok {
		return s.VPC
	}
	for v := range VPCs.Scan(r, "") {
		if v.VPC.IsDefault != nil && *v.VPC.IsDefault {
			return v.ID
		}
	}
	return ""
}

// DefaultGroup is the id of the VPC's default security group; "" when there is none.
func DefaultGroup(r Reader, vpc string) string {
	for g := range SecurityGroups.By(r, ByVPC, vpc) {
		if g.Name == model.DefaultGroup {
			return g.ID
		}
	}
	return ""
}
