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

// maxPriority is the last priority of a rule (ELB API reference, CreateRule).
const maxPriority = 50_000

func (a *api) createRule(ctx context.Context, in *elb.CreateRuleInput) (*elb.CreateRuleOutput, error) {
	if in.Priority == nil || *in.Priority < 1 || *in.Priority > maxPriority {
		return nil, invalid("Priority must be between 1 and %d", maxPriority)
	}
	conditions, err := checkConditions(in.Conditions)
	if err != nil {
		return nil, err
	}
	if len(in.Transforms) > 0 {
		return nil, unsupported("transforms of rules")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	var made *model.Rule
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		l, ok := store.Listeners.Get(tx, text(in.ListenerArn))
		if !ok {
			return noListener()
		}
		actions, err := checkActions(tx, in.Actions)
		if err != nil {
			return err
		}
		if taken(tx, l.ARN, int(*in.Priority), "") {
			return model.Errorf("PriorityInUse", "Priority '%d' is currently in use", *in.Priority)
		}
		id := a.hex16()
		arn := a.Scope.ARN("elasticloadbalancing", "listener-rule/"+lbPath(l.LoadBalancerARN)+"/"+model.ARNTail(l.ARN)+"/"+id)
		made = &model.Rule{ARN: arn, ListenerARN: l.ARN, Priority: int(*in.Priority), Tags: in.Tags, Rule: types.Rule{RuleArn: &arn,
			Priority: new(strconv.Itoa(int(*in.Priority))), Conditions: conditions, Actions: actions, IsDefault: new(false)}}
		store.Rules.Put(tx, made)
		return fits(tx, l.LoadBalancerARN)
	})
	if err != nil {
		return nil, err
	}
	return &elb.CreateRuleOutput{Rules: []types.Rule{made.Rule}}, nil
}

func taken(r store.Reader, listener string, priority int, except string) bool {
	for rule := range store.Rules.By(r, store.ByListener, listener) {
		if rule.Priority == priority && rule.ARN != except {
			return true
		}
	}
	return false
}

// rules returns a listener's rules in their order, the default one last.
func rules(r store.Reader, l *model.Listener) []types.Rule {
	all := slices.Collect(store.Rules.By(r, store.ByListener, l.ARN))
	slices.SortFunc(all, func(a, b *model.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	var out []types.Rule
	for _, rule := range all {
		out = append(out, rule.Rule)
	}
	arn := strings.Replace(l.ARN, ":listener/", ":listener-rule/", 1) + "/" + model.ARNTail(l.ARN)
	return append(out, types.Rule{RuleArn: &arn, Priority: new("default"), Conditions: []types.RuleCondition{}, Actions: l.Listener.DefaultActions,
		IsDefault: new(true)})
}

func (a *api) describeRules(_ context.Context, in *elb.DescribeRulesInput) (*elb.DescribeRulesOutput, error) {
	found := []types.Rule{}
	var err error
	a.Store.View(func(r store.Reader) {
		if in.ListenerArn != nil {
			l, ok := store.Listeners.Get(r, *in.ListenerArn)
			if !ok {
				err = noListener()
				return
			}
			found = append(found, rules(r, l)...)
			return
		}
		if len(in.RuleArns) == 0 {
			err = invalid("Either a listener or rules must be specified")
		}
		for _, arn := range in.RuleArns {
			rule, ok := findRule(r, arn)
			if !ok {
				err = noRule()
				return
			}
			found = append(found, rule)
		}
	})
	if err != nil {
		return nil, err
	}
	found, next, err := page(found, in.PageSize, in.Marker, func(r types.Rule) string { return *r.RuleArn })
	return &elb.DescribeRulesOutput{Rules: found, NextMarker: next}, err
}

// findRule also finds a listener's default rule.
func findRule(r store.Reader, arn string) (types.Rule, bool) {
	if rule, ok := store.Rules.Get(r, arn); ok {
		return rule.Rule, true
	}
	for l := range store.Listeners.Scan(r, "") {
		all := rules(r, l)
		if last := all[len(all)-1]; *last.RuleArn == arn {
			return last, true
		}
	}
	return types.Rule{}, false
}

func (a *api) modifyRule(ctx context.Context, in *elb.ModifyRuleInput) (*elb.ModifyRuleOutput, error) {
	if len(in.Transforms) > 0 {
		return nil, unsupported("transforms of rules")
	}
	out := &elb.ModifyRuleOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Rules.Get(tx, text(in.RuleArn))
		if !ok {
			if r, ok := findRule(tx, text(in.RuleArn)); ok && *r.IsDefault {
				return model.Errorf("OperationNotPermitted", "Default rule '%s' cannot be modified: modify the listener's default actions",
					*in.RuleArn)
			}
			return noRule()
		}
		next := *old
		var err error
		if len(in.Conditions) > 0 {
			if next.Rule.Conditions, err = checkConditions(in.Conditions); err != nil {
				return err
			}
		}
		if len(in.Actions) > 0 {
			if next.Rule.Actions, err = checkActions(tx, in.Actions); err != nil {
				return err
			}
		}
		store.Rules.Put(tx, &next)
		out.Rules = []types.Rule{next.Rule}
		if l, ok := store.Listeners.Get(tx, next.ListenerARN); ok {
			return fits(tx, l.LoadBalancerARN)
		}
		return nil
	})
	return out, err
}

func (a *api) deleteRule(ctx context.Context, in *elb.DeleteRuleInput) (*elb.DeleteRuleOutput, error) {
	return &elb.DeleteRuleOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Rules.Get(tx, text(in.RuleArn)); !ok {
			if r, ok := findRule(tx, text(in.RuleArn)); ok && *r.IsDefault {
				return model.Errorf("OperationNotPermitted", "Default rule '%s' cannot be deleted", *in.RuleArn)
			}
			return noRule()
		}
		store.Rules.Delete(tx, *in.RuleArn)
		return nil
	})
}

func (a *api) setRulePriorities(ctx context.Context, in *elb.SetRulePrioritiesInput) (*elb.SetRulePrioritiesOutput, error) {
	out := &elb.SetRulePrioritiesOutput{Rules: []types.Rule{}}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		if len(in.RulePriorities) == 0 {
			return invalid("At least one rule priority must be specified")
		}
		out.Rules = []types.Rule{}
		var changed []*model.Rule
		for _, p := range in.RulePriorities {
			old, ok := store.Rules.Get(tx, text(p.RuleArn))
			if !ok {
				return noRule()
			}
			if p.Priority == nil || *p.Priority < 1 || *p.Priority > maxPriority {
				return invalid("Priority must be between 1 and %d", maxPriority)
			}
			next := *old
			next.Priority, next.Rule.Priority = int(*p.Priority), new(strconv.Itoa(int(*p.Priority)))
			store.Rules.Put(tx, &next)
			changed = append(changed, &next)
		}
		for _, rule := range changed {
			if taken(tx, rule.ListenerARN, rule.Priority, rule.ARN) {
				return model.Errorf("PriorityInUse", "Priority '%d' is currently in use", rule.Priority)
			}
			out.Rules = append(out.Rules, rule.Rule)
		}
		return nil
	})
	return out, err
}
