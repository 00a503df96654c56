package elb_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
)

// priorities are those of a listener's rules in their order.
func (r *rig) priorities(l types.Listener) (all []string) {
	r.t.Helper()
	out := wiretest.Must[*awselb.DescribeRulesOutput](r.t)(r.DescribeRules(ctx, &awselb.DescribeRulesInput{ListenerArn: l.ListenerArn}))
	for _, rule := range out.Rules {
		all = append(all, *rule.Priority)
	}
	return all
}

func TestRules(t *testing.T) {
	r := newRig(t)
	g := r.group("g")
	l := r.listener(r.balancer("web"), 80, fixed("404"))
	made := r.rule(l, 20, path("/a/*", "/b"), forward(g))
	matches(t, "the ARN", *made.RuleArn, strings.Replace(*l.ListenerArn, ":listener/", ":listener-rule/", 1)+`/[0-9a-f]{16}`)
	if *made.Priority != "20" || *made.IsDefault || *made.Actions[0].TargetGroupArn != g {
		t.Errorf("made %+v", made)
	}
	// Both spellings of a condition are shown.
	if c := made.Conditions[0]; !slices.Equal(c.Values, []string{"/a/*", "/b"}) || c.PathPatternConfig == nil ||
		!slices.Equal(c.PathPatternConfig.Values, c.Values) {
		t.Errorf("condition %+v", c)
	}
	host := r.rule(l, 3, []types.RuleCondition{{Field: aws.String("host-header"),
		HostHeaderConfig: &types.HostHeaderConditionConfig{Values: []string{"*.example.com"}}}}, fixed("200"))
	if c := host.Conditions[0]; !slices.Equal(c.Values, []string{"*.example.com"}) {
		t.Errorf("condition %+v", c)
	}
	if got := r.priorities(l); !slices.Equal(got, []string{"3", "20", "default"}) {
		t.Errorf("rules in the order %v", got)
	}
	_, err := r.CreateRule(ctx, &awselb.CreateRuleInput{ListenerArn: l.ListenerArn, Priority: aws.Int32(20), Conditions: path("/x"), Actions: fixed("200")})
	wiretest.Refused(t, err, "PriorityInUse", "Priority '20' is currently in use")

	set := func(pairs map[string]int32) error {
		in := &awselb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{}}
		for arn, n := range pairs {
			in.RulePriorities = append(in.RulePriorities, types.RulePriorityPair{RuleArn: &arn, Priority: &n})
		}
		return wiretest.Error(r.SetRulePriorities(ctx, in))
	}
	// Two rules change places at once.
	if err := set(map[string]int32{*made.RuleArn: 3, *host.RuleArn: 20}); err != nil {
		t.Fatal(err)
	}
	one := wiretest.Must[*awselb.DescribeRulesOutput](t)(r.DescribeRules(ctx, &awselb.DescribeRulesInput{RuleArns: []string{*made.RuleArn}})).Rules
	if len(one) != 1 || *one[0].Priority != "3" {
		t.Errorf("%+v", one)
	}
	wiretest.Refused(t, set(map[string]int32{*made.RuleArn: 20}), "PriorityInUse", "'20'")
	wiretest.Refused(t, set(map[string]int32{*made.RuleArn: 50_001}), "ValidationError", "between 1 and 50000")
	wiretest.Refused(t, set(map[string]int32{*made.RuleArn + "0": 9}), "RuleNotFound", "")
	wiretest.Refused(t, set(nil), "ValidationError", "At least one")
	if got := r.priorities(l); !slices.Equal(got, []string{"3", "20", "default"}) {
		t.Errorf("after refusals %v", got)
	}

	changed := wiretest.Must[*awselb.ModifyRuleOutput](t)(r.ModifyRule(ctx, &awselb.ModifyRuleInput{RuleArn: made.RuleArn, Actions: fixed("503")})).Rules[0]
	if *changed.Actions[0].FixedResponseConfig.StatusCode != "503" || !slices.Equal(changed.Conditions[0].Values, []string{"/a/*", "/b"}) {
		t.Errorf("changed to %+v", changed)
	}
	changed = wiretest.Must[*awselb.ModifyRuleOutput](t)(r.ModifyRule(ctx, &awselb.ModifyRuleInput{RuleArn: made.RuleArn, Conditions: path("/c")})).Rules[0]
	if *changed.Actions[0].FixedResponseConfig.StatusCode != "503" || !slices.Equal(changed.Conditions[0].Values, []string{"/c"}) {
		t.Errorf("changed to %+v", changed)
	}
	_, err = r.ModifyRule(ctx, &awselb.ModifyRuleInput{RuleArn: made.RuleArn, Actions: forward(g + "0")})
	wiretest.Refused(t, err, "TargetGroupNotFound", "")

	for _, want := range []string{"", "RuleNotFound"} {
		_, err := r.DeleteRule(ctx, &awselb.DeleteRuleInput{RuleArn: made.RuleArn})
		if want != "" {
			wiretest.Refused(t, err, want, "One or more rules not found")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	_, err = r.ModifyRule(ctx, &awselb.ModifyRuleInput{RuleArn: made.RuleArn, Actions: fixed("200")})
	wiretest.Refused(t, err, "RuleNotFound", "")
	_, err = r.DescribeRules(ctx, nil)
	wiretest.Refused(t, err, "ValidationError", "Either a listener or rules")
}

// The default rule is the listener's: it is shown last and found by its ARN, and only ModifyListener changes it.
func TestDefaultRule(t *testing.T) {
	r := newRig(t)
	l := r.listener(r.balancer("web"), 80, fixed("404"))
	all := wiretest.Must[*awselb.DescribeRulesOutput](t)(r.DescribeRules(ctx, &awselb.DescribeRulesInput{ListenerArn: l.ListenerArn})).Rules
	def := all[len(all)-1]
	if len(all) != 1 || *def.Priority != "default" || !*def.IsDefault || *def.Actions[0].FixedResponseConfig.StatusCode != "404" {
		t.Fatalf("%+v", all)
	}
	again := wiretest.Must[*awselb.DescribeRulesOutput](t)(r.DescribeRules(ctx, &awselb.DescribeRulesInput{RuleArns: []string{*def.RuleArn}})).Rules
	if len(again) != 1 || *again[0].RuleArn != *def.RuleArn {
		t.Errorf("%+v", again)
	}
	_, err := r.ModifyRule(ctx, &awselb.ModifyRuleInput{RuleArn: def.RuleArn, Actions: fixed("200")})
	wiretest.Refused(t, err, "OperationNotPermitted", "cannot be modified")
	_, err = r.DeleteRule(ctx, &awselb.DeleteRuleInput{RuleArn: def.RuleArn})
	wiretest.Refused(t, err, "OperationNotPermitted", "cannot be deleted")
}

func TestRulesThatAreRefused(t *testing.T) {
	r := newRig(t)
	l := r.listener(r.balancer("web"), 80, fixed("404"))
	when := func(field string, change func(*types.RuleCondition)) []types.RuleCondition {
		c := types.RuleCondition{Field: &field}
		change(&c)
		return []types.RuleCondition{c}
	}
	values := func(v ...string) func(*types.RuleCondition) { return func(c *types.RuleCondition) { c.Values = v } }
	for name, c := range map[string]struct {
		change     func(*awselb.CreateRuleInput)
		code, text string
	}{
		"no condition": {func(in *awselb.CreateRuleInput) { in.Conditions = []types.RuleCondition{} }, "ValidationError", "A condition must be specified"},
		"field":        {func(in *awselb.CreateRuleInput) { in.Conditions = when("cookie", values("a")) }, "ValidationError", "'cookie' must be one of"},
		"no value":     {func(in *awselb.CreateRuleInput) { in.Conditions = when("path-pattern", values()) }, "ValidationError", "condition value must be specified"},
		"long value": {func(in *awselb.CreateRuleInput) { in.Conditions = path("/" + strings.Repeat("x", 128)) }, "ValidationError",
			"at most 128 characters"},
		"six values": {func(in *awselb.CreateRuleInput) { in.Conditions = path("/1", "/2", "/3", "/4", "/5", "/6") }, "TooManyConditionValues", "5"},
		"source": {func(in *awselb.CreateRuleInput) {
			in.Conditions = when("source-ip", func(c *types.RuleCondition) {
				c.SourceIpConfig = &types.SourceIpConditionConfig{Values: []string{"10.0.0.1"}}
			})
		}, "ValidationError", "'10.0.0.1' must be in CIDR format"},
		"regex": {func(in *awselb.CreateRuleInput) {
			in.Conditions = when("path-pattern", func(c *types.RuleCondition) { c.RegexValues = []string{"^/a"} })
		}, "ValidationError", "Berth does not support regular expressions in conditions yet"},
		"never a path": {func(in *awselb.CreateRuleInput) { in.Conditions = path("api/*") }, "ValidationError", "it would never match"},
		"two paths": {func(in *awselb.CreateRuleInput) { in.Conditions = append(path("/a"), path("/b")...) }, "ValidationError",
			"only have one 'path-pattern'"},
		"empty value": {func(in *awselb.CreateRuleInput) { in.Conditions = path("") }, "ValidationError", "cannot be empty"},
		"odd path":    {func(in *awselb.CreateRuleInput) { in.Conditions = path("/a b") }, "ValidationError", "invalid characters"},
		"method": {func(in *awselb.CreateRuleInput) {
			in.Conditions = when("http-request-method", func(c *types.RuleCondition) {
				c.HttpRequestMethodConfig = &types.HttpRequestMethodConditionConfig{Values: []string{"get"}}
			})
		}, "ValidationError", "The HTTP request method 'get' is not valid"},
		"header's name": {func(in *awselb.CreateRuleInput) {
			in.Conditions = when("http-header", func(c *types.RuleCondition) {
				c.HttpHeaderConfig = &types.HttpHeaderConditionConfig{HttpHeaderName: aws.String("X Y"), Values: []string{"a"}}
			})
		}, "ValidationError", "'X Y' contains invalid characters"},
		"host as a header": {func(in *awselb.CreateRuleInput) {
			in.Conditions = when("http-header", func(c *types.RuleCondition) {
				c.HttpHeaderConfig = &types.HttpHeaderConditionConfig{HttpHeaderName: aws.String("Host"), Values: []string{"a"}}
			})
		}, "ValidationError", "Use a host-header condition instead"},
		"long header": {func(in *awselb.CreateRuleInput) {
			in.Conditions = when("http-header", func(c *types.RuleCondition) {
				c.HttpHeaderConfig = &types.HttpHeaderConditionConfig{HttpHeaderName: aws.String(strings.Repeat("x", 41)), Values: []string{"a"}}
			})
		}, "ValidationError", "at most 40 characters"},
		"priority 0":  {func(in *awselb.CreateRuleInput) { in.Priority = aws.Int32(0) }, "ValidationError", "between 1 and 50000"},
		"no listener": {func(in *awselb.CreateRuleInput) { in.ListenerArn = aws.String("arn") }, "ListenerNotFound", ""},
		"two actions": {func(in *awselb.CreateRuleInput) { in.Actions = append(fixed("200"), fixed("200")...) }, "ValidationError", "Exactly one action"},
		"transform": {func(in *awselb.CreateRuleInput) {
			in.Transforms = []types.RuleTransform{{Type: types.TransformTypeEnumUrlRewrite}}
		}, "ValidationError", "transforms"},
		"tag": {func(in *awselb.CreateRuleInput) { in.Tags = []types.Tag{{Key: aws.String("aws:x")}} }, "ValidationError", "'aws:x'"},
	} {
		in := &awselb.CreateRuleInput{ListenerArn: l.ListenerArn, Priority: aws.Int32(1), Conditions: path("/x"), Actions: fixed("200")}
		c.change(in)
		_, err := r.CreateRule(ctx, in)
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
	if got := r.priorities(l); len(got) != 1 {
		t.Errorf("refused and made: %v", got)
	}
	for i := range int32(100) {
		r.rule(l, i+1, path("/x"), fixed("200"))
	}
	_, err := r.CreateRule(ctx, &awselb.CreateRuleInput{ListenerArn: l.ListenerArn, Priority: aws.Int32(101), Conditions: path("/x"), Actions: fixed("200")})
	wiretest.Refused(t, err, "TooManyRules", "100")

	n, marker := 0, (*string)(nil)
	for pages := 0; pages == 0 || marker != nil; pages++ {
		out := wiretest.Must[*awselb.DescribeRulesOutput](t)(r.DescribeRules(ctx, &awselb.DescribeRulesInput{ListenerArn: l.ListenerArn,
			PageSize: aws.Int32(30), Marker: marker}))
		n, marker = n+len(out.Rules), out.NextMarker
		if pages > 4 {
			t.Fatal("pages without end")
		}
	}
	if n != 101 {
		t.Errorf("%d rules on all pages", n)
	}
}
