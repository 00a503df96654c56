package main

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// loadBalancer makes the load balancer, a target group for each part, the listener and its rules. It returns the shop's address
// and the target groups by the part's name.
func (d *deployer) loadBalancer(ctx context.Context) (address string, groups map[string]string, err error) {
	lb, err := d.balancer(ctx)
	if err != nil {
		return "", nil, err
	}
	groups = map[string]string{}
	for _, p := range parts {
		if groups[p.name], err = d.group(ctx, p); err != nil {
			return "", nil, fmt.Errorf("target group of %s: %w", p.name, err)
		}
	}
	listener, err := d.listener(ctx, *lb.LoadBalancerArn, groups[parts[0].name])
	if err != nil {
		return "", nil, fmt.Errorf("listener: %w", err)
	}
	if err := d.rules(ctx, listener, groups); err != nil {
		return "", nil, fmt.Errorf("rules: %w", err)
	}
	return fmt.Sprintf("http://%s:%d", *lb.DNSName, d.port), groups, nil
}

func (d *deployer) balancer(ctx context.Context) (*elbtypes.LoadBalancer, error) {
	found, err := d.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{shop}})
	if err == nil {
		return &found.LoadBalancers[0], nil
	}
	if !is[*elbtypes.LoadBalancerNotFoundException](err) {
		return nil, err
	}
	log.Printf("creating the load balancer")
	out, err := d.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String(shop), Subnets: d.subnets})
	if err != nil {
		return nil, err
	}
	return &out.LoadBalancers[0], nil
}

func (d *deployer) group(ctx context.Context, p part) (string, error) {
	name := shop + "-" + p.name
	found, err := d.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Names: []string{name}})
	if err == nil {
		return *found.TargetGroups[0].TargetGroupArn, nil
	}
	if !is[*elbtypes.TargetGroupNotFoundException](err) {
		return "", err
	}
	out, err := d.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: &name, Protocol: elbtypes.ProtocolEnumHttp,
		Port: aws.Int32(httpPort), TargetType: elbtypes.TargetTypeEnumIp, VpcId: &d.vpc, HealthCheckPath: aws.String("/healthz"),
		HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2), HealthyThresholdCount: aws.Int32(2)})
	if err != nil {
		return "", err
	}
	return *out.TargetGroups[0].TargetGroupArn, nil
}

func forward(group string) []elbtypes.Action {
	return []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &group}}
}

func (d *deployer) listener(ctx context.Context, lb, group string) (string, error) {
	found, err := d.elb.DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: &lb})
	if err != nil {
		return "", err
	}
	for _, l := range found.Listeners {
		if *l.Port == d.port {
			return *l.ListenerArn, nil
		}
	}
	out, err := d.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: &d.port,
		Protocol: elbtypes.ProtocolEnumHttp, DefaultActions: forward(group)})
	if err != nil {
		return "", err
	}
	return *out.Listeners[0].ListenerArn, nil
}

// rules makes the path rules that are missing.
func (d *deployer) rules(ctx context.Context, listener string, groups map[string]string) error {
	found, err := d.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener})
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, r := range found.Rules {
		for _, c := range r.Conditions {
			for _, v := range c.PathPatternConfig.Values {
				have[v] = true
			}
		}
	}
	for i, p := range parts {
		if p.path == "" || have[p.path] {
			continue
		}
		_, err := d.elb.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: &listener, Priority: aws.Int32(int32(i * 10)),
			Conditions: []elbtypes.RuleCondition{{Field: aws.String("path-pattern"),
				PathPatternConfig: &elbtypes.PathPatternConditionConfig{Values: []string{p.path}}}},
			Actions: forward(groups[p.name])})
		if err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
	}
	return nil
}
