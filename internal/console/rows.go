package console

import (
	"github.com/berthdev/berth/internal/plan/why"
)

// The rows that browsers are sent. web/src/rows.ts is generated from them (go generate ./internal/console); times are Unix milliseconds,
// 0 for none. K is a row's key within its topic.

//go:generate go run ./rowsgen

// ClusterRow is a cluster.
type ClusterRow struct {
	K        string `json:"k"`
	ARN      string `json:"arn"`
	Status   string `json:"status"`
	Services int    `json:"services"`
	Running  int    `json:"running"`
	Pending  int    `json:"pending"`
	Nodes    int    `json:"nodes"`
}

// ServiceRow is a service in a list.
type ServiceRow struct {
	K        string        `json:"k"` // <cluster>/<name>
	Cluster  string        `json:"cluster"`
	Name     string        `json:"name"`
	ARN      string        `json:"arn"`
	Status   string        `json:"status"`
	Desired  int32         `json:"desired"`
	Running  int32         `json:"running"`
	Pending  int32         `json:"pending"`
	Family   string        `json:"family"`
	Rev      int           `json:"rev"`
	Image    string        `json:"image"`
	Rollout  string        `json:"rollout"`
	Steady   bool          `json:"steady"`
	URLs     []string      `json:"urls,omitempty"`
	LogNames []string      `json:"logs,omitempty"` // log groups
	Level    string        `json:"level"`
	Findings []why.Finding `json:"findings,omitempty"`
	CPU      int64         `json:"cpu"`
	Memory   int64         `json:"mem"`
	Created  int64         `json:"created"`
	Manager  string        `json:"manager,omitempty"` // terraform, when it made the service
}

// ServiceDoc is all of a service but what DescribeServices tells better.
type ServiceDoc struct {
	ServiceRow
	Deployments []DeploymentRow `json:"deployments"`
	Events      []EventRow      `json:"events"`
	Targets     []TargetRow     `json:"targets"`
	Groups      []string        `json:"groups,omitempty"` // target groups' ARNs
	TaskDef     string          `json:"taskdef"`          // ARN
	Exec        bool            `json:"exec"`
}

// DeploymentRow is one attempt to bring a service to a revision.
type DeploymentRow struct {
	ID        string        `json:"id"`
	ARN       string        `json:"arn,omitempty"` // of the service deployment
	Status    string        `json:"status"`
	Rollout   string        `json:"rollout"`
	State     string        `json:"state"`
	Reason    string        `json:"reason"`
	TaskDef   string        `json:"taskdef"` // family:revision
	Revision  string        `json:"revision"`
	Failed    int32         `json:"failed"`
	Breaker   int32         `json:"breaker"`
	Running   int32         `json:"running"`
	Pending   int32         `json:"pending"`
	Created   int64         `json:"created"`
	Started   int64         `json:"started"`
	Finished  int64         `json:"finished"`
	Rollback  bool          `json:"rollback,omitempty"` // it brings an earlier revision back
	Stopping  bool          `json:"stopping,omitempty"` // somebody asked to stop it
	Findings  []why.Finding `json:"findings,omitempty"`
	Threshold int32         `json:"threshold,omitempty"`
}

// TaskRow is a task in a list.
type TaskRow struct {
	K       string `json:"k"`
	Cluster string `json:"cluster"`
	Service string `json:"service,omitempty"`
	Family  string `json:"family"`
	Rev     int    `json:"rev"`
	Status  string `json:"status"`
	Desired string `json:"desired"`
	Health  string `json:"health,omitempty"`
	Node    string `json:"node,omitempty"`
	Host    string `json:"host,omitempty"`
	IP      string `json:"ip,omitempty"`
	Image   string `json:"image,omitempty"`
	CPU     int64  `json:"cpu"`
	Memory  int64  `json:"mem"`
	Created int64  `json:"created"`
	Started int64  `json:"started,omitempty"`
	Stopped int64  `json:"stopped,omitempty"`
	Exit    *int32 `json:"exit,omitempty"`
	Level   string `json:"level"`
	Why     string `json:"why,omitempty"`
}

// TaskDoc is all of a task.
type TaskDoc struct {
	TaskRow
	ARN           string         `json:"arn"`
	TaskDef       string         `json:"taskdef"`
	Deployment    string         `json:"deployment,omitempty"`
	StartedBy     string         `json:"startedBy,omitempty"`
	LaunchType    string         `json:"launchType,omitempty"`
	Mode          string         `json:"mode,omitempty"`
	Placed        int64          `json:"placed,omitempty"`
	PullStarted   int64          `json:"pullStarted,omitempty"`
	PullStopped   int64          `json:"pullStopped,omitempty"`
	StopAsked     int64          `json:"stopAsked,omitempty"`
	StopBy        string         `json:"stopBy,omitempty"`
	Released      bool           `json:"released,omitempty"`
	Stopping      int64          `json:"stopping,omitempty"`
	ExecStopped   int64          `json:"execStopped,omitempty"`
	Code          string         `json:"code,omitempty"`
	Reason        string         `json:"reason,omitempty"`
	Finding       why.Finding    `json:"finding"`
	Containers    []ContainerRow `json:"containers"`
	Exec          bool           `json:"exec,omitempty"`
	Registrations []TargetRow    `json:"targets,omitempty"`
}

// ContainerRow is a container of a task.
type ContainerRow struct {
	Name      string   `json:"name"`
	Image     string   `json:"image"`
	Digest    string   `json:"digest,omitempty"`
	Status    string   `json:"status"`
	Health    string   `json:"health,omitempty"`
	Exit      *int32   `json:"exit,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Started   int64    `json:"started,omitempty"`
	Finished  int64    `json:"finished,omitempty"`
	Ports     []string `json:"ports,omitempty"`
	Essential bool     `json:"essential"`
	Memory    int64    `json:"mem,omitempty"`
	Group     string   `json:"group,omitempty"`
	Stream    string   `json:"stream,omitempty"`
}

// NodeRow is a machine.
type NodeRow struct {
	K         string        `json:"k"`
	Host      string        `json:"host"`
	Address   string        `json:"address"`
	Status    string        `json:"status"` // ACTIVE, DRAINING, AWAY, IMPAIRED or LOST
	CPU       int64         `json:"cpu"`
	Memory    int64         `json:"mem"`
	UsedCPU   int64         `json:"usedCpu"`
	UsedMem   int64         `json:"usedMem"`
	Tasks     int           `json:"tasks"`
	Arch      string        `json:"arch"`
	Version   string        `json:"version"`
	Joined    int64         `json:"joined"`
	Members   []MemberRow   `json:"members,omitempty"`
	Findings  []why.Finding `json:"findings,omitempty"`
	Tiles     []TileRow     `json:"tiles,omitempty"`
	Clustered []string      `json:"clusters,omitempty"`
}

// MemberRow is a node as a container instance of a cluster.
type MemberRow struct {
	Cluster string `json:"cluster"`
	ARN     string `json:"arn"`
	Status  string `json:"status"`
}

// TileRow is a task on a node.
type TileRow struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	Name    string `json:"name"` // service or family
	CPU     int64  `json:"cpu"`
	Memory  int64  `json:"mem"`
	Status  string `json:"status"`
}

// BalancerRow is a load balancer with all that hangs on it.
type BalancerRow struct {
	K         string        `json:"k"`
	Name      string        `json:"name"`
	DNS       string        `json:"dns"`
	Scheme    string        `json:"scheme"`
	Listeners []ListenerRow `json:"listeners"`
	Groups    []GroupRow    `json:"groups"`
	Findings  []why.Finding `json:"findings,omitempty"`
	Created   int64         `json:"created"`
}

// ListenerRow is a port of a load balancer, its rules in the order in which they are tried.
type ListenerRow struct {
	ARN      string    `json:"arn"`
	Port     int32     `json:"port"`
	Protocol string    `json:"protocol"`
	Problem  string    `json:"problem,omitempty"`
	Rules    []RuleRow `json:"rules"`
}

// RuleRow is a rule; the default rule's priority is "default".
type RuleRow struct {
	ARN        string         `json:"arn"`
	Priority   string         `json:"priority"`
	Conditions []ConditionRow `json:"conditions,omitempty"`
	Action     string         `json:"action"` // forward, redirect or fixed-response
	Text       string         `json:"text,omitempty"`
	Forward    []ForwardRow   `json:"forward,omitempty"`
}

// ConditionRow is a condition: any of the values fits.
type ConditionRow struct {
	Field  string   `json:"field"`
	Name   string   `json:"name,omitempty"` // of a header
	Values []string `json:"values"`
}

// ForwardRow is a target group with its weight.
type ForwardRow struct {
	Group  string `json:"group"` // ARN
	Weight int32  `json:"weight"`
}

// GroupRow is a target group.
type GroupRow struct {
	ARN     string      `json:"arn"`
	Name    string      `json:"name"`
	Port    int32       `json:"port"`
	Check   string      `json:"check"`
	Targets []TargetRow `json:"targets"`
}

// TargetRow is a target and how it is.
type TargetRow struct {
	Group   string       `json:"group"` // name
	ID      string       `json:"id"`
	Port    int32        `json:"port"`
	Task    string       `json:"task,omitempty"`
	Service string       `json:"service,omitempty"`
	State   string       `json:"state"`
	Reason  string       `json:"reason,omitempty"`
	Text    string       `json:"text,omitempty"`
	Finding *why.Finding `json:"finding,omitempty"`
}

// RepoRow is a repository with its newest images.
type RepoRow struct {
	K      string     `json:"k"`
	URI    string     `json:"uri"`
	Count  int        `json:"count"`
	Size   int64      `json:"size"`
	Images []ImageRow `json:"images"`
	UsedBy []string   `json:"usedBy,omitempty"` // services
}

// ImageRow is an image.
type ImageRow struct {
	Digest string   `json:"digest"`
	Tags   []string `json:"tags,omitempty"`
	Size   int64    `json:"size"`
	Layers int      `json:"layers"`
	Pushed int64    `json:"pushed"`
	Pulled int64    `json:"pulled,omitempty"`
	Index  bool     `json:"index,omitempty"`
}

// EventRow is an event of a service.
type EventRow struct {
	K       string `json:"k"`
	At      int64  `json:"at"`
	Cluster string `json:"cluster"`
	Service string `json:"service"`
	Text    string `json:"text"`
	Level   string `json:"level"`
	Why     string `json:"why,omitempty"`
}

// FamilyRow is a family of task definitions.
type FamilyRow struct {
	K      string   `json:"k"`
	Latest int      `json:"latest"` // revision, 0 when none is active
	Active []int    `json:"active"` // the newest first, 50 at most
	Images []string `json:"images"`
	UsedBy []string `json:"usedBy,omitempty"` // <cluster>/<service> r<revision>
	CPU    string   `json:"cpu,omitempty"`
	Memory string   `json:"mem,omitempty"`
}

// TroubleRow is something that needs somebody and belongs to no service.
type TroubleRow struct {
	K       string      `json:"k"`
	Where   string      `json:"where"`
	Href    string      `json:"href"`
	Finding why.Finding `json:"finding"`
}

// SessionRow is somebody logged in.
type SessionRow struct {
	K       string `json:"k"`
	ARN     string `json:"arn"`
	Agent   string `json:"agent"`
	Address string `json:"address"`
	Created int64  `json:"created"`
	Used    int64  `json:"used"`
	Mine    bool   `json:"mine"`
}
