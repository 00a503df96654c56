package console

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/why"
	"github.com/berthdev/berth/internal/store"
)

var balancerTables = []string{store.LoadBalancers.Name(), store.Listeners.Name(), store.Rules.Name(), store.TargetGroups.Name(), store.Targets.Name(), store.TargetHealths.Name()}

// targetOf is a target as package why sees it, and what that was made of.
func targetOf(r store.Reader, t *model.Target) (why.Target, []any) {
	out := why.Target{ID: t.ID, Port: t.Port, State: elbtypes.TargetHealthStateEnumInitial}
	deps := []any{t}
	if g, ok := store.TargetGroups.Get(r, t.TargetGroupARN); ok {
		out.Group = g.Name
		if g.Group.HealthCheckPort != nil {
			out.CheckPort = *g.Group.HealthCheckPort
		}
		if g.Group.HealthCheckPath != nil {
			out.CheckPath = *g.Group.HealthCheckPath
		}
		deps = append(deps, g)
	}
	if h, ok := store.TargetHealths.Get(r, t.Key()); ok {
		out.State, out.Reason, out.Description, out.Since = h.State, h.Reason, h.Description, h.Since
		deps = append(deps, h)
	}
	return out, deps
}

func targetsOf(r store.Reader, targets iter.Seq[*model.Target]) (all []why.Target, deps []any) {
	for t := range targets {
		one, d := targetOf(r, t)
		all, deps = append(all, one), append(deps, d...)
	}
	return all, deps
}

func targetRow(t *why.Target, task, service string) TargetRow {
	row := TargetRow{Group: t.Group, ID: t.ID, Port: t.Port, Task: task, Service: service, State: string(t.State), Reason: string(t.Reason), Text: t.Description}
	if f, ok := why.ExplainTarget(*t); ok {
		row.Finding = &f
	}
	return row
}

// forwards are the target groups that an action sends requests to.
func forwards(a *elbtypes.Action) (all []ForwardRow) {
	if a.ForwardConfig != nil {
		for _, g := range a.ForwardConfig.TargetGroups {
			if g.TargetGroupArn != nil {
				weight := int32(1)
				if g.Weight != nil {
					weight = *g.Weight
				}
				all = append(all, ForwardRow{*g.TargetGroupArn, weight})
			}
		}
	}
	if len(all) == 0 && a.TargetGroupArn != nil {
		all = append(all, ForwardRow{*a.TargetGroupArn, 1})
	}
	return all
}

func (s *Console) balancers(r store.Reader, _ time.Time, yield func(item)) {
	for lb := range store.LoadBalancers.Scan(r, "") {
		deps := []any{lb}
		var listeners []*model.Listener
		rules := map[string][]*model.Rule{}
		var groups []string
		note := func(actions []elbtypes.Action) {
			for i := range actions {
				for _, f := range forwards(&actions[i]) {
					if !slices.Contains(groups, f.Group) {
						groups = append(groups, f.Group)
					}
				}
			}
		}
		for l := range store.Listeners.By(r, store.ByLoadBalancer, lb.ARN) {
			listeners, deps = append(listeners, l), append(deps, l)
			for rule := range store.Rules.By(r, store.ByListener, l.ARN) {
				rules[l.ARN], deps = append(rules[l.ARN], rule), append(deps, rule)
				note(rule.Rule.Actions)
			}
			note(l.Listener.DefaultActions)
		}
		var drawn []GroupRow
		for _, arn := range groups {
			g, ok := store.TargetGroups.Get(r, arn)
			if !ok {
				continue
			}
			deps = append(deps, g)
			row := GroupRow{ARN: arn, Name: g.Name, Targets: []TargetRow{}}
			if g.Group.Port != nil {
				row.Port = *g.Group.Port
			}
			if g.Group.HealthCheckPath != nil {
				row.Check = *g.Group.HealthCheckPath
			}
			for t := range store.Targets.By(r, store.ByTargetGroup, arn) {
				one, d := targetOf(r, t)
				deps = append(deps, d...)
				row.Targets = append(row.Targets, targetRow(&one, t.Task, t.Service))
			}
			drawn = append(drawn, row)
		}
		yield(item{key: lb.ARN, deps: deps, draw: func() any { return balancerRow(lb, listeners, rules, drawn) }})
	}
}

func balancerRow(lb *model.LoadBalancer, listeners []*model.Listener, rules map[string][]*model.Rule, groups []GroupRow) BalancerRow {
	row := BalancerRow{K: lb.ARN, Name: lb.Name, Scheme: string(lb.LB.Scheme), Listeners: []ListenerRow{}, Groups: groups}
	if lb.LB.DNSName != nil {
		row.DNS = *lb.LB.DNSName
	}
	if lb.LB.CreatedTime != nil {
		row.Created = ms(*lb.LB.CreatedTime)
	}
	if row.Groups == nil {
		row.Groups = []GroupRow{}
	}
	for _, l := range listeners {
		one := ListenerRow{ARN: l.ARN, Protocol: string(l.Listener.Protocol), Problem: l.Problem}
		if l.Listener.Port != nil {
			one.Port = *l.Listener.Port
		}
		if l.Problem != "" {
			row.Findings = append(row.Findings, why.Problem(l.Problem))
		}
		slices.SortFunc(rules[l.ARN], func(a, b *model.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
		for _, rule := range rules[l.ARN] {
			one.Rules = append(one.Rules, ruleRow(rule.ARN, strconv.Itoa(rule.Priority), rule.Rule.Conditions, rule.Rule.Actions))
		}
		one.Rules = append(one.Rules, ruleRow("", "default", nil, l.Listener.DefaultActions))
		row.Listeners = append(row.Listeners, one)
	}
	slices.SortFunc(row.Listeners, func(a, b ListenerRow) int { return cmp.Compare(a.Port, b.Port) })
	return row
}

func ruleRow(arn, priority string, conditions []elbtypes.RuleCondition, actions []elbtypes.Action) RuleRow {
	row := RuleRow{ARN: arn, Priority: priority}
	for i := range conditions {
		row.Conditions = append(row.Conditions, conditionRow(&conditions[i]))
	}
	if len(actions) == 0 {
		return row
	}
	a := &actions[len(actions)-1]
	row.Action, row.Forward = string(a.Type), forwards(a)
	if c := a.FixedResponseConfig; c != nil && c.StatusCode != nil {
		row.Text = *c.StatusCode
	}
	if c := a.RedirectConfig; c != nil {
		row.Text = fmt.Sprintf("%s %s://%s:%s%s", c.StatusCode, text(c.Protocol), text(c.Host), text(c.Port), text(c.Path))
	}
	return row
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func conditionRow(c *elbtypes.RuleCondition) ConditionRow {
	row := ConditionRow{Field: text(c.Field), Values: c.Values}
	switch {
	case c.HostHeaderConfig != nil:
		row.Values = c.HostHeaderConfig.Values
	case c.PathPatternConfig != nil:
		row.Values = c.PathPatternConfig.Values
	case c.HttpHeaderConfig != nil:
		row.Name, row.Values = text(c.HttpHeaderConfig.HttpHeaderName), c.HttpHeaderConfig.Values
	case c.HttpRequestMethodConfig != nil:
		row.Values = c.HttpRequestMethodConfig.Values
	case c.SourceIpConfig != nil:
		row.Values = c.SourceIpConfig.Values
	case c.QueryStringConfig != nil:
		row.Values = nil
		for _, v := range c.QueryStringConfig.Values {
			row.Values = append(row.Values, text(v.Key)+"="+text(v.Value))
		}
	}
	return row
}

// nodes lists the machines with the tasks on them.
func (s *Console) nodes(r store.Reader, _ time.Time, yield func(item)) {
	clusters := slices.Collect(store.Clusters.Scan(r, ""))
	for n := range store.Nodes.Scan(r, "") {
		deps := []any{n}
		var members []MemberRow
		for _, c := range clusters {
			if i, ok := store.InstanceOn(r, c.Name, n.ID); ok && c.Status == "ACTIVE" && n.Member(c.Name) {
				members = append(members, MemberRow{Cluster: c.Name, ARN: i.ARN, Status: i.Status})
				deps = append(deps, i.Status, c)
			}
		}
		var tasks []*model.Task
		for t := range store.Tasks.By(r, store.ByNode, n.ID) {
			if !t.Ended() {
				tasks, deps = append(tasks, t), append(deps, t)
			}
		}
		yield(item{key: n.ID, deps: deps, draw: func() any { return nodeRow(n, members, tasks) }})
	}
}

func nodeRow(n *model.Node, members []MemberRow, tasks []*model.Task) NodeRow {
	row := NodeRow{K: n.ID, Host: n.Hostname, Address: n.Address, Status: "ACTIVE", CPU: n.CPU, Memory: n.Memory, Tasks: len(tasks), Arch: n.Arch, Version: n.Version,
		Joined: ms(n.RegisteredAt), Members: members, Tiles: []TileRow{}}
	draining := 0
	for _, m := range members {
		if m.Status == "DRAINING" {
			draining++
		}
	}
	switch {
	case n.Life.Verdict != model.NodeAlive:
		row.Status = string(n.Life.Verdict)
	case !n.Connected:
		row.Status = "AWAY"
	case draining > 0 && draining == len(members):
		row.Status = "DRAINING"
	}
	for _, t := range tasks {
		row.UsedCPU, row.UsedMem = row.UsedCPU+t.Needs.CPU, row.UsedMem+t.Needs.Memory
		row.Tiles = append(row.Tiles, TileRow{ID: t.ID, Cluster: t.Cluster, Name: or(t.Service, t.Family), CPU: t.Needs.CPU, Memory: t.Needs.Memory, Status: string(t.LastStatus())})
	}
	slices.SortFunc(row.Tiles, func(a, b TileRow) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	if f, ok := why.ExplainNode(n); ok {
		row.Findings = append(row.Findings, f)
	}
	return row
}
