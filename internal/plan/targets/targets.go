// Package targets decides which targets the target groups of services hold: a task is registered when it runs and is healthy,
// and deregistered before it is stopped. It is pure.
package targets

import (
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Input is everything that Plan looks at.
type Input struct {
	Services []Service                      // every service that is not INACTIVE
	Targets  []*model.Target                // every target that a service registered (Task != "")
	Health   map[string]*model.TargetHealth // by Target key
	Groups   map[string]*model.TargetGroup  // by ARN
	Nodes    map[string]*model.Node
	// Others are the tasks of no service that have not ended: in no target group, so that they are released as soon as they
	// are to stop.
	Others []*model.Task
	Now    time.Time
	Pace   model.Pace
}

// Service is a service with its tasks that have not ended.
type Service struct {
	Service   *model.Service
	Revisions map[string]*model.ServiceRevision // by "ecs-svc/<digits>" of the deployment
	Tasks     []Task
}

// Task is a task and whether its containers' own health checks must pass first.
type Task struct {
	*model.Task
	ContainerChecks bool
}

// Action is one thing to do, as data, applied in order.
type Action interface{ action() }

// Register puts a target into its group.
type Register struct {
	Target *model.Target
	Reason string
}

// Drain begins a target's deregistration: its DrainingSince becomes Input.Now. A Drained in its health must be younger than that.
type Drain struct {
	Key    string
	Reason string
}

// Remove takes a drained target (or one whose task has ended) out of its group. Its health goes with it.
type Remove struct {
	Key    string
	Reason string
}

// Release lets the agent stop a task (Task.Released): none of its targets can take a request any more.
type Release struct {
	TaskID string
	Reason string
}

// Event tells the user of a service, such as "(service web) registered 1 targets in (target-group arn:…)".
type Event struct {
	Service string // <cluster>/<name>
	Text    string
}

func (Register) action() {}
func (Drain) action()    {}
func (Remove) action()   {}
func (Release) action()  {}
func (Event) action()    {}
