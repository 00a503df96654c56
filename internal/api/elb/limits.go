package elb

import (
	"context"
	"iter"
	"strconv"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// limit is how many of something there may be, and the refusal of one more. The numbers are AWS's default quotas.
type limit struct {
	name, code, what string
	max              int
}

var (
	balancerLimit  = limit{"application-load-balancers", "TooManyLoadBalancers", "load balancers", 50}
	listenerLimit  = limit{"listeners-per-application-load-balancer", "TooManyListeners", "listeners of one load balancer", 50}
	ruleLimit      = limit{"rules-per-application-load-balancer", "TooManyRules", "rules of one load balancer", 100}
	groupLimit     = limit{"target-groups", "TooManyTargetGroups", "target groups", 3000}
	targetLimit    = limit{"targets-per-application-load-balancer", "TooManyTargets", "targets of one load balancer", 1000}
	attachedLimit  = limit{"target-groups-per-application-load-balancer", "TooManyTargetGroups", "target groups of one load balancer", 100}
	conditionLimit = limit{"condition-values-per-alb-rule", "TooManyConditionValues", "condition values of one rule", 5}
	actionLimit    = limit{"target-groups-per-action-on-application-load-balancer", "TooManyTargetGroups", "target groups of one action", 5}
)

var limits = []limit{balancerLimit, listenerLimit, ruleLimit, groupLimit, targetLimit, attachedLimit, conditionLimit, actionLimit}

// admits tells whether n of them may be.
func (l limit) admits(n int) error {
	if n > l.max {
		return model.Errorf(l.code, "The maximum number of %s is %d", l.what, l.max)
	}
	return nil
}

// fits refuses what a load balancer has become by a change of a transaction: more rules, target groups or targets than one may have, or a
// target group that another one has.
func fits(tx store.Reader, balancer string) error {
	rules, targets := 0, 0
	groups := map[string]bool{}
	for l := range store.Listeners.By(tx, store.ByLoadBalancer, balancer) {
		groupsOf(l.Listener.DefaultActions, groups)
		for rule := range store.Rules.By(tx, store.ByListener, l.ARN) {
			rules++
			groupsOf(rule.Rule.Actions, groups)
		}
	}
	for arn := range groups {
		targets += count(store.Targets.By(tx, store.ByTargetGroup, arn))
	}
	for _, err := range []error{ruleLimit.admits(rules), attachedLimit.admits(len(groups)), targetLimit.admits(targets)} {
		if err != nil {
			return err
		}
	}
	return alone(tx, balancer, groups)
}

// alone refuses groups that another load balancer leads to, too.
func alone(tx store.Reader, balancer string, groups map[string]bool) error {
	if len(groups) == 0 {
		return nil
	}
	for l := range store.Listeners.Scan(tx, "") {
		if l.LoadBalancerARN == balancer {
			continue
		}
		others := map[string]bool{}
		groupsOf(l.Listener.DefaultActions, others)
		for rule := range store.Rules.By(tx, store.ByListener, l.ARN) {
			groupsOf(rule.Rule.Actions, others)
		}
		for arn := range others {
			if groups[arn] {
				return model.Errorf("TargetGroupAssociationLimit",
					"The following target groups cannot be associated with more than one load balancer: %s", arn)
			}
		}
	}
	return nil
}

func count[T any](all iter.Seq[T]) (n int) {
	for range all {
		n++
	}
	return n
}

func (a *api) describeAccountLimits(_ context.Context, in *elb.DescribeAccountLimitsInput) (*elb.DescribeAccountLimitsOutput, error) {
	all := make([]types.Limit, len(limits))
	for i, l := range limits {
		all[i] = types.Limit{Name: &l.name, Max: new(strconv.Itoa(l.max))}
	}
	cut, next, err := page(all, in.PageSize, in.Marker, func(l types.Limit) string { return *l.Name })
	return &elb.DescribeAccountLimitsOutput{Limits: cut, NextMarker: next}, err
}
