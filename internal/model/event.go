package model

import (
	"time"

	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	schtypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
)

// EventRule is a rule of EventBridge, on the default bus. Written by the API.
type EventRule struct {
	Name        string
	ARN         string
	Description *string
	Pattern     string `json:",omitempty"`
	Schedule    string `json:",omitempty"`
	State       ebtypes.RuleState
	RoleARN     *string
	Targets     []ebtypes.Target `json:",omitempty"`
	Tags        []ebtypes.Tag    `json:",omitempty"`
	ChangedAt   time.Time        // when the schedule or the pattern was put, or the rule enabled: what was before does not count
}

// Key is the name.
func (r *EventRule) Key() string { return r.Name }

// Schedule is a schedule of EventBridge Scheduler. Written by the API, and deleted by serve/events after its last run when that is asked.
type Schedule struct {
	Group, Name string
	ARN         string
	Description *string
	Expression  string
	Timezone    string
	State       schtypes.ScheduleState
	Start, End  time.Time `json:",omitzero"`
	Window      schtypes.FlexibleTimeWindow
	After       schtypes.ActionAfterCompletion
	KMSKey      *string
	Target      schtypes.Target
	Token       string `json:",omitempty"` // of the request that made it
	CreatedAt   time.Time
	ChangedAt   time.Time
}

// Key is <group>/<name>.
func (s *Schedule) Key() string { return s.Group + "/" + s.Name }

// ScheduleGroup is a group of schedules. Written by the API.
type ScheduleGroup struct {
	Name      string
	ARN       string
	Tags      []schtypes.Tag `json:",omitempty"`
	CreatedAt time.Time
	ChangedAt time.Time
}

// Key is the name.
func (g *ScheduleGroup) Key() string { return g.Name }

// Tick is how far a rule or a schedule has come: its runs up to Last are in the outbox, or done. Written by serve/events, in the transaction
// that puts a run there.
type Tick struct {
	Of   string // rule/<name> or schedule/<group>/<name>
	Last time.Time
}

// Key is Of.
func (t *Tick) Key() string { return t.Of }

// Told is what was told of a task: the changes up to Version. Written by serve/events.
type Told struct {
	TaskID  string
	Version int64
}

// Key is the task's id.
func (t *Told) Key() string { return t.TaskID }
