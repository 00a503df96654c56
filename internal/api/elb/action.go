package elb

import (
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

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

// groupsOf adds the target groups that actions lead to.
func groupsOf(actions []types.Action, to map[string]bool) {
	for _, act := range actions {
		if act.TargetGroupArn != nil {
			to[*act.TargetGroupArn] = true
		}
		if act.ForwardConfig != nil {
			for _, t := range act.ForwardConfig.TargetGroups {
				to[text(t.TargetGroupArn)] = true
			}
		}
	}
}

// checkActions validates a listener's or a rule's actions and fills in what AWS fills in.
func checkActions(r store.Reader, in []types.Action) ([]types.Action, error) {
	for _, act := range in {
		switch act.Type {
		case types.ActionTypeEnumForward, types.ActionTypeEnumFixedResponse, types.ActionTypeEnumRedirect:
		case "":
			return nil, invalid("An action type must be specified")
		default:
			return nil, unsupported("actions of type " + string(act.Type))
		}
	}
	if len(in) != 1 {
		return nil, invalid("Exactly one action of the type forward, fixed-response or redirect must be specified")
	}
	act := in[0]
	others := map[types.ActionTypeEnum]bool{
		types.ActionTypeEnumForward:       act.TargetGroupArn != nil || act.ForwardConfig != nil,
		types.ActionTypeEnumFixedResponse: act.FixedResponseConfig != nil,
		types.ActionTypeEnumRedirect:      act.RedirectConfig != nil,
	}
	delete(others, act.Type)
	for kind, has := range others {
		if has {
			return nil, invalid("An action of type %s cannot have the configuration of type %s", act.Type, kind)
		}
	}
	var err error
	switch act.Type {
	case types.ActionTypeEnumForward:
		err = checkForward(r, &act)
	case types.ActionTypeEnumFixedResponse:
		err = checkFixed(act.FixedResponseConfig)
	case types.ActionTypeEnumRedirect:
		err = checkRedirect(&act)
	}
	return []types.Action{act}, err
}

// checkForward keeps both spellings in step: a single group is in TargetGroupArn and in ForwardConfig.
func checkForward(r store.Reader, act *types.Action) error {
	full := types.ForwardActionConfig{TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: new(false)}}
	if conf := act.ForwardConfig; conf != nil {
		full.TargetGroups = conf.TargetGroups
		if conf.TargetGroupStickinessConfig != nil {
			full.TargetGroupStickinessConfig = conf.TargetGroupStickinessConfig
		}
	}
	switch {
	case len(full.TargetGroups) == 0 && act.TargetGroupArn == nil:
		return invalid("A target group must be specified")
	case len(full.TargetGroups) == 0:
		full.TargetGroups = []types.TargetGroupTuple{{TargetGroupArn: act.TargetGroupArn}}
	case act.TargetGroupArn != nil && (len(full.TargetGroups) > 1 || text(full.TargetGroups[0].TargetGroupArn) != *act.TargetGroupArn):
		return invalid("The target group ARN of the action and its forward configuration must be the same target group")
	}
	if err := actionLimit.admits(len(full.TargetGroups)); err != nil {
		return err
	}
	var err error
	if full.TargetGroups, err = checkTuples(r, full.TargetGroups); err != nil {
		return err
	}
	if s := full.TargetGroupStickinessConfig; s.Enabled != nil && *s.Enabled {
		if s.DurationSeconds == nil || *s.DurationSeconds < 1 || *s.DurationSeconds > 604800 {
			return invalid("The duration of target group stickiness must be between 1 and 604800 seconds")
		}
	}
	act.TargetGroupArn = nil
	if len(full.TargetGroups) == 1 {
		act.TargetGroupArn = full.TargetGroups[0].TargetGroupArn
	}
	act.ForwardConfig = &full
	return nil
}

// checkTuples returns the groups with their weights.
func checkTuples(r store.Reader, in []types.TargetGroupTuple) ([]types.TargetGroupTuple, error) {
	out, seen := slices.Clone(in), map[string]bool{}
	for i := range out {
		t := &out[i]
		t.Weight = or(t.Weight, 1)
		if *t.Weight < 0 || *t.Weight > 999 {
			return nil, invalid("Target group weight '%d' must be between 0 and 999", *t.Weight)
		}
		arn := text(t.TargetGroupArn)
		if _, ok := store.TargetGroups.Get(r, arn); !ok {
			return nil, noTargetGroup()
		}
		if seen[arn] {
			return nil, invalid("Target group '%s' is specified more than once", arn)
		}
		seen[arn] = true
	}
	return out, nil
}

var contentTypes = []string{"text/plain", "text/css", "text/html", "application/javascript", "application/json"}

func checkFixed(f *types.FixedResponseActionConfig) error {
	if f == nil || f.StatusCode == nil {
		return invalid("A status code must be specified for a fixed response")
	}
	if n, err := strconv.Atoi(*f.StatusCode); err != nil || n < 200 || n > 599 || n >= 300 && n < 400 {
		return invalid("The status code '%.20s' must be 2XX, 4XX or 5XX", *f.StatusCode)
	}
	if len(text(f.MessageBody)) > 1024 {
		return invalid("The message body can have at most 1024 characters")
	}
	if c := text(f.ContentType); c != "" && !slices.Contains(contentTypes, c) {
		return invalid("The content type '%.100s' must be one of %s", c, quoted(contentTypes))
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
	if !slices.Contains([]string{"HTTP", "HTTPS", "#{protocol}"}, *r.Protocol) {
		return invalid("The redirect protocol '%.20s' must be HTTP, HTTPS or #{protocol}", *r.Protocol)
	}
	if n, err := strconv.Atoi(*r.Port); *r.Port != "#{port}" && (err != nil || n < 1 || n > 65535) {
		return invalid("The redirect port '%.20s' must be a number between 1 and 65535, or #{port}", *r.Port)
	}
	if !strings.HasPrefix(*r.Path, "/") {
		return invalid("The redirect path '%.100s' must begin with a '/' character", *r.Path)
	}
	for _, part := range []*string{r.Host, r.Path, r.Query} {
		if len(*part) > 128 || strings.ContainsFunc(*part, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return invalid("'%.100s' is not valid in a redirect: it can have at most 128 visible ASCII characters", *part)
		}
	}
	if *r.Host == "" {
		return invalid("The redirect host must not be empty")
	}
	if *r.Protocol == "#{protocol}" && *r.Host == "#{host}" && *r.Port == "#{port}" && *r.Path == "/#{path}" {
		return model.Errorf("InvalidLoadBalancerAction", "The redirect would lead to itself: change the protocol, the host, the port or the path")
	}
	act.RedirectConfig = &r
	return nil
}
