package model

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// DefaultCluster is the cluster that an omitted cluster parameter means; Berth makes it on first start.
const DefaultCluster = "default"

// Cluster is an ECS cluster. Every field is written by the API.
type Cluster struct {
	Name                            string
	ARN                             string
	Status                          string // ACTIVE or INACTIVE
	Settings                        []types.ClusterSetting
	Configuration                   *types.ClusterConfiguration
	CapacityProviders               []string
	DefaultCapacityProviderStrategy []types.CapacityProviderStrategyItem
	ServiceConnectDefaults          *types.ClusterServiceConnectDefaults
	Tags                            []types.Tag
	CreatedAt                       time.Time
}

// Key is the cluster's name.
func (c *Cluster) Key() string { return c.Name }

// Node is a machine that runs tasks. The nodelink's server half writes every field but Draining and Custom: a node says
// what it is when its session opens. Heartbeats never enter the store; Connected changes only when a session opens or is lost.
type Node struct {
	ID             string // 32 hexadecimal digits, made by the node on its first start
	Hostname       string
	Address        string            // an IPv4 address at which other machines reach this one's host ports
	CPU            int64             // CPU units: 1024 a core
	Memory         int64             // MiB that tasks may reserve
	ReservedPorts  []int32           // TCP host ports that tasks may not take
	Arch           string            // as in GOARCH
	Attributes     map[string]string // what the node says of itself, such as ecs.os-type, ecs.availability-zone
	Version        string            // of Berth
	RuntimeVersion string            // of containerd
	Connected      bool
	ConnectedAt    time.Time
	LostAt         time.Time // when the session was lost; zero while Connected
	Epoch          int64     // rises with each session; a stale session's observations are refused
}

// Key is the node's id.
func (n *Node) Key() string { return n.ID }

// Instance is a container instance: a node's membership in a cluster. One node is a container instance of each active
// cluster (control keeps that so), and its tasks in all clusters share its CPU, memory and ports.
type Instance struct {
	ID           string // 32 hexadecimal digits
	ARN          string
	Cluster      string
	NodeID       string
	EC2ID        string // a made-up EC2 instance id ("i-" and 17 hexadecimal digits); target groups of type instance use it
	RegisteredAt time.Time
	// Status is ACTIVE or DRAINING, set by UpdateContainerInstancesState; INACTIVE once deregistered. Written by the API.
	Status string
	// Attributes that PutAttributes added; the node's own are in Node.Attributes. Written by the API.
	Attributes []types.Attribute
	Tags       []types.Tag
	Version    int64
}

// Key is <cluster>/<id>.
func (i *Instance) Key() string { return i.Cluster + "/" + i.ID }

// AccountSetting is a value that PutAccountSetting stored. Written by the API.
type AccountSetting struct {
	Principal string // an ARN, or "" for the account's default
	Name      string
	Value     string
}

// Key is <principal>/<name>.
func (a *AccountSetting) Key() string { return a.Principal + "/" + a.Name }

// Idempotency remembers what a client token made, so that a repeated request finds it. Written by the API.
type Idempotency struct {
	Operation string
	Cluster   string
	Token     string
	Request   string   // SHA-256 of the request, in hexadecimal
	Resources []string // ids of what it made
	ExpiresAt time.Time
}

// Key is <operation>/<cluster>/<token>.
func (i *Idempotency) Key() string { return i.Operation + "/" + i.Cluster + "/" + i.Token }
