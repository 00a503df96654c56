package discovery_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthdev/berth/internal/api/discovery"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

// noPrefix keeps the SDK from putting "data-" before the host.
func noPrefix(s *middleware.Stack) error {
	return s.Initialize.Add(middleware.InitializeMiddlewareFunc("NoPrefix", func(ctx context.Context, in middleware.InitializeInput,
		next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
	}), middleware.Before)
}

type fixture struct {
	*sdk.Client
	t     *testing.T
	store store.Store
}

func setup(t *testing.T) *fixture {
	s := mem.New(store.Schema())
	return &fixture{t: t, store: s, Client: sdk.NewFromConfig(wiretest.Serve(t, discovery.New(discovery.Config{Store: s, Now: time.Now, DNS: true,
		Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, HasVPC: func(_ store.Reader, id string) bool { return id == "vpc-1" }})),
		func(o *sdk.Options) { o.APIOptions = append(o.APIOptions, noPrefix) })}
}

// done asks after an operation, as Terraform does.
func (f *fixture) done(id *string, target string) string {
	f.t.Helper()
	o := wiretest.Must[*sdk.GetOperationOutput](f.t)(f.GetOperation(ctx, &sdk.GetOperationInput{OperationId: id})).Operation
	if o.Status != types.OperationStatusSuccess || o.Targets[target] == "" {
		f.t.Fatalf("operation %+v", o)
	}
	return o.Targets[target]
}

func (f *fixture) namespace(name string) string {
	f.t.Helper()
	return f.done(wiretest.Must[*sdk.CreatePrivateDnsNamespaceOutput](f.t)(f.CreatePrivateDnsNamespace(ctx,
		&sdk.CreatePrivateDnsNamespaceInput{Name: &name, Vpc: new("vpc-1")})).OperationId, "NAMESPACE")
}

func (f *fixture) service(namespace, name string, records ...types.DnsRecord) *types.Service {
	f.t.Helper()
	return wiretest.Must[*sdk.CreateServiceOutput](f.t)(f.CreateService(ctx, &sdk.CreateServiceInput{Name: &name, NamespaceId: &namespace,
		DnsConfig: &types.DnsConfig{DnsRecords: records}, HealthCheckCustomConfig: &types.HealthCheckCustomConfig{}})).Service
}

var recordA = types.DnsRecord{Type: types.RecordTypeA, TTL: new(int64(10))}

// TestAsTerraformCalls walks through the life of a namespace with a service and an instance.
func TestAsTerraformCalls(t *testing.T) {
	f := setup(t)
	ns := f.namespace("shop.local")
	n := wiretest.Must[*sdk.GetNamespaceOutput](t)(f.GetNamespace(ctx, &sdk.GetNamespaceInput{Id: &ns})).Namespace
	if n.Type != types.NamespaceTypeDnsPrivate || *n.Properties.HttpProperties.HttpName != "shop.local" || *n.Properties.DnsProperties.SOA.TTL != 15 ||
		*n.Arn != "arn:aws:servicediscovery:us-east-1:000000000000:namespace/"+ns || *n.Name != "shop.local" {
		t.Errorf("%+v %+v", n, n.Properties)
	}
	s := f.service(ns, "cart", recordA)
	if s.Type != types.ServiceTypeDnsHttp || s.DnsConfig.RoutingPolicy != types.RoutingPolicyMultivalue || *s.DnsConfig.DnsRecords[0].TTL != 10 {
		t.Errorf("%+v", s)
	}
	_, err := f.DeleteNamespace(ctx, &sdk.DeleteNamespaceInput{Id: &ns})
	wiretest.Refused(t, err, "ResourceInUse", "Namespace has associated services; delete the services before deleting the namespace")
	register := func(id, ip, health string) {
		f.done(wiretest.Must[*sdk.RegisterInstanceOutput](t)(f.RegisterInstance(ctx, &sdk.RegisterInstanceInput{ServiceId: s.Id, InstanceId: &id,
			Attributes: map[string]string{"AWS_INSTANCE_IPV4": ip, "AWS_INIT_HEALTH_STATUS": health, "zone": id}})).OperationId, "INSTANCE")
	}
	register("a", "10.0.0.1", "HEALTHY")
	register("b", "10.0.0.2", "UNHEALTHY")
	discover := func(status types.HealthStatusFilter, query, optional map[string]string) (ids []string, revision int64) {
		out := wiretest.Must[*sdk.DiscoverInstancesOutput](t)(f.DiscoverInstances(ctx, &sdk.DiscoverInstancesInput{NamespaceName: new("shop.local"),
			ServiceName: new("cart"), HealthStatus: status, QueryParameters: query, OptionalParameters: optional}))
		for _, i := range out.Instances {
			ids = append(ids, *i.InstanceId)
		}
		slices.Sort(ids)
		return ids, *out.InstancesRevision
	}
	for name, c := range map[string]struct {
		status          types.HealthStatusFilter
		query, optional map[string]string
		want            []string
	}{
		"all":                          {"", nil, nil, []string{"a", "b"}},
		"healthy":                      {types.HealthStatusFilterHealthy, nil, nil, []string{"a"}},
		"unhealthy":                    {types.HealthStatusFilterUnhealthy, nil, nil, []string{"b"}},
		"healthy or all":               {types.HealthStatusFilterHealthyOrElseAll, nil, nil, []string{"a"}},
		"healthy or all, of the other": {types.HealthStatusFilterHealthyOrElseAll, map[string]string{"zone": "b"}, nil, []string{"b"}},
		"wished":                       {"", nil, map[string]string{"zone": "b"}, []string{"b"}},
		"wished in vain":               {"", nil, map[string]string{"zone": "c"}, []string{"a", "b"}},
		"no such":                      {"", map[string]string{"zone": "c"}, nil, nil},
	} {
		if got, _ := discover(c.status, c.query, c.optional); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	_, before := discover("", nil, nil)
	wiretest.Must[*sdk.UpdateInstanceCustomHealthStatusOutput](t)(f.UpdateInstanceCustomHealthStatus(ctx,
		&sdk.UpdateInstanceCustomHealthStatusInput{ServiceId: s.Id, InstanceId: new("a"), Status: types.CustomHealthStatusUnhealthy}))
	if got, after := discover(types.HealthStatusFilterHealthy, nil, nil); got != nil || after != before+1 {
		t.Errorf("after a was said to be unhealthy: %v, revision %d after %d", got, after, before)
	}
	_, err = f.DeleteService(ctx, &sdk.DeleteServiceInput{Id: s.Id})
	wiretest.Refused(t, err, "ResourceInUse", "Service contains registered instances; delete the instances before deleting the service")
	for _, id := range []string{"a", "b"} {
		wiretest.Must[*sdk.DeregisterInstanceOutput](t)(f.DeregisterInstance(ctx, &sdk.DeregisterInstanceInput{ServiceId: s.Id, InstanceId: &id}))
	}
	wiretest.Must[*sdk.DeleteServiceOutput](t)(f.DeleteService(ctx, &sdk.DeleteServiceInput{Id: s.Id}))
	f.done(wiretest.Must[*sdk.DeleteNamespaceOutput](t)(f.DeleteNamespace(ctx, &sdk.DeleteNamespaceInput{Id: &ns})).OperationId, "NAMESPACE")
	_, err = f.GetNamespace(ctx, &sdk.GetNamespaceInput{Id: &ns})
	wiretest.Refused(t, err, "NamespaceNotFound", ns)
	f.store.View(func(r store.Reader) {
		for x := range store.DiscoveryRevisions.Scan(r, "") {
			t.Errorf("left: %+v", x)
		}
	})
}

// TestRefusals: what is wrong is said by Cloud Map's names.
func TestRefusals(t *testing.T) {
	f := setup(t)
	ns := f.namespace("shop.local")
	a, srv := f.service(ns, "a", recordA), f.service(ns, "srv", types.DnsRecord{Type: types.RecordTypeSrv, TTL: new(int64(1))})
	for name, c := range map[string]struct {
		call func() error
		code string
	}{
		"a name twice": {func() error {
			_, err := f.CreatePrivateDnsNamespace(ctx, &sdk.CreatePrivateDnsNamespaceInput{Name: new("SHOP.local."), Vpc: new("vpc-1")})
			return err
		}, "NamespaceAlreadyExists"},
		"no VPC": {func() error {
			_, err := f.CreatePrivateDnsNamespace(ctx, &sdk.CreatePrivateDnsNamespaceInput{Name: new("x"), Vpc: new("vpc-2")})
			return err
		}, "InvalidInput"},
		"no domain name": {func() error {
			_, err := f.CreatePrivateDnsNamespace(ctx, &sdk.CreatePrivateDnsNamespaceInput{Name: new("a..b"), Vpc: new("vpc-1")})
			return err
		}, "InvalidInput"},
		"public": {func() error {
			_, err := f.CreatePublicDnsNamespace(ctx, &sdk.CreatePublicDnsNamespaceInput{Name: new("example.com")})
			return err
		}, "InvalidInput"},
		"a service twice": {func() error {
			_, err := f.CreateService(ctx, &sdk.CreateServiceInput{Name: new("a"), NamespaceId: &ns})
			return err
		}, "ServiceAlreadyExists"},
		"no namespace": {func() error {
			_, err := f.CreateService(ctx, &sdk.CreateServiceInput{Name: new("b"), NamespaceId: new("ns-x")})
			return err
		}, "NamespaceNotFound"},
		"no address": {func() error {
			_, err := f.RegisterInstance(ctx, &sdk.RegisterInstanceInput{ServiceId: a.Id, InstanceId: new("i"), Attributes: map[string]string{"x": "y"}})
			return err
		}, "InvalidInput"},
		"a bad port": {func() error {
			_, err := f.RegisterInstance(ctx, &sdk.RegisterInstanceInput{ServiceId: srv.Id, InstanceId: new("i"),
				Attributes: map[string]string{"AWS_INSTANCE_PORT": "70000"}})
			return err
		}, "InvalidInput"},
		"no instance": {func() error {
			_, err := f.DeregisterInstance(ctx, &sdk.DeregisterInstanceInput{ServiceId: a.Id, InstanceId: new("i")})
			return err
		}, "InstanceNotFound"},
		"no service to discover": {func() error {
			_, err := f.DiscoverInstances(ctx, &sdk.DiscoverInstancesInput{NamespaceName: new("shop.local"), ServiceName: new("c")})
			return err
		}, "ServiceNotFound"},
		"no operation": {func() error {
			_, err := f.GetOperation(ctx, &sdk.GetOperationInput{OperationId: new("x")})
			return err
		}, "OperationNotFound"},
		"a bad page": {func() error {
			_, err := f.ListServices(ctx, &sdk.ListServicesInput{MaxResults: new(int32(0))})
			return err
		}, "InvalidInput"},
		"tags of nothing": {func() error {
			_, err := f.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceARN: new("arn:aws:servicediscovery:us-east-1:000000000000:service/srv-x")})
			return err
		}, "ResourceNotFoundException"},
	} {
		var refusal smithy.APIError
		if err := c.call(); !errors.As(err, &refusal) || refusal.ErrorCode() != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

// TestFilters: lists show what all filters let through.
func TestFilters(t *testing.T) {
	f := setup(t)
	one, two := f.namespace("one.local"), f.namespace("two.local")
	f.service(one, "a", recordA)
	f.service(two, "b", recordA)
	services := wiretest.Must[*sdk.ListServicesOutput](t)(f.ListServices(ctx, &sdk.ListServicesInput{Filters: []types.ServiceFilter{
		{Name: types.ServiceFilterNameNamespaceId, Values: []string{two}, Condition: types.FilterConditionEq}}})).Services
	if len(services) != 1 || *services[0].Name != "b" {
		t.Errorf("services of the second namespace: %+v", services)
	}
	for name, c := range map[string]struct {
		filters []types.NamespaceFilter
		want    int
	}{
		"of a type":          {[]types.NamespaceFilter{{Name: types.NamespaceFilterNameType, Values: []string{"DNS_PRIVATE"}}}, 2},
		"of another":         {[]types.NamespaceFilter{{Name: types.NamespaceFilterNameType, Values: []string{"HTTP"}}}, 0},
		"beginning so":       {[]types.NamespaceFilter{{Name: types.NamespaceFilterNameName, Values: []string{"tw"}, Condition: types.FilterConditionBeginsWith}}, 1},
		"of these names":     {[]types.NamespaceFilter{{Name: types.NamespaceFilterNameName, Values: []string{"one.local", "x"}, Condition: types.FilterConditionIn}}, 1},
		"of both, in vain":   {[]types.NamespaceFilter{{Name: types.NamespaceFilterNameName, Values: []string{"one.local"}}, {Name: types.NamespaceFilterNameType, Values: []string{"HTTP"}}}, 0},
		"without any at all": {nil, 2},
	} {
		if got := wiretest.Must[*sdk.ListNamespacesOutput](t)(f.ListNamespaces(ctx, &sdk.ListNamespacesInput{Filters: c.filters})).Namespaces; len(got) != c.want {
			t.Errorf("%s: %d, want %d", name, len(got), c.want)
		}
	}
	_, err := f.ListNamespaces(ctx, &sdk.ListNamespacesInput{Filters: []types.NamespaceFilter{{Name: "NO_SUCH", Values: []string{"x"}}}})
	wiretest.Refused(t, err, "InvalidInput", `Berth does not support the filter "NO_SUCH".`)
	operations := wiretest.Must[*sdk.ListOperationsOutput](t)(f.ListOperations(ctx, &sdk.ListOperationsInput{Filters: []types.OperationFilter{
		{Name: types.OperationFilterNameNamespaceId, Values: []string{one}}}})).Operations
	if len(operations) != 1 {
		t.Errorf("%d operations of the first namespace", len(operations))
	}
}
