package model

import (
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
)

// ScalableTarget is a service whose desired count Application Auto Scaling changes.
type ScalableTarget struct {
	// ---- What was asked. Written by the API (api/autoscaling); Min, Max and Bounds by serve/scaling too, for scheduled actions. ----
	ResourceID string // service/<cluster>/<service>
	ARN        string
	Min, Max   int32
	Bounds     int64 // rises when Min or Max are set
	RoleARN    string
	Suspended  types.SuspendedState
	Tags       map[string]string `json:",omitempty"`
	CreatedAt  time.Time

	// ---- Written by serve/scaling. ----
	Bounded         int64 // the Bounds that the desired count was last moved within
	LastOut, LastIn Scaled
	Seq             int64 // of the newest ScalingActivity
}

// Scaled is what was last done in a direction.
type Scaled struct {
	From, To    int32
	Began, Done time.Time // Done is zero while it is under way
	Cooldown    time.Duration
	Activity    int64 // its Seq
}

// Key is the resource's id.
func (t *ScalableTarget) Key() string { return t.ResourceID }

// ScalingPolicy is a policy of a scalable target. Written by the API, with the alarms of target tracking.
type ScalingPolicy struct {
	ResourceID string
	Name       string
	ARN        string
	Tracking   *types.TargetTrackingScalingPolicyConfiguration `json:",omitempty"`
	Step       *types.StepScalingPolicyConfiguration           `json:",omitempty"`
	Predictive *types.PredictiveScalingPolicyConfiguration     `json:",omitempty"` // kept, and never acted on
	High, Low  string                                          `json:",omitempty"` // names of target tracking's alarms
	CreatedAt  time.Time
}

// Key is <resource>/<name>: the name may have slashes, clusters and services have none.
func (p *ScalingPolicy) Key() string { return p.ResourceID + "/" + p.Name }

// ScalingAction is a scheduled action.
type ScalingAction struct {
	// ---- Written by the API. ----
	ResourceID string
	Name       string
	ARN        string
	Schedule   string
	Timezone   string `json:",omitempty"`
	Start, End time.Time
	Min, Max   *int32 `json:",omitempty"`
	CreatedAt  time.Time
	ChangedAt  time.Time
	// Fired is when it was last due, done or left out. Written by serve/scaling.
	Fired time.Time
}

// Key is <resource>/<name>; a name has no slash.
func (a *ScalingAction) Key() string { return a.ResourceID + "/" + a.Name }

// ScalingActivity is what scaling did, or why it did not. Written by serve/scaling, which keeps the newest KeepActivities of a target.
type ScalingActivity struct {
	ResourceID string
	Seq        int64
	ID         string
	Began      time.Time
	Ended      time.Time
	Status     types.ScalingActivityStatusCode
	Reasons    []types.NotScaledReason `json:",omitempty"`

	Description, Cause, Message string
}

// KeepActivities is how many activities of a target are kept, and KeepActivity for how long they are shown: six weeks.
const (
	KeepActivities = 200
	KeepActivity   = 6 * 7 * 24 * time.Hour
)

// Key is <resource>/<digits>, so that the newest activity of a target comes first.
func (a *ScalingActivity) Key() string { return ScalingActivityKey(a.ResourceID, a.Seq) }

// ScalingActivityKey is the key of a target's activity.
func ScalingActivityKey(resource string, seq int64) string {
	return fmt.Sprintf("%s/%019d", resource, math.MaxInt64-seq)
}
