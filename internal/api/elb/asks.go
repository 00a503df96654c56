package elb

import (
	"context"
	"maps"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
)

// asks names the load balancers, listeners, rules and target groups that a request is about. What only describes is about none.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "elasticloadbalancing:" + op
	if strings.HasPrefix(op, "Describe") {
		return nil
	}
	var arns []string
	switch op {
	case "CreateLoadBalancer":
		arns = []string{a.Scope.ARN("elasticloadbalancing", "loadbalancer/app/"+wire.Text(in, "Name")+"/*")}
	case "CreateTargetGroup":
		arns = []string{a.Scope.ARN("elasticloadbalancing", "targetgroup/"+wire.Text(in, "Name")+"/*")}
	case "SetRulePriorities":
		for _, p := range in.(*elb.SetRulePrioritiesInput).RulePriorities {
			if p.RuleArn != nil {
				arns = append(arns, *p.RuleArn)
			}
		}
	default:
		for _, member := range []string{"ResourceArns", "RuleArn", "ListenerArn", "LoadBalancerArn", "TargetGroupArn"} {
			if arns = wire.Texts(in, member); len(arns) > 0 {
				break
			}
		}
	}
	asks := make([]wire.Ask, len(arns))
	a.Store.View(func(r store.Reader) {
		for i, arn := range arns {
			asks[i] = wire.Ask{Action: action, Resources: []string{arn}, Context: wire.RequestTags(in)}
			for _, t := range tagsOf(r, arn) {
				if t.Key != nil && t.Value != nil {
					asks[i].Context["aws:ResourceTag/"+*t.Key] = []string{*t.Value}
					asks[i].Context["elasticloadbalancing:ResourceTag/"+*t.Key] = []string{*t.Value}
				}
			}
		}
	})
	if strings.HasPrefix(op, "Create") && len(asks) > 0 && len(asks[0].Context["aws:TagKeys"]) > 0 {
		tagged := wire.Ask{Action: "elasticloadbalancing:AddTags", Resources: asks[0].Resources, Context: maps.Clone(asks[0].Context)}
		tagged.Context["elasticloadbalancing:CreateAction"] = []string{op}
		asks = append(asks, tagged)
	}
	return asks
}

// tagsOf are the tags of whatever has the ARN.
func tagsOf(r store.Reader, arn string) []types.Tag {
	if l, ok := store.LoadBalancers.Get(r, arn); ok {
		return l.Tags
	}
	if g, ok := store.TargetGroups.Get(r, arn); ok {
		return g.Tags
	}
	if l, ok := store.Listeners.Get(r, arn); ok {
		return l.Tags
	}
	if rule, ok := store.Rules.Get(r, arn); ok {
		return rule.Tags
	}
	return nil
}
