// Package elb is the Elastic Load Balancing v2 API for Application Load Balancers: load balancers, target groups, HTTP listeners,
// rules and targets. It stores what is asked; package proxy serves it.
package elb

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Subnet is a subnet that a load balancer may be given.
type Subnet struct{ ID, Zone string }

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	Now   func() time.Time
	// NewID returns a fresh id of 32 hexadecimal digits.
	NewID func() string
	Log   *slog.Logger
	// VPC, Subnets and SecurityGroup are the default network's: what a request leaves out, and the zones of known subnets.
	VPC           string
	Subnets       []Subnet
	SecurityGroup string
	// Networks are the default VPC's rows; with them subnets, security groups and VPCs must exist. nil: any name will do.
	Networks *store.Computed
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "elasticloadbalancing", Protocol: wire.Query, Version: "2015-12-01",
		Namespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/", Asks: a.asks}
	wire.Handle(s, a.createLoadBalancer)
	wire.Handle(s, a.describeLoadBalancers)
	wire.Handle(s, a.deleteLoadBalancer)
	wire.Handle(s, a.describeLoadBalancerAttributes)
	wire.Handle(s, a.modifyLoadBalancerAttributes)
	wire.Handle(s, a.setSecurityGroups)
	wire.Handle(s, a.setSubnets)
	wire.Handle(s, a.setIPAddressType)
	wire.Handle(s, a.describeCapacityReservation)
	wire.Handle(s, a.createTargetGroup)
	wire.Handle(s, a.describeTargetGroups)
	wire.Handle(s, a.modifyTargetGroup)
	wire.Handle(s, a.deleteTargetGroup)
	wire.Handle(s, a.describeTargetGroupAttributes)
	wire.Handle(s, a.modifyTargetGroupAttributes)
	wire.Handle(s, a.registerTargets)
	wire.Handle(s, a.deregisterTargets)
	wire.Handle(s, a.describeTargetHealth)
	wire.Handle(s, a.createListener)
	wire.Handle(s, a.describeListeners)
	wire.Handle(s, a.modifyListener)
	wire.Handle(s, a.deleteListener)
	wire.Handle(s, a.describeListenerAttributes)
	wire.Handle(s, a.modifyListenerAttributes)
	wire.Handle(s, a.describeListenerCertificates)
	wire.Handle(s, a.createRule)
	wire.Handle(s, a.describeRules)
	wire.Handle(s, a.modifyRule)
	wire.Handle(s, a.deleteRule)
	wire.Handle(s, a.setRulePriorities)
	wire.Handle(s, a.describeAccountLimits)
	wire.Handle(s, a.addTags)
	wire.Handle(s, a.removeTags)
	wire.Handle(s, a.describeTags)
	return s
}

// The refusals that more than one operation makes.

func invalid(format string, args ...any) error {
	return model.Errorf("ValidationError", format, args...)
}

func unsupported(what string) error { return invalid("Berth does not support %s yet", what) }

func noLoadBalancer() error {
	return model.Errorf("LoadBalancerNotFound", "One or more load balancers not found")
}

func noTargetGroup() error {
	return model.Errorf("TargetGroupNotFound", "One or more target groups not found")
}

func noListener() error { return model.Errorf("ListenerNotFound", "One or more listeners not found") }

func noRule() error { return model.Errorf("RuleNotFound", "One or more rules not found") }

// hex16 is the last element of the ARNs of this API.
func (a *api) hex16() string { return a.NewID()[:16] }

var namePattern = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

// checkName holds for load balancers and target groups (ELB API reference, "Name").
func checkName(kind string, name *string) error {
	n := text(name)
	switch {
	case n == "":
		return invalid("A %s name must be specified", kind)
	case len(n) > 32:
		return invalid("The %s name '%s' cannot be longer than '32' characters", kind, n)
	case !namePattern.MatchString(n):
		return invalid("The %s name '%s' can only contain characters that are alphanumeric characters and hyphens(-), and cannot begin "+
			"or end with a hyphen", kind, n)
	case kind == "load balancer" && strings.HasPrefix(n, "internal-"):
		return invalid("The load balancer name '%s' cannot begin with 'internal-'", n)
	}
	return nil
}

// dnsName is <name>-<9 or 10 digits>.elb.<region>.localhost, with "internal-" before it for internal load balancers.
func dnsName(name, id, region string, scheme types.LoadBalancerSchemeEnum) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	if scheme == types.LoadBalancerSchemeEnumInternal {
		name = "internal-" + name
	}
	return fmt.Sprintf("%s-%09d.elb.%s.localhost", name, h.Sum32(), region)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// page cuts a list (at most 400 a page; ELB API reference). The marker is the key of the last element given.
func page[T any](all []T, size *int32, marker *string, key func(T) string) (cut []T, next *string, err error) {
	n := 400
	if size != nil {
		if n = int(*size); n < 1 || n > 400 {
			return nil, nil, invalid("The page size must be between 1 and 400")
		}
	}
	if marker != nil {
		from := -1
		for i, v := range all {
			if key(v) == *marker {
				from = i + 1
			}
		}
		if from < 0 {
			return nil, nil, invalid("The specified marker is not valid")
		}
		all = all[from:]
	}
	if len(all) <= n {
		return append([]T{}, all...), nil, nil
	}
	return all[:n], new(key(all[n-1])), nil
}
