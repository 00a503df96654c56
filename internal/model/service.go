package model

import (
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Service is an ECS service of the REPLICA strategy.
type Service struct {
	// ---- What was asked. Written by the API; DesiredCount by serve/scaling too. ----
	Cluster                       string
	Name                          string
	ARN                           string
	DesiredCount                  int32
	SchedulingStrategy            types.SchedulingStrategy
	DeploymentController          *types.DeploymentController
	DeploymentConfiguration       types.DeploymentConfiguration
	HealthCheckGracePeriodSeconds int32
	Constraints                   []types.PlacementConstraint
	Strategy                      []types.PlacementStrategy
	PropagateTags                 types.PropagateTags
	EnableManagedTags             bool
	EnableExecuteCommand          bool
	AvailabilityZoneRebalancing   types.AvailabilityZoneRebalancing
	RoleARN                       string
	CreatedBy                     string
	CreatedAt                     time.Time
	Tags                          []types.Tag
	// RevisionID is the digits of the revision that the service should run (the PRIMARY deployment's target).
	RevisionID string

	// Status is ACTIVE, DRAINING (deleted, tasks still ending) or INACTIVE. The API writes DRAINING, control INACTIVE.
	Status string

	// ---- Written by control. ----
	// Events, newest first, are those that an older Berth stored here; control moves them into the table of ServiceEvents.
	Events []types.ServiceEvent `json:",omitempty"`
	// Steady tells that "has reached a steady state." was said and nothing has changed since.
	Steady bool
	// Throttle spaces out the starts of a service whose tasks keep failing to start.
	Throttle Throttle
}

// Key is <cluster>/<name>.
func (s *Service) Key() string { return s.Cluster + "/" + s.Name }

// ServiceEvent is one event of a service. Written by control, which keeps the newest KeepEvents of each service.
type ServiceEvent struct {
	Cluster string
	Service string
	Seq     int64 // rises by one with each event of the service
	Event   types.ServiceEvent
}

// KeepEvents is how many events of a service are kept.
const KeepEvents = 100

// Key is <cluster>/<service>/<digits>, so that the newest event of a service comes first.
func (e *ServiceEvent) Key() string { return ServiceEventKey(e.Cluster+"/"+e.Service, e.Seq) }

// ServiceEventKey is the key of a service's event; service is <cluster>/<name>.
func ServiceEventKey(service string, seq int64) string {
	return fmt.Sprintf("%s/%019d", service, math.MaxInt64-seq)
}

// Throttle is the restart throttle of a service (ECS developer guide, "Service throttle logic").
type Throttle struct {
	Failures int       // consecutive tasks that never reached RUNNING
	Until    time.Time // no start before this
	// FailedAt is when the last task that slowed the service down was counted; a task that reached RUNNING later, or a
	// deployment made later, ends the throttle.
	FailedAt time.Time
}

// ServiceRevision is what a deployment deploys; it never changes. Written by the API.
type ServiceRevision struct {
	ID                       string // digits, the same as in "ecs-svc/<digits>" of the deployment that introduced it
	ARN                      string
	Cluster                  string
	Service                  string
	TaskDefinition           string // ARN
	LaunchType               types.LaunchType
	CapacityProviderStrategy []types.CapacityProviderStrategyItem
	PlatformVersion          string
	NetworkConfiguration     *types.NetworkConfiguration
	LoadBalancers            []types.LoadBalancer
	ServiceRegistries        []types.ServiceRegistry
	VolumeConfigurations     []types.ServiceVolumeConfiguration
	ServiceConnect           *types.ServiceConnectConfiguration
	Monitoring               *types.MonitoringConfiguration
	CreatedAt                time.Time
}

// Key is <cluster>/<service>/<id>.
func (r *ServiceRevision) Key() string { return r.Cluster + "/" + r.Service + "/" + r.ID }

// The statuses of a Deployment as DescribeServices shows it.
const (
	DeploymentPrimary  = "PRIMARY"
	DeploymentActive   = "ACTIVE"
	DeploymentInactive = "INACTIVE" // replaced and drained: kept as history, no longer shown by DescribeServices
)

// Deployment is one attempt to bring a service to a revision. It is both an element of DescribeServices' deployments[] and,
// when it is not a rollback's second half, a service deployment (DescribeServiceDeployments).
// The API makes it (control makes a rollback's); from then on control is its only writer, but for StopRequested.
type Deployment struct {
	ID                  string // "ecs-svc/<19 digits>"
	ServiceDeploymentID string // 21 characters; "" for the deployment that a rollback makes
	Cluster             string
	Service             string
	RevisionID          string   // target: digits of a ServiceRevision
	SourceRevisionIDs   []string // what ran before
	Status              string   // PRIMARY, ACTIVE or INACTIVE
	RolloutState        types.DeploymentRolloutState
	RolloutStateReason  string
	// State is the service deployment's status.
	State          types.ServiceDeploymentStatus
	StateReason    string
	Stage          types.ServiceDeploymentLifecycleStage
	RollbackOf     string // ID of the failed deployment that this one rolls back
	RolledBackBy   string // ID of the deployment that rolls this one back
	FailedTasks    int32  // every failure, as clients see it
	BreakerCount   int32  // consecutive failures that the circuit breaker counts; reset by a healthy task
	BreakerTripped bool
	StopRequested  types.StopServiceDeploymentStopType // "" or what StopServiceDeployment asked. Written by the API.
	CreatedAt      time.Time
	StartedAt      time.Time
	UpdatedAt      time.Time
	FinishedAt     time.Time
	StoppedAt      time.Time
}

// Key is <cluster>/<service>/<digits>.
func (d *Deployment) Key() string { return d.Cluster + "/" + d.Service + "/" + d.Digits() }

// Digits is the id without "ecs-svc/".
func (d *Deployment) Digits() string { return ARNTail(d.ID) }

// Live tells whether DescribeServices shows the deployment.
func (d *Deployment) Live() bool { return d.Status != DeploymentInactive }

// Pace says whether waits that AWS makes only because its parts are far apart are kept.
type Pace string

// The two paces (--pace).
const (
	PaceFast Pace = "fast"
	PaceAWS  Pace = "aws"
)

// SettleTime is how long a task without any health check must have been RUNNING to count as healthy: 40 s on AWS (SDK's
// DeploymentConfiguration.MinimumHealthyPercent), 2 s at the fast pace.
func (p Pace) SettleTime() time.Duration {
	if p == PaceAWS {
		return 40 * time.Second
	}
	return 2 * time.Second
}
