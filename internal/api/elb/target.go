package elb

import (
	"context"
	"net/netip"
	"slices"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) registerTargets(ctx context.Context, in *elb.RegisterTargetsInput) (*elb.RegisterTargetsOutput, error) {
	return &elb.RegisterTargetsOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		g, ok := store.TargetGroups.Get(tx, text(in.TargetGroupArn))
		if !ok {
			return noTargetGroup()
		}
		if len(in.Targets) == 0 {
			return invalid("At least one target must be specified")
		}
		if err := targetLimit.admits(len(in.Targets)); err != nil {
			return err
		}
		for _, d := range in.Targets {
			t, err := a.newTarget(tx, g, d)
			if err != nil {
				return err
			}
			if old, ok := store.Targets.Get(tx, t.Key()); ok && old.DrainingSince.IsZero() {
				continue
			}
			store.Targets.Put(tx, t)
			store.TargetHealths.Delete(tx, t.Key())
		}
		if err := targetLimit.admits(count(store.Targets.By(tx, store.ByTargetGroup, g.ARN))); err != nil {
			return err
		}
		for _, balancer := range withBalancers(tx, g).LoadBalancerArns {
			if err := fits(tx, balancer); err != nil {
				return err
			}
		}
		return nil
	})
}

// sharedSpace is RFC 6598's range for carriers.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// newTarget resolves a description: an address is one itself, an instance id is its node's.
func (a *api) newTarget(r store.Reader, g *model.TargetGroup, d types.TargetDescription) (*model.Target, error) {
	t := &model.Target{TargetGroupARN: g.ARN, ID: text(d.Id), Port: *or(d.Port, *g.Group.Port), AZ: text(d.AvailabilityZone), RegisteredAt: a.Now()}
	if t.Port < 1 || t.Port > 65535 {
		return nil, invalid("Port '%d' is not valid", t.Port)
	}
	if g.Group.TargetType == types.TargetTypeEnumIp {
		addr, err := netip.ParseAddr(t.ID)
		if err != nil || !addr.Is4() {
			return nil, invalid("The IP address '%.100s' is not a valid IPv4 address", t.ID)
		}
		if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return nil, invalid("The IP address '%s' cannot be a target", t.ID)
		}
		if !addr.IsPrivate() && !addr.IsLoopback() && !sharedSpace.Contains(addr) {
			return nil, invalid("The IP address '%s' is not within the VPC, RFC 1918 or RFC 6598: a public address cannot be a target", t.ID)
		}
		t.ID, t.Address = addr.String(), addr.String()
		return t, nil
	}
	for n := range store.Nodes.By(r, store.ByEC2, t.ID) {
		t.Address = n.Address
		return t, nil
	}
	return nil, model.Errorf("InvalidTarget", "The following targets are not in the target group VPC or do not exist: '%.100s'", t.ID)
}

func (a *api) deregisterTargets(ctx context.Context, in *elb.DeregisterTargetsInput) (*elb.DeregisterTargetsOutput, error) {
	return &elb.DeregisterTargetsOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		g, ok := store.TargetGroups.Get(tx, text(in.TargetGroupArn))
		if !ok {
			return noTargetGroup()
		}
		for _, d := range in.Targets {
			// One that is not registered is no error (ELB API reference, DeregisterTargets).
			for _, old := range slices.Collect(store.Targets.By(tx, store.ByTargetGroup, g.ARN)) {
				if describes(d, old) && old.DrainingSince.IsZero() {
					t := *old
					t.DrainingSince = a.Now()
					store.Targets.Put(tx, &t)
				}
			}
		}
		return nil
	})
}

func (a *api) describeTargetHealth(_ context.Context, in *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error) {
	out, err := &elb.DescribeTargetHealthOutput{TargetHealthDescriptions: []types.TargetHealthDescription{}}, error(nil)
	a.Store.View(func(r store.Reader) {
		g, ok := store.TargetGroups.Get(r, text(in.TargetGroupArn))
		if !ok {
			err = noTargetGroup()
			return
		}
		targets := slices.Collect(store.Targets.By(r, store.ByTargetGroup, g.ARN))
		if len(in.Targets) == 0 {
			for _, t := range targets {
				out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, health(r, g, t))
			}
			return
		}
		for _, d := range in.Targets {
			found := false
			for _, t := range targets {
				if describes(d, t) {
					found = true
					out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, health(r, g, t))
				}
			}
			if !found {
				d.Port = or(d.Port, *g.Group.Port)
				out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, types.TargetHealthDescription{Target: &d,
					TargetHealth: &types.TargetHealth{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumNotRegistered,
						Description: new("Target is not registered to the target group")}})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// describes tells whether a description means the target; without a port it means all of that id.
func describes(d types.TargetDescription, t *model.Target) bool {
	return text(d.Id) == t.ID && (d.Port == nil || *d.Port == t.Port)
}

// health joins what is asked of a target and what the proxy sees of it.
func health(r store.Reader, g *model.TargetGroup, t *model.Target) types.TargetHealthDescription {
	d := types.TargetHealthDescription{Target: &types.TargetDescription{Id: &t.ID, Port: &t.Port}, HealthCheckPort: new(portText(g, t)),
		TargetHealth: &types.TargetHealth{State: types.TargetHealthStateEnumInitial, Reason: types.TargetHealthReasonEnumRegistrationInProgress,
			Description: new("Target registration is in progress")}}
	if t.AZ != "" {
		d.Target.AvailabilityZone = &t.AZ
	}
	if h, ok := store.TargetHealths.Get(r, t.Key()); ok {
		d.TargetHealth = &types.TargetHealth{State: h.State, Reason: h.Reason}
		if h.Description != "" {
			d.TargetHealth.Description = &h.Description
		}
	}
	if !t.DrainingSince.IsZero() {
		d.TargetHealth = &types.TargetHealth{State: types.TargetHealthStateEnumDraining,
			Reason: types.TargetHealthReasonEnumDeregistrationInProgress, Description: new("Target deregistration is in progress")}
	}
	return d
}
