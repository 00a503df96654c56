package model

import (
	"strconv"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// LoadBalancer is an Application Load Balancer. Written by the API.
type LoadBalancer struct {
	ARN        string
	Name       string
	LB         elbtypes.LoadBalancer // as DescribeLoadBalancers returns it, but for State
	Attributes map[string]string
	Tags       []elbtypes.Tag
}

// Key is the ARN.
func (l *LoadBalancer) Key() string { return l.ARN }

// Listener is a port of a load balancer. Written by the API; State by the proxy.
type Listener struct {
	ARN             string
	LoadBalancerARN string
	Listener        elbtypes.Listener // with its default actions
	Attributes      map[string]string
	Tags            []elbtypes.Tag
	// Problem says why the port is not served ("port 80 is in use by another program"), "" when it is. Written by the proxy.
	Problem string
	// Problems are those of each machine that does not serve it, by id, where there are several; Problem is then all of them. Written by
	// the feed.
	Problems map[string]string `json:",omitempty"`
}

// Key is the ARN.
func (l *Listener) Key() string { return l.ARN }

// responseHeaders are the listener attributes that set a header on every answer (ELB API reference, ListenerAttribute).
var responseHeaders = map[string]string{
	"routing.http.response.strict_transport_security.header_value":        "Strict-Transport-Security",
	"routing.http.response.access_control_allow_origin.header_value":      "Access-Control-Allow-Origin",
	"routing.http.response.access_control_allow_methods.header_value":     "Access-Control-Allow-Methods",
	"routing.http.response.access_control_allow_headers.header_value":     "Access-Control-Allow-Headers",
	"routing.http.response.access_control_allow_credentials.header_value": "Access-Control-Allow-Credentials",
	"routing.http.response.access_control_expose_headers.header_value":    "Access-Control-Expose-Headers",
	"routing.http.response.access_control_max_age.header_value":           "Access-Control-Max-Age",
	"routing.http.response.content_security_policy.header_value":          "Content-Security-Policy",
	"routing.http.response.x_content_type_options.header_value":           "X-Content-Type-Options",
	"routing.http.response.x_frame_options.header_value":                  "X-Frame-Options",
}

// ResponseHeader is the header that a listener attribute sets on every answer, "" for an attribute that sets none.
func ResponseHeader(attribute string) string { return responseHeaders[attribute] }

// Rule is a listener's rule; the default rule is the listener's own. Written by the API.
type Rule struct {
	ARN         string
	ListenerARN string
	Priority    int
	Rule        elbtypes.Rule
	Tags        []elbtypes.Tag
}

// Key is the ARN.
func (r *Rule) Key() string { return r.ARN }

// TargetGroup is a set of targets with one health check. Written by the API.
type TargetGroup struct {
	ARN        string
	Name       string
	Group      elbtypes.TargetGroup
	Attributes map[string]string // such as deregistration_delay.timeout_seconds
	Tags       []elbtypes.Tag
	CreatedAt  time.Time
}

// Key is the ARN.
func (g *TargetGroup) Key() string { return g.ARN }

// Attr returns the attribute as an integer, or def when it is absent or no number.
func (g *TargetGroup) Attr(name string, def int) int {
	if n, err := strconv.Atoi(g.Attributes[name]); err == nil {
		return n
	}
	return def
}

// Target is a registered target. RegisterTargets makes one with Task == ""; control makes and ends those of services.
type Target struct {
	TargetGroupARN string
	// ID is what clients see: an IPv4 address (target type ip) or an EC2 instance id (instance).
	ID   string
	Port int32
	// Address is the IPv4 address at which the proxy reaches the target.
	Address string
	Task    string // id of the task behind it, "" when a client registered it
	Service string // <cluster>/<name>, "" when a client registered it
	AZ      string
	// DrainingSince is when deregistration began; zero while the target takes new requests.
	DrainingSince time.Time
	RegisteredAt  time.Time
}

// Key is <target group ARN>|<id>|<port>.
func (t *Target) Key() string { return TargetKey(t.TargetGroupARN, t.ID, t.Port) }

// TargetKey is the store's key of a target and of its health.
func TargetKey(group, id string, port int32) string {
	return group + "|" + id + "|" + strconv.Itoa(int(port))
}

// TargetHealth is what the load balancers see of a target: what the machines that serve them see of it, as one. The feed writes it.
type TargetHealth struct {
	TargetGroupARN string
	ID             string
	Port           int32
	State          elbtypes.TargetHealthStateEnum
	Reason         elbtypes.TargetHealthReasonEnum
	Description    string
	// Drained: the target was draining and no request is in flight any more, or the deregistration delay has passed.
	Drained bool
	Since   time.Time
}

// Key is the same as the Target's.
func (t *TargetHealth) Key() string { return TargetKey(t.TargetGroupARN, t.ID, t.Port) }

// TargetView is what one machine's load balancers see of a target; the feed makes the target's health of all of them, and writes both.
type TargetView struct {
	TargetHealth
	Viewer string // the id of the machine
}

// Key is <key of the target>|<viewer>.
func (v *TargetView) Key() string { return TargetViewKey(v.TargetHealth.Key(), v.Viewer) }

// TargetViewKey is the store's key of a view.
func TargetViewKey(target, viewer string) string { return target + "|" + viewer }
