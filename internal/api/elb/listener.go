package elb

import (
	"context"
	"slices"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createListener(ctx context.Context, in *elb.CreateListenerInput) (*elb.CreateListenerOutput, error) {
	if err := checkListener(in.Protocol, in.Port); err != nil {
		return nil, err
	}
	if in.Port == nil || in.Protocol == "" {
		return nil, invalid("A listener protocol and port must be specified")
	}
	if err := checkPlain(in.Certificates, in.SslPolicy, in.AlpnPolicy, in.MutualAuthentication); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
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
		if err := listenerLimit.admits(count(store.Listeners.By(tx, store.ByLoadBalancer, lb.ARN)) + 1); err != nil {
			return err
		}
		arn := a.Scope.ARN("elasticloadbalancing", "listener/"+lbPath(lb.ARN)+"/"+a.hex16())
		made = &model.Listener{ARN: arn, LoadBalancerARN: lb.ARN, Attributes: defaults(listenerAttributes), Tags: in.Tags,
			Listener: types.Listener{ListenerArn: &arn, LoadBalancerArn: &lb.ARN, Port: in.Port, Protocol: in.Protocol, DefaultActions: actions}}
		store.Listeners.Put(tx, made)
		return fits(tx, lb.ARN)
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
		return invalid("Listener protocol '%s' must be one of 'HTTPS, HTTP'", protocol)
	}
	if port != nil && (*port < 1 || *port > 65535) {
		return invalid("Port '%d' must be between 1 and 65535", *port)
	}
	return nil
}

// checkPlain refuses what only a listener with TLS can have.
func checkPlain(certificates []types.Certificate, policy *string, alpn []string, mutual *types.MutualAuthenticationAttributes) error {
	switch {
	case len(certificates) > 0:
		return invalid("Certificates cannot be specified for an HTTP listener")
	case text(policy) != "":
		return invalid("A security policy cannot be specified for an HTTP listener")
	case len(alpn) > 0:
		return invalid("ALPN policies cannot be specified for an HTTP listener")
	case mutual != nil && text(mutual.Mode) != "off":
		return invalid("Mutual authentication cannot be specified for an HTTP listener")
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
		next.Attributes = whole(old.Attributes, listenerAttributes)
		if err := change(tx, &next); err != nil {
			return err
		}
		store.Listeners.Put(tx, &next)
		return fits(tx, next.LoadBalancerARN)
	})
}

func (a *api) modifyListener(ctx context.Context, in *elb.ModifyListenerInput) (*elb.ModifyListenerOutput, error) {
	if err := checkListener(in.Protocol, in.Port); err != nil {
		return nil, err
	}
	if err := checkPlain(in.Certificates, in.SslPolicy, in.AlpnPolicy, in.MutualAuthentication); err != nil {
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
	return list(m, listenerAttributes, func(k, v *string) types.ListenerAttribute { return types.ListenerAttribute{Key: k, Value: v} })
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
		if err := set(l.Attributes, listenerAttributes, "Listener", in.Attributes,
			func(at types.ListenerAttribute) (k, v *string) { return at.Key, at.Value }); err != nil {
			return err
		}
		out.Attributes = listenerAttributeList(l.Attributes)
		return nil
	})
	return out, err
}

// describeListenerCertificates lists none: there are no HTTPS listeners.
func (a *api) describeListenerCertificates(_ context.Context, in *elb.DescribeListenerCertificatesInput) (*elb.DescribeListenerCertificatesOutput, error) {
	there := false
	a.Store.View(func(r store.Reader) { _, there = store.Listeners.Get(r, text(in.ListenerArn)) })
	if !there {
		return nil, noListener()
	}
	return &elb.DescribeListenerCertificatesOutput{Certificates: []types.Certificate{}}, nil
}
