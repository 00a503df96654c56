package elb

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Bounds of conditions (ELB API reference, RuleCondition and its configurations).
const (
	maxConditionValue = 128
	maxHeaderName     = 40
	maxMethod         = 40
)

var (
	pathPattern   = regexp.MustCompile(`^[A-Za-z0-9_\-.$/~"'@:+&*?]*$`)
	hostPattern   = regexp.MustCompile(`^[A-Za-z0-9\-.*?]*$`)
	headerPattern = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$") // a token of RFC 9110
	methodPattern = regexp.MustCompile(`^[A-Z_-]+$`)
)

// once are the fields that a rule may have one condition of: a request has one method, path, host and address, so two of a kind
// could only say no.
var once = []string{"path-pattern", "host-header", "http-request-method", "source-ip"}

// checkConditions validates conditions and keeps both spellings in step: Values and the field's own configuration.
func checkConditions(in []types.RuleCondition) ([]types.RuleCondition, error) {
	if len(in) == 0 {
		return nil, invalid("A condition must be specified")
	}
	total := 0
	seen := map[string]bool{}
	out := make([]types.RuleCondition, len(in))
	for i, c := range in {
		if hasRegex(c) {
			return nil, unsupported("regular expressions in conditions")
		}
		if field := text(c.Field); slices.Contains(once, field) {
			if seen[field] {
				return nil, invalid("A rule can only have one '%s' condition", field)
			}
			seen[field] = true
		}
		n, err := checkCondition(&c)
		if err != nil {
			return nil, err
		}
		total += n
		out[i] = c
	}
	return out, conditionLimit.admits(total)
}

func hasRegex(c types.RuleCondition) bool {
	return len(c.RegexValues) > 0 || c.PathPatternConfig != nil && len(c.PathPatternConfig.RegexValues) > 0 ||
		c.HostHeaderConfig != nil && len(c.HostHeaderConfig.RegexValues) > 0 ||
		c.HttpHeaderConfig != nil && len(c.HttpHeaderConfig.RegexValues) > 0
}

// checkCondition returns how many values the condition has.
func checkCondition(c *types.RuleCondition) (int, error) {
	values, err := conditionValues(c)
	if err != nil {
		return 0, err
	}
	if len(values) == 0 {
		return 0, invalid("A condition value must be specified")
	}
	for _, v := range values {
		if v == "" {
			return 0, invalid("A condition value cannot be empty")
		}
		if len(v) > maxConditionValue {
			return 0, invalid("Condition value '%.20s…' can have at most %d characters", v, maxConditionValue)
		}
		if err := checkConditionValue(text(c.Field), v); err != nil {
			return 0, err
		}
	}
	return len(values), nil
}

// conditionValues are what a condition compares with.
func conditionValues(c *types.RuleCondition) (values []string, err error) {
	switch text(c.Field) {
	case "path-pattern":
		if c.PathPatternConfig == nil {
			c.PathPatternConfig = &types.PathPatternConditionConfig{Values: c.Values}
		}
		c.Values = c.PathPatternConfig.Values
		return c.Values, nil
	case "host-header":
		if c.HostHeaderConfig == nil {
			c.HostHeaderConfig = &types.HostHeaderConditionConfig{Values: c.Values}
		}
		c.Values = c.HostHeaderConfig.Values
		return c.Values, nil
	case "http-header":
		return headerValues(c.HttpHeaderConfig)
	case "http-request-method":
		if c.HttpRequestMethodConfig != nil {
			values = c.HttpRequestMethodConfig.Values
		}
		return values, nil
	case "query-string":
		return queryValues(c.QueryStringConfig)
	case "source-ip":
		if c.SourceIpConfig != nil {
			values = c.SourceIpConfig.Values
		}
		return values, nil
	}
	return nil, invalid("Condition field '%s' must be one of '[path-pattern, host-header, http-header, http-request-method, query-string, "+
		"source-ip]'", text(c.Field))
}

func headerValues(h *types.HttpHeaderConditionConfig) ([]string, error) {
	if h == nil || text(h.HttpHeaderName) == "" {
		return nil, invalid("A header name must be specified for an http-header condition")
	}
	switch name := *h.HttpHeaderName; {
	case len(name) > maxHeaderName:
		return nil, invalid("The HTTP header name '%.20s…' can have at most %d characters", name, maxHeaderName)
	case !headerPattern.MatchString(name):
		return nil, invalid("The HTTP header name '%s' contains invalid characters", name)
	case strings.EqualFold(name, "host"):
		return nil, invalid("The HTTP header name 'host' is not supported. Use a host-header condition instead")
	}
	return h.Values, nil
}

// queryValues refuses keys out of bounds; an empty key means any, and so does a pair without one.
func queryValues(q *types.QueryStringConditionConfig) (values []string, err error) {
	if q == nil {
		return nil, nil
	}
	for _, pair := range q.Values {
		if key := text(pair.Key); len(key) > maxConditionValue {
			return nil, invalid("Condition value '%.20s…' can have at most %d characters", key, maxConditionValue)
		}
		values = append(values, text(pair.Value))
	}
	return values, nil
}

// checkConditionValue refuses what no request can have.
func checkConditionValue(field, v string) error {
	switch field {
	case "path-pattern":
		if !pathPattern.MatchString(v) {
			return invalid("The path pattern '%s' contains invalid characters", v)
		}
		if !strings.ContainsAny(v[:1], "/*?") {
			return invalid("The path pattern '%s' must begin with '/' or a wildcard: it would never match", v)
		}
	case "host-header":
		if !hostPattern.MatchString(v) {
			return invalid("The host name '%s' contains invalid characters", v)
		}
	case "http-request-method":
		if len(v) > maxMethod || !methodPattern.MatchString(v) {
			return invalid("The HTTP request method '%.50s' is not valid: it has up to %d characters of A-Z, '-' and '_'", v, maxMethod)
		}
	case "source-ip":
		if _, err := netip.ParsePrefix(v); err != nil {
			return invalid("The source IP '%s' must be in CIDR format", v)
		}
	}
	return nil
}
