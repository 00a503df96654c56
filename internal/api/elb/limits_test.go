package elb_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
)

// TestQuotasAreALoadBalancers, over all its listeners and target groups.
func TestQuotasAreALoadBalancers(t *testing.T) {
	r := newRig(t)
	lb := r.balancer("lb")
	a, b := r.listener(lb, 80, fixed("200")), r.listener(lb, 81, fixed("200"))
	for i := range int32(60) {
		r.rule(a, i+1, path("/x"), forward(r.group(fmt.Sprint("a", i))))
		if i < 39 {
			r.rule(b, i+1, path("/x"), forward(r.group(fmt.Sprint("b", i))))
		}
	}
	last, more := r.group("last"), r.group("more")
	add := func(l types.Listener, actions []types.Action) error {
		_, err := r.CreateRule(ctx, &awselb.CreateRuleInput{ListenerArn: l.ListenerArn, Priority: aws.Int32(100), Conditions: path("/x"), Actions: actions})
		return err
	}
	if err := add(b, forward(last)); err != nil {
		t.Fatal(err)
	}
	wiretest.Refused(t, add(a, fixed("200")), "TooManyRules", "rules of one load balancer is 100")
	_, err := r.ModifyListener(ctx, &awselb.ModifyListenerInput{ListenerArn: a.ListenerArn, DefaultActions: forward(more)})
	wiretest.Refused(t, err, "TooManyTargetGroups", "target groups of one load balancer is 100")

	register := func(group string, from, n int32) error {
		var targets []types.TargetDescription
		for i := range n {
			targets = append(targets, target("10.0.0.1", from+i))
		}
		_, err := r.RegisterTargets(ctx, &awselb.RegisterTargetsInput{TargetGroupArn: &group, Targets: targets})
		return err
	}
	if err := register(last, 1, 1000); err != nil {
		t.Fatal(err)
	}
	first := text(t, r, "a0")
	wiretest.Refused(t, register(first, 1, 1), "TooManyTargets", "targets of one load balancer is 1000")
	if err := register(more, 1, 1000); err != nil {
		t.Errorf("another group, which no load balancer has: %v", err)
	}

	other := r.balancer("other")
	_, err = r.CreateListener(ctx, &awselb.CreateListenerInput{LoadBalancerArn: other.LoadBalancerArn, Port: aws.Int32(80),
		Protocol: types.ProtocolEnumHttp, DefaultActions: forward(first)})
	wiretest.Refused(t, err, "TargetGroupAssociationLimit", "cannot be associated with more than one load balancer: "+first)
}

// text is the ARN of a target group.
func text(t *testing.T, r *rig, name string) string {
	t.Helper()
	out, err := r.DescribeTargetGroups(ctx, &awselb.DescribeTargetGroupsInput{Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return *out.TargetGroups[0].TargetGroupArn
}
