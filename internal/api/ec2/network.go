package ec2

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// CIDR is that of AWS's default VPC.
const CIDR = "172.31.0.0/16"

// zones are the letters of the region's availability zones; each has one subnet. Application load balancers want two.
var zones = []string{"a", "b", "c"}

// Network is the default VPC. Its ids are made from the account and the region, and so are the same after a reinstallation.
type Network struct {
	VPC           string
	SecurityGroup string
	Subnets       []Subnet

	cidr  netip.Prefix
	scope model.Scope
}

// Subnet is one zone's part of the VPC.
type Subnet struct {
	ID, Zone, ZoneID, CIDR string

	bits int // of the CIDR
}

// DefaultNetwork is the network of an account in a region, with AWS's own CIDR.
func DefaultNetwork(s model.Scope) Network {
	n, err := NewNetwork(s, netip.MustParsePrefix(CIDR))
	if err != nil {
		panic(err) // CIDR is a constant of the right size
	}
	return n
}

// NewNetwork is the network of an account in a region. Each of its subnets has a 16th of cidr, which must be IPv4 and, as AWS
// demands, from /16 to /24 (so that subnets are /28 at least).
func NewNetwork(s model.Scope, cidr netip.Prefix) (Network, error) {
	if !cidr.Addr().Is4() || cidr.Bits() < 16 || cidr.Bits() > 24 || cidr != cidr.Masked() {
		return Network{}, fmt.Errorf("the VPC's CIDR %s must be an IPv4 network from /16 to /24", cidr)
	}
	n := Network{cidr: cidr, scope: s}
	n.VPC, n.SecurityGroup = n.id("vpc"), n.id("sg")
	first, bits := binary.BigEndian.Uint32(cidr.Addr().AsSlice()), cidr.Bits()+4
	for i, z := range zones {
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], first+uint32(i)<<(32-bits))
		n.Subnets = append(n.Subnets, Subnet{ID: n.id("subnet", z), Zone: s.Region + z, ZoneID: fmt.Sprintf("%s-az%d",
			shortRegion(s.Region), i+1),
			CIDR: netip.PrefixFrom(netip.AddrFrom4(addr), bits).String(), bits: bits})
	}
	return n, nil
}

// shortRegion is "use1" for us-east-1, "apse2" for ap-southeast-2 and "usgw1" for us-gov-west-1, as in the ids of zones.
func shortRegion(region string) string {
	parts := strings.Split(region, "-")
	if len(parts) < 3 {
		return region
	}
	short := parts[0]
	for _, part := range parts[1 : len(parts)-1] {
		letters := ""
		for _, direction := range []string{"north", "south", "east", "west", "central"} {
			if strings.Contains(part, direction) {
				letters += direction[:1]
			}
		}
		if letters == "" && part != "" {
			letters = part[:1]
		}
		short += letters
	}
	return short + parts[len(parts)-1]
}

// id is the same on every machine and after a reinstallation.
func (n Network) id(kind string, more ...string) string {
	sum := sha256.Sum256([]byte(n.scope.Account + n.scope.Region + kind + strings.Join(more, "")))
	return kind + "-" + hex.EncodeToString(sum[:])[:17]
}

// Rows are those of the default VPC as long as no client has changed them.
func (n Network) Rows() *store.Computed {
	cidr, owner := n.cidr.String(), n.scope.Account
	vpc := &model.VPC{ID: n.VPC, DNSSupport: true, DNSHostnames: true, VPC: types.Vpc{VpcId: &n.VPC, CidrBlock: &cidr, IsDefault: new(true),
		State: types.VpcStateAvailable, OwnerId: &owner, DhcpOptionsId: new(n.id("dopt")), InstanceTenancy: types.TenancyDefault,
		CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{associated(n.id("vpc-cidr-assoc"), cidr)}}}
	gateway := n.id("igw")
	igw := &model.InternetGateway{ID: gateway, Gateway: types.InternetGateway{InternetGatewayId: &gateway, OwnerId: &owner,
		Attachments: []types.InternetGatewayAttachment{{VpcId: &n.VPC, State: types.AttachmentStatus("available")}}}}
	table := newRouteTable(n.id("rtb"), n.VPC, owner, []string{cidr})
	table.Table.Associations = []types.RouteTableAssociation{association(n.id("rtbassoc"), table.ID, "")}
	table.Table.Routes = append(table.Table.Routes, types.Route{DestinationCidrBlock: new(anywhere), GatewayId: &gateway,
		Origin: types.RouteOriginCreateRoute, State: types.RouteStateActive})
	acl := newACL(n.id("acl"), n.VPC, owner, true)
	group := newDefaultGroup(n.SecurityGroup, n.VPC, n.id("sgr", "in"), n.id("sgr", "out"))
	rows := []store.ComputedRow{store.VPCs.Computed(vpc), store.InternetGateways.Computed(igw), store.RouteTables.Computed(table),
		store.SecurityGroups.Computed(group), store.DHCPOptions.Computed(n.dhcp())}
	for _, s := range n.Subnets {
		acl.ACL.Associations = append(acl.ACL.Associations, types.NetworkAclAssociation{NetworkAclAssociationId: new(n.id("aclassoc", s.Zone)),
			NetworkAclId: &acl.ID, SubnetId: &s.ID})
		row := newSubnet(s.ID, n.VPC, s.CIDR, s.Zone, s.ZoneID, n.scope)
		row.Subnet.DefaultForAz, row.Subnet.MapPublicIpOnLaunch = new(true), new(true)
		rows = append(rows, store.Subnets.Computed(row))
	}
	return store.Compute(append(rows, store.NetworkACLs.Computed(acl))...)
}

// dhcp are the options that AWS gives each region.
func (n Network) dhcp() *model.DHCPOptions {
	domain := n.scope.Region + ".compute.internal"
	if n.scope.Region == "us-east-1" {
		domain = "ec2.internal"
	}
	return &model.DHCPOptions{ID: n.id("dopt"), Options: types.DhcpOptions{DhcpOptionsId: new(n.id("dopt")), OwnerId: &n.scope.Account,
		DhcpConfigurations: []types.DhcpConfiguration{
			{Key: new("domain-name"), Values: []types.AttributeValue{{Value: &domain}}},
			{Key: new("domain-name-servers"), Values: []types.AttributeValue{{Value: new("AmazonProvidedDNS")}}}}}}
}
