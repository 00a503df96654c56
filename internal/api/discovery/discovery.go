// Package discovery is Cloud Map's API (servicediscovery): namespaces, services and instances, found by DiscoverInstances and, those
// of private namespaces, by DNS (serve/dns). Instances of ECS's services are registered by control. Health checks by Route 53 and public
// namespaces, which need the world's DNS, are refused by name.
package discovery

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	Now   func() time.Time
	// DNS: names of private namespaces are answered at tasks' resolvers. Where they are not (a region without machines) such namespaces are
	// refused.
	DNS bool
	// HasVPC tells whether a VPC exists.
	HasVPC func(r store.Reader, id string) bool
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "servicediscovery", Protocol: wire.JSON11, Target: "Route53AutoNaming_v20170314", Asks: a.asks}
	wire.Handle(s, a.createHttpNamespace)
	wire.Handle(s, a.createPrivateDnsNamespace)
	wire.Handle(s, a.createPublicDnsNamespace)
	wire.Handle(s, a.updateHttpNamespace)
	wire.Handle(s, a.updatePrivateDnsNamespace)
	wire.Handle(s, a.deleteNamespace)
	wire.Handle(s, a.getNamespace)
	wire.Handle(s, a.listNamespaces)
	wire.Handle(s, a.getOperation)
	wire.Handle(s, a.listOperations)
	wire.Handle(s, a.createService)
	wire.Handle(s, a.updateService)
	wire.Handle(s, a.deleteService)
	wire.Handle(s, a.getService)
	wire.Handle(s, a.listServices)
	wire.Handle(s, a.getServiceAttributes)
	wire.Handle(s, a.updateServiceAttributes)
	wire.Handle(s, a.deleteServiceAttributes)
	wire.Handle(s, a.registerInstance)
	wire.Handle(s, a.deregisterInstance)
	wire.Handle(s, a.getInstance)
	wire.Handle(s, a.listInstances)
	wire.Handle(s, a.getInstancesHealthStatus)
	wire.Handle(s, a.updateInstanceCustomHealthStatus)
	wire.Handle(s, a.discoverInstances)
	wire.Handle(s, a.discoverInstancesRevision)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

func invalid(format string, args ...any) error { return model.Errorf("InvalidInput", format, args...) }

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// required refuses a member that is missing.
func required(member string, v *string) error {
	if value(v) == "" {
		return invalid("%s is required.", member)
	}
	return nil
}

// newID is <prefix> and 16 letters or digits, as Cloud Map's.
func newID(prefix string) string {
	b := make([]byte, 10)
	rand.Read(b)
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

func (a *api) namespaceARN(id string) string { return a.Scope.ARN("servicediscovery", "namespace/"+id) }
func (a *api) serviceARN(id string) string   { return a.Scope.ARN("servicediscovery", "service/"+id) }

// idOf takes an id or an ARN.
func idOf(ref *string) string { return value(ref)[strings.LastIndex(value(ref), "/")+1:] }

func namespace(r store.Reader, ref *string) (*model.DiscoveryNamespace, error) {
	if err := required("Id", ref); err != nil {
		return nil, err
	}
	n, ok := store.DiscoveryNamespaces.Get(r, idOf(ref))
	if !ok {
		return nil, model.Errorf("NamespaceNotFound", "%.200s", *ref)
	}
	return n, nil
}

func service(r store.Reader, ref *string) (*model.DiscoveryService, error) {
	if err := required("ServiceId", ref); err != nil {
		return nil, err
	}
	s, ok := store.DiscoveryServices.Get(r, idOf(ref))
	if !ok {
		return nil, model.Errorf("ServiceNotFound", "%.200s", *ref)
	}
	return s, nil
}

// view reads the newest state.
func view[T any](a *api, f func(store.Reader) (T, error)) (out T, err error) {
	a.Store.View(func(r store.Reader) { out, err = f(r) })
	return out, err
}

// keepOperations is for how long GetOperation knows of one.
const keepOperations = 24 * time.Hour

// operation writes down that something was done, which a client asks about next, and forgets old ones.
func (a *api) operation(tx store.Tx, kind string, targets map[string]string) *string {
	now := a.Now()
	var old []string
	for o := range store.DiscoveryOperations.Scan(tx, "") {
		if now.Sub(o.At) > keepOperations {
			old = append(old, o.ID)
		}
	}
	for _, id := range old[:min(len(old), 100)] {
		store.DiscoveryOperations.Delete(tx, id)
	}
	o := &model.DiscoveryOperation{ID: newID("") + newID("") + "-" + fmt.Sprintf("%08x", now.Unix()), Type: kind, Targets: targets, At: now}
	store.DiscoveryOperations.Put(tx, o)
	return &o.ID
}

// page cuts a list that is in the order of its ids; token is the last id of the page before.
func page[T any](all []T, id func(T) string, most *int32, token *string) (out []T, next *string, err error) {
	size := 100
	if most != nil {
		if *most < 1 || *most > 100 {
			return nil, nil, invalid("MaxResults must be between 1 and 100.")
		}
		size = int(*most)
	}
	if token != nil {
		i := slices.IndexFunc(all, func(v T) bool { return id(v) > *token })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	if len(all) > size {
		return all[:size], new(id(all[size-1])), nil
	}
	return all, nil, nil
}

var (
	dnsName  = regexp.MustCompile(`^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.?$`)
	httpName = regexp.MustCompile(`^[!-~]{1,1000}$`)
	idText   = regexp.MustCompile(`^[0-9a-zA-Z_/:.@-]{1,64}$`)
)

func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	ask := wire.Ask{Action: "servicediscovery:" + op, Context: map[string][]string{}}
	add := func(arn string) []wire.Ask {
		ask.Resources = append(ask.Resources, arn)
		return []wire.Ask{ask}
	}
	switch in := in.(type) {
	case *sdk.DeleteNamespaceInput:
		return add(a.namespaceARN(idOf(in.Id)))
	case *sdk.GetNamespaceInput:
		return add(a.namespaceARN(idOf(in.Id)))
	case *sdk.UpdateHttpNamespaceInput:
		return add(a.namespaceARN(idOf(in.Id)))
	case *sdk.UpdatePrivateDnsNamespaceInput:
		return add(a.namespaceARN(idOf(in.Id)))
	case *sdk.CreateServiceInput:
		if in.NamespaceId != nil {
			return add(a.namespaceARN(idOf(in.NamespaceId)))
		}
	case *sdk.UpdateServiceInput:
		return add(a.serviceARN(idOf(in.Id)))
	case *sdk.DeleteServiceInput:
		return add(a.serviceARN(idOf(in.Id)))
	case *sdk.GetServiceInput:
		return add(a.serviceARN(idOf(in.Id)))
	case *sdk.RegisterInstanceInput:
		ask.Context["servicediscovery:ServiceArn"] = []string{a.serviceARN(idOf(in.ServiceId))}
		return add(a.serviceARN(idOf(in.ServiceId)))
	case *sdk.DeregisterInstanceInput:
		ask.Context["servicediscovery:ServiceArn"] = []string{a.serviceARN(idOf(in.ServiceId))}
		return add(a.serviceARN(idOf(in.ServiceId)))
	case *sdk.UpdateInstanceCustomHealthStatusInput:
		ask.Context["servicediscovery:ServiceArn"] = []string{a.serviceARN(idOf(in.ServiceId))}
	case *sdk.DiscoverInstancesInput:
		ask.Context["servicediscovery:NamespaceName"], ask.Context["servicediscovery:ServiceName"] = []string{value(in.NamespaceName)},
			[]string{value(in.ServiceName)}
	case *sdk.TagResourceInput:
		return add(value(in.ResourceARN))
	case *sdk.UntagResourceInput:
		return add(value(in.ResourceARN))
	case *sdk.ListTagsForResourceInput:
		return add(value(in.ResourceARN))
	}
	return []wire.Ask{ask}
}
