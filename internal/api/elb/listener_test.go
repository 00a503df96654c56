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
)

func TestListener(t *testing.T) {
	r := newRig(t)
	lb, g := r.balancer("web"), r.group("g")
	made := r.listener(lb, 80, forward(g))
	matches(t, "the ARN", *made.ListenerArn,
		strings.Replace(*lb.LoadBalancerArn, ":loadbalancer/", ":listener/", 1)+`/[0-9a-f]{16}`)
	// AWS shows a single group in both spellings, with its weight.
	act := made.DefaultActions[0]
	if *act.TargetGroupArn != g || len(act.ForwardConfig.TargetGroups) != 1 || *act.ForwardConfig.TargetGroups[0].Weight != 1 ||
		*act.ForwardConfig.TargetGroupStickinessConfig.Enabled {
		t.Errorf("default action %+v %+v", act, act.ForwardConfig)
	}
	modify := func(change func(*awselb.ModifyListenerInput)) (types.Listener, error) {
		in := &awselb.ModifyListenerInput{ListenerArn: made.ListenerArn}
		change(in)
		out, err := r.ModifyListener(ctx, in)
		if err != nil {
			return types.Listener{}, err
		}
		return out.Listeners[0], nil
	}
	r.listener(lb, 81, fixed("404"))
	_, err := modify(func(in *awselb.ModifyListenerInput) { in.Port = aws.Int32(81) })
	wiretest.Refused(t, err, "DuplicateListener", "A listener already exists on this port for this load balancer")
	got := wiretest.Must[types.Listener](t)(modify(func(in *awselb.ModifyListenerInput) { in.Port, in.DefaultActions = aws.Int32(82), fixed("503") }))
	if *got.Port != 82 || *got.DefaultActions[0].FixedResponseConfig.StatusCode != "503" || *got.ListenerArn != *made.ListenerArn {
		t.Errorf("modified to %+v", got)
	}
	got = wiretest.Must[types.Listener](t)(modify(func(*awselb.ModifyListenerInput) {}))
	if *got.Port != 82 || *got.DefaultActions[0].FixedResponseConfig.StatusCode != "503" {
		t.Errorf("an empty change left %+v", got)
	}
	_, err = modify(func(in *awselb.ModifyListenerInput) { in.Protocol = types.ProtocolEnumHttps })
	wiretest.Refused(t, err, "ValidationError", "Berth does not support HTTPS listeners yet")

	ports := func(in *awselb.DescribeListenersInput) (all []int32) {
		for _, l := range wiretest.Must[*awselb.DescribeListenersOutput](t)(r.DescribeListeners(ctx, in)).Listeners {
			all = append(all, *l.Port)
		}
		slices.Sort(all)
		return all
	}
	if all := ports(&awselb.DescribeListenersInput{LoadBalancerArn: lb.LoadBalancerArn}); !slices.Equal(all, []int32{81, 82}) {
		t.Errorf("listeners at %v", all)
	}
	if all := ports(&awselb.DescribeListenersInput{ListenerArns: []string{*made.ListenerArn}}); !slices.Equal(all, []int32{82}) {
		t.Errorf("the listener is at %v", all)
	}
	if one := ports(&awselb.DescribeListenersInput{LoadBalancerArn: lb.LoadBalancerArn, PageSize: aws.Int32(1)}); len(one) != 1 {
		t.Errorf("a page of one has %v", one)
	}

	r.rule(made, 1, path("/x"), fixed("200"))
	wiretest.Must[*awselb.DeleteListenerOutput](t)(r.DeleteListener(ctx, &awselb.DeleteListenerInput{ListenerArn: made.ListenerArn}))
	for _, err := range []error{
		wiretest.Error(r.DeleteListener(ctx, &awselb.DeleteListenerInput{ListenerArn: made.ListenerArn})),
		wiretest.Error(r.DescribeListeners(ctx, &awselb.DescribeListenersInput{ListenerArns: []string{*made.ListenerArn}})),
		wiretest.Error(r.DescribeRules(ctx, &awselb.DescribeRulesInput{ListenerArn: made.ListenerArn})),
		wiretest.Error(r.ModifyListener(ctx, &awselb.ModifyListenerInput{ListenerArn: made.ListenerArn})),
	} {
		wiretest.Refused(t, err, "ListenerNotFound", "One or more listeners not found")
	}
	_, err = r.DescribeListeners(ctx, nil)
	wiretest.Refused(t, err, "ValidationError", "Either a load balancer or listeners must be specified")
}

func TestListenersThatAreRefused(t *testing.T) {
	r := newRig(t)
	lb := r.balancer("web")
	for name, c := range map[string]struct {
		change     func(*awselb.CreateListenerInput)
		code, text string
	}{
		"HTTPS":       {func(in *awselb.CreateListenerInput) { in.Protocol = "HTTPS" }, "ValidationError", "HTTPS listeners"},
		"TCP":         {func(in *awselb.CreateListenerInput) { in.Protocol = "TCP" }, "ValidationError", "Listener protocol 'TCP' must be one of 'HTTPS, HTTP'"},
		"no protocol": {func(in *awselb.CreateListenerInput) { in.Protocol = "" }, "ValidationError", "protocol and port"},
		"no port":     {func(in *awselb.CreateListenerInput) { in.Port = nil }, "ValidationError", "protocol and port"},
		"port 0":      {func(in *awselb.CreateListenerInput) { in.Port = aws.Int32(0) }, "ValidationError", "between 1 and 65535"},
		"certificate": {func(in *awselb.CreateListenerInput) {
			in.Certificates = []types.Certificate{{CertificateArn: aws.String("arn")}}
		}, "ValidationError", "Certificates"},
		"policy": {func(in *awselb.CreateListenerInput) { in.SslPolicy = aws.String("x") }, "ValidationError", "security policy"},
		"ALPN":   {func(in *awselb.CreateListenerInput) { in.AlpnPolicy = []string{"HTTP2Only"} }, "ValidationError", "ALPN"},
		"mutual": {func(in *awselb.CreateListenerInput) {
			in.MutualAuthentication = &types.MutualAuthenticationAttributes{Mode: aws.String("verify")}
		}, "ValidationError", "Mutual"},
		"balancer": {func(in *awselb.CreateListenerInput) { in.LoadBalancerArn = aws.String(*lb.LoadBalancerArn + "0") },
			"LoadBalancerNotFound", "not found"},
		"no action": {func(in *awselb.CreateListenerInput) { in.DefaultActions = []types.Action{} }, "ValidationError", "one action"},
	} {
		in := &awselb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancerArn, Port: aws.Int32(80), Protocol: "HTTP", DefaultActions: fixed("200")}
		c.change(in)
		_, err := r.CreateListener(ctx, in)
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
	for i := range int32(50) {
		r.listener(lb, 8000+i, fixed("200"))
	}
	_, err := r.CreateListener(ctx, &awselb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancerArn, Port: aws.Int32(80), Protocol: "HTTP",
		DefaultActions: fixed("200")})
	wiretest.Refused(t, err, "TooManyListeners", "50")
}

func TestActionsThatAreRefused(t *testing.T) {
	r := newRig(t)
	lb, g, h := r.balancer("web"), r.group("g"), r.group("h")
	tuple := func(arn string, weight int32) types.TargetGroupTuple {
		return types.TargetGroupTuple{TargetGroupArn: &arn, Weight: &weight}
	}
	to := func(conf types.ForwardActionConfig) types.Action {
		return types.Action{Type: "forward", ForwardConfig: &conf}
	}
	redirect := func(change func(*types.RedirectActionConfig)) types.Action {
		conf := types.RedirectActionConfig{StatusCode: types.RedirectActionStatusCodeEnumHttp301, Host: aws.String("x")}
		change(&conf)
		return types.Action{Type: "redirect", RedirectConfig: &conf}
	}
	body := func(f types.FixedResponseActionConfig) types.Action {
		return types.Action{Type: "fixed-response", FixedResponseConfig: &f}
	}
	six := make([]types.TargetGroupTuple, 6)
	for i := range six {
		six[i] = tuple(r.group(fmt.Sprint("six-", i)), 1)
	}
	for name, c := range map[string]struct {
		actions    []types.Action
		code, text string
	}{
		"cognito":         {[]types.Action{{Type: "authenticate-cognito"}}, "ValidationError", "Berth does not support actions of type authenticate-cognito yet"},
		"two":             {append(fixed("200"), fixed("200")...), "ValidationError", "Exactly one action"},
		"of another type": {[]types.Action{{Type: "fixed-response", TargetGroupArn: &g}}, "ValidationError", "cannot have the configuration of type forward"},
		"no group":        {[]types.Action{{Type: "forward"}}, "ValidationError", "A target group must be specified"},
		"unknown group":   {forward(g + "0"), "TargetGroupNotFound", ""},
		"differs": {[]types.Action{{Type: "forward", TargetGroupArn: &h, ForwardConfig: &types.ForwardActionConfig{
			TargetGroups: []types.TargetGroupTuple{tuple(g, 1)}}}}, "ValidationError", "must be the same target group"},
		"weight": {[]types.Action{to(types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{tuple(g, 1000)}})}, "ValidationError",
			"weight '1000' must be between 0 and 999"},
		"twice": {[]types.Action{to(types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{tuple(g, 1), tuple(g, 2)}})}, "ValidationError",
			"more than once"},
		"six": {[]types.Action{to(types.ForwardActionConfig{TargetGroups: six})}, "TooManyTargetGroups", "5"},
		"stickiness": {[]types.Action{to(types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{tuple(g, 1)},
			TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: aws.Bool(true)}})}, "ValidationError", "between 1 and 604800 seconds"},
		"status 300":  {fixed("300"), "ValidationError", "2XX, 4XX or 5XX"},
		"status text": {fixed("ok"), "ValidationError", "'ok'"},
		"long body": {[]types.Action{body(types.FixedResponseActionConfig{StatusCode: aws.String("200"), MessageBody: aws.String(strings.Repeat("x", 1025))})},
			"ValidationError", "1024"},
		"content type": {[]types.Action{body(types.FixedResponseActionConfig{StatusCode: aws.String("200"), ContentType: aws.String("image/png")})},
			"ValidationError", "'image/png'"},
		"redirect status": {[]types.Action{redirect(func(c *types.RedirectActionConfig) { c.StatusCode = "HTTP_307" })}, "ValidationError", "HTTP_301"},
		"to itself": {[]types.Action{redirect(func(c *types.RedirectActionConfig) { c.Host = nil })}, "InvalidLoadBalancerAction",
			"would lead to itself"},
		"protocol": {[]types.Action{redirect(func(c *types.RedirectActionConfig) { c.Protocol = aws.String("ftp") })}, "ValidationError", "'ftp'"},
		"port":     {[]types.Action{redirect(func(c *types.RedirectActionConfig) { c.Port = aws.String("0") })}, "ValidationError", "port '0'"},
		"path":     {[]types.Action{redirect(func(c *types.RedirectActionConfig) { c.Path = aws.String("x") })}, "ValidationError", "begin with a '/'"},
		"a header of one's own": {[]types.Action{redirect(func(c *types.RedirectActionConfig) { c.Query = aws.String("a\r\nX: y") })}, "ValidationError",
			"visible ASCII"},
	} {
		_, err := r.CreateListener(ctx, &awselb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancerArn, Port: aws.Int32(80), Protocol: "HTTP",
			DefaultActions: c.actions})
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
	made := r.listener(lb, 80, []types.Action{redirect(func(*types.RedirectActionConfig) {})})
	c := made.DefaultActions[0].RedirectConfig
	if *c.Protocol != "#{protocol}" || *c.Port != "#{port}" || *c.Path != "/#{path}" || *c.Query != "#{query}" || *c.Host != "x" {
		t.Errorf("a redirect's defaults: %+v", c)
	}
}
