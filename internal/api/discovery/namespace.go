package discovery

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

const (
	defaultSOATTL = 15 // seconds
	maxTTL        = 2147483647
)

func (a *api) createHttpNamespace(ctx context.Context, in *sdk.CreateHttpNamespaceInput) (*sdk.CreateHttpNamespaceOutput, error) {
	if !httpName.MatchString(value(in.Name)) {
		return nil, invalid("Invalid name %.100q: 1 to 1000 printable characters without spaces.", value(in.Name))
	}
	id, err := a.createNamespace(ctx, &model.DiscoveryNamespace{Name: value(in.Name), Type: model.NamespaceHTTP, Description: value(in.Description),
		RequestID: value(in.CreatorRequestId)}, in.Tags)
	return &sdk.CreateHttpNamespaceOutput{OperationId: id}, err
}

func (a *api) createPrivateDnsNamespace(ctx context.Context, in *sdk.CreatePrivateDnsNamespaceInput) (*sdk.CreatePrivateDnsNamespaceOutput, error) {
	if n := value(in.Name); !dnsName.MatchString(n) || len(n) > 253 {
		return nil, invalid("Invalid name %.100q: it must be a domain name.", n)
	}
	if err := required("Vpc", in.Vpc); err != nil {
		return nil, err
	}
	if !a.DNS {
		return nil, invalid("Berth answers DNS names in the region of its machines only: create an HTTP namespace here, whose instances DiscoverInstances finds.")
	}
	ttl := int64(defaultSOATTL)
	if p := in.Properties; p != nil && p.DnsProperties != nil && p.DnsProperties.SOA != nil && p.DnsProperties.SOA.TTL != nil {
		ttl = *p.DnsProperties.SOA.TTL
	}
	if err := ttlInBounds(ttl); err != nil {
		return nil, err
	}
	zone := make([]byte, 12)
	rand.Read(zone)
	id, err := a.createNamespace(ctx, &model.DiscoveryNamespace{Name: strings.ToLower(strings.TrimSuffix(*in.Name, ".")), Type: model.NamespacePrivate,
		Description: value(in.Description), VPC: *in.Vpc, SOATTL: ttl, RequestID: value(in.CreatorRequestId),
		HostedZoneID: "Z" + base32.StdEncoding.EncodeToString(zone)[:20]}, in.Tags)
	return &sdk.CreatePrivateDnsNamespaceOutput{OperationId: id}, err
}

func ttlInBounds(ttl int64) error {
	if ttl < 0 || ttl > maxTTL {
		return invalid("TTL must be between 0 and %d.", maxTTL)
	}
	return nil
}

func (a *api) createPublicDnsNamespace(context.Context, *sdk.CreatePublicDnsNamespaceInput) (*sdk.CreatePublicDnsNamespaceOutput, error) {
	return nil, invalid("Berth does not support public DNS namespaces: it answers its tasks only. Create a private one.")
}

// createNamespace stores a namespace. The same request again is the same namespace; a name is given once a VPC, or once among HTTP ones.
func (a *api) createNamespace(ctx context.Context, n *model.DiscoveryNamespace, tags []types.Tag) (op *string, err error) {
	if n.Tags, err = tagsOf(nil, tags); err != nil {
		return nil, err
	}
	n.ID, n.CreatedAt = newID("ns-"), a.Now()
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if n.VPC != "" && !a.HasVPC(tx, n.VPC) {
			return invalid("The VPC %.50s does not exist in region %s.", n.VPC, a.Scope.Region)
		}
		for other := range store.DiscoveryNamespaces.Scan(tx, "") {
			if n.RequestID != "" && other.RequestID == n.RequestID && other.Name == n.Name && other.Type == n.Type {
				op = a.operation(tx, "CREATE_NAMESPACE", map[string]string{"NAMESPACE": other.ID})
				return nil
			}
			if other.Name == n.Name && other.VPC == n.VPC {
				return model.Errorf("NamespaceAlreadyExists", "Namespace %s already exists: %s", n.Name, other.ID)
			}
		}
		store.DiscoveryNamespaces.Put(tx, n)
		op = a.operation(tx, "CREATE_NAMESPACE", map[string]string{"NAMESPACE": n.ID})
		return nil
	})
	return op, err
}

func (a *api) updateHttpNamespace(ctx context.Context, in *sdk.UpdateHttpNamespaceInput) (*sdk.UpdateHttpNamespaceOutput, error) {
	if in.Namespace == nil {
		return nil, invalid("Namespace is required.")
	}
	op, err := a.updateNamespace(ctx, in.Id, model.NamespaceHTTP, in.Namespace.Description, nil)
	return &sdk.UpdateHttpNamespaceOutput{OperationId: op}, err
}

func (a *api) updatePrivateDnsNamespace(ctx context.Context, in *sdk.UpdatePrivateDnsNamespaceInput) (*sdk.UpdatePrivateDnsNamespaceOutput, error) {
	if in.Namespace == nil {
		return nil, invalid("Namespace is required.")
	}
	var ttl *int64
	if p := in.Namespace.Properties; p != nil && p.DnsProperties != nil && p.DnsProperties.SOA != nil {
		ttl = p.DnsProperties.SOA.TTL
	}
	op, err := a.updateNamespace(ctx, in.Id, model.NamespacePrivate, in.Namespace.Description, ttl)
	return &sdk.UpdatePrivateDnsNamespaceOutput{OperationId: op}, err
}

func (a *api) updateNamespace(ctx context.Context, ref *string, kind string, description *string, ttl *int64) (op *string, err error) {
	if ttl != nil {
		if err := ttlInBounds(*ttl); err != nil {
			return nil, err
		}
	}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := namespace(tx, ref)
		if err != nil {
			return err
		}
		if old.Type != kind {
			return invalid("The namespace %s is of type %s.", old.ID, old.Type)
		}
		n := *old
		if description != nil {
			n.Description = *description
		}
		if ttl != nil {
			n.SOATTL = *ttl
		}
		store.DiscoveryNamespaces.Put(tx, &n)
		op = a.operation(tx, "UPDATE_NAMESPACE", map[string]string{"NAMESPACE": n.ID})
		return nil
	})
	return op, err
}

func (a *api) deleteNamespace(ctx context.Context, in *sdk.DeleteNamespaceInput) (out *sdk.DeleteNamespaceOutput, err error) {
	out = &sdk.DeleteNamespaceOutput{}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		n, err := namespace(tx, in.Id)
		if err != nil {
			return err
		}
		for range store.DiscoveryServices.By(tx, store.ByNamespace, n.ID) {
			return model.Errorf("ResourceInUse", "Namespace has associated services; delete the services before deleting the namespace")
		}
		store.DiscoveryNamespaces.Delete(tx, n.ID)
		out.OperationId = a.operation(tx, "DELETE_NAMESPACE", map[string]string{"NAMESPACE": n.ID})
		return nil
	})
	return out, err
}

func (a *api) drawNamespace(r store.Reader, n *model.DiscoveryNamespace) *types.Namespace {
	services := int32(0)
	for range store.DiscoveryServices.By(r, store.ByNamespace, n.ID) {
		services++
	}
	p := &types.NamespaceProperties{HttpProperties: &types.HttpProperties{HttpName: &n.Name}}
	if n.HostedZoneID != "" {
		p.DnsProperties = &types.DnsProperties{HostedZoneId: &n.HostedZoneID, SOA: &types.SOA{TTL: &n.SOATTL}}
	}
	out := &types.Namespace{Arn: new(a.namespaceARN(n.ID)), Id: &n.ID, Name: &n.Name, Type: types.NamespaceType(n.Type), CreateDate: &n.CreatedAt,
		ServiceCount: &services, Properties: p, ResourceOwner: &a.Scope.Account}
	if n.Description != "" {
		out.Description = &n.Description
	}
	if n.RequestID != "" {
		out.CreatorRequestId = &n.RequestID
	}
	return out
}

func (a *api) getNamespace(_ context.Context, in *sdk.GetNamespaceInput) (*sdk.GetNamespaceOutput, error) {
	return view(a, func(r store.Reader) (*sdk.GetNamespaceOutput, error) {
		n, err := namespace(r, in.Id)
		if err != nil {
			return nil, err
		}
		return &sdk.GetNamespaceOutput{Namespace: a.drawNamespace(r, n)}, nil
	})
}

func (a *api) listNamespaces(_ context.Context, in *sdk.ListNamespacesInput) (*sdk.ListNamespacesOutput, error) {
	return view(a, func(r store.Reader) (*sdk.ListNamespacesOutput, error) {
		var all []*model.DiscoveryNamespace
		for n := range store.DiscoveryNamespaces.Scan(r, "") {
			has := map[types.NamespaceFilterName]string{types.NamespaceFilterNameType: n.Type, types.NamespaceFilterNameName: n.Name,
				types.NamespaceFilterNameHttpName: n.Name, types.NamespaceFilterNameResourceOwner: "SELF"}
			ok, err := passes(in.Filters, func(f types.NamespaceFilter) (bool, error) { return matches(has, f.Name, f.Condition, f.Values) })
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, n)
			}
		}
		some, next, err := page(all, (*model.DiscoveryNamespace).Key, in.MaxResults, in.NextToken)
		out := &sdk.ListNamespacesOutput{NextToken: next, Namespaces: []types.NamespaceSummary{}}
		for _, n := range some {
			d := a.drawNamespace(r, n)
			out.Namespaces = append(out.Namespaces, types.NamespaceSummary{Arn: d.Arn, Id: d.Id, Name: d.Name, Type: d.Type, CreateDate: d.CreateDate,
				ServiceCount: d.ServiceCount, Properties: d.Properties, Description: d.Description, ResourceOwner: d.ResourceOwner})
		}
		return out, err
	})
}

// passes tells whether all filters let something through.
func passes[F any](filters []F, matches func(F) (bool, error)) (bool, error) {
	for _, f := range filters {
		if ok, err := matches(f); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// matches tells whether a filter lets through what has these values.
func matches[N ~string](has map[N]string, name N, c types.FilterCondition, values []string) (bool, error) {
	is, known := has[name]
	if !known {
		return false, invalid("Berth does not support the filter %.50q.", name)
	}
	if len(values) == 0 {
		return false, invalid("A filter needs values.")
	}
	switch c {
	case "", types.FilterConditionEq:
		return is == values[0], nil
	case types.FilterConditionIn:
		return slices.Contains(values, is), nil
	case types.FilterConditionBeginsWith:
		return strings.HasPrefix(is, values[0]), nil
	case types.FilterConditionBetween:
		return len(values) > 1 && is >= values[0] && is <= values[1], nil
	}
	return false, invalid("Invalid filter condition %.50q.", c)
}

func (a *api) getOperation(_ context.Context, in *sdk.GetOperationInput) (*sdk.GetOperationOutput, error) {
	return view(a, func(r store.Reader) (*sdk.GetOperationOutput, error) {
		o, ok := store.DiscoveryOperations.Get(r, value(in.OperationId))
		if !ok {
			return nil, model.Errorf("OperationNotFound", "%.200s", value(in.OperationId))
		}
		return &sdk.GetOperationOutput{Operation: &types.Operation{Id: &o.ID, Type: types.OperationType(o.Type), Status: types.OperationStatusSuccess,
			CreateDate: &o.At, UpdateDate: &o.At, Targets: o.Targets, OwnerAccount: &a.Scope.Account}}, nil
	})
}

func (a *api) listOperations(_ context.Context, in *sdk.ListOperationsInput) (*sdk.ListOperationsOutput, error) {
	return view(a, func(r store.Reader) (*sdk.ListOperationsOutput, error) {
		var all []*model.DiscoveryOperation
		for o := range store.DiscoveryOperations.Scan(r, "") {
			has := map[types.OperationFilterName]string{types.OperationFilterNameNamespaceId: o.Targets["NAMESPACE"],
				types.OperationFilterNameServiceId: o.Targets["SERVICE"], types.OperationFilterNameStatus: "SUCCESS",
				types.OperationFilterNameType: o.Type}
			ok, err := passes(in.Filters, func(f types.OperationFilter) (bool, error) { return matches(has, f.Name, f.Condition, f.Values) })
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, o)
			}
		}
		some, next, err := page(all, (*model.DiscoveryOperation).Key, in.MaxResults, in.NextToken)
		out := &sdk.ListOperationsOutput{NextToken: next, Operations: []types.OperationSummary{}}
		for _, o := range some {
			out.Operations = append(out.Operations, types.OperationSummary{Id: &o.ID, Status: types.OperationStatusSuccess})
		}
		return out, err
	})
}

// tagsOf is old with what is given.
func tagsOf(old map[string]string, given []types.Tag) (map[string]string, error) {
	all := maps.Clone(old)
	if all == nil {
		all = map[string]string{}
	}
	for _, t := range given {
		if k := value(t.Key); k == "" || len(k) > 128 || len(value(t.Value)) > 256 {
			return nil, invalid("Invalid tag %.50q: keys have 1 to 128 characters, values 256 at most.", k)
		}
		all[*t.Key] = value(t.Value)
	}
	if len(all) > 200 {
		return nil, model.Errorf("TooManyTagsException", "A resource has 200 tags at most.")
	}
	return all, nil
}

// tagged changes the tags of what an ARN names.
func (a *api) tagged(ctx context.Context, arn *string, change func(map[string]string) (map[string]string, error)) error {
	return a.Store.Update(ctx, func(tx store.Tx) (err error) {
		if n, ok := store.DiscoveryNamespaces.Get(tx, idOf(arn)); ok && value(arn) == a.namespaceARN(n.ID) {
			n := *n
			if n.Tags, err = change(n.Tags); err == nil {
				store.DiscoveryNamespaces.Put(tx, &n)
			}
			return err
		}
		if s, ok := store.DiscoveryServices.Get(tx, idOf(arn)); ok && value(arn) == a.serviceARN(s.ID) {
			s := *s
			if s.Tags, err = change(s.Tags); err == nil {
				store.DiscoveryServices.Put(tx, &s)
			}
			return err
		}
		return noResource(arn)
	})
}

func noResource(arn *string) error {
	return model.Errorf("ResourceNotFoundException", "Resource with ARN: %.200s doesn't exist.", value(arn))
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	return &sdk.TagResourceOutput{}, a.tagged(ctx, in.ResourceARN, func(old map[string]string) (map[string]string, error) { return tagsOf(old, in.Tags) })
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.tagged(ctx, in.ResourceARN, func(old map[string]string) (map[string]string, error) {
		all := maps.Clone(old)
		maps.DeleteFunc(all, func(k, _ string) bool { return slices.Contains(in.TagKeys, k) })
		return all, nil
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	return view(a, func(r store.Reader) (*sdk.ListTagsForResourceOutput, error) {
		var tags map[string]string
		if n, ok := store.DiscoveryNamespaces.Get(r, idOf(in.ResourceARN)); ok && value(in.ResourceARN) == a.namespaceARN(n.ID) {
			tags = n.Tags
		} else if s, ok := store.DiscoveryServices.Get(r, idOf(in.ResourceARN)); ok && value(in.ResourceARN) == a.serviceARN(s.ID) {
			tags = s.Tags
		} else {
			return nil, noResource(in.ResourceARN)
		}
		out := &sdk.ListTagsForResourceOutput{Tags: []types.Tag{}}
		for _, k := range slices.Sorted(maps.Keys(tags)) {
			out.Tags = append(out.Tags, types.Tag{Key: &k, Value: new(tags[k])})
		}
		return out, nil
	})
}
