package elb_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func TestLoadBalancer(t *testing.T) {
	r := newRig(t)
	made := r.balancer("web")
	got := wiretest.Must[*awselb.DescribeLoadBalancersOutput](t)(r.DescribeLoadBalancers(ctx, &awselb.DescribeLoadBalancersInput{Names: []string{"web"}}))
	lb := got.LoadBalancers[0]
	matches(t, "the ARN", *lb.LoadBalancerArn, `arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/web/[0-9a-f]{16}`)
	matches(t, "the DNS name", *lb.DNSName, `web-\d{9,10}\.elb\.us-east-1\.localhost`)
	matches(t, "the zone", *lb.CanonicalHostedZoneId, `Z[0-9A-Z]+`)
	if *made.LoadBalancerArn != *lb.LoadBalancerArn || lb.State.Code != types.LoadBalancerStateEnumActive ||
		lb.Scheme != types.LoadBalancerSchemeEnumInternetFacing || lb.Type != types.LoadBalancerTypeEnumApplication ||
		lb.IpAddressType != types.IpAddressTypeIpv4 || *lb.VpcId != "vpc-1" || !lb.CreatedTime.Equal(r.now) ||
		!slices.Equal(lb.SecurityGroups, []string{"sg-default"}) {
		t.Errorf("%+v", lb)
	}
	if z := lb.AvailabilityZones; len(z) != 2 || *z[0].SubnetId != "subnet-a" || *z[0].ZoneName != "us-east-1a" || *z[1].ZoneName != "us-east-1b" {
		t.Errorf("zones %+v", z)
	}
	if again := r.balancer("web"); *again.LoadBalancerArn != *lb.LoadBalancerArn {
		t.Error("the same request makes another one")
	}
	internal := wiretest.Must[*awselb.CreateLoadBalancerOutput](t)(r.CreateLoadBalancer(ctx, &awselb.CreateLoadBalancerInput{Name: aws.String("in"),
		Scheme: types.LoadBalancerSchemeEnumInternal, SubnetMappings: []types.SubnetMapping{{SubnetId: aws.String("x")}, {SubnetId: aws.String("y")}}}))
	matches(t, "the internal DNS name", *internal.LoadBalancers[0].DNSName, `internal-in-\d{9,10}\.elb\.us-east-1\.localhost`)

	// deletion
	protect := func(v string) error {
		_, err := r.ModifyLoadBalancerAttributes(ctx, &awselb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: lb.LoadBalancerArn,
			Attributes: []types.LoadBalancerAttribute{{Key: aws.String("deletion_protection.enabled"), Value: &v}}})
		return err
	}
	remove := func() error {
		_, err := r.DeleteLoadBalancer(ctx, &awselb.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn})
		return err
	}
	l := r.listener(lb, 80, fixed("200"))
	r.rule(l, 1, path("/a"), fixed("200"))
	if err := protect("true"); err != nil {
		t.Fatal(err)
	}
	wiretest.Refused(t, remove(), "OperationNotPermitted", "deletion protection is enabled")
	if err := protect("false"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one that is gone is no error
		if err := remove(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.DescribeLoadBalancers(ctx, &awselb.DescribeLoadBalancersInput{Names: []string{"web"}})
	wiretest.Refused(t, err, "LoadBalancerNotFound", "Load balancers '[web]' not found")
	_, err = r.DescribeLoadBalancers(ctx, &awselb.DescribeLoadBalancersInput{LoadBalancerArns: []string{*lb.LoadBalancerArn}})
	wiretest.Refused(t, err, "LoadBalancerNotFound", "One or more load balancers not found")
	r.store.View(func(rd store.Reader) {
		for range store.Listeners.Scan(rd, "") {
			t.Error("its listener is left")
		}
		for range store.Rules.Scan(rd, "") {
			t.Error("its rule is left")
		}
	})
}

func TestLoadBalancersThatAreRefused(t *testing.T) {
	r := newRig(t)
	r.balancer("web")
	for name, c := range map[string]struct {
		change     func(*awselb.CreateLoadBalancerInput)
		code, text string
	}{
		"network": {func(in *awselb.CreateLoadBalancerInput) { in.Type = types.LoadBalancerTypeEnumNetwork }, "ValidationError",
			"Berth does not support network load balancers yet"},
		"gateway":     {func(in *awselb.CreateLoadBalancerInput) { in.Type = types.LoadBalancerTypeEnumGateway }, "ValidationError", "gateway"},
		"dualstack":   {func(in *awselb.CreateLoadBalancerInput) { in.IpAddressType = types.IpAddressTypeDualstack }, "ValidationError", "dualstack"},
		"one subnet":  {func(in *awselb.CreateLoadBalancerInput) { in.Subnets = subnets[:1] }, "ValidationError", "At least two subnets"},
		"same subnet": {func(in *awselb.CreateLoadBalancerInput) { in.Subnets = []string{"s", "s"} }, "InvalidConfigurationRequest", "only once"},
		"other settings": {func(in *awselb.CreateLoadBalancerInput) { in.Name = aws.String("web"); in.Scheme = "internal" },
			"DuplicateLoadBalancerName", "A load balancer with the same name 'web' exists, but with different settings"},
		"long name":  {func(in *awselb.CreateLoadBalancerInput) { in.Name = aws.String(fmt.Sprintf("%033d", 0)) }, "ValidationError", "'32' characters"},
		"bad name":   {func(in *awselb.CreateLoadBalancerInput) { in.Name = aws.String("-x") }, "ValidationError", "cannot begin or end with a hyphen"},
		"internal-":  {func(in *awselb.CreateLoadBalancerInput) { in.Name = aws.String("internal-x") }, "ValidationError", "internal-"},
		"bad scheme": {func(in *awselb.CreateLoadBalancerInput) { in.Scheme = "outernal" }, "ValidationError", "Scheme"},
		"bad tag": {func(in *awselb.CreateLoadBalancerInput) { in.Tags = []types.Tag{{Key: aws.String("aws:x")}} }, "ValidationError",
			"The tag key 'aws:x'"},
	} {
		in := &awselb.CreateLoadBalancerInput{Name: aws.String("new"), Subnets: subnets}
		c.change(in)
		_, err := r.CreateLoadBalancer(ctx, in)
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
}

func TestAPortsProblemIsTheLoadBalancersState(t *testing.T) {
	r := newRig(t)
	lb := r.balancer("web")
	l := r.listener(lb, 80, fixed("200"))
	r.put(func(tx store.Tx) {
		row, _ := store.Listeners.Get(tx, *l.ListenerArn)
		next := *row
		next.Problem = "port 80 is in use by another program"
		store.Listeners.Put(tx, &next)
	})
	got := wiretest.Must[*awselb.DescribeLoadBalancersOutput](t)(r.DescribeLoadBalancers(ctx, &awselb.DescribeLoadBalancersInput{}))
	if s := got.LoadBalancers[0].State; s.Code != types.LoadBalancerStateEnumActiveImpaired || *s.Reason != "port 80 is in use by another program" {
		t.Errorf("%s %v", s.Code, s.Reason)
	}
}

func TestAttributes(t *testing.T) {
	r := newRig(t)
	lb, g := r.balancer("web"), r.group("g")
	l := r.listener(lb, 80, fixed("200"))
	read := map[string]func() map[string]string{
		"lb": func() map[string]string {
			m := map[string]string{}
			for _, a := range wiretest.Must[*awselb.DescribeLoadBalancerAttributesOutput](t)(r.DescribeLoadBalancerAttributes(ctx,
				&awselb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: lb.LoadBalancerArn})).Attributes {
				m[*a.Key] = *a.Value
			}
			return m
		},
		"tg": func() map[string]string {
			m := map[string]string{}
			for _, a := range wiretest.Must[*awselb.DescribeTargetGroupAttributesOutput](t)(r.DescribeTargetGroupAttributes(ctx,
				&awselb.DescribeTargetGroupAttributesInput{TargetGroupArn: &g})).Attributes {
				m[*a.Key] = *a.Value
			}
			return m
		},
		"listener": func() map[string]string {
			m := map[string]string{}
			for _, a := range wiretest.Must[*awselb.DescribeListenerAttributesOutput](t)(r.DescribeListenerAttributes(ctx,
				&awselb.DescribeListenerAttributesInput{ListenerArn: l.ListenerArn})).Attributes {
				m[*a.Key] = *a.Value
			}
			return m
		},
	}
	write := map[string]func(k, v string) error{
		"lb": func(k, v string) error {
			_, err := r.ModifyLoadBalancerAttributes(ctx, &awselb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: lb.LoadBalancerArn,
				Attributes: []types.LoadBalancerAttribute{{Key: &k, Value: &v}}})
			return err
		},
		"tg": func(k, v string) error {
			_, err := r.ModifyTargetGroupAttributes(ctx, &awselb.ModifyTargetGroupAttributesInput{TargetGroupArn: &g,
				Attributes: []types.TargetGroupAttribute{{Key: &k, Value: &v}}})
			return err
		},
		"listener": func(k, v string) error {
			_, err := r.ModifyListenerAttributes(ctx, &awselb.ModifyListenerAttributesInput{ListenerArn: l.ListenerArn,
				Attributes: []types.ListenerAttribute{{Key: &k, Value: &v}}})
			return err
		},
	}
	for of, count := range map[string]int{"lb": 23, "tg": 14, "listener": 11} {
		if n := len(read[of]()); n != count {
			t.Errorf("%s has %d attributes, want %d", of, n, count)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(read["listener"]())) {
		if k != "routing.http.response.server.enabled" && model.ResponseHeader(k) == "" {
			t.Errorf("the proxy does not know %s", k)
		}
	}
	const refusal, unsupported = "InvalidConfigurationRequest", "ValidationError"
	for _, c := range []struct{ of, key, value, code string }{
		{"lb", "idle_timeout.timeout_seconds", "4000", ""}, {"lb", "idle_timeout.timeout_seconds", "0", refusal},
		{"lb", "idle_timeout.timeout_seconds", "x", refusal}, {"lb", "access_logs.s3.enabled", "true", unsupported},
		{"lb", "access_logs.s3.enabled", "false", ""}, {"lb", "access_logs.s3.bucket", "b", ""}, {"lb", "nonsense", "1", refusal},
		{"lb", "load_balancing.cross_zone.enabled", "false", refusal}, {"lb", "routing.http.xff_header_processing.mode", "remove", ""},
		{"lb", "routing.http.xff_header_processing.mode", "swap", refusal}, {"lb", "routing.http2.enabled", "maybe", refusal},
		{"tg", "deregistration_delay.timeout_seconds", "0", ""}, {"tg", "deregistration_delay.timeout_seconds", "3601", refusal},
		{"tg", "stickiness.enabled", "true", ""}, {"tg", "stickiness.type", "app_cookie", unsupported}, {"tg", "stickiness.type", "x", refusal},
		{"tg", "slow_start.duration_seconds", "30", unsupported}, {"tg", "load_balancing.algorithm.type", "least_outstanding_requests", ""},
		{"tg", "load_balancing.algorithm.type", "weighted_random", unsupported}, {"tg", "lambda.multi_value_headers.enabled", "true", refusal},
		{"tg", "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "50", ""},
		{"listener", "routing.http.response.x_frame_options.header_value", "DENY", ""},
		{"listener", "routing.http.response.x_frame_options.header_value", "a\nb: c", refusal},
		{"listener", "tcp.idle_timeout.seconds", "60", refusal},
	} {
		before := read[c.of]()
		err := write[c.of](c.key, c.value)
		if c.code == "" {
			before[c.key] = c.value
			if err != nil {
				t.Errorf("%s: %v", c.key, err)
			}
		} else {
			wiretest.Refused(t, err, c.code, "")
		}
		if !maps.Equal(read[c.of](), before) {
			t.Errorf("after %s = %q: %v", c.key, c.value, read[c.of]())
		}
	}
	_, err := r.ModifyListenerAttributes(ctx, &awselb.ModifyListenerAttributesInput{ListenerArn: aws.String("x"), Attributes: []types.ListenerAttribute{}})
	wiretest.Refused(t, err, "ListenerNotFound", "One or more listeners not found")
	_, err = r.DescribeTargetGroupAttributes(ctx, &awselb.DescribeTargetGroupAttributesInput{TargetGroupArn: aws.String("x")})
	wiretest.Refused(t, err, "TargetGroupNotFound", "One or more target groups not found")
}

func TestSettings(t *testing.T) {
	r := newRig(t)
	lb := r.balancer("web")
	groups := wiretest.Must[*awselb.SetSecurityGroupsOutput](t)(r.SetSecurityGroups(ctx, &awselb.SetSecurityGroupsInput{LoadBalancerArn: lb.LoadBalancerArn,
		SecurityGroups: []string{"sg-1", "sg-2"}}))
	zones := wiretest.Must[*awselb.SetSubnetsOutput](t)(r.SetSubnets(ctx, &awselb.SetSubnetsInput{LoadBalancerArn: lb.LoadBalancerArn,
		Subnets: []string{"subnet-b", "subnet-z"}}))
	wiretest.Must[*awselb.SetIpAddressTypeOutput](t)(r.SetIpAddressType(ctx, &awselb.SetIpAddressTypeInput{LoadBalancerArn: lb.LoadBalancerArn,
		IpAddressType: types.IpAddressTypeIpv4}))
	got := wiretest.Must[*awselb.DescribeLoadBalancersOutput](t)(r.DescribeLoadBalancers(ctx, &awselb.DescribeLoadBalancersInput{})).LoadBalancers[0]
	if !slices.Equal(got.SecurityGroups, groups.SecurityGroupIds) || len(got.SecurityGroups) != 2 ||
		*got.AvailabilityZones[0].SubnetId != *zones.AvailabilityZones[0].SubnetId || *got.AvailabilityZones[0].ZoneName != "us-east-1b" {
		t.Errorf("%+v", got)
	}
	_, err := r.SetIpAddressType(ctx, &awselb.SetIpAddressTypeInput{LoadBalancerArn: lb.LoadBalancerArn, IpAddressType: types.IpAddressTypeDualstack})
	wiretest.Refused(t, err, "ValidationError", "dualstack")
	_, err = r.SetSubnets(ctx, &awselb.SetSubnetsInput{LoadBalancerArn: aws.String("arn:x"), Subnets: subnets})
	wiretest.Refused(t, err, "LoadBalancerNotFound", "Load balancer 'arn:x' not found")
	none := wiretest.Must[*awselb.DescribeCapacityReservationOutput](t)(r.DescribeCapacityReservation(ctx,
		&awselb.DescribeCapacityReservationInput{LoadBalancerArn: lb.LoadBalancerArn}))
	if none.MinimumLoadBalancerCapacity != nil {
		t.Errorf("%+v", none)
	}
}

func TestPagesAndLimits(t *testing.T) {
	r := newRig(t)
	for i := range 50 {
		r.balancer(fmt.Sprintf("lb-%d", i))
	}
	_, err := r.CreateLoadBalancer(ctx, &awselb.CreateLoadBalancerInput{Name: aws.String("one-more"), Subnets: subnets})
	wiretest.Refused(t, err, "TooManyLoadBalancers", "The maximum number of load balancers is 50")
	seen := map[string]bool{}
	pages := awselb.NewDescribeLoadBalancersPaginator(r.Client, &awselb.DescribeLoadBalancersInput{PageSize: aws.Int32(7)})
	n := 0
	for ; pages.HasMorePages(); n++ {
		for _, lb := range wiretest.Must[*awselb.DescribeLoadBalancersOutput](t)(pages.NextPage(ctx)).LoadBalancers {
			seen[*lb.LoadBalancerArn] = true
		}
	}
	if len(seen) != 50 || n != 8 {
		t.Errorf("%d load balancers on %d pages", len(seen), n)
	}
	for _, in := range []*awselb.DescribeLoadBalancersInput{{PageSize: aws.Int32(0)}, {PageSize: aws.Int32(401)}, {Marker: aws.String("x")}} {
		_, err := r.DescribeLoadBalancers(ctx, in)
		wiretest.Refused(t, err, "ValidationError", "")
	}
	limits := wiretest.Must[*awselb.DescribeAccountLimitsOutput](t)(r.DescribeAccountLimits(ctx, &awselb.DescribeAccountLimitsInput{}))
	if len(limits.Limits) < 5 || *limits.Limits[0].Max != "50" {
		t.Errorf("%+v", limits.Limits)
	}
}

func TestTags(t *testing.T) {
	r := newRig(t)
	lb, g := r.balancer("web"), r.group("g", func(in *awselb.CreateTargetGroupInput) {
		in.Tags = []types.Tag{{Key: aws.String("made"), Value: aws.String("here")}}
	})
	l := r.listener(lb, 80, fixed("200"))
	all := []string{*lb.LoadBalancerArn, g, *l.ListenerArn, *r.rule(l, 1, path("/a"), fixed("200")).RuleArn}
	tags := func() (out []map[string]string) {
		for _, d := range wiretest.Must[*awselb.DescribeTagsOutput](t)(r.DescribeTags(ctx, &awselb.DescribeTagsInput{ResourceArns: all})).TagDescriptions {
			m := map[string]string{}
			for _, tag := range d.Tags {
				m[*tag.Key] = *tag.Value
			}
			out = append(out, m)
		}
		return out
	}
	add := func(arns []string, kv ...string) error {
		in := &awselb.AddTagsInput{ResourceArns: arns}
		for i := 0; i < len(kv); i += 2 {
			in.Tags = append(in.Tags, types.Tag{Key: &kv[i], Value: &kv[i+1]})
		}
		_, err := r.AddTags(ctx, in)
		return err
	}
	if err := add(all, "a", "1", "b", "2"); err != nil {
		t.Fatal(err)
	}
	if err := add(all, "b", "3"); err != nil {
		t.Fatal(err)
	}
	wiretest.Must[*awselb.RemoveTagsOutput](t)(r.RemoveTags(ctx, &awselb.RemoveTagsInput{ResourceArns: all, TagKeys: []string{"a", "none"}}))
	for i, m := range tags() {
		want := map[string]string{"b": "3"}
		if i == 1 {
			want["made"] = "here"
		}
		if !maps.Equal(m, want) {
			t.Errorf("%s: %v", all[i], m)
		}
	}
	var many []string
	for i := range 50 {
		many = append(many, fmt.Sprint("k", i), "")
	}
	wiretest.Refused(t, add(all[:1], many...), "TooManyTags", "50")
	wiretest.Refused(t, add(all[:1], "x", "1", "x", "2"), "DuplicateTagKeys", "'x'")
	wiretest.Refused(t, add([]string{*lb.LoadBalancerArn + "0"}, "a", "1"), "LoadBalancerNotFound", "not found")
	wiretest.Refused(t, add([]string{"arn:aws:s3:::x"}, "a", "1"), "ValidationError", "not a valid resource ARN")
	for _, kind := range []string{"targetgroup/x/1 TargetGroupNotFound", "listener/app/x/1/2 ListenerNotFound", "listener-rule/app/x/1/2/3 RuleNotFound"} {
		var arn, code string
		fmt.Sscan(kind, &arn, &code)
		wiretest.Refused(t, add([]string{scope.ARN("elasticloadbalancing", arn)}, "a", "1"), code, "not found")
	}
}
