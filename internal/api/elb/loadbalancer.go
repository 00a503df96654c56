package elb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createLoadBalancer(ctx context.Context, in *elb.CreateLoadBalancerInput) (*elb.CreateLoadBalancerOutput, error) {
	if err := checkName("load balancer", in.Name); err != nil {
		return nil, err
	}
	if in.Type != "" && in.Type != types.LoadBalancerTypeEnumApplication {
		return nil, unsupported(string(in.Type) + " load balancers")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	lb, err := a.newLoadBalancer(in)
	if err != nil {
		return nil, err
	}
	err = a.Store.Update(ctx, func(tx store.Tx) (err error) {
		var vpc string
		if lb.LB.AvailabilityZones, vpc, err = a.place(tx, lb.LB.Scheme, lb.LB.AvailabilityZones); err != nil {
			return err
		}
		if lb.LB.SecurityGroups, err = a.guards(tx, vpc, in.SecurityGroups); err != nil {
			return err
		}
		lb.LB.VpcId = &vpc
		for old := range store.LoadBalancers.By(tx, store.ByName, lb.Name) {
			if old.LB.Scheme != lb.LB.Scheme || !slices.Equal(subnetIDs(old), subnetIDs(lb)) {
				return model.Errorf("DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", lb.Name)
			}
			lb = old
			return nil
		}
		if err := balancerLimit.admits(count(store.LoadBalancers.Scan(tx, "")) + 1); err != nil {
			return err
		}
		store.LoadBalancers.Put(tx, lb)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{a.show(lb, nil)}}, nil
}

func (a *api) newLoadBalancer(in *elb.CreateLoadBalancerInput) (*model.LoadBalancer, error) {
	zones, err := a.zones(in.Subnets, in.SubnetMappings)
	if err != nil {
		return nil, err
	}
	if t := cmp.Or(in.IpAddressType, types.IpAddressTypeIpv4); t != types.IpAddressTypeIpv4 {
		return nil, unsupported("the address type " + string(t))
	}
	scheme := cmp.Or(in.Scheme, types.LoadBalancerSchemeEnumInternetFacing)
	if !slices.Contains(scheme.Values(), scheme) {
		return nil, invalid("Scheme '%s' must be one of 'internal, internet-facing'", scheme)
	}
	id := a.hex16()
	name := *in.Name
	arn := a.Scope.ARN("elasticloadbalancing", "loadbalancer/app/"+name+"/"+id)
	lb := &model.LoadBalancer{ARN: arn, Name: name, Attributes: defaults(lbAttributes), Tags: in.Tags, LB: types.LoadBalancer{
		LoadBalancerArn: &arn, LoadBalancerName: &name, DNSName: new(dnsName(name, id, a.Scope.Region, scheme)), CanonicalHostedZoneId: new("Z35SXDOTRQ7X7K"),
		CreatedTime: new(a.Now()), Scheme: scheme,
		Type: types.LoadBalancerTypeEnumApplication, IpAddressType: types.IpAddressTypeIpv4,
		AvailabilityZones: zones}}
	if scheme == types.LoadBalancerSchemeEnumInternal {
		lb.Attributes["ipv6.deny_all_igw_traffic"] = "true"
	}
	return lb, nil
}

// zones gives each subnet its zone; a subnet that nobody knows gets the next letter.
func (a *api) zones(subnets []string, mappings []types.SubnetMapping) ([]types.AvailabilityZone, error) {
	ids := slices.Clone(subnets)
	for _, m := range mappings {
		if m.AllocationId != nil || m.PrivateIPv4Address != nil || m.IPv6Address != nil {
			return nil, invalid("You cannot specify addresses for the subnets of an application load balancer")
		}
		ids = append(ids, text(m.SubnetId))
	}
	if len(subnets) > 0 && len(mappings) > 0 {
		return nil, invalid("You can specify either subnets or subnet mappings, but not both")
	}
	if len(ids) < 2 {
		return nil, invalid("At least two subnets in two different Availability Zones must be specified")
	}
	if len(slices.Compact(slices.Sorted(slices.Values(ids)))) < len(ids) {
		return nil, model.Errorf("InvalidConfigurationRequest", "A subnet can be specified only once")
	}
	zones := make([]types.AvailabilityZone, len(ids))
	for i, id := range ids {
		zone := a.Scope.Region + string(rune('a'+i%3))
		for _, s := range a.Subnets {
			if s.ID == id {
				zone = s.Zone
			}
		}
		zones[i] = types.AvailabilityZone{SubnetId: &ids[i], ZoneName: &zone, LoadBalancerAddresses: []types.LoadBalancerAddress{}}
	}
	return zones, nil
}

func subnetIDs(lb *model.LoadBalancer) []string {
	var ids []string
	for _, z := range lb.LB.AvailabilityZones {
		ids = append(ids, text(z.SubnetId))
	}
	slices.Sort(ids)
	return ids
}

// show adds the state, which is impaired while a listener's port can't be served.
func (a *api) show(lb *model.LoadBalancer, listeners []*model.Listener) types.LoadBalancer {
	v := lb.LB
	v.State = &types.LoadBalancerState{Code: types.LoadBalancerStateEnumActive}
	for _, l := range listeners {
		if l.Problem != "" {
			v.State = &types.LoadBalancerState{Code: types.LoadBalancerStateEnumActiveImpaired, Reason: new(l.Problem)}
		}
	}
	return v
}

func (a *api) describeLoadBalancers(_ context.Context, in *elb.DescribeLoadBalancersInput) (*elb.DescribeLoadBalancersOutput, error) {
	found := []types.LoadBalancer{}
	var err error
	a.Store.View(func(r store.Reader) {
		named := map[string]bool{}
		for lb := range store.LoadBalancers.Scan(r, "") {
			if len(in.LoadBalancerArns)+len(in.Names) > 0 && !slices.Contains(in.LoadBalancerArns, lb.ARN) && !slices.Contains(in.Names, lb.Name) {
				continue
			}
			named[lb.ARN], named[lb.Name] = true, true
			found = append(found, a.show(lb, slices.Collect(store.Listeners.By(r, store.ByLoadBalancer, lb.ARN))))
		}
		for _, want := range in.LoadBalancerArns {
			if !named[want] {
				err = noLoadBalancer()
			}
		}
		for _, want := range in.Names {
			if !named[want] {
				err = model.Errorf("LoadBalancerNotFound", "Load balancers '[%s]' not found", want)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	found, next, err := page(found, in.PageSize, in.Marker, func(l types.LoadBalancer) string { return *l.LoadBalancerArn })
	return &elb.DescribeLoadBalancersOutput{LoadBalancers: found, NextMarker: next}, err
}

// deleteLoadBalancer is silent about one that is gone already, as AWS is.
func (a *api) deleteLoadBalancer(ctx context.Context, in *elb.DeleteLoadBalancerInput) (*elb.DeleteLoadBalancerOutput, error) {
	return &elb.DeleteLoadBalancerOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		lb, ok := store.LoadBalancers.Get(tx, text(in.LoadBalancerArn))
		if !ok {
			return nil
		}
		if lb.Attributes["deletion_protection.enabled"] == "true" {
			return model.Errorf("OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", lb.ARN)
		}
		for _, l := range slices.Collect(store.Listeners.By(tx, store.ByLoadBalancer, lb.ARN)) {
			dropListener(tx, l.ARN)
		}
		store.LoadBalancers.Delete(tx, lb.ARN)
		return nil
	})
}

// changeLB stores a changed copy of a load balancer.
func (a *api) changeLB(ctx context.Context, arn *string, change func(*model.LoadBalancer) error) error {
	return a.changeLBIn(ctx, arn, func(_ store.Tx, lb *model.LoadBalancer) error { return change(lb) })
}

// changeLBIn is changeLB for a change that looks at other rows.
func (a *api) changeLBIn(ctx context.Context, arn *string, change func(store.Tx, *model.LoadBalancer) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.LoadBalancers.Get(tx, text(arn))
		if !ok {
			return model.Errorf("LoadBalancerNotFound", "Load balancer '%s' not found", text(arn))
		}
		next := *old
		next.Attributes = whole(old.Attributes, lbAttributes)
		if err := change(tx, &next); err != nil {
			return err
		}
		store.LoadBalancers.Put(tx, &next)
		return nil
	})
}

func lbAttributeList(m map[string]string) []types.LoadBalancerAttribute {
	return list(m, lbAttributes, func(k, v *string) types.LoadBalancerAttribute { return types.LoadBalancerAttribute{Key: k, Value: v} })
}

func (a *api) describeLoadBalancerAttributes(_ context.Context, in *elb.DescribeLoadBalancerAttributesInput) (*elb.DescribeLoadBalancerAttributesOutput, error) {
	out, err := &elb.DescribeLoadBalancerAttributesOutput{}, error(nil)
	a.Store.View(func(r store.Reader) {
		lb, ok := store.LoadBalancers.Get(r, text(in.LoadBalancerArn))
		if !ok {
			err = model.Errorf("LoadBalancerNotFound", "Load balancer '%s' not found", text(in.LoadBalancerArn))
			return
		}
		out.Attributes = lbAttributeList(lb.Attributes)
	})
	return out, err
}

func (a *api) modifyLoadBalancerAttributes(ctx context.Context, in *elb.ModifyLoadBalancerAttributesInput) (*elb.ModifyLoadBalancerAttributesOutput, error) {
	out := &elb.ModifyLoadBalancerAttributesOutput{}
	err := a.changeLB(ctx, in.LoadBalancerArn, func(lb *model.LoadBalancer) error {
		if err := set(lb.Attributes, lbAttributes, "Load balancer", in.Attributes,
			func(at types.LoadBalancerAttribute) (k, v *string) { return at.Key, at.Value }); err != nil {
			return err
		}
		out.Attributes = lbAttributeList(lb.Attributes)
		return nil
	})
	return out, err
}

func (a *api) setSecurityGroups(ctx context.Context, in *elb.SetSecurityGroupsInput) (*elb.SetSecurityGroupsOutput, error) {
	return &elb.SetSecurityGroupsOutput{SecurityGroupIds: in.SecurityGroups}, a.changeLBIn(ctx, in.LoadBalancerArn, func(tx store.Tx, lb *model.LoadBalancer) (err error) {
		lb.LB.SecurityGroups, err = a.guards(tx, text(lb.LB.VpcId), in.SecurityGroups)
		return err
	})
}

func (a *api) setSubnets(ctx context.Context, in *elb.SetSubnetsInput) (*elb.SetSubnetsOutput, error) {
	zones, err := a.zones(in.Subnets, in.SubnetMappings)
	if err != nil {
		return nil, err
	}
	out := &elb.SetSubnetsOutput{AvailabilityZones: zones}
	return out, a.changeLBIn(ctx, in.LoadBalancerArn, func(tx store.Tx, lb *model.LoadBalancer) error {
		placed, vpc, err := a.place(tx, lb.LB.Scheme, zones)
		if err != nil {
			return err
		}
		if vpc != text(lb.LB.VpcId) {
			return model.Errorf("InvalidConfigurationRequest", "All subnets must belong to the same VPC: '%s'", text(lb.LB.VpcId))
		}
		lb.LB.AvailabilityZones, out.AvailabilityZones, out.IpAddressType = placed, placed, lb.LB.IpAddressType
		return nil
	})
}

func (a *api) setIPAddressType(ctx context.Context, in *elb.SetIpAddressTypeInput) (*elb.SetIpAddressTypeOutput, error) {
	if in.IpAddressType != types.IpAddressTypeIpv4 {
		return nil, unsupported(fmt.Sprintf("the address type %s", in.IpAddressType))
	}
	return &elb.SetIpAddressTypeOutput{IpAddressType: in.IpAddressType}, a.changeLB(ctx, in.LoadBalancerArn, func(lb *model.LoadBalancer) error {
		lb.LB.IpAddressType = in.IpAddressType
		return nil
	})
}

// describeCapacityReservation says that none was made; Terraform asks.
func (a *api) describeCapacityReservation(_ context.Context, in *elb.DescribeCapacityReservationInput) (*elb.DescribeCapacityReservationOutput, error) {
	ok := false
	a.Store.View(func(r store.Reader) { _, ok = store.LoadBalancers.Get(r, text(in.LoadBalancerArn)) })
	if !ok {
		return nil, noLoadBalancer()
	}
	return &elb.DescribeCapacityReservationOutput{CapacityReservationState: []types.ZonalCapacityReservationState{}}, nil
}

// lbPath is "app/<name>/<id>" of a load balancer's ARN, which the ARNs of its listeners and rules repeat.
func lbPath(arn string) string {
	_, path, _ := strings.Cut(arn, ":loadbalancer/")
	return path
}
