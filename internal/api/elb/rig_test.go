package elb_test

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/elb"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
)

// rig is the API over HTTP, and the SDK's client of it.
type rig struct {
	t     *testing.T
	store *mem.Store
	now   time.Time
	*awselb.Client
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, store: mem.New(store.Schema()), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	t.Cleanup(func() { r.store.Close() })
	var ids atomic.Int64
	log := slog.New(slog.DiscardHandler)
	service := elb.New(elb.Config{Store: r.store, Scope: scope, Now: func() time.Time { return r.now }, Log: log, VPC: "vpc-1",
		NewID: func() string { return fmt.Sprintf("%016x%016x", ids.Add(1), 0) }, SecurityGroup: "sg-default",
		Subnets: []elb.Subnet{{ID: "subnet-a", Zone: "us-east-1a"}, {ID: "subnet-b", Zone: "us-east-1b"}}})
	r.Client = awselb.NewFromConfig(wiretest.Serve(t, service))
	return r
}

func (r *rig) put(f func(store.Tx)) {
	r.t.Helper()
	if err := r.store.Update(ctx, func(tx store.Tx) error { f(tx); return nil }); err != nil {
		r.t.Fatal(err)
	}
}

var subnets = []string{"subnet-a", "subnet-b"}

func (r *rig) balancer(name string) types.LoadBalancer {
	r.t.Helper()
	out, err := r.CreateLoadBalancer(ctx, &awselb.CreateLoadBalancerInput{Name: &name, Subnets: subnets})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.LoadBalancers[0]
}

func (r *rig) group(name string, change ...func(*awselb.CreateTargetGroupInput)) string {
	r.t.Helper()
	out, err := r.CreateTargetGroup(ctx, groupInput(name, change...))
	if err != nil {
		r.t.Fatal(err)
	}
	return *out.TargetGroups[0].TargetGroupArn
}

func groupInput(name string, change ...func(*awselb.CreateTargetGroupInput)) *awselb.CreateTargetGroupInput {
	in := &awselb.CreateTargetGroupInput{Name: &name, Protocol: types.ProtocolEnumHttp, Port: aws.Int32(80),
		TargetType: types.TargetTypeEnumIp, VpcId: aws.String("vpc-1")}
	for _, c := range change {
		c(in)
	}
	return in
}

func forward(groups ...string) []types.Action {
	if len(groups) == 1 {
		return []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: &groups[0]}}
	}
	var tuples []types.TargetGroupTuple
	for _, g := range groups {
		tuples = append(tuples, types.TargetGroupTuple{TargetGroupArn: &g})
	}
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{TargetGroups: tuples}}}
}

func fixed(status string) []types.Action {
	return []types.Action{{Type: types.ActionTypeEnumFixedResponse,
		FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: &status, ContentType: aws.String("text/plain")}}}
}

func (r *rig) listener(lb types.LoadBalancer, port int32, actions []types.Action) types.Listener {
	r.t.Helper()
	out, err := r.CreateListener(ctx, &awselb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancerArn, Port: &port,
		Protocol: types.ProtocolEnumHttp, DefaultActions: actions})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.Listeners[0]
}

func path(values ...string) []types.RuleCondition {
	return []types.RuleCondition{{Field: aws.String("path-pattern"), Values: values}}
}

func (r *rig) rule(l types.Listener, priority int32, conditions []types.RuleCondition, actions []types.Action) types.Rule {
	r.t.Helper()
	out, err := r.CreateRule(ctx, &awselb.CreateRuleInput{ListenerArn: l.ListenerArn, Priority: &priority, Conditions: conditions,
		Actions: actions})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.Rules[0]
}

func matches(t *testing.T, what, s, pattern string) {
	t.Helper()
	if !regexp.MustCompile("^" + pattern + "$").MatchString(s) {
		t.Errorf("%s is %q, want %s", what, s, pattern)
	}
}
