package feed

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
)

// Build makes the routing table that the store describes. The same state gives the same table.
func Build(r store.Reader) proxy.Table {
	t := proxy.Table{Groups: map[string]proxy.Group{}}
	for lb := range store.LoadBalancers.Scan(r, "") {
		t.Balancers = append(t.Balancers, buildBalancer(r, lb))
	}
	for g := range store.TargetGroups.Scan(r, "") {
		t.Groups[g.ARN] = group(r, g)
	}
	t.Names = names(r)
	return t
}

// touched are the balancers, groups and names that changes concern, by their keys.
type touched struct{ balancers, groups, names map[string]bool }

// touch finds what of the table a batch of changes concerns.
func touch(r store.Reader, changes []store.Change) touched {
	t := touched{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for _, c := range changes {
		for _, row := range []any{c.Old, c.New} {
			switch row := row.(type) {
			case *model.LoadBalancer:
				t.balancers[row.ARN] = true
			case *model.Listener:
				t.balancers[row.LoadBalancerARN] = true
			case *model.Rule:
				if l, ok := store.Listeners.Get(r, row.ListenerARN); ok { // else the listener's own change comes, or came
					t.balancers[l.LoadBalancerARN] = true
				}
			case *model.TargetGroup:
				t.groups[row.ARN] = true
			case *model.Target:
				t.groups[row.TargetGroupARN] = true
			default:
				t.name(r, row)
			}
		}
	}
	return t
}

// delta is the part of the table that t names, as it is now.
func (t touched) delta(r store.Reader) (d proxy.Delta) {
	for arn := range t.balancers {
		if lb, ok := store.LoadBalancers.Get(r, arn); ok {
			d.Balancers = append(d.Balancers, buildBalancer(r, lb))
		} else {
			d.GoneBalancers = append(d.GoneBalancers, arn)
		}
	}
	for arn := range t.groups {
		if g, ok := store.TargetGroups.Get(r, arn); ok {
			d.Groups = append(d.Groups, group(r, g))
		} else {
			d.GoneGroups = append(d.GoneGroups, arn)
		}
	}
	for key := range t.names {
		if n, ok := name(r, key); ok {
			d.Names = append(d.Names, n)
		} else {
			d.GoneNames = append(d.GoneNames, key)
		}
	}
	return d
}

func buildBalancer(r store.Reader, lb *model.LoadBalancer) proxy.Balancer {
	b := balancer(lb)
	for l := range store.Listeners.By(r, store.ByLoadBalancer, lb.ARN) {
		b.Listeners = append(b.Listeners, listener(r, l))
	}
	slices.SortFunc(b.Listeners, func(a, b proxy.Listener) int { return cmp.Compare(a.Port, b.Port) })
	return b
}

func balancer(lb *model.LoadBalancer) proxy.Balancer {
	xff := lb.Attributes["routing.http.xff_header_processing.mode"]
	return proxy.Balancer{ARN: lb.ARN, DNSName: value(lb.LB.DNSName), Created: value(lb.LB.CreatedTime),
		IdleTimeout:        time.Duration(max(1, number(lb.Attributes, "idle_timeout.timeout_seconds", 60))) * time.Second,
		ClientKeepAlive:    time.Duration(number(lb.Attributes, "client_keep_alive.seconds", 3600)) * time.Second,
		DropInvalidHeaders: lb.Attributes["routing.http.drop_invalid_header_fields.enabled"] == "true",
		HTTP1Only:          lb.Attributes["routing.http2.enabled"] == "false",
		ForwardedFor: proxy.ForwardedFor{Preserve: xff == "preserve", Remove: xff == "remove",
			ClientPort: lb.Attributes["routing.http.xff_client_port.enabled"] == "true"}}
}

// number reads an attribute; one that is absent or no number is def.
func number(attributes map[string]string, name string, def int) int {
	if n, err := strconv.Atoi(attributes[name]); err == nil {
		return n
	}
	return def
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func listener(r store.Reader, l *model.Listener) proxy.Listener {
	out := proxy.Listener{ARN: l.ARN, Port: int(value(l.Listener.Port)),
		HideServer: l.Attributes["routing.http.response.server.enabled"] == "false"}
	for k, v := range l.Attributes {
		if name := model.ResponseHeader(k); name != "" && v != "" {
			if out.Headers == nil {
				out.Headers = map[string]string{}
			}
			out.Headers[name] = v
		}
	}
	all := slices.Collect(store.Rules.By(r, store.ByListener, l.ARN))
	slices.SortFunc(all, func(a, b *model.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, rule := range all {
		out.Rules = append(out.Rules, proxy.Rule{ARN: rule.ARN, Conditions: conditions(rule.Rule.Conditions), Action: action(rule.Rule.Actions)})
	}
	out.Rules = append(out.Rules, proxy.Rule{ARN: l.ARN, Action: action(l.Listener.DefaultActions)})
	return out
}

func conditions(all []types.RuleCondition) (out []proxy.Condition) {
	for _, c := range all {
		p := proxy.Condition{Field: value(c.Field), Values: c.Values}
		switch {
		case c.HttpHeaderConfig != nil:
			p.Header, p.Values = value(c.HttpHeaderConfig.HttpHeaderName), c.HttpHeaderConfig.Values
		case c.HttpRequestMethodConfig != nil:
			p.Values = c.HttpRequestMethodConfig.Values
		case c.QueryStringConfig != nil:
			for _, q := range c.QueryStringConfig.Values {
				p.Query = append(p.Query, proxy.KeyValue{Key: value(q.Key), Value: value(q.Value)})
			}
		case c.SourceIpConfig != nil:
			for _, s := range c.SourceIpConfig.Values {
				if prefix, err := netip.ParsePrefix(s); err == nil { // the API checked it
					p.Sources = append(p.Sources, prefix)
				}
			}
		}
		out = append(out, p)
	}
	return out
}

// action reads the first action: the API admits one of those that the proxy knows.
func action(all []types.Action) (out proxy.Action) {
	for _, a := range all[:min(1, len(all))] {
		switch {
		case a.FixedResponseConfig != nil:
			status, _ := strconv.Atoi(value(a.FixedResponseConfig.StatusCode)) // the API checked it
			out.Fixed = &proxy.FixedResponse{Status: status, ContentType: value(a.FixedResponseConfig.ContentType),
				Body: value(a.FixedResponseConfig.MessageBody)}
		case a.RedirectConfig != nil:
			c := a.RedirectConfig
			out.Redirect = &proxy.Redirect{Status: 301, Protocol: value(c.Protocol), Host: value(c.Host), Port: value(c.Port),
				Path: value(c.Path), Query: value(c.Query)}
			if c.StatusCode == types.RedirectActionStatusCodeEnumHttp302 {
				out.Redirect.Status = 302
			}
		case a.ForwardConfig != nil:
			for _, t := range a.ForwardConfig.TargetGroups {
				out.Forward = append(out.Forward, proxy.Weighted{Group: value(t.TargetGroupArn), Weight: int(value(t.Weight))})
			}
			if s := a.ForwardConfig.TargetGroupStickinessConfig; s != nil && value(s.Enabled) {
				out.Sticky = seconds(s.DurationSeconds)
			}
		}
	}
	return out
}

func group(r store.Reader, g *model.TargetGroup) proxy.Group {
	out := proxy.Group{ARN: g.ARN, LeastOutstanding: g.Attributes["load_balancing.algorithm.type"] == "least_outstanding_requests",
		DeregistrationDelay: delay(g),
		MinHealthy:          g.Attr("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", 1),
		MinHealthyPercent:   g.Attr("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", 0),
		Check: proxy.HealthCheck{Disabled: g.Group.HealthCheckEnabled != nil && !*g.Group.HealthCheckEnabled,
			Path: value(g.Group.HealthCheckPath), Interval: seconds(g.Group.HealthCheckIntervalSeconds),
			Timeout: seconds(g.Group.HealthCheckTimeoutSeconds), HealthyThreshold: int(value(g.Group.HealthyThresholdCount)),
			UnhealthyThreshold: int(value(g.Group.UnhealthyThresholdCount))}}
	if g.Attributes["stickiness.enabled"] == "true" {
		out.Stickiness = time.Duration(g.Attr("stickiness.lb_cookie.duration_seconds", 86400)) * time.Second
	}
	if g.Group.Matcher != nil {
		out.Check.Codes = value(g.Group.Matcher.HttpCode)
	}
	if port, err := strconv.Atoi(value(g.Group.HealthCheckPort)); err == nil {
		out.Check.Port = port
	}
	for t := range store.Targets.By(r, store.ByTargetGroup, g.ARN) {
		out.Targets = append(out.Targets, proxy.Target{ID: t.ID, Port: t.Port, Address: t.Address, DrainingSince: t.DrainingSince})
	}
	return out
}

func seconds(n *int32) time.Duration { return time.Duration(value(n)) * time.Second }

func delay(g *model.TargetGroup) time.Duration {
	return time.Duration(g.Attr("deregistration_delay.timeout_seconds", 300)) * time.Second
}
