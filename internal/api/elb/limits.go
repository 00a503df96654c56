package elb

import (
	"context"
	"iter"
	"strconv"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

// limit is how many of something there may be, and the refusal of one more. The numbers are AWS's default quotas.
type limit struct {
	name, code, what string
	max              int
}

var (
	balancerLimit  = limit{"application-load-balancers", "TooManyLoadBalancers", "load balancers", 50}
	listenerLimit  = limit{"listeners-per-application-load-balancer", "TooManyListeners", "listeners of one load balancer", 50}
	ruleLimit      = limit{"rules-per-application-load-balancer", "TooManyRules", "rules of one listener", 100}
	groupLimit     = limit{"target-groups", "TooManyTargetGroups", "target groups", 3000}
	targetLimit    = limit{"targets-per-application-load-balancer", "TooManyTargets", "targets of one target group", 1000}
	conditionLimit = limit{"condition-values-per-alb-rule", "TooManyConditionValues", "condition values of one rule", 5}
	actionLimit    = limit{"target-groups-per-action-on-application-load-balancer", "TooManyTargetGroups", "target groups of one action", 5}
)

var limits = []limit{balancerLimit, listenerLimit, ruleLimit, groupLimit, targetLimit, conditionLimit, actionLimit}

// admits tells whether n of them may be.
func (l limit) admits(n int) error {
	if n > l.max {
		return model.Errorf(l.code, "The maximum number of %s is %d", l.what, l.max)
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
