// Package ec2 is what containers need of EC2's API: networks (VPCs, subnets, routes, gateways, access lists) and security groups, as the
// modules make them that people use. Subnets and security groups act; routes, gateways, elastic addresses and access lists are stored
// and described only. There is a default VPC, which stays.
package ec2

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

//go:generate go run generate.go

// Config is what the API needs.
type Config struct {
	Store store.Store
	// Network is the default VPC.
	Network Network
	Now     func() time.Time
	// NewID returns a fresh id of 32 hexadecimal digits.
	NewID func() string
	Log   *slog.Logger
}

type api struct {
	Config
	scope model.Scope
	rows  *store.Computed
}

func newAPI(c Config) *api { return &api{c, c.Network.scope, c.Network.Rows()} }

// New makes the service.
func New(c Config) *wire.Service {
	a := newAPI(c)
	s := &wire.Service{Name: "ec2", Protocol: wire.EC2Query, Version: "2016-11-15", Namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
		Names: names, Asks: a.asks}
	a.networks(s)
	a.gateways(s)
	a.groups(s)
	wire.Handle(s, a.createTags)
	wire.Handle(s, a.deleteTags)
	wire.Handle(s, a.describeTags)
	wire.Handle(s, a.describeAvailabilityZones)
	wire.Handle(s, a.describeRegions)
	wire.Handle(s, a.describeAccountAttributes)
	wire.Handle(s, a.describeNetworkInterfaces)
	wire.Handle(s, a.describePrefixLists)
	wire.Handle(s, a.describeManagedPrefixLists)
	wire.Handle(s, a.describeVpcEndpoints)
	wire.Handle(s, a.describeInstances)
	wire.Handle(s, a.describeInstanceTypes)
	wire.Handle(s, a.describeImages)
	return s
}

// networks adds the operations of VPCs and what divides them.
func (a *api) networks(s *wire.Service) {
	wire.Handle(s, a.createVpc)
	wire.Handle(s, a.deleteVpc)
	wire.Handle(s, a.describeVpcs)
	wire.Handle(s, a.describeVpcAttribute)
	wire.Handle(s, a.modifyVpcAttribute)
	wire.Handle(s, a.associateVpcCidrBlock)
	wire.Handle(s, a.disassociateVpcCidrBlock)
	wire.Handle(s, a.createDhcpOptions)
	wire.Handle(s, a.deleteDhcpOptions)
	wire.Handle(s, a.describeDhcpOptions)
	wire.Handle(s, a.associateDhcpOptions)
	wire.Handle(s, a.createSubnet)
	wire.Handle(s, a.deleteSubnet)
	wire.Handle(s, a.describeSubnets)
	wire.Handle(s, a.modifySubnetAttribute)
	wire.Handle(s, a.createNetworkAcl)
	wire.Handle(s, a.deleteNetworkAcl)
	wire.Handle(s, a.describeNetworkAcls)
	wire.Handle(s, a.createNetworkAclEntry)
	wire.Handle(s, a.replaceNetworkAclEntry)
	wire.Handle(s, a.deleteNetworkAclEntry)
	wire.Handle(s, a.replaceNetworkAclAssociation)
}

// gateways adds the operations of routes and what they lead to.
func (a *api) gateways(s *wire.Service) {
	wire.Handle(s, a.createRouteTable)
	wire.Handle(s, a.deleteRouteTable)
	wire.Handle(s, a.describeRouteTables)
	wire.Handle(s, a.createRoute)
	wire.Handle(s, a.replaceRoute)
	wire.Handle(s, a.deleteRoute)
	wire.Handle(s, a.associateRouteTable)
	wire.Handle(s, a.replaceRouteTableAssociation)
	wire.Handle(s, a.disassociateRouteTable)
	wire.Handle(s, a.createInternetGateway)
	wire.Handle(s, a.deleteInternetGateway)
	wire.Handle(s, a.attachInternetGateway)
	wire.Handle(s, a.detachInternetGateway)
	wire.Handle(s, a.describeInternetGateways)
	wire.Handle(s, a.createNatGateway)
	wire.Handle(s, a.deleteNatGateway)
	wire.Handle(s, a.describeNatGateways)
	wire.Handle(s, a.allocateAddress)
	wire.Handle(s, a.releaseAddress)
	wire.Handle(s, a.disassociateAddress)
	wire.Handle(s, a.describeAddresses)
	wire.Handle(s, a.describeAddressesAttribute)
}

// groups adds the operations of security groups.
func (a *api) groups(s *wire.Service) {
	wire.Handle(s, a.createSecurityGroup)
	wire.Handle(s, a.deleteSecurityGroup)
	wire.Handle(s, a.describeSecurityGroups)
	wire.Handle(s, a.describeSecurityGroupRules)
	wire.Handle(s, a.authorizeSecurityGroupIngress)
	wire.Handle(s, a.authorizeSecurityGroupEgress)
	wire.Handle(s, a.revokeSecurityGroupIngress)
	wire.Handle(s, a.revokeSecurityGroupEgress)
	wire.Handle(s, a.modifySecurityGroupRules)
	wire.Handle(s, a.updateSecurityGroupRuleDescriptionsIngress)
	wire.Handle(s, a.updateSecurityGroupRuleDescriptionsEgress)
}

// view reads what is stored and what the default VPC is.
func (a *api) view(f func(r store.Reader) error) (err error) {
	a.Store.View(func(r store.Reader) { err = f(a.rows.Over(r)) })
	return err
}

// update changes what is stored.
func (a *api) update(ctx context.Context, f func(tx store.Tx) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error { return f(a.rows.OverTx(tx)) })
}

// id makes a fresh id of a kind: subnet-0123456789abcdef0.
func (a *api) id(kind string) string { return kind + "-" + a.NewID()[:17] }

// The refusals that several operations make.

func invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameterValue", format, args...)
}

func missing(parameter string) error {
	return model.Errorf("MissingParameter", "The request must contain the parameter %s", parameter)
}

func depends(kind, id string) error {
	return model.Errorf("DependencyViolation", "The %s '%s' has dependencies and cannot be deleted.", kind, id)
}

func stays(what string) error {
	return model.Errorf("OperationNotPermitted", "Berth keeps the default VPC's %s: tasks without a subnet of their own live there.", what)
}

// kind is a kind of resources: what their ids begin with, and how EC2 says that there is none.
type kind struct{ prefix, name, code, text string }

var (
	kindVPC    = kind{"vpc", "vpc", "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist"}
	kindSubnet = kind{"subnet", "subnet", "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist"}
	kindTable  = kind{"rtb", "route-table", "InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist"}
	kindIGW    = kind{"igw", "internet-gateway", "InvalidInternetGatewayID.NotFound", "The internetGateway ID '%s' does not exist"}
	kindNAT    = kind{"nat", "natgateway", "NatGatewayNotFound", "NatGateway %s was not found"}
	kindEIP    = kind{"eipalloc", "elastic-ip", "InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist"}
	kindACL    = kind{"acl", "network-acl", "InvalidNetworkAclID.NotFound", "The networkAcl ID '%s' does not exist"}
	kindDHCP   = kind{"dopt", "dhcp-options", "InvalidDhcpOptionID.NotFound", "The dhcpOption ID '%s' does not exist"}
	kindGroup  = kind{"sg", "security-group", "InvalidGroup.NotFound", "The security group '%s' does not exist"}
	kindRule   = kind{"sgr", "security-group-rule", "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist"}
	kindENI    = kind{"eni", "network-interface", "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist"}
)

func (k kind) none(id string) error {
	return model.Errorf(k.code, "%s", strings.Replace(k.text, "%s", clip(id), 1))
}

// clip bounds what a refusal repeats of a request.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100]
	}
	return s
}

// get finds a row by the id that a request gives, or refuses.
func get[T any, P interface {
	*T
	store.Keyed
}](r store.Reader, t store.Table[T, P], k kind, parameter string, id *string) (P, error) {
	if str(id) == "" {
		return nil, missing(parameter)
	}
	row, ok := t.Get(r, *id)
	if !ok {
		return nil, k.none(*id)
	}
	return row, nil
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func truth(b *bool) bool { return b != nil && *b }

// maxTags is EC2's bound of a resource's tags.
const maxTags = 50

// tagsFor are the tags that a request gives to what it makes.
func tagsFor(k kind, specs []types.TagSpecification) ([]types.Tag, error) {
	var all []types.Tag
	for _, s := range specs {
		if string(s.ResourceType) != k.name {
			return nil, invalid("'%s' is not a valid taggable resource type for this operation.", clip(string(s.ResourceType)))
		}
		all = append(all, s.Tags...)
	}
	return all, checkTags(all)
}

func checkTags(tags []types.Tag) error {
	var keys []string
	for _, t := range tags {
		switch key := str(t.Key); {
		case key == "":
			return missing("Key")
		case len([]rune(key)) > 128:
			return invalid("Tag keys may not be longer than 128 characters")
		case len([]rune(str(t.Value))) > 256:
			return invalid("Tag values may not be longer than 256 characters")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("Tag keys starting with 'aws:' are reserved for internal use")
		case slices.Contains(keys, key):
			return invalid("Duplicate tag key '%s' specified.", key)
		default:
			keys = append(keys, key)
		}
	}
	if len(keys) > maxTags {
		return model.Errorf("TagLimitExceeded", "You have reached the maximum number of tags allowed on a resource: %d", maxTags)
	}
	return nil
}
