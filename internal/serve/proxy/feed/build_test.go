package feed

import (
	"context"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func put(t testing.TB, s store.Store, f func(store.Tx)) {
	t.Helper()
	if err := s.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func balancerRow(arn, dns string, created time.Time, attributes map[string]string) *model.LoadBalancer {
	return &model.LoadBalancer{ARN: arn, Name: arn, LB: types.LoadBalancer{DNSName: &dns, CreatedTime: &created}, Attributes: attributes}
}

func forward(groups ...types.TargetGroupTuple) []types.Action {
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{TargetGroups: groups,
		TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: new(false)}}}}
}

func tuple(group string, weight int32) types.TargetGroupTuple {
	return types.TargetGroupTuple{TargetGroupArn: &group, Weight: &weight}
}

func listenerRow(arn, lb string, port int32, actions []types.Action, attributes map[string]string) *model.Listener {
	return &model.Listener{ARN: arn, LoadBalancerARN: lb, Attributes: attributes,
		Listener: types.Listener{ListenerArn: &arn, Port: &port, DefaultActions: actions}}
}

func ruleRow(arn, listener string, priority int, actions []types.Action, conditions ...types.RuleCondition) *model.Rule {
	return &model.Rule{ARN: arn, ListenerARN: listener, Priority: priority, Rule: types.Rule{Actions: actions, Conditions: conditions}}
}

func groupRow(arn string, attributes map[string]string) *model.TargetGroup {
	return &model.TargetGroup{ARN: arn, Name: arn, Attributes: attributes, Group: types.TargetGroup{HealthCheckEnabled: new(true),
		HealthCheckPath: new("/h"), HealthCheckPort: new("traffic-port"), HealthCheckIntervalSeconds: new(int32(5)),
		HealthCheckTimeoutSeconds: new(int32(2)), HealthyThresholdCount: new(int32(3)), UnhealthyThresholdCount: new(int32(2)),
		Matcher: &types.Matcher{HttpCode: new("200-299")}}}
}

func values(field string, v ...string) types.RuleCondition {
	return types.RuleCondition{Field: &field, Values: v}
}

func TestBuild(t *testing.T) {
	s := mem.New(store.Schema())
	sticky := forward(tuple("tg-a", 3), tuple("tg-b", 0))
	sticky[0].ForwardConfig.TargetGroupStickinessConfig = &types.TargetGroupStickinessConfig{Enabled: new(true), DurationSeconds: new(int32(90))}
	put(t, s, func(tx store.Tx) {
		store.LoadBalancers.Put(tx, balancerRow("lb-a", "a.elb", epoch.Add(time.Hour), map[string]string{"idle_timeout.timeout_seconds": "7",
			"client_keep_alive.seconds": "60", "routing.http.xff_header_processing.mode": "remove",
			"routing.http2.enabled": "false", "routing.http.xff_client_port.enabled": "true", "routing.http.drop_invalid_header_fields.enabled": "true"}))
		store.LoadBalancers.Put(tx, balancerRow("lb-z", "z.elb", epoch, nil))
		store.Listeners.Put(tx, listenerRow("l-1", "lb-a", 8080, forward(tuple("tg-b", 1)), nil))
		store.Listeners.Put(tx, listenerRow("l-2", "lb-a", 80, []types.Action{{Type: types.ActionTypeEnumFixedResponse,
			FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("503"), ContentType: new("text/html"), MessageBody: new("no")}}},
			map[string]string{"routing.http.response.server.enabled": "false", "routing.http.response.x_frame_options.header_value": "DENY",
				"routing.http.response.content_security_policy.header_value": ""}))
		store.Rules.Put(tx, ruleRow("r-1", "l-1", 20, sticky, values("path-pattern", "/a", "/b"), values("host-header", "x")))
		store.Rules.Put(tx, ruleRow("r-2", "l-1", 3, []types.Action{{Type: types.ActionTypeEnumRedirect, RedirectConfig: &types.RedirectActionConfig{
			StatusCode: types.RedirectActionStatusCodeEnumHttp302, Host: new("h"), Port: new("1"), Path: new("/p"), Query: new("q"),
			Protocol: new("HTTPS")}}},
			types.RuleCondition{Field: new("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: new("X"),
				Values: []string{"v"}}},
			types.RuleCondition{Field: new("http-request-method"), HttpRequestMethodConfig: &types.HttpRequestMethodConditionConfig{
				Values: []string{"GET"}}},
			types.RuleCondition{Field: new("query-string"), QueryStringConfig: &types.QueryStringConditionConfig{
				Values: []types.QueryStringKeyValuePair{{Value: new("v")}, {Key: new("k"), Value: new("w")}}}},
			types.RuleCondition{Field: new("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{"10.0.0.0/8"}}}))
		store.TargetGroups.Put(tx, groupRow("tg-a", map[string]string{"load_balancing.algorithm.type": "least_outstanding_requests",
			"deregistration_delay.timeout_seconds": "30", "stickiness.enabled": "true", "stickiness.lb_cookie.duration_seconds": "60",
			"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      "2",
			"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off"}))
		b := groupRow("tg-b", nil)
		b.Group.HealthCheckPort, b.Group.Matcher = new("99"), nil
		store.TargetGroups.Put(tx, b)
		store.Targets.Put(tx, &model.Target{TargetGroupARN: "tg-a", ID: "i-1", Port: 81, Address: "10.0.0.1", DrainingSince: epoch})
		store.Targets.Put(tx, &model.Target{TargetGroupARN: "tg-a", ID: "10.0.0.2", Port: 82, Address: "10.0.0.2"})
	})
	check := proxy.HealthCheck{Path: "/h", Interval: 5 * time.Second, Timeout: 2 * time.Second, HealthyThreshold: 3, UnhealthyThreshold: 2}
	checkA, checkB := check, check
	checkA.Codes, checkB.Port = "200-299", 99
	want := proxy.Table{
		Balancers: []proxy.Balancer{
			{ARN: "lb-a", DNSName: "a.elb", Created: epoch.Add(time.Hour), IdleTimeout: 7 * time.Second, ClientKeepAlive: time.Minute, DropInvalidHeaders: true, HTTP1Only: true,
				ForwardedFor: proxy.ForwardedFor{Remove: true, ClientPort: true},
				Listeners: []proxy.Listener{
					{ARN: "l-2", Port: 80, HideServer: true, Headers: map[string]string{"X-Frame-Options": "DENY"}, Rules: []proxy.Rule{
						{ARN: "l-2", Action: proxy.Action{Fixed: &proxy.FixedResponse{Status: 503, ContentType: "text/html", Body: "no"}}}}},
					{ARN: "l-1", Port: 8080, Rules: []proxy.Rule{
						{ARN: "r-2", Action: proxy.Action{Redirect: &proxy.Redirect{Status: 302, Protocol: "HTTPS", Host: "h", Port: "1", Path: "/p",
							Query: "q"}}, Conditions: []proxy.Condition{
							{Field: "http-header", Header: "X", Values: []string{"v"}},
							{Field: "http-request-method", Values: []string{"GET"}},
							{Field: "query-string", Query: []proxy.KeyValue{{Value: "v"}, {Key: "k", Value: "w"}}},
							{Field: "source-ip", Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}},
						{ARN: "r-1", Action: proxy.Action{Sticky: 90 * time.Second, Forward: []proxy.Weighted{{Group: "tg-a", Weight: 3},
							{Group: "tg-b", Weight: 0}}}, Conditions: []proxy.Condition{
							{Field: "path-pattern", Values: []string{"/a", "/b"}}, {Field: "host-header", Values: []string{"x"}}}},
						{ARN: "l-1", Action: proxy.Action{Forward: []proxy.Weighted{{Group: "tg-b", Weight: 1}}}}}}}},
			{ARN: "lb-z", DNSName: "z.elb", Created: epoch, IdleTimeout: time.Minute, ClientKeepAlive: time.Hour}},
		Groups: map[string]proxy.Group{
			"tg-a": {ARN: "tg-a", LeastOutstanding: true, DeregistrationDelay: 30 * time.Second, Stickiness: time.Minute, MinHealthy: 2,
				Check: checkA, Targets: []proxy.Target{{ID: "10.0.0.2", Port: 82, Address: "10.0.0.2"},
					{ID: "i-1", Port: 81, Address: "10.0.0.1", DrainingSince: epoch}}},
			"tg-b": {ARN: "tg-b", DeregistrationDelay: 300 * time.Second, MinHealthy: 1, Check: checkB}}}
	for range 3 { // the same state gives the same table
		s.View(func(r store.Reader) {
			if got := Build(r); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
