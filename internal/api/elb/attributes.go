package elb

import (
	"maps"
	"slices"
	"strconv"

	"github.com/berthdev/berth/internal/model"
)

// attribute is one that a resource has: what it is at first, and what it may be.
type attribute struct {
	def   string
	check func(key, value string) error
}

func wrong(key, value, must string) error {
	return model.Errorf("InvalidConfigurationRequest", "The value '%.100s' of the attribute '%s' is not valid: it must be %s", value, key, must)
}

func anything(key, value string) error {
	if len(value) > 1024 {
		return wrong(key, value, "at most 1024 characters long")
	}
	return nil
}

func boolean(key, value string) error { return oneOf("true", "false")(key, value) }

func oneOf(values ...string) func(string, string) error {
	return func(key, value string) error {
		if !slices.Contains(values, value) {
			return wrong(key, value, "one of "+quoted(values))
		}
		return nil
	}
}

func quoted(values []string) (s string) {
	for i, v := range values {
		if i > 0 {
			s += ", "
		}
		s += "'" + v + "'"
	}
	return s
}

func between(low, high int) func(string, string) error {
	return func(key, value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < low || n > high {
			return wrong(key, value, "between "+strconv.Itoa(low)+" and "+strconv.Itoa(high))
		}
		return nil
	}
}

func off(or func(string, string) error) func(string, string) error {
	return func(key, value string) error {
		if value == "off" {
			return nil
		}
		return or(key, value)
	}
}

// only admits the one value that has the effect it promises.
func only(value, what string) func(string, string) error {
	return func(_, v string) error {
		if v != value {
			return unsupported(what)
		}
		return nil
	}
}

// supported narrows what AWS admits to what has an effect here.
func supported(check func(string, string) error, what string, values ...string) func(string, string) error {
	return func(key, value string) error {
		if err := check(key, value); err != nil {
			return err
		}
		if !slices.Contains(values, value) {
			return unsupported(what + " '" + value + "'")
		}
		return nil
	}
}

// lbAttributes are the attributes of an Application Load Balancer (ELB API reference, LoadBalancerAttribute). Those of TLS, IPv6, WAF
// and zones have nothing to act upon: listeners speak HTTP, over IPv4, in one zone.
var lbAttributes = map[string]attribute{
	"deletion_protection.enabled":                              {"false", boolean},
	"access_logs.s3.enabled":                                   {"false", only("false", "access logs in S3")},
	"access_logs.s3.bucket":                                    {"", anything},
	"access_logs.s3.prefix":                                    {"", anything},
	"connection_logs.s3.enabled":                               {"false", only("false", "connection logs in S3")},
	"connection_logs.s3.bucket":                                {"", anything},
	"connection_logs.s3.prefix":                                {"", anything},
	"health_check_logs.s3.enabled":                             {"false", only("false", "health check logs in S3")},
	"health_check_logs.s3.bucket":                              {"", anything},
	"health_check_logs.s3.prefix":                              {"", anything},
	"idle_timeout.timeout_seconds":                             {"60", between(1, 4000)},
	"client_keep_alive.seconds":                                {"3600", between(60, 604800)},
	"ipv6.deny_all_igw_traffic":                                {"false", boolean},
	"load_balancing.cross_zone.enabled":                        {"true", oneOf("true")},
	"routing.http.desync_mitigation_mode":                      {"defensive", oneOf("monitor", "defensive", "strictest")},
	"routing.http.drop_invalid_header_fields.enabled":          {"false", boolean},
	"routing.http.preserve_host_header.enabled":                {"false", boolean},
	"routing.http.x_amzn_tls_version_and_cipher_suite.enabled": {"false", boolean},
	"routing.http.xff_client_port.enabled":                     {"false", boolean},
	"routing.http.xff_header_processing.mode":                  {"append", oneOf("append", "preserve", "remove")},
	"routing.http2.enabled":                                    {"true", boolean},
	"waf.fail_open.enabled":                                    {"false", boolean},
	"zonal_shift.config.enabled":                               {"false", boolean},
}

// tgAttributes are the attributes of an ALB's target group (ELB API reference, TargetGroupAttribute).
var tgAttributes = map[string]attribute{
	"deregistration_delay.timeout_seconds":                                           {"300", between(0, 3600)},
	"stickiness.enabled":                                                             {"false", boolean},
	"stickiness.type":                                                                {"lb_cookie", supported(oneOf("lb_cookie", "app_cookie"), "the stickiness type", "lb_cookie")},
	"stickiness.lb_cookie.duration_seconds":                                          {"86400", between(1, 604800)},
	"stickiness.app_cookie.cookie_name":                                              {"", anything},
	"stickiness.app_cookie.duration_seconds":                                         {"86400", between(1, 604800)},
	"load_balancing.cross_zone.enabled":                                              {"use_load_balancer_configuration", oneOf("true", "false", "use_load_balancer_configuration")},
	"load_balancing.algorithm.type":                                                  {"round_robin", supported(oneOf("round_robin", "least_outstanding_requests", "weighted_random"), "the load balancing algorithm", "round_robin", "least_outstanding_requests")},
	"load_balancing.algorithm.anomaly_mitigation":                                    {"off", supported(oneOf("on", "off"), "anomaly mitigation", "off")},
	"slow_start.duration_seconds":                                                    {"0", only("0", "slow start")},
	"target_group_health.dns_failover.minimum_healthy_targets.count":                 {"1", off(between(1, 1000))},
	"target_group_health.dns_failover.minimum_healthy_targets.percentage":            {"off", off(between(1, 100))},
	"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      {"1", between(1, 1000)},
	"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": {"off", off(between(1, 100))},
}

// listenerAttributes are the attributes of an HTTP listener (ELB API reference, ListenerAttribute).
var listenerAttributes = map[string]attribute{
	"routing.http.response.server.enabled":                                {"true", boolean},
	"routing.http.response.strict_transport_security.header_value":        {"", headerValue},
	"routing.http.response.access_control_allow_origin.header_value":      {"", headerValue},
	"routing.http.response.access_control_allow_methods.header_value":     {"", headerValue},
	"routing.http.response.access_control_allow_headers.header_value":     {"", headerValue},
	"routing.http.response.access_control_allow_credentials.header_value": {"", headerValue},
	"routing.http.response.access_control_expose_headers.header_value":    {"", headerValue},
	"routing.http.response.access_control_max_age.header_value":           {"", headerValue},
	"routing.http.response.content_security_policy.header_value":          {"", headerValue},
	"routing.http.response.x_content_type_options.header_value":           {"", headerValue},
	"routing.http.response.x_frame_options.header_value":                  {"", headerValue},
}

// headerValue admits visible ASCII and spaces.
func headerValue(key, value string) error {
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return wrong(key, value, "of visible ASCII characters")
		}
	}
	return anything(key, value)
}

// defaults are the attributes of a new resource.
func defaults(of map[string]attribute) map[string]string {
	m := make(map[string]string, len(of))
	for k, a := range of {
		m[k] = a.def
	}
	return m
}

// set changes the attributes in m, which belongs to the caller; kind names the resource in refusals.
func set[A any](m map[string]string, of map[string]attribute, kind string, changes []A, pair func(A) (key, value *string)) error {
	for _, c := range changes {
		k, v := pair(c)
		a, ok := of[text(k)]
		if !ok {
			return model.Errorf("InvalidConfigurationRequest", "%s attribute key '%.100s' is not recognized", kind, text(k))
		}
		if err := a.check(*k, text(v)); err != nil {
			return err
		}
		m[*k] = text(v)
	}
	return nil
}

// whole copies attributes. A resource that was stored before an attribute was known has its default.
func whole(m map[string]string, of map[string]attribute) map[string]string {
	all := defaults(of)
	maps.Copy(all, m)
	return all
}

// list shows attributes in the order of their keys.
func list[A any](m map[string]string, of map[string]attribute, show func(key, value *string) A) []A {
	all := whole(m, of)
	out := []A{}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, show(&k, new(all[k])))
	}
	return out
}
