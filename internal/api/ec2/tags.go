package ec2

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// taggable is a resource as the operations of tags see it.
type taggable struct {
	kind kind
	id   string
	tags []types.Tag
	put  func(tx store.Tx, tags []types.Tag)
}

// resources are all that have tags.
func resources(r store.Reader) iter.Seq[taggable] {
	return func(yield func(taggable) bool) {
		_ = each(r, store.VPCs, kindVPC, func(v *model.VPC) *[]types.Tag { return &v.VPC.Tags }, yield) &&
			each(r, store.Subnets, kindSubnet, func(v *model.Subnet) *[]types.Tag { return &v.Subnet.Tags }, yield) &&
			each(r, store.RouteTables, kindTable, func(v *model.RouteTable) *[]types.Tag { return &v.Table.Tags }, yield) &&
			each(r, store.InternetGateways, kindIGW, func(v *model.InternetGateway) *[]types.Tag { return &v.Gateway.Tags }, yield) &&
			each(r, store.NATGateways, kindNAT, func(v *model.NATGateway) *[]types.Tag { return &v.Gateway.Tags }, yield) &&
			each(r, store.Addresses, kindEIP, func(v *model.Address) *[]types.Tag { return &v.Address.Tags }, yield) &&
			each(r, store.NetworkACLs, kindACL, func(v *model.NetworkACL) *[]types.Tag { return &v.ACL.Tags }, yield) &&
			each(r, store.DHCPOptions, kindDHCP, func(v *model.DHCPOptions) *[]types.Tag { return &v.Options.Tags }, yield) &&
			each(r, store.SecurityGroups, kindGroup, func(v *model.SecurityGroup) *[]types.Tag { return &v.Tags }, yield) &&
			rules(r, yield)
	}
}

// each yields the rows of a table.
func each[T any, P interface {
	*T
	store.Keyed
}](r store.Reader, t store.Table[T, P], k kind, tags func(P) *[]types.Tag, yield func(taggable) bool) bool {
	for row := range t.Scan(r, "") {
		put := func(tx store.Tx, next []types.Tag) {
			c := *row
			*tags(&c) = next
			t.Put(tx, &c)
		}
		if !yield(taggable{k, row.Key(), *tags(row), put}) {
			return false
		}
	}
	return true
}

func rules(r store.Reader, yield func(taggable) bool) bool {
	for x := range allRules(r) {
		put := func(tx store.Tx, next []types.Tag) {
			g, ok := store.SecurityGroups.Get(tx, x.group.ID) // which may have changed with another rule of it
			if !ok {
				return
			}
			c := *g
			c.Rules = slices.Clone(g.Rules)
			for i := range c.Rules {
				if c.Rules[i].ID == x.ID {
					c.Rules[i].Tags = next
				}
			}
			store.SecurityGroups.Put(tx, &c)
		}
		if !yield(taggable{kindRule, x.ID, x.Tags, put}) {
			return false
		}
	}
	return true
}

// kinds are those whose resources have tags.
var kinds = []kind{kindVPC, kindSubnet, kindTable, kindIGW, kindNAT, kindEIP, kindACL, kindDHCP, kindGroup, kindRule}

// changeTags has the tags of resources be what change makes of them.
func (a *api) changeTags(ctx context.Context, ids []string, change func(old []types.Tag) []types.Tag) error {
	if len(ids) == 0 {
		return missing("resourceIdSet")
	}
	if len(ids) > 1000 {
		return invalid("At most 1000 resources can be tagged at once")
	}
	return a.update(ctx, func(tx store.Tx) error {
		want, found := map[string]bool{}, []taggable{}
		for _, id := range ids {
			want[id] = true
		}
		for t := range resources(tx) {
			if want[t.id] {
				found = append(found, t)
				delete(want, t.id)
			}
		}
		for _, id := range ids {
			if want[id] {
				return noResource(id)
			}
		}
		for _, t := range found {
			next := change(t.tags)
			if len(next) > maxTags {
				return model.Errorf("TagLimitExceeded", "You have reached the maximum number of tags allowed on a resource: %d", maxTags)
			}
			t.put(tx, next)
		}
		return nil
	})
}

// noResource says that there is no such resource in the words of its kind.
func noResource(id string) error {
	prefix, _, ok := strings.Cut(id, "-")
	for _, k := range kinds {
		if ok && k.prefix == prefix {
			return k.none(id)
		}
	}
	return model.Errorf("InvalidID", "The ID '%s' is not valid", clip(id))
}

func (a *api) createTags(ctx context.Context, in *ec2.CreateTagsInput) (*ec2.CreateTagsOutput, error) {
	if len(in.Tags) == 0 {
		return nil, missing("tagSet")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return nil, a.changeTags(ctx, in.Resources, func(old []types.Tag) []types.Tag {
		next := slices.Clone(old)
		for _, t := range in.Tags {
			if t.Value == nil {
				t.Value = new("")
			}
			if i := slices.IndexFunc(next, func(o types.Tag) bool { return str(o.Key) == str(t.Key) }); i >= 0 {
				next[i] = t
			} else {
				next = append(next, t)
			}
		}
		return next
	})
}

// deleteTags removes tags by their keys, or only where they have a value; all of them when none is named.
func (a *api) deleteTags(ctx context.Context, in *ec2.DeleteTagsInput) (*ec2.DeleteTagsOutput, error) {
	return nil, a.changeTags(ctx, in.Resources, func(old []types.Tag) []types.Tag {
		return slices.DeleteFunc(slices.Clone(old), func(o types.Tag) bool {
			return len(in.Tags) == 0 || slices.ContainsFunc(in.Tags, func(t types.Tag) bool {
				return str(t.Key) == str(o.Key) && (t.Value == nil || *t.Value == str(o.Value))
			})
		})
	})
}

func (a *api) describeTags(_ context.Context, in *ec2.DescribeTagsInput) (*ec2.DescribeTagsOutput, error) {
	out := &ec2.DescribeTagsOutput{}
	return out, a.view(func(r store.Reader) (err error) {
		all, keys := []types.TagDescription{}, []string{}
		var found []types.TagDescription
		for t := range resources(r) {
			for _, tag := range t.tags {
				found = append(found, types.TagDescription{Key: tag.Key, Value: tag.Value, ResourceId: &t.id, ResourceType: types.ResourceType(t.kind.name)})
			}
		}
		place := func(d types.TagDescription) string { return *d.ResourceId + "/" + *d.Key }
		slices.SortFunc(found, func(x, y types.TagDescription) int { return strings.Compare(place(x), place(y)) })
		for _, d := range append([]types.TagDescription{{Key: new(""), Value: new(""), ResourceId: new("")}}, found...) { // the first checks the filters
			ok, err := matches(in.Filters, attributes{"key": {*d.Key}, "value": {str(d.Value)}, "resource-id": {*d.ResourceId}, "resource-type": {string(d.ResourceType)}})
			if err != nil {
				return err
			}
			if ok && *d.ResourceId != "" {
				all, keys = append(all, d), append(keys, place(d))
			}
		}
		out.Tags, out.NextToken, err = page(query{max: in.MaxResults, token: in.NextToken}, all, keys)
		return err
	})
}
