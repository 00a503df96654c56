package ec2

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
)

// named are the members of requests that name resources, and of which kind these are.
var named = map[string]kind{"VpcId": kindVPC, "SubnetId": kindSubnet, "RouteTableId": kindTable, "InternetGatewayId": kindIGW, "NatGatewayId": kindNAT,
	"AllocationId": kindEIP, "NetworkAclId": kindACL, "DhcpOptionsId": kindDHCP, "GroupId": kindGroup}

// made is the kind of what an operation makes.
var made = map[string]kind{"CreateVpc": kindVPC, "CreateSubnet": kindSubnet, "CreateRouteTable": kindTable, "CreateInternetGateway": kindIGW,
	"CreateNatGateway": kindNAT, "AllocateAddress": kindEIP, "CreateNetworkAcl": kindACL, "CreateDhcpOptions": kindDHCP, "CreateSecurityGroup": kindGroup,
	"AuthorizeSecurityGroupIngress": kindRule, "AuthorizeSecurityGroupEgress": kindRule}

// asks tells what a request asks to be allowed: its action on what it names and on what it makes, and CreateTags where it gives tags to
// that. Descriptions are asked for on everything.
func (a *api) asks(_ context.Context, operation string, input any) []wire.Ask {
	if strings.HasPrefix(operation, "Describe") {
		return nil
	}
	v := reflect.ValueOf(input).Elem()
	ask := wire.Ask{Action: "ec2:" + operation, Context: map[string][]string{"ec2:Region": {a.scope.Region}}}
	var ids []string
	for field, k := range named {
		if id, ok := reflect.TypeAssert[*string](member(v, field)); ok && str(id) != "" {
			ask.Resources, ids = append(ask.Resources, a.scope.ARN("ec2", k.name+"/"+*id)), append(ids, *id)
		}
	}
	if all, ok := reflect.TypeAssert[[]string](member(v, "Resources")); ok {
		for _, id := range all {
			ask.Resources, ids = append(ask.Resources, a.scope.ARN("ec2", nameOf(id)+"/"+id)), append(ids, id)
		}
	}
	tags, tagging := []types.Tag(nil), []wire.Ask(nil)
	if k, makes := made[operation]; makes {
		ask.Resources = append(ask.Resources, a.scope.ARN("ec2", k.name+"/*"))
		if specs, ok := reflect.TypeAssert[[]types.TagSpecification](member(v, "TagSpecifications")); ok {
			for _, s := range specs {
				tags = append(tags, s.Tags...)
			}
		}
		if len(tags) > 0 {
			tagging = append(tagging, wire.Ask{Action: "ec2:CreateTags", Resources: []string{a.scope.ARN("ec2", k.name+"/*")},
				Context: with(map[string][]string{"ec2:Region": {a.scope.Region}, "ec2:CreateAction": {operation}}, tags)})
		}
	} else if own, ok := reflect.TypeAssert[[]types.Tag](member(v, "Tags")); ok {
		tags = own
	}
	slices.Sort(ask.Resources)
	with(ask.Context, tags)
	if len(ids) == 1 { // a condition on a resource's tags speaks of one resource
		_ = a.view(func(r store.Reader) error {
			for t := range resources(r) {
				if t.id != ids[0] {
					continue
				}
				for _, tag := range t.tags {
					ask.Context["aws:ResourceTag/"+str(tag.Key)] = []string{str(tag.Value)}
					ask.Context["ec2:ResourceTag/"+str(tag.Key)] = []string{str(tag.Value)}
				}
				break
			}
			return nil
		})
	}
	return append([]wire.Ask{ask}, tagging...)
}

// member is a member of a request by its name; a value of no type where it has none.
func member(v reflect.Value, name string) reflect.Value {
	if f := v.FieldByName(name); f.IsValid() {
		return f
	}
	return reflect.ValueOf(struct{}{})
}

// nameOf is what the ARN of a resource calls its kind.
func nameOf(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	for _, k := range kinds {
		if k.prefix == prefix {
			return k.name
		}
	}
	return "*"
}

// with adds the keys of a request's tags.
func with(keys map[string][]string, tags []types.Tag) map[string][]string {
	for _, t := range tags {
		keys["aws:RequestTag/"+str(t.Key)] = []string{str(t.Value)}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], str(t.Key))
	}
	return keys
}
