package elb

import (
	"context"
	"maps"
	"slices"
	"strconv"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// listenerAttributes are the attributes of an HTTP listener and their defaults (ELB API reference, ListenerAttribute).
var listenerAttributes = map[string]string{"routing.http.response.server.enabled": "true"}

func (a *api) createListener(ctx context.Context, in *elb.CreateListenerInput) (*elb.CreateListenerOutput, error) {
	if err := checkListener(in.Protocol, in.Port); err != nil {
		return nil, err
	}
	if in.Port == nil || in.Protocol == "" {
		return nil, invalid("A listener protocol and port must be specified")
	}
	var made *model.Listener
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		lb, ok := store.LoadBalancers.Get(tx, text(in.LoadBalancerArn))
		if !ok {
			return model.Errorf("LoadBalancerNotFound", "Load balancer '%s' not found", text(in.LoadBalancerArn))
		}
		actions, err := checkActions(tx, in.DefaultActions)
		if err != nil {
			return err
		}
		for l := range store.Listeners.By(tx, store.ByLoadBalancer, lb.ARN) {
			if *l.Listener.Port == *in.Port {
				return model.Errorf("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", lb.ARN)
			}
		}
		arn := a.Scope.ARN("elasticloadbalancing", "listener/"+lbPath(lb.ARN)+"/"+a.hex16())
		made = &model.Listener{ARN: arn, LoadBalancerARN: lb.ARN, Attributes: maps.Clone(listenerAttributes), Tags: in.Tags,
			Listener: types.Listener{ListenerArn: &arn, LoadBalancerArn: &lb.ARN, Port: in.Port, Protocol: in.Protocol, DefaultActions: actions}}
		store.Listeners.Put(tx, made)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elb.CreateListenerOutput{Listeners: []types.Listener{made.Listener}}, nil
}

func checkListener(protocol types.ProtocolEnum, port *int32) error {
	switch protocol {
	case "", types.ProtocolEnumHttp:
	case types.ProtocolEnumHttps:
		return unsupported("HTTPS listeners")
	default:
		return invalid("Protocol '%s' must be one of 'HTTP, HTTPS'", protocol)
	}
	if port != nil && (*port < 1 || *port > 65535) {
		return invalid("Port '%d' must be between 1 and 65535", *port)
	}
	return nil
}

func (a *api) describeListeners(_ context.Context, in *elb.DescribeListenersInput) (*elb.DescribeListenersOutput, error) {
	found := []types.Listener{}
	var err error
	a.Store.View(func(r store.Reader) {
		if in.LoadBalancerArn != nil {
			if _, ok := store.LoadBalancers.Get(r, *in.LoadBalancerArn); !ok {
				err = noLoadBalancer()
				return
			}
			for l := range store.Listeners.By(r, store.ByLoadBalancer, *in.LoadBalancerArn) {
				found = append(found, l.Listener)
			}
			return
		}
		if len(in.ListenerArns) == 0 {
			err = invalid("Either a load balancer or listeners must be specified")
		}
		for _, arn := range in.ListenerArns {
			l, ok := store.Listeners.Get(r, arn)
			if !ok {
				err = noListener()
				return
			}
			found = append(found, l.Listener)
		}
	})
	if err != nil {
		return nil, err
	}
	found, next, err := page(found, in.PageSize, in.Marker, func(l types.Listener) string { return *l.ListenerArn })
	return &elb.DescribeListenersOutput{Listeners: found, NextMarker: next}, err
}

// changeListener stores a changed copy of a listener.
func (a *api) changeListener(ctx context.Context, arn *string, change func(store.Tx, *model.Listener) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Listeners.Get(tx, text(arn))
		if !ok {
			return noListener()
		}
		next := *old
		next.Attributes = maps.Clone(old.Attributes)
		if err := change(tx, &next); err != nil {
			return err
		}
		store.Listeners.Put(tx, &next)
		return nil
	})
}

func (a *api) modifyListener(ctx context.Context, in *elb.ModifyListenerInput) (*elb.ModifyListenerOutput, error) {
	if err := checkListener(in.Protocol, in.Port); err != nil {
		return nil, err
	}
	out := &elb.ModifyListenerOutput{}
	err := a.changeListener(ctx, in.ListenerArn, func(tx store.Tx, l *model.Listener) error {
		if in.Port != nil && *in.Port != *l.Listener.Port {
			for other := range store.Listeners.By(tx, store.ByLoadBalancer, l.LoadBalancerARN) {
				if *other.Listener.Port == *in.Port {
					return model.Errorf("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", l.LoadBalancerARN)
				}
			}
			l.Listener.Port = in.Port
		}
		if len(in.DefaultActions) > 0 {
			actions, err := checkActions(tx, in.DefaultActions)
			if err != nil {
				return err
			}
			l.Listener.DefaultActions = actions
		}
		out.Listeners = []types.Listener{l.Listener}
		return nil
	})
	return out, err
}

func dropListener(tx store.Tx, arn string) {
	for _, r := range slices.Collect(store.Rules.By(tx, store.ByListener, arn)) {
		store.Rules.Delete(tx, r.ARN)
	}
	store.Listeners.Delete(tx, arn)
}

func (a *api) deleteListener(ctx context.Context, in *elb.DeleteListenerInput) (*elb.DeleteListenerOutput, error) {
	return &elb.DeleteListenerOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Listeners.Get(tx, text(in.ListenerArn)); !ok {
			return noListener()
		}
		dropListener(tx, *in.ListenerArn)
		return nil
	})
}

func listenerAttributeList(m map[string]string) []types.ListenerAttribute {
	list := []types.ListenerAttribute{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, types.ListenerAttribute{Key: &k, Value: new(m[k])})
	}
	return list
}

func (a *api) describeListenerAttributes(_ context.Context, in *elb.DescribeListenerAttributesInput) (*elb.DescribeListenerAttributesOutput, error) {
	out, err := &elb.DescribeListenerAttributesOutput{}, error(nil)
	a.Store.View(func(r store.Reader) {
		l, ok := store.Listeners.Get(r, text(in.ListenerArn))
		if !ok {
			err = noListener()
			return
		}
		out.Attributes = listenerAttributeList(l.Attributes)
	})
	return out, err
}

func (a *api) modifyListenerAttributes(ctx context.Context, in *elb.ModifyListenerAttributesInput) (*elb.ModifyListenerAttributesOutput, error) {
	out := &elb.ModifyListenerAttributesOutput{}
	err := a.changeListener(ctx, in.ListenerArn, func(_ store.Tx, l *model.Listener) error {
		for _, at := range in.Attributes {
			if _, ok := listenerAttributes[text(at.Key)]; !ok {
				return model.Errorf("InvalidConfigurationRequest", "Berth does not support the listener attribute '%s' yet", text(at.Key))
			}
			l.Attributes[*at.Key] = text(at.Value)
		}
		out.Attributes = listenerAttributeList(l.Attributes)
		return nil
	})
	return out, err
}

// describeListenerCertificates lists none: there are no HTTPS listeners.
func (a *api) describeListenerCertificates(context.Context, *elb.DescribeListenerCertificatesInput) (*elb.DescribeListenerCertificatesOutput, error) {
	return &elb.DescribeListenerCertificatesOutput{Certificates: []types.Certificate{}}, nil
}

// forwardsTo tells whether any of the actions leads to the group.
func forwardsTo(actions []types.Action, group string) bool {
	for _, act := range actions {
		if text(act.TargetGroupArn) == group {
			return true
		}
		if act.ForwardConfig != nil {
			for _, t := range act.ForwardConfig.TargetGroups {
				if text(t.TargetGroupArn) == group {
					return true
				}
			}
		}
	}
	return false
}

// checkActions validates a listener's or a rule's actions and fills in what AWS fills in.
func checkActions(r store.Reader, in []types.Action) ([]types.Action, error) {
	if len(in) != 1 {
		return nil, invalid("Exactly one action must be specified: Berth supports no authenticate actions before it")
	}
	act := in[0]
	if act.Order == nil && len(in) > 1 {
		act.Order = new(int32(1))
	}
	var err error
	switch act.Type {
	case types.ActionTypeEnumForward:
		err = checkForward(r, &act)
	case types.ActionTypeEnumFixedResponse:
		err = checkFixed(act.FixedResponseConfig)
	case types.ActionTypeEnumRedirect:
		err = checkRedirect(&act)
	case "":
		err = invalid("An action type must be specified")
	default:
		err = unsupported("actions of type " + string(act.Type))
	}
	return []types.Action{act}, err
}

// checkForward keeps both spellings in step: a single group is in TargetGroupArn and in ForwardConfig.
func checkForward(r store.Reader, act *types.Action) error {
	conf := act.ForwardConfig
	if conf == nil && act.TargetGroupArn == nil {
		return invalid("A target group must be specified")
	}
	full := types.ForwardActionConfig{TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: new(false)}}
	if conf == nil || len(conf.TargetGroups) == 0 {
		full.TargetGroups = []types.TargetGroupTuple{{TargetGroupArn: act.TargetGroupArn, Weight: new(int32(1))}}
	} else {
		for _, t := range conf.TargetGroups {
			t.Weight = or(t.Weight, 1)
			if *t.Weight < 0 || *t.Weight > 999 {
				return invalid("Target group weight '%d' must be between 0 and 999", *t.Weight)
			}
			full.TargetGroups = append(full.TargetGroups, t)
		}
		if s := conf.TargetGroupStickinessConfig; s != nil {
			if s.Enabled != nil && *s.Enabled {
				return unsupported("target group stickiness")
			}
			full.TargetGroupStickinessConfig = s
		}
	}
	if len(full.TargetGroups) > 5 {
		return model.Errorf("TooManyTargetGroups", "You can specify at most 5 target groups for an action")
	}
	for _, t := range full.TargetGroups {
		if _, ok := store.TargetGroups.Get(r, text(t.TargetGroupArn)); !ok {
			return noTargetGroup()
		}
	}
	if len(full.TargetGroups) == 1 {
		act.TargetGroupArn = full.TargetGroups[0].TargetGroupArn
	}
	act.ForwardConfig = &full
	return nil
}

func checkFixed(f *types.FixedResponseActionConfig) error {
	if f == nil || f.StatusCode == nil {
		return invalid("A status code must be specified for a fixed response")
	}
	if n, err := strconv.Atoi(*f.StatusCode); err != nil || n < 200 || n > 599 || n >= 300 && n < 400 {
		return invalid("The status code '%s' must be 2XX, 4XX or 5XX", *f.StatusCode)
	}
	if len(text(f.MessageBody)) > 1024 {
		return invalid("The message body can have at most 1024 characters")
	}
	return nil
}

func checkRedirect(act *types.Action) error {
	if act.RedirectConfig == nil {
		return invalid("A redirect configuration must be specified")
	}
	r := *act.RedirectConfig
	if r.StatusCode != types.RedirectActionStatusCodeEnumHttp301 && r.StatusCode != types.RedirectActionStatusCodeEnumHttp302 {
		return invalid("The redirect status code '%s' must be HTTP_301 or HTTP_302", r.StatusCode)
	}
	r.Protocol, r.Host, r.Port = or(r.Protocol, "#{protocol}"), or(r.Host, "#{host}"), or(r.Port, "#{port}")
	r.Path, r.Query = or(r.Path, "/#{path}"), or(r.Query, "#{query}")
	if *r.Protocol == "#{protocol}" && *r.Host == "#{host}" && *r.Port == "#{port}" && *r.Path == "/#{path}" {
		return model.Errorf("InvalidLoadBalancerAction", "The redirect would lead to itself: change the protocol, the host, the port or the path")
	}
	act.RedirectConfig = &r
	return nil
}
