package elb

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createTargetGroup(ctx context.Context, in *elb.CreateTargetGroupInput) (*elb.CreateTargetGroupOutput, error) {
	if err := checkName("target group", in.Name); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	g, err := a.newTargetGroup(in)
	if err != nil {
		return nil, err
	}
	out := &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{g.Group}}
	return out, a.Store.Update(ctx, func(tx store.Tx) error {
		for old := range store.TargetGroups.By(tx, store.ByName, g.Name) {
			if old.Group.Protocol != g.Group.Protocol || *old.Group.Port != *g.Group.Port || old.Group.TargetType != g.Group.TargetType ||
				text(old.Group.VpcId) != text(g.Group.VpcId) {
				return model.Errorf("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", g.Name)
			}
			out.TargetGroups = []types.TargetGroup{withBalancers(tx, old)}
			return nil
		}
		if _, ok := store.VPCs.Get(a.Networks.Over(tx), text(g.Group.VpcId)); !ok && a.Networks != nil {
			return invalid("The VPC ID '%.100s' is not found", text(g.Group.VpcId))
		}
		if err := groupLimit.admits(count(store.TargetGroups.Scan(tx, "")) + 1); err != nil {
			return err
		}
		store.TargetGroups.Put(tx, g)
		return nil
	})
}

func (a *api) newTargetGroup(in *elb.CreateTargetGroupInput) (*model.TargetGroup, error) {
	kind := cmp.Or(in.TargetType, types.TargetTypeEnumInstance)
	if kind != types.TargetTypeEnumInstance && kind != types.TargetTypeEnumIp {
		return nil, unsupported("target groups of type " + string(kind))
	}
	switch {
	case in.Protocol == "":
		return nil, invalid("A protocol must be specified")
	case in.Port == nil:
		return nil, invalid("A port must be specified")
	case text(in.VpcId) == "":
		return nil, invalid("A VPC ID must be specified")
	}
	if in.Protocol != types.ProtocolEnumHttp {
		return nil, unsupported("target groups with protocol " + cmp.Or(string(in.Protocol), "none"))
	}
	if v := strings.ToUpper(cmp.Or(text(in.ProtocolVersion), "HTTP1")); v != "HTTP1" {
		return nil, unsupported("the protocol version " + v)
	}
	if *in.Port < 1 || *in.Port > 65535 {
		return nil, invalid("Port '%d' must be between 1 and 65535", *in.Port)
	}
	id := a.hex16()
	arn := a.Scope.ARN("elasticloadbalancing", "targetgroup/"+*in.Name+"/"+id)
	g := types.TargetGroup{TargetGroupArn: &arn, TargetGroupName: in.Name, Protocol: in.Protocol, Port: in.Port, TargetType: kind,
		VpcId: in.VpcId, ProtocolVersion: new("HTTP1"), IpAddressType: types.TargetGroupIpAddressTypeEnumIpv4, LoadBalancerArns: []string{},
		HealthCheckEnabled: or(in.HealthCheckEnabled, true), HealthCheckIntervalSeconds: or(in.HealthCheckIntervalSeconds, 30),
		HealthCheckTimeoutSeconds: or(in.HealthCheckTimeoutSeconds, 5), HealthyThresholdCount: or(in.HealthyThresholdCount, 5),
		UnhealthyThresholdCount: or(in.UnhealthyThresholdCount, 2), HealthCheckPath: or(in.HealthCheckPath, "/"),
		HealthCheckPort: or(in.HealthCheckPort, "traffic-port"), HealthCheckProtocol: cmp.Or(in.HealthCheckProtocol, types.ProtocolEnumHttp),
		Matcher: &types.Matcher{HttpCode: new("200")}}
	if in.Matcher != nil {
		g.Matcher = in.Matcher
	}
	if t := cmp.Or(in.IpAddressType, g.IpAddressType); t != g.IpAddressType {
		return nil, unsupported("the address type " + string(t))
	}
	if err := checkHealthCheck(&g); err != nil {
		return nil, err
	}
	return &model.TargetGroup{ARN: arn, Name: *in.Name, Group: g, Attributes: defaults(tgAttributes), Tags: in.Tags, CreatedAt: a.Now()}, nil
}

func or[T any](p *T, def T) *T {
	if p == nil {
		return &def
	}
	return p
}

// checkHealthCheck holds to the ranges of the ELB API reference.
func checkHealthCheck(g *types.TargetGroup) error {
	for _, c := range []struct {
		what      string
		v         *int32
		low, high int32
	}{{"interval", g.HealthCheckIntervalSeconds, 5, 300}, {"timeout", g.HealthCheckTimeoutSeconds, 2, 120},
		{"healthy threshold count", g.HealthyThresholdCount, 2, 10}, {"unhealthy threshold count", g.UnhealthyThresholdCount, 2, 10}} {
		if *c.v < c.low || *c.v > c.high {
			return invalid("Health check %s must be between '%d' and '%d'", c.what, c.low, c.high)
		}
	}
	if *g.HealthCheckTimeoutSeconds >= *g.HealthCheckIntervalSeconds {
		return invalid("Health check timeout '%d' must be smaller than the interval '%d'", *g.HealthCheckTimeoutSeconds, *g.HealthCheckIntervalSeconds)
	}
	if !strings.HasPrefix(*g.HealthCheckPath, "/") || len(*g.HealthCheckPath) > 1024 {
		return invalid("Health check path '%s' must begin with a '/' character, and can have at most 1024 characters", *g.HealthCheckPath)
	}
	if !*g.HealthCheckEnabled {
		return invalid("Health check enabled must be true for target groups with target type '%s'", g.TargetType)
	}
	if err := checkMatcher(g.Matcher); err != nil {
		return err
	}
	if g.HealthCheckProtocol != types.ProtocolEnumHttp {
		return unsupported("health checks with protocol " + string(g.HealthCheckProtocol))
	}
	if p := *g.HealthCheckPort; p != "traffic-port" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return invalid("Health check port '%s' must be 'traffic-port' or a port number", p)
		}
	}
	return nil
}

// checkMatcher admits codes and ranges of codes between 200 and 499, as AWS does for HTTP.
func checkMatcher(m *types.Matcher) error {
	if m.GrpcCode != nil {
		return unsupported("gRPC codes in health checks")
	}
	for part := range strings.SplitSeq(text(m.HttpCode), ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		low, err := strconv.Atoi(from)
		high, err2 := strconv.Atoi(to)
		if err != nil || err2 != nil || low < 200 || high > 499 || low > high {
			return invalid("Health check matcher HTTP code '%.100s' must be within '200-499' inclusive", text(m.HttpCode))
		}
	}
	return nil
}

// withBalancers returns the group with the load balancers whose rules lead to it.
func withBalancers(r store.Reader, g *model.TargetGroup) types.TargetGroup {
	v := g.Group
	v.LoadBalancerArns = []string{}
	for l := range store.Listeners.Scan(r, "") {
		if slices.Contains(v.LoadBalancerArns, l.LoadBalancerARN) {
			continue
		}
		leads := forwardsTo(l.Listener.DefaultActions, g.ARN)
		for rule := range store.Rules.By(r, store.ByListener, l.ARN) {
			leads = leads || forwardsTo(rule.Rule.Actions, g.ARN)
		}
		if leads {
			v.LoadBalancerArns = append(v.LoadBalancerArns, l.LoadBalancerARN)
		}
	}
	return v
}

func (a *api) describeTargetGroups(_ context.Context, in *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error) {
	found := []types.TargetGroup{}
	var err error
	a.Store.View(func(r store.Reader) {
		named := map[string]bool{}
		for g := range store.TargetGroups.Scan(r, "") {
			if len(in.TargetGroupArns)+len(in.Names) > 0 && !slices.Contains(in.TargetGroupArns, g.ARN) && !slices.Contains(in.Names, g.Name) {
				continue
			}
			v := withBalancers(r, g)
			if in.LoadBalancerArn != nil && !slices.Contains(v.LoadBalancerArns, *in.LoadBalancerArn) {
				continue
			}
			named[g.ARN], named[g.Name] = true, true
			found = append(found, v)
		}
		for _, want := range slices.Concat(in.TargetGroupArns, in.Names) {
			if !named[want] {
				err = noTargetGroup()
			}
		}
		if in.LoadBalancerArn != nil {
			if _, ok := store.LoadBalancers.Get(r, *in.LoadBalancerArn); !ok {
				err = noLoadBalancer()
			}
		}
	})
	if err != nil {
		return nil, err
	}
	found, next, err := page(found, in.PageSize, in.Marker, func(g types.TargetGroup) string { return *g.TargetGroupArn })
	return &elb.DescribeTargetGroupsOutput{TargetGroups: found, NextMarker: next}, err
}

// changeGroup stores a changed copy of a target group.
func (a *api) changeGroup(ctx context.Context, arn *string, change func(store.Tx, *model.TargetGroup) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.TargetGroups.Get(tx, text(arn))
		if !ok {
			return noTargetGroup()
		}
		next := *old
		next.Attributes = whole(old.Attributes, tgAttributes)
		if err := change(tx, &next); err != nil {
			return err
		}
		store.TargetGroups.Put(tx, &next)
		return nil
	})
}

func (a *api) modifyTargetGroup(ctx context.Context, in *elb.ModifyTargetGroupInput) (*elb.ModifyTargetGroupOutput, error) {
	out := &elb.ModifyTargetGroupOutput{}
	err := a.changeGroup(ctx, in.TargetGroupArn, func(tx store.Tx, g *model.TargetGroup) error {
		v := &g.Group
		v.HealthCheckEnabled = cmp.Or(in.HealthCheckEnabled, v.HealthCheckEnabled)
		v.HealthCheckIntervalSeconds = cmp.Or(in.HealthCheckIntervalSeconds, v.HealthCheckIntervalSeconds)
		v.HealthCheckTimeoutSeconds = cmp.Or(in.HealthCheckTimeoutSeconds, v.HealthCheckTimeoutSeconds)
		v.HealthyThresholdCount = cmp.Or(in.HealthyThresholdCount, v.HealthyThresholdCount)
		v.UnhealthyThresholdCount = cmp.Or(in.UnhealthyThresholdCount, v.UnhealthyThresholdCount)
		v.HealthCheckPath = cmp.Or(in.HealthCheckPath, v.HealthCheckPath)
		v.HealthCheckPort = cmp.Or(in.HealthCheckPort, v.HealthCheckPort)
		v.HealthCheckProtocol = cmp.Or(in.HealthCheckProtocol, v.HealthCheckProtocol)
		v.Matcher = cmp.Or(in.Matcher, v.Matcher)
		if err := checkHealthCheck(v); err != nil {
			return err
		}
		out.TargetGroups = []types.TargetGroup{withBalancers(tx, g)}
		return nil
	})
	return out, err
}

func (a *api) deleteTargetGroup(ctx context.Context, in *elb.DeleteTargetGroupInput) (*elb.DeleteTargetGroupOutput, error) {
	return &elb.DeleteTargetGroupOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		g, ok := store.TargetGroups.Get(tx, text(in.TargetGroupArn))
		if !ok {
			return nil // as AWS does
		}
		if len(withBalancers(tx, g).LoadBalancerArns) > 0 {
			return model.Errorf("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", g.ARN)
		}
		for _, t := range slices.Collect(store.Targets.By(tx, store.ByTargetGroup, g.ARN)) {
			store.Targets.Delete(tx, t.Key())
			store.TargetHealths.Delete(tx, t.Key())
		}
		store.TargetGroups.Delete(tx, g.ARN)
		return nil
	})
}

func tgAttributeList(m map[string]string) []types.TargetGroupAttribute {
	return list(m, tgAttributes, func(k, v *string) types.TargetGroupAttribute { return types.TargetGroupAttribute{Key: k, Value: v} })
}

func (a *api) describeTargetGroupAttributes(_ context.Context, in *elb.DescribeTargetGroupAttributesInput) (*elb.DescribeTargetGroupAttributesOutput, error) {
	out, err := &elb.DescribeTargetGroupAttributesOutput{}, error(nil)
	a.Store.View(func(r store.Reader) {
		g, ok := store.TargetGroups.Get(r, text(in.TargetGroupArn))
		if !ok {
			err = noTargetGroup()
			return
		}
		out.Attributes = tgAttributeList(g.Attributes)
	})
	return out, err
}

func (a *api) modifyTargetGroupAttributes(ctx context.Context, in *elb.ModifyTargetGroupAttributesInput) (*elb.ModifyTargetGroupAttributesOutput, error) {
	out := &elb.ModifyTargetGroupAttributesOutput{}
	err := a.changeGroup(ctx, in.TargetGroupArn, func(_ store.Tx, g *model.TargetGroup) error {
		if err := set(g.Attributes, tgAttributes, "Target group", in.Attributes,
			func(at types.TargetGroupAttribute) (k, v *string) { return at.Key, at.Value }); err != nil {
			return err
		}
		out.Attributes = tgAttributeList(g.Attributes)
		return nil
	})
	return out, err
}
