package elb_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func TestTargetGroup(t *testing.T) {
	r := newRig(t)
	in := groupInput("api", func(in *awselb.CreateTargetGroupInput) { in.TargetType, in.Protocol = "", "HTTP" })
	made := wiretest.Must[*awselb.CreateTargetGroupOutput](t)(r.CreateTargetGroup(ctx, in)).TargetGroups[0]
	matches(t, "the ARN", *made.TargetGroupArn, `arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/[0-9a-f]{16}`)
	// The defaults of the ELB API reference, CreateTargetGroup.
	if made.TargetType != types.TargetTypeEnumInstance || *made.HealthCheckIntervalSeconds != 30 || *made.HealthCheckTimeoutSeconds != 5 ||
		*made.HealthyThresholdCount != 5 || *made.UnhealthyThresholdCount != 2 || *made.HealthCheckPath != "/" ||
		*made.HealthCheckPort != "traffic-port" || made.HealthCheckProtocol != "HTTP" || *made.Matcher.HttpCode != "200" ||
		*made.ProtocolVersion != "HTTP1" || !*made.HealthCheckEnabled || made.IpAddressType != types.TargetGroupIpAddressTypeEnumIpv4 {
		t.Errorf("made %+v", made)
	}
	again := wiretest.Must[*awselb.CreateTargetGroupOutput](t)(r.CreateTargetGroup(ctx, in)).TargetGroups[0]
	if *again.TargetGroupArn != *made.TargetGroupArn {
		t.Error("the same request made a second one")
	}
	in.Port = aws.Int32(81)
	_, err := r.CreateTargetGroup(ctx, in)
	wiretest.Refused(t, err, "DuplicateTargetGroupName", "A target group with the same name 'api' exists, but with different settings")

	changed := wiretest.Must[*awselb.ModifyTargetGroupOutput](t)(r.ModifyTargetGroup(ctx, &awselb.ModifyTargetGroupInput{
		TargetGroupArn: made.TargetGroupArn, HealthCheckPath: aws.String("/ok"), HealthCheckIntervalSeconds: aws.Int32(7),
		Matcher: &types.Matcher{HttpCode: aws.String("200-299,404")}})).TargetGroups[0]
	if *changed.HealthCheckPath != "/ok" || *changed.HealthCheckIntervalSeconds != 7 || *changed.HealthCheckTimeoutSeconds != 5 {
		t.Errorf("changed to %+v", changed)
	}
	_, err = r.ModifyTargetGroup(ctx, &awselb.ModifyTargetGroupInput{TargetGroupArn: made.TargetGroupArn, HealthCheckTimeoutSeconds: aws.Int32(9)})
	wiretest.Refused(t, err, "ValidationError", "timeout '9' must be smaller than the interval '7'")

	read := wiretest.Must[*awselb.DescribeTargetGroupsOutput](t)(r.DescribeTargetGroups(ctx, &awselb.DescribeTargetGroupsInput{Names: []string{"api"}}))
	if len(read.TargetGroups) != 1 || *read.TargetGroups[0].HealthCheckPath != "/ok" || *read.TargetGroups[0].Matcher.HttpCode != "200-299,404" {
		t.Errorf("read %+v", read.TargetGroups)
	}
	for range 2 { // a second deletion is not refused
		if _, err := r.DeleteTargetGroup(ctx, &awselb.DeleteTargetGroupInput{TargetGroupArn: made.TargetGroupArn}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = r.DescribeTargetGroups(ctx, &awselb.DescribeTargetGroupsInput{TargetGroupArns: []string{*made.TargetGroupArn}})
	wiretest.Refused(t, err, "TargetGroupNotFound", "One or more target groups not found")
	_, err = r.ModifyTargetGroup(ctx, &awselb.ModifyTargetGroupInput{TargetGroupArn: made.TargetGroupArn})
	wiretest.Refused(t, err, "TargetGroupNotFound", "")
}

func TestTargetGroupsThatAreRefused(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		change     func(*awselb.CreateTargetGroupInput)
		code, text string
	}{
		"no name":     {func(in *awselb.CreateTargetGroupInput) { in.Name = aws.String("") }, "ValidationError", "name must be specified"},
		"long name":   {func(in *awselb.CreateTargetGroupInput) { in.Name = aws.String(strings.Repeat("x", 33)) }, "ValidationError", "'32' characters"},
		"no port":     {func(in *awselb.CreateTargetGroupInput) { in.Port = nil }, "ValidationError", "A port must be specified"},
		"port":        {func(in *awselb.CreateTargetGroupInput) { in.Port = aws.Int32(65536) }, "ValidationError", "Port '65536'"},
		"no protocol": {func(in *awselb.CreateTargetGroupInput) { in.Protocol = "" }, "ValidationError", "A protocol must be specified"},
		"no VPC":      {func(in *awselb.CreateTargetGroupInput) { in.VpcId = nil }, "ValidationError", "A VPC ID must be specified"},
		"TCP":         {func(in *awselb.CreateTargetGroupInput) { in.Protocol = "TCP" }, "ValidationError", "Berth does not support target groups with protocol TCP yet"},
		"lambda":      {func(in *awselb.CreateTargetGroupInput) { in.TargetType = "lambda" }, "ValidationError", "type lambda"},
		"gRPC":        {func(in *awselb.CreateTargetGroupInput) { in.ProtocolVersion = aws.String("GRPC") }, "ValidationError", "GRPC"},
		"IPv6":        {func(in *awselb.CreateTargetGroupInput) { in.IpAddressType = "ipv6" }, "ValidationError", "ipv6"},
		"interval":    {func(in *awselb.CreateTargetGroupInput) { in.HealthCheckIntervalSeconds = aws.Int32(4) }, "ValidationError", "interval must be between '5' and '300'"},
		"threshold":   {func(in *awselb.CreateTargetGroupInput) { in.HealthyThresholdCount = aws.Int32(11) }, "ValidationError", "healthy threshold count"},
		"path":        {func(in *awselb.CreateTargetGroupInput) { in.HealthCheckPath = aws.String("x") }, "ValidationError", "begin with a '/'"},
		"no checks":   {func(in *awselb.CreateTargetGroupInput) { in.HealthCheckEnabled = aws.Bool(false) }, "ValidationError", "must be true"},
		"check port":  {func(in *awselb.CreateTargetGroupInput) { in.HealthCheckPort = aws.String("http") }, "ValidationError", "'traffic-port' or a port number"},
		"check HTTPS": {func(in *awselb.CreateTargetGroupInput) { in.HealthCheckProtocol = "HTTPS" }, "ValidationError", "health checks with protocol HTTPS"},
		"matcher": {func(in *awselb.CreateTargetGroupInput) { in.Matcher = &types.Matcher{HttpCode: aws.String("200-600")} }, "ValidationError",
			"'200-600' must be within '200-499' inclusive"},
		"matcher turned round": {func(in *awselb.CreateTargetGroupInput) { in.Matcher = &types.Matcher{HttpCode: aws.String("300-200")} },
			"ValidationError", "inclusive"},
		"gRPC matcher": {func(in *awselb.CreateTargetGroupInput) { in.Matcher = &types.Matcher{GrpcCode: aws.String("0")} }, "ValidationError", "gRPC"},
		"tag": {func(in *awselb.CreateTargetGroupInput) {
			in.Tags = []types.Tag{{Key: aws.String("a")}, {Key: aws.String("a")}}
		}, "DuplicateTagKeys", "'a'"},
	} {
		_, err := r.CreateTargetGroup(ctx, groupInput("new", c.change))
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
	if got := wiretest.Must[*awselb.DescribeTargetGroupsOutput](t)(r.DescribeTargetGroups(ctx, nil)); len(got.TargetGroups) != 0 {
		t.Errorf("refused and made: %+v", got.TargetGroups)
	}
}

// A target group knows the load balancers that lead to it, by a listener's default action or a rule, and is kept while one does.
func TestTargetGroupsInUse(t *testing.T) {
	r := newRig(t)
	web, other := r.balancer("web"), r.balancer("other")
	used, weighted, free := r.group("used"), r.group("weighted"), r.group("free")
	l := r.listener(web, 80, forward(used))
	rule := r.rule(l, 1, path("/w"), forward(used, weighted))
	r.listener(other, 80, fixed("200"))

	of := func(lb types.LoadBalancer) (names []string) {
		got := wiretest.Must[*awselb.DescribeTargetGroupsOutput](t)(r.DescribeTargetGroups(ctx,
			&awselb.DescribeTargetGroupsInput{LoadBalancerArn: lb.LoadBalancerArn}))
		for _, g := range got.TargetGroups {
			names = append(names, *g.TargetGroupName)
			if !slices.Equal(g.LoadBalancerArns, []string{*lb.LoadBalancerArn}) {
				t.Errorf("%s is of %v", *g.TargetGroupName, g.LoadBalancerArns)
			}
		}
		slices.Sort(names)
		return names
	}
	if got := of(web); !slices.Equal(got, []string{"used", "weighted"}) {
		t.Errorf("web leads to %v", got)
	}
	if got := of(other); len(got) != 0 {
		t.Errorf("other leads to %v", got)
	}
	_, err := r.DescribeTargetGroups(ctx, &awselb.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(*web.LoadBalancerArn + "0")})
	wiretest.Refused(t, err, "LoadBalancerNotFound", "")

	drop := func(arn string) error {
		_, err := r.DeleteTargetGroup(ctx, &awselb.DeleteTargetGroupInput{TargetGroupArn: &arn})
		return err
	}
	wiretest.Refused(t, drop(used), "ResourceInUse", "is currently in use by a listener or a rule")
	wiretest.Refused(t, drop(weighted), "ResourceInUse", "")
	if err := drop(free); err != nil {
		t.Error(err)
	}
	wiretest.Must[*awselb.DeleteRuleOutput](t)(r.DeleteRule(ctx, &awselb.DeleteRuleInput{RuleArn: rule.RuleArn}))
	if err := drop(weighted); err != nil {
		t.Errorf("after the rule was deleted: %v", err)
	}
	wiretest.Must[*awselb.DeleteLoadBalancerOutput](t)(r.DeleteLoadBalancer(ctx, &awselb.DeleteLoadBalancerInput{LoadBalancerArn: web.LoadBalancerArn}))
	if err := drop(used); err != nil {
		t.Errorf("after the load balancer was deleted: %v", err)
	}
}

func TestPagesOfTargetGroups(t *testing.T) {
	r := newRig(t)
	for i := range 9 {
		r.group(fmt.Sprint("g", i))
	}
	seen := map[string]bool{}
	pages := awselb.NewDescribeTargetGroupsPaginator(r.Client, &awselb.DescribeTargetGroupsInput{PageSize: aws.Int32(4)})
	n := 0
	for ; pages.HasMorePages(); n++ {
		for _, g := range wiretest.Must[*awselb.DescribeTargetGroupsOutput](t)(pages.NextPage(ctx)).TargetGroups {
			seen[*g.TargetGroupArn] = true
		}
	}
	if len(seen) != 9 || n != 3 {
		t.Errorf("%d target groups on %d pages", len(seen), n)
	}
}

// health is what DescribeTargetHealth says of targets: "<id>:<port> <state> <reason>".
func (r *rig) health(group string, targets ...types.TargetDescription) (all []string) {
	r.t.Helper()
	out := wiretest.Must[*awselb.DescribeTargetHealthOutput](r.t)(r.DescribeTargetHealth(ctx,
		&awselb.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: targets}))
	for _, d := range out.TargetHealthDescriptions {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s", *d.Target.Id, *d.Target.Port, d.TargetHealth.State, d.TargetHealth.Reason)))
	}
	slices.Sort(all)
	return all
}

func target(id string, port int32) types.TargetDescription {
	d := types.TargetDescription{Id: &id}
	if port != 0 {
		d.Port = &port
	}
	return d
}

func TestTargets(t *testing.T) {
	r := newRig(t)
	g := r.group("g")
	register := func(targets ...types.TargetDescription) error {
		_, err := r.RegisterTargets(ctx, &awselb.RegisterTargetsInput{TargetGroupArn: &g, Targets: targets})
		return err
	}
	deregister := func(targets ...types.TargetDescription) error {
		_, err := r.DeregisterTargets(ctx, &awselb.DeregisterTargetsInput{TargetGroupArn: &g, Targets: targets})
		return err
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := r.health(g); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", what, got, want)
		}
	}
	if err := register(target("10.0.0.1", 0), target("10.0.0.1", 81), target("10.0.0.2", 0)); err != nil {
		t.Fatal(err)
	}
	expect("registered", "10.0.0.1:80 initial Elb.RegistrationInProgress", "10.0.0.1:81 initial Elb.RegistrationInProgress",
		"10.0.0.2:80 initial Elb.RegistrationInProgress")

	r.put(func(tx store.Tx) { // what the proxy sees
		store.TargetHealths.Put(tx, &model.TargetHealth{TargetGroupARN: g, ID: "10.0.0.1", Port: 80, State: types.TargetHealthStateEnumHealthy})
		store.TargetHealths.Put(tx, &model.TargetHealth{TargetGroupARN: g, ID: "10.0.0.2", Port: 80, State: types.TargetHealthStateEnumUnhealthy,
			Reason: types.TargetHealthReasonEnumResponseCodeMismatch, Description: "Health checks failed with these codes: [500]"})
	})
	if err := register(target("10.0.0.1", 80)); err != nil {
		t.Fatal(err)
	}
	expect("measured, and registered once more", "10.0.0.1:80 healthy", "10.0.0.1:81 initial Elb.RegistrationInProgress",
		"10.0.0.2:80 unhealthy Target.ResponseCodeMismatch")

	if err := deregister(target("10.0.0.1", 0)); err != nil { // without a port: all of that address
		t.Fatal(err)
	}
	expect("deregistered", "10.0.0.1:80 draining Target.DeregistrationInProgress", "10.0.0.1:81 draining Target.DeregistrationInProgress",
		"10.0.0.2:80 unhealthy Target.ResponseCodeMismatch")
	if err := register(target("10.0.0.1", 80)); err != nil {
		t.Fatal(err)
	}
	expect("registered while it drains", "10.0.0.1:80 initial Elb.RegistrationInProgress",
		"10.0.0.1:81 draining Target.DeregistrationInProgress", "10.0.0.2:80 unhealthy Target.ResponseCodeMismatch")

	if got, want := r.health(g, target("10.0.0.2", 0), target("10.0.0.9", 0)), []string{"10.0.0.2:80 unhealthy Target.ResponseCodeMismatch",
		"10.0.0.9:80 unused Target.NotRegistered"}; !slices.Equal(got, want) {
		t.Errorf("asked for two: %q", got)
	}

	for _, bad := range []string{"10.0.0", "::1", "8.8.8.8", "0.0.0.0", "224.0.0.1", "169.254.169.254", "255.255.255.255", "i-1"} {
		wiretest.Refused(t, register(target("10.0.0.3", 0), target(bad, 0)), "ValidationError", "'"+bad+"'")
	}
	wiretest.Refused(t, register(target("10.0.0.3", 65536)), "ValidationError", "Port '65536' is not valid")
	wiretest.Refused(t, register([]types.TargetDescription{}...), "ValidationError", "At least one target")
	if err := deregister(target("10.0.0.9", 0)); err != nil {
		t.Error("deregistering what is not registered is no error: ", err)
	}
	expect("after refusals", "10.0.0.1:80 initial Elb.RegistrationInProgress",
		"10.0.0.1:81 draining Target.DeregistrationInProgress", "10.0.0.2:80 unhealthy Target.ResponseCodeMismatch")
	var many []types.TargetDescription
	for i := range int32(1000) {
		many = append(many, target("10.1.0.1", 1+i))
	}
	wiretest.Refused(t, register(many...), "TooManyTargets", "1000")

	if _, err := r.DeleteTargetGroup(ctx, &awselb.DeleteTargetGroupInput{TargetGroupArn: &g}); err != nil {
		t.Fatal(err)
	}
	r.store.View(func(s store.Reader) {
		for range store.Targets.Scan(s, "") {
			t.Error("a target outlived its group")
		}
		for range store.TargetHealths.Scan(s, "") {
			t.Error("a target's health outlived its group")
		}
	})
	wiretest.Refused(t, register(target("10.0.0.1", 0)), "TargetGroupNotFound", "")
	wiretest.Refused(t, deregister(target("10.0.0.1", 0)), "TargetGroupNotFound", "")
}

// Targets of type instance are named by the EC2 id of a container instance, and reached at its node's address.
func TestInstanceTargets(t *testing.T) {
	r := newRig(t)
	g := r.group("g", func(in *awselb.CreateTargetGroupInput) { in.TargetType = types.TargetTypeEnumInstance })
	r.put(func(tx store.Tx) {
		store.Nodes.Put(tx, &model.Node{ID: "n1", Declaration: model.Declaration{Address: "192.168.7.8"}})
	})
	_, err := r.RegisterTargets(ctx, &awselb.RegisterTargetsInput{TargetGroupArn: &g, Targets: []types.TargetDescription{target(model.EC2ID("n1"), 32768)}})
	if err != nil {
		t.Fatal(err)
	}
	r.store.View(func(s store.Reader) {
		row, ok := store.Targets.Get(s, model.TargetKey(g, model.EC2ID("n1"), 32768))
		if !ok || row.Address != "192.168.7.8" {
			t.Errorf("%+v", row)
		}
	})
	_, err = r.RegisterTargets(ctx, &awselb.RegisterTargetsInput{TargetGroupArn: &g, Targets: []types.TargetDescription{target("i-9", 80)}})
	wiretest.Refused(t, err, "InvalidTarget", "'i-9'")
}
