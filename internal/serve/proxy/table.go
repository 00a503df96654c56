// Package proxy is the load balancers' data plane: a routing table in, traffic out. It knows nothing of the store; proxy/feed makes
// the table and takes what the proxy sees of targets.
package proxy

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Table is everything that the proxy serves. It is a value: Apply replaces the last one.
type Table struct {
	Balancers []Balancer
	Groups    map[string]Group
	Names     []Name // which the proxy carries, and serve/dns answers
}

// Whole is the table as the change from anything to it.
func (t Table) Whole() Delta {
	return Delta{All: true, Balancers: t.Balancers, Groups: slices.Collect(maps.Values(t.Groups)), Names: t.Names}
}

// Delta is a change of a table: balancers, groups and names that came or changed, each as a whole, and the keys of those that are gone.
type Delta struct {
	All                       bool // what is not in it is gone
	Balancers                 []Balancer
	Groups                    []Group
	GoneBalancers, GoneGroups []string
	Names                     []Name   `json:",omitempty"`
	GoneNames                 []string `json:",omitempty"`
}

// Empty tells whether d changes nothing.
func (d Delta) Empty() bool {
	return !d.All && len(d.Balancers)+len(d.Groups)+len(d.GoneBalancers)+len(d.GoneGroups)+len(d.Names)+len(d.GoneNames) == 0
}

// Balancer is a load balancer.
type Balancer struct {
	ARN         string
	DNSName     string
	Created     time.Time     // the oldest one takes the requests at a port whose Host names none of those that share it
	IdleTimeout time.Duration // how long a target may take to begin its answer, and how long a connection to it may stay silent
	// ClientKeepAlive is how old a client's connection may grow before an answer asks it to come anew; 0 means any age.
	ClientKeepAlive time.Duration
	ForwardedFor    ForwardedFor
	// DropInvalidHeaders removes headers from requests whose names hold anything but letters, digits and hyphens.
	DropInvalidHeaders bool
	HTTP1Only          bool       // requests over HTTP/2 are refused
	Listeners          []Listener // in the order of their ports
}

// ForwardedFor is what becomes of X-Forwarded-For: by default the client's address is appended.
type ForwardedFor struct {
	Preserve, Remove bool
	ClientPort       bool // append <address>:<port>
}

// Listener is a port of a load balancer.
type Listener struct {
	ARN   string
	Port  int
	Rules []Rule // in the order in which they are tried; the last one has no conditions
	// HideServer removes targets' Server headers; Headers are set on every answer.
	HideServer bool
	Headers    map[string]string
}

// Rule sends the requests that meet all conditions somewhere.
type Rule struct {
	ARN        string
	Conditions []Condition
	Action     Action
}

// Condition is met when any of its values fits. Values of paths, hosts, headers and queries may contain * and ?.
type Condition struct {
	Field   string   // path-pattern, host-header, http-header, http-request-method, query-string or source-ip
	Header  string   // http-header only
	Values  []string // not for query-string and source-ip
	Query   []KeyValue
	Sources []netip.Prefix
}

// KeyValue is a query parameter; an empty key fits any.
type KeyValue struct{ Key, Value string }

// Action is what happens to a request: exactly one field is set.
type Action struct {
	Forward  []Weighted
	Sticky   time.Duration // Forward only: how long a client stays with the group it was given; 0: not at all
	Fixed    *FixedResponse
	Redirect *Redirect
}

// Weighted is a target group and its share.
type Weighted struct {
	Group  string // ARN
	Weight int
}

// FixedResponse answers by itself.
type FixedResponse struct {
	Status            int
	ContentType, Body string
}

// Redirect sends the client elsewhere. The parts may contain #{protocol}, #{host}, #{port}, #{path} and #{query}.
type Redirect struct {
	Status                            int
	Protocol, Host, Port, Path, Query string
}

// Group is a target group.
type Group struct {
	ARN              string
	LeastOutstanding bool // else round robin
	// Stickiness is how long a client stays with the target it was given (cookie AWSALB); 0: not at all.
	Stickiness time.Duration
	// MinHealthy and MinHealthyPercent are how many targets must be healthy; when fewer are, all get requests (the ALB fails open).
	MinHealthy, MinHealthyPercent int
	DeregistrationDelay           time.Duration
	Check                         HealthCheck
	Targets                       []Target
}

// HealthCheck is how a group's targets are asked whether they are well.
type HealthCheck struct {
	Disabled           bool
	Path               string
	Port               int // 0: the port that traffic goes to
	Interval           time.Duration
	Timeout            time.Duration
	HealthyThreshold   int
	UnhealthyThreshold int
	Codes              string // "200", "200-299", "200,301"
}

// Target is one address of a group.
type Target struct {
	ID            string // what clients know it by
	Port          int32
	Address       string    // IPv4
	DrainingSince time.Time // not zero: takes no new requests
}
