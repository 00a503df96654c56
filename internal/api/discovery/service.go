package discovery

import (
	"context"
	"maps"
	"regexp"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// serviceName is that of a service found by DNS: labels, the first of which may be an underscore's.
var serviceName = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,125}[a-zA-Z0-9_])?$`)

func (a *api) createService(ctx context.Context, in *sdk.CreateServiceInput) (out *sdk.CreateServiceOutput, err error) {
	ref := in.NamespaceId
	if in.DnsConfig != nil && in.DnsConfig.NamespaceId != nil {
		ref = in.DnsConfig.NamespaceId
	}
	if !serviceName.MatchString(value(in.Name)) {
		return nil, invalid("Invalid service name %.100q.", value(in.Name))
	}
	if in.HealthCheckConfig != nil {
		return nil, invalid("Berth does not support health checks of Route 53 (HealthCheckConfig); use HealthCheckCustomConfig.")
	}
	s := &model.DiscoveryService{ID: newID("srv-"), Name: *in.Name, Description: value(in.Description), Custom: in.HealthCheckCustomConfig != nil,
		RequestID: value(in.CreatorRequestId), CreatedAt: a.Now(), OnlyHTTP: in.Type == types.ServiceTypeOptionHttp}
	if in.DnsConfig != nil {
		if s.Records, err = records(in.DnsConfig.DnsRecords); err != nil {
			return nil, err
		}
		switch in.DnsConfig.RoutingPolicy {
		case "", types.RoutingPolicyMultivalue:
		case types.RoutingPolicyWeighted:
			s.Weighted = true
		default:
			return nil, invalid("Invalid routing policy %.50q.", in.DnsConfig.RoutingPolicy)
		}
	}
	if s.Tags, err = tagsOf(nil, in.Tags); err != nil {
		return nil, err
	}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		n, err := namespace(tx, ref)
		if err != nil {
			return err
		}
		if len(s.Records) > 0 && n.Type == model.NamespaceHTTP {
			return invalid("Services of the HTTP namespace %s have no DnsConfig.", n.ID)
		}
		s.Namespace = n.ID
		for other := range store.DiscoveryServices.By(tx, store.ByNamespace, n.ID) {
			if other.Name != s.Name {
				continue
			}
			if s.RequestID != "" && other.RequestID == s.RequestID {
				out = &sdk.CreateServiceOutput{Service: a.drawService(tx, other)}
				return nil
			}
			return model.Errorf("ServiceAlreadyExists", "Service already exists: %s", other.ID)
		}
		store.DiscoveryServices.Put(tx, s)
		out = &sdk.CreateServiceOutput{Service: a.drawService(tx, s)}
		return nil
	})
	return out, err
}

// records checks the kinds of records of a service: A with AAAA, or SRV, which may have both beside it, or CNAME alone.
func records(given []types.DnsRecord) (all []model.DiscoveryRecord, err error) {
	if len(given) == 0 {
		return nil, invalid("DnsRecords is required.")
	}
	seen := map[types.RecordType]bool{}
	for _, r := range given {
		if !slices.Contains(types.RecordType("").Values(), r.Type) {
			return nil, invalid("Invalid record type %.50q.", r.Type)
		}
		if r.TTL == nil {
			return nil, invalid("TTL is required.")
		}
		if err := ttlInBounds(*r.TTL); err != nil {
			return nil, err
		}
		if seen[r.Type] {
			return nil, invalid("Two records of type %s.", r.Type)
		}
		seen[r.Type] = true
		all = append(all, model.DiscoveryRecord{Type: string(r.Type), TTL: *r.TTL})
	}
	if seen[types.RecordTypeCname] && len(seen) > 1 {
		return nil, invalid("A service with a CNAME record has no other records.")
	}
	return all, nil
}

func (a *api) drawService(r store.Reader, s *model.DiscoveryService) *types.Service {
	count := int32(0)
	for range store.DiscoveryInstances.Scan(r, s.ID+"/") {
		count++
	}
	out := &types.Service{Arn: new(a.serviceARN(s.ID)), Id: &s.ID, Name: &s.Name, NamespaceId: &s.Namespace, CreateDate: &s.CreatedAt, InstanceCount: &count,
		Type: types.ServiceTypeHttp, ResourceOwner: &a.Scope.Account, CreatedByAccount: &a.Scope.Account}
	if len(s.Records) > 0 {
		out.Type = types.ServiceTypeDnsHttp
		out.DnsConfig = &types.DnsConfig{NamespaceId: &s.Namespace, RoutingPolicy: types.RoutingPolicyMultivalue}
		if s.Weighted {
			out.DnsConfig.RoutingPolicy = types.RoutingPolicyWeighted
		}
		for _, d := range s.Records {
			out.DnsConfig.DnsRecords = append(out.DnsConfig.DnsRecords, types.DnsRecord{Type: types.RecordType(d.Type), TTL: &d.TTL})
		}
	}
	if s.Custom {
		out.HealthCheckCustomConfig = &types.HealthCheckCustomConfig{FailureThreshold: new(int32(1))}
	}
	if s.Description != "" {
		out.Description = &s.Description
	}
	if s.RequestID != "" {
		out.CreatorRequestId = &s.RequestID
	}
	return out
}

func (a *api) getService(_ context.Context, in *sdk.GetServiceInput) (*sdk.GetServiceOutput, error) {
	return view(a, func(r store.Reader) (*sdk.GetServiceOutput, error) {
		s, err := service(r, in.Id)
		if err != nil {
			return nil, err
		}
		return &sdk.GetServiceOutput{Service: a.drawService(r, s)}, nil
	})
}

func (a *api) listServices(_ context.Context, in *sdk.ListServicesInput) (*sdk.ListServicesOutput, error) {
	return view(a, func(r store.Reader) (*sdk.ListServicesOutput, error) {
		var all []*model.DiscoveryService
		for s := range store.DiscoveryServices.Scan(r, "") {
			has := map[types.ServiceFilterName]string{types.ServiceFilterNameNamespaceId: s.Namespace, types.ServiceFilterNameResourceOwner: "SELF"}
			ok, err := passes(in.Filters, func(f types.ServiceFilter) (bool, error) { return matches(has, f.Name, f.Condition, f.Values) })
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, s)
			}
		}
		some, next, err := page(all, (*model.DiscoveryService).Key, in.MaxResults, in.NextToken)
		out := &sdk.ListServicesOutput{NextToken: next, Services: []types.ServiceSummary{}}
		for _, s := range some {
			d := a.drawService(r, s)
			out.Services = append(out.Services, types.ServiceSummary{Arn: d.Arn, Id: d.Id, Name: d.Name, Type: d.Type, CreateDate: d.CreateDate,
				Description: d.Description, DnsConfig: d.DnsConfig, HealthCheckCustomConfig: d.HealthCheckCustomConfig, InstanceCount: d.InstanceCount,
				ResourceOwner: d.ResourceOwner, CreatedByAccount: d.CreatedByAccount})
		}
		return out, err
	})
}

// change changes a service.
func (a *api) change(ctx context.Context, ref *string, f func(store.Tx, *model.DiscoveryService) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := service(tx, ref)
		if err != nil {
			return err
		}
		s := *old
		if err := f(tx, &s); err != nil {
			return err
		}
		store.DiscoveryServices.Put(tx, &s)
		return nil
	})
}

// updateService takes the records that are given; those that are left out go, as on AWS.
func (a *api) updateService(ctx context.Context, in *sdk.UpdateServiceInput) (*sdk.UpdateServiceOutput, error) {
	c := in.Service
	if c == nil {
		return nil, invalid("Service is required.")
	}
	if c.HealthCheckConfig != nil {
		return nil, invalid("Berth does not support health checks of Route 53 (HealthCheckConfig); use HealthCheckCustomConfig.")
	}
	out := &sdk.UpdateServiceOutput{}
	err := a.change(ctx, in.Id, func(tx store.Tx, s *model.DiscoveryService) (err error) {
		if c.Description != nil {
			s.Description = *c.Description
		}
		s.Records = nil
		if c.DnsConfig != nil {
			if n, ok := store.DiscoveryNamespaces.Get(tx, s.Namespace); ok && n.Type == model.NamespaceHTTP {
				return invalid("Services of the HTTP namespace %s have no DnsConfig.", n.ID)
			}
			if s.Records, err = records(c.DnsConfig.DnsRecords); err != nil {
				return err
			}
		}
		out.OperationId = a.operation(tx, "UPDATE_SERVICE", map[string]string{"SERVICE": s.ID})
		return nil
	})
	return out, err
}

func (a *api) deleteService(ctx context.Context, in *sdk.DeleteServiceInput) (*sdk.DeleteServiceOutput, error) {
	return &sdk.DeleteServiceOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		s, err := service(tx, in.Id)
		if err != nil {
			return err
		}
		for range store.DiscoveryInstances.Scan(tx, s.ID+"/") {
			return model.Errorf("ResourceInUse", "Service contains registered instances; delete the instances before deleting the service")
		}
		store.DiscoveryServices.Delete(tx, s.ID)
		store.DiscoveryRevisions.Delete(tx, s.ID)
		return nil
	})
}

func (a *api) getServiceAttributes(_ context.Context, in *sdk.GetServiceAttributesInput) (*sdk.GetServiceAttributesOutput, error) {
	return view(a, func(r store.Reader) (*sdk.GetServiceAttributesOutput, error) {
		s, err := service(r, in.ServiceId)
		if err != nil {
			return nil, err
		}
		attributes := s.Attributes
		if attributes == nil {
			attributes = map[string]string{}
		}
		return &sdk.GetServiceAttributesOutput{ServiceAttributes: &types.ServiceAttributes{ServiceArn: new(a.serviceARN(s.ID)), Attributes: attributes,
			ResourceOwner: &a.Scope.Account}}, nil
	})
}

// maxAttributes is how many a service or an instance has at most.
const maxAttributes = 30

func (a *api) updateServiceAttributes(ctx context.Context, in *sdk.UpdateServiceAttributesInput) (*sdk.UpdateServiceAttributesOutput, error) {
	return &sdk.UpdateServiceAttributesOutput{}, a.change(ctx, in.ServiceId, func(_ store.Tx, s *model.DiscoveryService) error {
		all := map[string]string{}
		maps.Copy(all, s.Attributes)
		maps.Copy(all, in.Attributes)
		if len(all) > maxAttributes {
			return model.Errorf("ServiceAttributesLimitExceededException", "A service has %d attributes at most.", maxAttributes)
		}
		s.Attributes = all
		return nil
	})
}

func (a *api) deleteServiceAttributes(ctx context.Context, in *sdk.DeleteServiceAttributesInput) (*sdk.DeleteServiceAttributesOutput, error) {
	return &sdk.DeleteServiceAttributesOutput{}, a.change(ctx, in.ServiceId, func(_ store.Tx, s *model.DiscoveryService) error {
		s.Attributes = maps.Clone(s.Attributes)
		maps.DeleteFunc(s.Attributes, func(k, _ string) bool { return slices.Contains(in.Attributes, k) })
		return nil
	})
}
