// Package deploy decides what a service does next: which tasks to start and stop, when a deployment has completed, failed or
// is rolled back, and which events to tell. It is pure: values in, actions out, now and ids are arguments.
package deploy

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Input is everything that Plan looks at.
type Input struct {
	Service   *model.Service
	Revisions map[string]*model.ServiceRevision // by id; every revision that a deployment below names
	// Deployments are all the live ones and the newest history (at most 20), newest first. A rollback goes to the newest one
	// whose RolloutState is COMPLETED, so the last such one must be among them.
	Deployments []*model.Deployment
	Tasks       []Task // every task that has not ended, and every ended one not yet Accounted
	Now         time.Time
	Pace        model.Pace
	// NewID is the id ("ecs-svc/<digits>") that a rollback's deployment takes if Plan makes one. It must always be given, and
	// be new each time.
	NewID string
	// Where tells where a task of the service is. It is asked when there are too many tasks. Nil: unknown.
	Where func(t *model.Task) Place
	// Said tells whether the service's events say so already (see Told). Nil: they say nothing.
	Said func(text string) bool
	// Limit bounds how many ended tasks one Plan accounts for, how many healthy ones it notes, and how many it stops and starts
	// together, so that what it decides can be stored at once; the next Plan does what it leaves out. 0: no bound.
	Limit int
}

// Task is a task of the service with what decides its health.
type Task struct {
	*model.Task
	// ContainerChecks: an essential container of its definition has a health check, so that Observed.Health counts.
	ContainerChecks bool
	// Targets are the registrations of the task, one for each target group that it is in.
	Targets []TargetState
	// LoadBalancers is how many target groups the task's revision asks for.
	LoadBalancers int
	// Draining: the task's container instance is DRAINING, so that the task is to be replaced elsewhere.
	Draining bool
	// Lost: the task's machine is lost, and the service does not wait for it. The task counts for nothing, so that its replacement
	// starts at once; it is ended when enough others are healthy, and counts again should its machine come back before.
	Lost bool
}

// TargetState is one registration of a task and its health.
type TargetState struct {
	TargetGroupARN string
	ID             string
	Port           int32
	State          string // as in elasticloadbalancingv2 TargetHealthStateEnum: initial, healthy, unhealthy, draining, unused
	Description    string
	Reason         string
}

// Action is one thing to do, as data. Actions are applied in the order Plan returns them.
type Action interface{ action() }

// Start makes Count new tasks of Deployment.
type Start struct {
	Deployment string
	Count      int
	// Replaced is how many of them stand in for unhealthy tasks; StartedEvent tells it.
	Replaced int
	Reason   string
}

// Stop ends a task.
type Stop struct {
	TaskID string
	Code   types.TaskStopCode
	Text   string // becomes the task's stoppedReason
	// Pending: the task has not reached RUNNING, so that StoppedPendingEvent tells of it instead of StoppedEvent.
	Pending bool
	Reason  string
}

// End makes a task STOPPED whose machine is lost: no agent will tell of its end.
type End struct {
	TaskID string
	Reason string
}

// Put stores a deployment: changed, or new when a rollback begins. StopRequested is the API's and must not be overwritten.
type Put struct {
	Deployment *model.Deployment
	Reason     string
}

// PutService stores control's fields of the service (Status when it became INACTIVE, Steady, Throttle, RevisionID after a
// rollback); the others are as in the Input and must not be written back.
type PutService struct {
	Service *model.Service
	Reason  string
}

// Account marks ended tasks as counted.
type Account struct {
	TaskIDs []string
	Reason  string
}

// Healthy notes that tasks were seen healthy (Task.SeenHealthy), so that each resets its deployment's BreakerCount once.
type Healthy struct {
	TaskIDs []string
}

// Event tells the user. Text is whole: "(service web) has reached a steady state." Plan leaves out what Input.Said says was told.
// A Start's and a Stop's own events ("has started 2 tasks: (task a) (task b).") are told by whoever applies them, since only then
// the ids are known; StartedEvent and StoppedEvent make those texts.
type Event struct {
	Text string
}

func (Start) action()      {}
func (Stop) action()       {}
func (End) action()        {}
func (Put) action()        {}
func (PutService) action() {}
func (Account) action()    {}
func (Healthy) action()    {}
func (Event) action()      {}
