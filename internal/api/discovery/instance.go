package discovery

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"

	sdk "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxInstances is how many a service has at most (Cloud Map's quota).
const maxInstances = 1000

func (a *api) registerInstance(ctx context.Context, in *sdk.RegisterInstanceInput) (out *sdk.RegisterInstanceOutput, err error) {
	if !idText.MatchString(value(in.InstanceId)) {
		return nil, invalid("Invalid instance id %.100q.", value(in.InstanceId))
	}
	if err := checkAttributes(in.Attributes); err != nil {
		return nil, err
	}
	out = &sdk.RegisterInstanceOutput{}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		s, err := service(tx, in.ServiceId)
		if err != nil {
			return err
		}
		if err := fitsRecords(s, in.Attributes); err != nil {
			return err
		}
		i := &model.DiscoveryInstance{Service: s.ID, ID: *in.InstanceId, Attributes: in.Attributes, RequestID: value(in.CreatorRequestId), At: a.Now(),
			Unhealthy: in.Attributes[model.AttributeHealth] == "UNHEALTHY"}
		old, there := store.DiscoveryInstances.Get(tx, i.Key())
		switch {
		case there && old.Owner != "":
			return model.Errorf("ResourceInUse", "The instance %s is a task of the ECS service %s, which registers it.", i.ID, old.Owner)
		case !there && len(slices.Collect(store.DiscoveryInstances.Scan(tx, s.ID+"/"))) >= maxInstances:
			return model.Errorf("ResourceLimitExceeded", "A service has %d instances at most.", maxInstances)
		}
		store.PutInstance(tx, i)
		out.OperationId = a.operation(tx, "REGISTER_INSTANCE", map[string]string{"INSTANCE": i.ID, "SERVICE": s.ID})
		return nil
	})
	return out, err
}

// checkAttributes holds an instance's attributes to their bounds and forms.
func checkAttributes(all map[string]string) error {
	size := 0
	for k, v := range all {
		if size += len(k) + len(v); k == "" || len(k) > 255 || len(v) > 1024 {
			return invalid("Invalid attribute %.50q: keys have 1 to 255 characters, values 1024 at most.", k)
		}
	}
	if len(all) > maxAttributes || size > 5000 {
		return invalid("An instance has %d attributes of 5,000 characters at most.", maxAttributes)
	}
	if v, ok := all[model.AttributeIPv4]; ok {
		if ip, err := netip.ParseAddr(v); err != nil || !ip.Is4() {
			return invalid("Invalid value for %s: %.50q.", model.AttributeIPv4, v)
		}
	}
	if v, ok := all[model.AttributeIPv6]; ok {
		if ip, err := netip.ParseAddr(v); err != nil || !ip.Is6() || ip.Zone() != "" {
			return invalid("Invalid value for %s: %.50q.", model.AttributeIPv6, v)
		}
	}
	if v, ok := all[model.AttributePort]; ok {
		if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
			return invalid("Invalid value for %s: %.50q.", model.AttributePort, v)
		}
	}
	if v, ok := all[model.AttributeCNAME]; ok && !dnsName.MatchString(v) {
		return invalid("Invalid value for %s: %.50q.", model.AttributeCNAME, v)
	}
	if v, ok := all[model.AttributeHealth]; ok && v != "HEALTHY" && v != "UNHEALTHY" {
		return invalid("Invalid value for %s: %.50q.", model.AttributeHealth, v)
	}
	for _, k := range []string{model.AttributeAlias, model.AttributeEC2} {
		if _, ok := all[k]; ok {
			return invalid("Berth does not support %s; give %s.", k, model.AttributeIPv4)
		}
	}
	return nil
}

// fitsRecords tells what an instance of a service with DNS records needs and has not.
func fitsRecords(s *model.DiscoveryService, all map[string]string) error {
	needs := map[string]string{"A": model.AttributeIPv4, "AAAA": model.AttributeIPv6, "SRV": model.AttributePort, "CNAME": model.AttributeCNAME}
	for _, r := range s.Records {
		if all[needs[r.Type]] == "" {
			return invalid("The attribute %s is required for a record of type %s.", needs[r.Type], r.Type)
		}
	}
	return nil
}

func instance(r store.Reader, ref, id *string) (*model.DiscoveryService, *model.DiscoveryInstance, error) {
	s, err := service(r, ref)
	if err != nil {
		return nil, nil, err
	}
	i, ok := store.DiscoveryInstances.Get(r, s.ID+"/"+value(id))
	if !ok {
		return nil, nil, model.Errorf("InstanceNotFound", "%.200s", value(id))
	}
	return s, i, nil
}

func (a *api) deregisterInstance(ctx context.Context, in *sdk.DeregisterInstanceInput) (*sdk.DeregisterInstanceOutput, error) {
	out := &sdk.DeregisterInstanceOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		s, i, err := instance(tx, in.ServiceId, in.InstanceId)
		if err != nil {
			return err
		}
		store.DeleteInstance(tx, i)
		out.OperationId = a.operation(tx, "DEREGISTER_INSTANCE", map[string]string{"INSTANCE": i.ID, "SERVICE": s.ID})
		return nil
	})
	return out, err
}

func (a *api) getInstance(_ context.Context, in *sdk.GetInstanceInput) (*sdk.GetInstanceOutput, error) {
	return view(a, func(r store.Reader) (*sdk.GetInstanceOutput, error) {
		_, i, err := instance(r, in.ServiceId, in.InstanceId)
		if err != nil {
			return nil, err
		}
		out := &types.Instance{Id: &i.ID, Attributes: i.Attributes, CreatedByAccount: &a.Scope.Account}
		if i.RequestID != "" {
			out.CreatorRequestId = &i.RequestID
		}
		return &sdk.GetInstanceOutput{Instance: out, ResourceOwner: &a.Scope.Account}, nil
	})
}

func (a *api) listInstances(_ context.Context, in *sdk.ListInstancesInput) (*sdk.ListInstancesOutput, error) {
	return view(a, func(r store.Reader) (*sdk.ListInstancesOutput, error) {
		s, err := service(r, in.ServiceId)
		if err != nil {
			return nil, err
		}
		all := slices.Collect(store.DiscoveryInstances.Scan(r, s.ID+"/"))
		some, next, err := page(all, func(i *model.DiscoveryInstance) string { return i.ID }, in.MaxResults, in.NextToken)
		out := &sdk.ListInstancesOutput{NextToken: next, Instances: []types.InstanceSummary{}, ResourceOwner: &a.Scope.Account}
		for _, i := range some {
			out.Instances = append(out.Instances, types.InstanceSummary{Id: &i.ID, Attributes: i.Attributes, CreatedByAccount: &a.Scope.Account})
		}
		return out, err
	})
}

func health(i *model.DiscoveryInstance) types.HealthStatus {
	if i.Unhealthy {
		return types.HealthStatusUnhealthy
	}
	return types.HealthStatusHealthy
}

func (a *api) getInstancesHealthStatus(_ context.Context, in *sdk.GetInstancesHealthStatusInput) (*sdk.GetInstancesHealthStatusOutput, error) {
	return view(a, func(r store.Reader) (*sdk.GetInstancesHealthStatusOutput, error) {
		s, err := service(r, in.ServiceId)
		if err != nil {
			return nil, err
		}
		all := slices.Collect(store.DiscoveryInstances.Scan(r, s.ID+"/"))
		if len(in.Instances) > 0 {
			for _, id := range in.Instances {
				if _, ok := store.DiscoveryInstances.Get(r, s.ID+"/"+id); !ok {
					return nil, model.Errorf("InstanceNotFound", "%.200s", id)
				}
			}
			all = slices.DeleteFunc(all, func(i *model.DiscoveryInstance) bool { return !slices.Contains(in.Instances, i.ID) })
		}
		some, next, err := page(all, func(i *model.DiscoveryInstance) string { return i.ID }, in.MaxResults, in.NextToken)
		out := &sdk.GetInstancesHealthStatusOutput{NextToken: next, Status: map[string]types.HealthStatus{}}
		for _, i := range some {
			out.Status[i.ID] = health(i)
		}
		return out, err
	})
}

func (a *api) updateInstanceCustomHealthStatus(ctx context.Context, in *sdk.UpdateInstanceCustomHealthStatusInput) (*sdk.UpdateInstanceCustomHealthStatusOutput, error) {
	if !slices.Contains(types.CustomHealthStatus("").Values(), in.Status) {
		return nil, invalid("Invalid status %.50q.", in.Status)
	}
	return &sdk.UpdateInstanceCustomHealthStatusOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		s, old, err := instance(tx, in.ServiceId, in.InstanceId)
		if err != nil {
			return err
		}
		if !s.Custom {
			return model.Errorf("CustomHealthNotFound", "The service %s has no HealthCheckCustomConfig.", s.ID)
		}
		i := *old
		if i.Unhealthy = in.Status == types.CustomHealthStatusUnhealthy; i.Unhealthy != old.Unhealthy {
			store.PutInstance(tx, &i)
		}
		return nil
	})
}

// named finds a service by the names of its namespace and its own.
func named(r store.Reader, ns, name *string) (*model.DiscoveryService, error) {
	if err := required("NamespaceName", ns); err != nil {
		return nil, err
	}
	if err := required("ServiceName", name); err != nil {
		return nil, err
	}
	found := false
	for n := range store.DiscoveryNamespaces.Scan(r, "") {
		if n.Name != *ns {
			continue
		}
		found = true
		for s := range store.DiscoveryServices.By(r, store.ByNamespace, n.ID) {
			if s.Name == *name {
				return s, nil
			}
		}
	}
	if !found {
		return nil, model.Errorf("NamespaceNotFound", "No namespace found with name %.200s", *ns)
	}
	return nil, model.Errorf("ServiceNotFound", "No service found with name %.200s in namespace %.200s", *name, *ns)
}

func revision(r store.Reader, s *model.DiscoveryService) *int64 {
	n := int64(1)
	if row, ok := store.DiscoveryRevisions.Get(r, s.ID); ok {
		n += row.N
	}
	return &n
}

// discoverInstances returns the instances that have all of QueryParameters, and of those the ones that have all of OptionalParameters too,
// unless none has; in random order, as clients spread over them.
func (a *api) discoverInstances(_ context.Context, in *sdk.DiscoverInstancesInput) (*sdk.DiscoverInstancesOutput, error) {
	most := 100
	if in.MaxResults != nil {
		if most = int(*in.MaxResults); most < 1 || most > 1000 {
			return nil, invalid("MaxResults must be between 1 and 1000.")
		}
	}
	if in.HealthStatus != "" && !slices.Contains(in.HealthStatus.Values(), in.HealthStatus) {
		return nil, invalid("Invalid health status %.50q.", in.HealthStatus)
	}
	return view(a, func(r store.Reader) (*sdk.DiscoverInstancesOutput, error) {
		s, err := named(r, in.NamespaceName, in.ServiceName)
		if err != nil {
			return nil, err
		}
		var all, healthy, wished []*model.DiscoveryInstance
		for i := range store.DiscoveryInstances.Scan(r, s.ID+"/") {
			if !has(i, in.QueryParameters) {
				continue
			}
			all = append(all, i)
			if !i.Unhealthy {
				healthy = append(healthy, i)
			}
		}
		switch in.HealthStatus {
		case types.HealthStatusFilterHealthy:
			all = healthy
		case types.HealthStatusFilterUnhealthy:
			all = slices.DeleteFunc(all, func(i *model.DiscoveryInstance) bool { return !i.Unhealthy })
		case types.HealthStatusFilterHealthyOrElseAll:
			if len(healthy) > 0 {
				all = healthy
			}
		}
		for _, i := range all {
			if has(i, in.OptionalParameters) {
				wished = append(wished, i)
			}
		}
		if len(wished) > 0 {
			all = wished
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		out := &sdk.DiscoverInstancesOutput{Instances: []types.HttpInstanceSummary{}, InstancesRevision: revision(r, s)}
		for _, i := range all[:min(len(all), most)] {
			out.Instances = append(out.Instances, types.HttpInstanceSummary{InstanceId: &i.ID, NamespaceName: in.NamespaceName, ServiceName: in.ServiceName,
				HealthStatus: health(i), Attributes: i.Attributes})
		}
		return out, nil
	})
}

// has tells whether the instance has these attributes.
func has(i *model.DiscoveryInstance, want map[string]string) bool {
	for k, v := range want {
		if i.Attributes[k] != v {
			return false
		}
	}
	return true
}

func (a *api) discoverInstancesRevision(_ context.Context, in *sdk.DiscoverInstancesRevisionInput) (*sdk.DiscoverInstancesRevisionOutput, error) {
	return view(a, func(r store.Reader) (*sdk.DiscoverInstancesRevisionOutput, error) {
		s, err := named(r, in.NamespaceName, in.ServiceName)
		if err != nil {
			return nil, err
		}
		return &sdk.DiscoverInstancesRevisionOutput{InstancesRevision: revision(r, s)}, nil
	})
}
