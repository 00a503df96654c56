// Package targets decides which targets the target groups of services hold: a task is registered when it runs and is healthy,
// and deregistered before it is stopped. It is pure.
package targets

import (
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Input is everything that Plan looks at: one service, or tasks of none.
type Input struct {
	// Service is nil when the tasks belong to no service, or to one that is gone: their targets are swept, and a task that is to
	// stop is released at once.
	Service   *model.Service
	Revisions map[string]*model.ServiceRevision // by "ecs-svc/<digits>" of the deployment
	Tasks     []Task                            // those that have not ended
	Targets   []*model.Target                   // those registered for the service or the tasks
	Health    map[string]*model.TargetHealth    // by Target key
	Groups    map[string]*model.TargetGroup     // by ARN
	Nodes     map[string]*model.Node
	// Held tells whether another service's target has the key: its address is waited for. Nil: none has.
	Held func(key string) bool
	Now  time.Time
	Pace model.Pace
	// Limit bounds how many targets and tasks the actions change; what they leave out the next Plan does. 0: no bound.
	Limit int
}

// Task is a task and what decides whether requests may reach it.
type Task struct {
	*model.Task
	ContainerChecks bool // its containers' own health checks must pass first
	Lost            bool // its machine is: its targets are gone until it is back
	Found           bool // it is still found by its name: it is not to be stopped yet
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

// Event tells the user of the service, such as "(service web) registered 1 targets in (target-group arn:…)".
type Event struct {
	Text string
}

func (Register) action() {}
func (Drain) action()    {}
func (Remove) action()   {}
func (Release) action()  {}
func (Event) action()    {}
