package model

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
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

// Node is a machine that runs tasks: what it says of itself, and what the server knows of it. The nodelink's server half writes every
// field. Heartbeats never enter the store; Connected changes only when a session opens or is lost.
type Node struct {
	ID string // 32 hexadecimal digits, made by the node on its first start; its certificate proves it
	Declaration
	// KeyHash is the hexadecimal SHA-256 of the node's public key (SPKI): who has the key is the node. "" for the node of `berth up`,
	// whose session is inside the server's process. Authority is that of the authority which signed its certificate last. The registrar
	// writes both when the node joins and renews.
	KeyHash, Authority string
	RegisteredAt       time.Time // when the server first met it
	Connected          bool
	ConnectedAt        time.Time
	LostAt             time.Time // when the session was lost; zero while Connected
	Epoch              int64     // rises with each session; a stale session's observations are refused
	Life               Life      `json:",omitzero"`
	Server             string    // the id of the server that holds the session, or held the last one
}

// Declaration is what a node says of itself when its session opens. Nothing in it proves anything, and it is stored as it came.
type Declaration struct {
	Hostname       string
	Address        string            // an IPv4 address at which other machines reach this one's host ports
	CPU            int64             // CPU units: 1024 a core
	Memory         int64             // MiB that tasks may reserve
	GPUs           int               `json:",omitempty"`
	ReservedPorts  []int32           // TCP host ports that tasks may not take
	Arch           string            // as in GOARCH
	Attributes     map[string]string // such as ecs.os-type, ecs.availability-zone
	Version        string            // of Berth
	RuntimeVersion string            // of containerd
	// Clusters are those of which the node is a container instance; nil means every active cluster.
	Clusters []string
	// Boot is the kernel's id of the machine's run; "" where it has none. Two machines never have the same, though one was cloned.
	Boot string
	// MTU is that of the device that has Address; 0: 1500. OverlayKey is the public key, in base64, of its WireGuard; "" without one.
	MTU        int
	OverlayKey string
}

// Attributes of nodes that Berth reads: whether load balancers are to be served there ("true", "false"; else Berth decides), and "false" where
// other machines do not get through to it.
const (
	AttributeBalancer  = "berth.lb"
	AttributeReachable = "berth.reachable"
)

// Key is the node's id.
func (n *Node) Key() string { return n.ID }

// Member tells whether the node is a container instance of the cluster.
func (n *Node) Member(cluster string) bool {
	return n.Clusters == nil || slices.Contains(n.Clusters, cluster)
}

// EC2ID is the EC2 instance id that a node shows in every cluster: "i-" and 17 hexadecimal digits.
func EC2ID(node string) string {
	sum := sha256.Sum256([]byte(node))
	return "i-" + hex.EncodeToString(sum[:])[:17]
}

// Attribute is an attribute of the container instance that the node is, as clients see it: the node's own or that which PutAttributes
// added to the instance, which wins. i is nil where clients changed nothing; n may be nil too.
func (n *Node) Attribute(i *Instance, name string) (value string, ok bool) {
	if i != nil {
		for k := len(i.Attributes) - 1; k >= 0; k-- {
			if a := &i.Attributes[k]; a.Name != nil && *a.Name == name {
				if a.Value != nil {
					value = *a.Value
				}
				return value, true
			}
		}
	}
	if n == nil {
		return "", false
	}
	if v, ok := n.Attributes[name]; ok {
		return v, true
	}
	if name == "ecs.cpu-architecture" && n.Arch != "" {
		return architecture(n.Arch), true
	}
	return "", false
}

// architecture spells GOARCH as ECS does.
func architecture(goarch string) string {
	if goarch == "amd64" {
		return "x86_64"
	}
	return goarch
}

// Instance is what the node is in a cluster as long as no client has changed anything of it: see the type Instance.
func (n *Node) Instance(c *Cluster) *Instance {
	id := instanceID(n.ID, c.Name)
	i := &Instance{ID: id, ARN: c.instanceARN(id), Cluster: c.Name, NodeID: n.ID, EC2ID: EC2ID(n.ID), RegisteredAt: n.RegisteredAt,
		Status: "ACTIVE", Version: 1}
	if i.RegisteredAt.Before(c.CreatedAt) {
		i.RegisteredAt = c.CreatedAt
	}
	return i
}

// instanceID is a node's id seen through a mask of the cluster's name, so that InstanceNode finds the way back without a table.
func instanceID(node, cluster string) string {
	id, err := hex.DecodeString(node)
	if err != nil || len(id) != 16 { // no node that Berth made
		sum := sha256.Sum256([]byte(cluster + "/" + node))
		return hex.EncodeToString(sum[:16])
	}
	mask := sha256.Sum256([]byte("instance of " + cluster))
	for k := range id {
		id[k] ^= mask[k]
	}
	return hex.EncodeToString(id)
}

// InstanceNode is the id of the node whose Instance in the cluster would have that id; "" when there can be none.
func InstanceNode(id, cluster string) string {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return ""
	}
	return instanceID(id, cluster)
}

// instanceARN is an ARN next to the cluster's own.
func (c *Cluster) instanceARN(id string) string {
	prefix, ok := strings.CutSuffix(c.ARN, "cluster/"+c.Name)
	if !ok {
		return ""
	}
	return prefix + "container-instance/" + c.Name + "/" + id
}

// Instance is a container instance: a node's membership in a cluster. The node's tasks in all clusters share its CPU, memory and
// ports. It is stored only once a client has changed something of it (its state, attributes or tags) or when an older Berth stored
// it; else it is what Node.Instance says. Read instances with store.InstancesOf, InstanceByID and InstanceOn.
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

// Region is a region other than the home region in which something is stored. It is never deleted.
type Region struct{ Name string }

// Key is the region's name.
func (r *Region) Key() string { return r.Name }
