package model

import (
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// The rows of EC2's networks hold what Describe… returns. All of them are written by the API. Those of the default VPC are computed
// (api/ec2.Network) and stored only once a client changed something of them.

// VPC is a virtual private cloud.
type VPC struct {
	ID                                     string
	VPC                                    types.Vpc
	DNSSupport, DNSHostnames, AddressUsage bool
}

// Key is the id.
func (v *VPC) Key() string { return v.ID }

// Ranges are its CIDR blocks.
func (v *VPC) Ranges() []netip.Prefix {
	var all []netip.Prefix
	for _, a := range v.VPC.CidrBlockAssociationSet {
		if p, err := netip.ParsePrefix(str(a.CidrBlock)); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// Subnet is a part of a VPC in one zone.
type Subnet struct {
	ID     string
	VPC    string
	Subnet types.Subnet // but for AvailableIpAddressCount
}

// Key is the id.
func (s *Subnet) Key() string { return s.ID }

// Range is its CIDR block.
func (s *Subnet) Range() netip.Prefix {
	p, _ := netip.ParsePrefix(str(s.Subnet.CidrBlock))
	return p
}

// RouteTable is a list of routes with the subnets that follow it. Nothing acts on the routes: every task reaches what its security
// groups let it reach.
type RouteTable struct {
	ID    string
	VPC   string
	Table types.RouteTable
}

// Key is the id.
func (t *RouteTable) Key() string { return t.ID }

// Main tells whether it is that of subnets without one.
func (t *RouteTable) Main() bool {
	for _, a := range t.Table.Associations {
		if a.Main != nil && *a.Main {
			return true
		}
	}
	return false
}

// InternetGateway is described, and nothing acts on it.
type InternetGateway struct {
	ID      string
	Gateway types.InternetGateway
}

// Key is the id.
func (g *InternetGateway) Key() string { return g.ID }

// VPC is the one that it is attached to, "" for none.
func (g *InternetGateway) VPC() string {
	if len(g.Gateway.Attachments) == 0 {
		return ""
	}
	return str(g.Gateway.Attachments[0].VpcId)
}

// NATGateway is described, and nothing acts on it: machines translate what tasks send out.
type NATGateway struct {
	ID      string
	VPC     string
	Subnet  string
	Token   string           // the client's, of its creation
	Gateway types.NatGateway // but for State, which follows from CreateTime and DeleteTime
}

// Key is the id.
func (g *NATGateway) Key() string { return g.ID }

// Deleted tells whether it is only remembered.
func (g *NATGateway) Deleted() bool { return g.Gateway.DeleteTime != nil }

// Address is an elastic IP address, of a range that nobody routes.
type Address struct {
	ID          string // eipalloc-…
	Address     types.Address
	AllocatedAt time.Time
}

// Key is the allocation's id.
func (a *Address) Key() string { return a.ID }

// NetworkACL is stored and described, and filters nothing.
type NetworkACL struct {
	ID  string
	VPC string
	ACL types.NetworkAcl
}

// Key is the id.
func (a *NetworkACL) Key() string { return a.ID }

// DHCPOptions are described only.
type DHCPOptions struct {
	ID      string
	Options types.DhcpOptions
}

// Key is the id.
func (o *DHCPOptions) Key() string { return o.ID }

// SecurityGroup says who may reach its members, and what they may reach.
type SecurityGroup struct {
	ID, Name, Description, VPC string
	Rules                      []SecurityGroupRule
	Tags                       []types.Tag
}

// Key is the id.
func (g *SecurityGroup) Key() string { return g.ID }

// DefaultGroup is the name of the group that each VPC has.
const DefaultGroup = "default"

// SecurityGroupRule allows one kind of traffic from, or to, one peer. Of CIDR, CIDR6, Group and PrefixList one is set.
type SecurityGroupRule struct {
	ID     string // sgr-…
	Egress bool
	// Protocol is tcp, udp, icmp, icmpv6, a number, or -1 for all.
	Protocol string
	// From and To are ports, or type and code of ICMP; -1 means all.
	From, To    int32
	CIDR        string `json:",omitempty"`
	CIDR6       string `json:",omitempty"`
	Group       string `json:",omitempty"` // the id of a security group
	PrefixList  string `json:",omitempty"`
	Description string
	Tags        []types.Tag
}

// Same tells whether two rules allow the same.
func (r SecurityGroupRule) Same(o SecurityGroupRule) bool {
	return r.Egress == o.Egress && r.Protocol == o.Protocol && r.From == o.From && r.To == o.To && r.CIDR == o.CIDR && r.CIDR6 == o.CIDR6 &&
		r.Group == o.Group && r.PrefixList == o.PrefixList
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
