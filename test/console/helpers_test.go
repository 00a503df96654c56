package console

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// write puts lines into a stream.
func (b *berth) write(group, stream string, lines ...string) {
	b.t.Helper()
	_, _ = b.logs.CreateLogGroup(context.Background(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &group})
	_, _ = b.logs.CreateLogStream(context.Background(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream}) // it may be there
	var events []logtypes.InputLogEvent
	for i, l := range lines {
		events = append(events, logtypes.InputLogEvent{Message: &l, Timestamp: new(time.Now().UnixMilli() + int64(i))})
	}
	must[*cloudwatchlogs.PutLogEventsOutput](b.t)(b.logs.PutLogEvents(context.Background(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events}))
}

// page serves a page at another port of this machine.
func page(t testing.TB, html string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(html))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// balancer makes a load balancer with a listener and two rules.
func (b *berth) balancer(name, group string) {
	b.t.Helper()
	ctx := context.Background()
	nets := must[*ec2.DescribeSubnetsOutput](b.t)(b.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{}))
	var subnets []string
	for _, s := range nets.Subnets {
		subnets = append(subnets, *s.SubnetId)
	}
	lb := must[*elb.CreateLoadBalancerOutput](b.t)(b.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: &name, Subnets: subnets}))
	g := must[*elb.CreateTargetGroupOutput](b.t)(b.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: &group, Protocol: elbtypes.ProtocolEnumHttp, Port: new(int32(80)),
		VpcId: nets.Subnets[0].VpcId, TargetType: elbtypes.TargetTypeEnumIp}))
	to := []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: g.TargetGroups[0].TargetGroupArn}}
	l := must[*elb.CreateListenerOutput](b.t)(b.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Protocol: elbtypes.ProtocolEnumHttp,
		Port: new(free(b.t)), DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumFixedResponse, FixedResponseConfig: &elbtypes.FixedResponseActionConfig{StatusCode: new("404")}}}}))
	for i, path := range []string{"/api/*", "/cart"} {
		must[*elb.CreateRuleOutput](b.t)(b.elb.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: l.Listeners[0].ListenerArn, Priority: new(int32(10 * (i + 1))), Actions: to,
			Conditions: []elbtypes.RuleCondition{{Field: new("path-pattern"), Values: []string{path}}}}))
	}
}

// free is a port that nobody uses.
func free(t testing.TB) int32 {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return int32(l.Addr().(*net.TCPAddr).Port)
}
