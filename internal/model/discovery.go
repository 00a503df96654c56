package model

import "time"

// DiscoveryNamespace is a namespace of Cloud Map. Written by the API.
type DiscoveryNamespace struct {
	ID           string // ns-…
	Name         string
	Type         string // HTTP, DNS_PRIVATE or DNS_PUBLIC
	Description  string
	VPC          string // of a private DNS namespace
	HostedZoneID string // "" for HTTP
	SOATTL       int64  // seconds: for how long that a name does not exist may be remembered
	RequestID    string // the client's CreatorRequestId
	CreatedAt    time.Time
	Tags         map[string]string
}

// Key is the id.
func (n *DiscoveryNamespace) Key() string { return n.ID }

// The types of namespaces.
const (
	NamespaceHTTP    = "HTTP"
	NamespacePrivate = "DNS_PRIVATE"
	NamespacePublic  = "DNS_PUBLIC"
)

// DiscoveryService is a service of Cloud Map: a name under which instances are found. Written by the API.
type DiscoveryService struct {
	ID          string // srv-…
	Namespace   string // its id
	Name        string
	Description string
	Records     []DiscoveryRecord // none: it is found by DiscoverInstances only
	Weighted    bool              // an answer of DNS names one instance, and not up to eight
	OnlyHTTP    bool              // Type HTTP was asked for
	Custom      bool              // instances have a health that somebody says (HealthCheckCustomConfig)
	RequestID   string
	CreatedAt   time.Time
	Attributes  map[string]string
	Tags        map[string]string
}

// Key is the id.
func (s *DiscoveryService) Key() string { return s.ID }

// DiscoveryRecord is a kind of DNS record that a service's instances have.
type DiscoveryRecord struct {
	Type string // A, AAAA, SRV or CNAME
	TTL  int64  // seconds
}

// DiscoveryInstance is an instance of a service of Cloud Map. Written by the API, or by control for a task.
type DiscoveryInstance struct {
	Service    string // its id
	ID         string
	Attributes map[string]string
	Unhealthy  bool   // as was said by whoever says it
	Owner      string // the ECS service (<cluster>/<service>) whose task it is; "" for those of the API
	RequestID  string
	At         time.Time
}

// Key is <service>/<instance>.
func (i *DiscoveryInstance) Key() string { return i.Service + "/" + i.ID }

// DiscoveryRevision counts the changes of a service's instances. Written with each of them.
type DiscoveryRevision struct {
	Service string
	N       int64
}

// Key is the service's id.
func (r *DiscoveryRevision) Key() string { return r.Service }

// DiscoveryOperation is what a client asked for and may ask about afterwards; it is over when it is stored. Written by the API.
type DiscoveryOperation struct {
	ID      string
	Type    string // such as CREATE_NAMESPACE
	Targets map[string]string
	At      time.Time
}

// Key is the id.
func (o *DiscoveryOperation) Key() string { return o.ID }

// The attributes of instances that mean something (Cloud Map's RegisterInstance).
const (
	AttributeIPv4   = "AWS_INSTANCE_IPV4"
	AttributeIPv6   = "AWS_INSTANCE_IPV6"
	AttributePort   = "AWS_INSTANCE_PORT"
	AttributeCNAME  = "AWS_INSTANCE_CNAME"
	AttributeHealth = "AWS_INIT_HEALTH_STATUS"
	AttributeAlias  = "AWS_ALIAS_DNS_NAME"
	AttributeEC2    = "AWS_EC2_INSTANCE_ID"
)
