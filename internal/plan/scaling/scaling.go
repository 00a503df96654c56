// Package scaling decides how many tasks a scalable target should have, pure: its bounds, policies, alarms and the time in, one decision
// out. It is Application Auto Scaling: target tracking, step policies, scheduled bounds, cooldowns and vetoes.
package scaling

import (
	"fmt"
	"math"
	"time"
)

// Target is what was asked of a scalable target.
type Target struct {
	Min, Max int
	// SuspendIn and SuspendOut are of policies, SuspendScheduled of scheduled actions.
	SuspendIn, SuspendOut, SuspendScheduled bool
}

// The states of an alarm.
const (
	StateOK      = "OK"
	StateAlarm   = "ALARM"
	StateMissing = "INSUFFICIENT_DATA"
)

// Point is a value of an alarm's metric.
type Point struct {
	At    time.Time // the period's beginning
	Value float64
}

// Alarm is an alarm as a policy sees it.
type Alarm struct {
	Name      string
	State     string
	Threshold float64
	Period    time.Duration
	Points    []Point // the newest, as many as the alarm looks at, oldest first; those of target tracking in units of its target
}

// Step is one step of a step policy; nil is infinity. The bounds are relative to the alarm's threshold.
type Step struct {
	Lower, Upper *float64
	Adjustment   int
}

// The adjustments of step policies.
const (
	ChangeInCapacity        = "ChangeInCapacity"
	PercentChangeInCapacity = "PercentChangeInCapacity"
	ExactCapacity           = "ExactCapacity"
)

// Policy is a scaling policy: of target tracking (Track) or of steps.
type Policy struct {
	Name      string
	Track     bool
	Value     float64 // what is to be held
	DisableIn bool
	// OutCooldown and InCooldown are the same for a step policy.
	OutCooldown, InCooldown time.Duration
	High, Low               *Alarm // of target tracking; Low is nil when scaling in is disabled

	Alarms     []*Alarm // of a step policy: those that have it as their action
	Adjustment string
	Steps      []Step
	Magnitude  int    // the least that a percentage changes; 0 is 1
	Aggregate  string // Average, Minimum or Maximum of the alarm's points
}

// Past is what was last done in a direction.
type Past struct {
	From, To int
	// Done is when it was fulfilled; zero while tasks still start or stop. Began is when it was decided; zero: never.
	Began, Done time.Time
	Cooldown    time.Duration // of the policy that did it, 0 of bounds
}

// settled is from when on the metric is that of the new capacity. What takes longer than its cooldown, for want of room, is not waited for.
func (p Past) settled() time.Time {
	if p.Done.IsZero() {
		return p.Began.Add(max(p.Cooldown, time.Minute))
	}
	return p.Done
}

// cooling tells whether a cooldown runs: it begins when what was done is fulfilled.
func (p Past) cooling(now time.Time, cooldown time.Duration) bool {
	return !p.Began.IsZero() && (now.Before(p.settled()) || now.Before(p.settled().Add(max(cooldown, p.Cooldown))))
}

// Due is a scheduled action whose time has come.
type Due struct {
	Name     string
	Min, Max *int
}

// World is all that counts.
type World struct {
	Now              time.Time
	Target           Target
	Desired, Running int
	Deploying        bool
	Policies         []Policy
	LastOut, LastIn  Past
	// Bounded tells that the bounds were set since the last decision, so that the desired count must be moved within them.
	Bounded bool
	Due     []Due
}

// Kind is what a decision does.
type Kind int

// The kinds of decisions.
const (
	Nothing Kind = iota
	SetBounds
	SetDesired
	NotScaled
)

// The reasons for which an alarm does not scale.
const (
	AtMax       = "AlreadyAtMaxCapacity"
	AtMin       = "AlreadyAtMinCapacity"
	AtDesired   = "AlreadyAtDesiredCapacity"
	Unscalable  = "TargetServicePutResourceAsUnscalable"
	Flapping    = "AutoScalingAnticipatedFlapping"
	Description = "Attempting to scale due to alarm triggered"
)

// Decision is what to do, with AWS's words for it.
type Decision struct {
	Kind               Kind
	Description, Cause string
	Min, Max           int           // of SetBounds
	Desired            int           // of SetDesired
	Cooldown           time.Duration // of the policy that decided
	Reason             string        // of NotScaled
}

// Plan decides. It does one thing at a time: scheduled bounds, the desired count within new bounds, policies.
func Plan(w World) Decision {
	if d, ok := w.scheduled(); ok {
		return d
	}
	if w.Bounded {
		if d, ok := w.bounds(); ok {
			return d
		}
	}
	return w.policies()
}

// scheduled applies the first action that is due.
func (w World) scheduled() (d Decision, ok bool) {
	if w.Target.SuspendScheduled || len(w.Due) == 0 {
		return d, false
	}
	a := w.Due[0]
	d = Decision{Kind: SetBounds, Min: w.Target.Min, Max: w.Target.Max, Cause: fmt.Sprintf("scheduled action name %s was triggered", a.Name)}
	switch {
	case a.Min != nil && a.Max != nil:
		d.Min, d.Max = *a.Min, *a.Max
		d.Description = fmt.Sprintf("Setting min capacity to %d and max capacity to %d", d.Min, d.Max)
	case a.Min != nil:
		d.Min, d.Max = *a.Min, max(*a.Min, d.Max)
		d.Description = fmt.Sprintf("Setting min capacity to %d", d.Min)
	case a.Max != nil:
		d.Max, d.Min = *a.Max, min(*a.Max, d.Min)
		d.Description = fmt.Sprintf("Setting max capacity to %d", d.Max)
	default:
		return d, false
	}
	return d, true
}

// bounds moves the desired count within bounds that were set. What would scale in waits for the end of a deployment.
func (w World) bounds() (d Decision, ok bool) {
	switch {
	case w.Desired < w.Target.Min:
		return set(w.Target.Min, fmt.Sprintf("minimum capacity was set to %d", w.Target.Min), 0), true
	case w.Desired > w.Target.Max && !w.Deploying:
		return set(w.Target.Max, fmt.Sprintf("maximum capacity was set to %d", w.Target.Max), 0), true
	}
	return d, false
}

func set(n int, cause string, cooldown time.Duration) Decision {
	return Decision{Kind: SetDesired, Desired: n, Description: fmt.Sprintf("Setting desired count to %d.", n), Cause: cause, Cooldown: cooldown}
}

// wish is what one policy wants.
type wish struct {
	n        int
	cause    string
	cooldown time.Duration
	track    bool
}

func cause(a *Alarm, p *Policy) string {
	return fmt.Sprintf("monitor alarm %s in state ALARM triggered policy %s", a.Name, p.Name)
}

// policies scales out by the largest wish; only when nobody wants out, in by the largest one.
func (w World) policies() Decision {
	var out, in *wish
	better := func(best **wish, n int, a *Alarm, p *Policy, cooldown time.Duration) {
		if *best == nil || n > (*best).n {
			*best = &wish{n, cause(a, p), cooldown, p.Track}
		}
	}
	veto, wantOut, tracked := false, false, (*wish)(nil)
	for i := range w.Policies {
		p := &w.Policies[i]
		if !p.Track {
			w.steps(p, func(n int, up bool, a *Alarm) {
				if up {
					wantOut = true
					better(&out, n, a, p, max(p.OutCooldown, a.Period))
				} else {
					better(&in, n, a, p, max(p.InCooldown, a.Period))
				}
			})
			continue
		}
		if p.High != nil && p.High.State == StateAlarm {
			wantOut = true
			if n, ok := w.track(p, p.High); ok {
				better(&out, n, p.High, p, p.OutCooldown)
			}
		}
		if p.DisableIn || p.Low == nil {
			continue
		}
		n, ok := w.track(p, p.Low)
		if p.Low.State != StateAlarm || !ok {
			veto = true
			continue
		}
		better(&tracked, n, p.Low, p, p.InCooldown)
	}
	if tracked != nil && !veto && (in == nil || tracked.n > in.n) {
		in = tracked
	}
	switch {
	case out != nil:
		return w.out(*out)
	case in != nil && !wantOut:
		return w.in(*in)
	}
	return Decision{}
}

// Capacity is what runs, and what a change that is made now is made from (Past.From). During a deployment the tasks of two run, of which no
// more count than are wanted.
func (w World) Capacity() int {
	if w.Deploying {
		return min(w.Running, w.Desired)
	}
	return w.Running
}

// base is the capacity that the points were measured at: that of before, while a change is under way or was done among them.
func (w World) base(points []Point) int {
	running := w.Capacity()
	last := w.LastOut
	if w.LastIn.Began.After(last.Began) {
		last = w.LastIn
	}
	if last.Began.IsZero() || len(points) == 0 {
		return running
	}
	if points[0].At.Before(last.settled()) {
		return last.From
	}
	return running
}

// track is the capacity at which the metric would be at its target; ok is false without data.
func (w World) track(p *Policy, a *Alarm) (n int, ok bool) {
	if len(a.Points) == 0 || p.Value <= 0 {
		return 0, false
	}
	v := aggregate(a.Points, "Average")
	base := w.base(a.Points)
	if base == 0 {
		if v > p.Value {
			return 1, true
		}
		return 0, true
	}
	return ceil(float64(base) * v / p.Value), true
}

// ceil rounds up what floating point has not made larger by itself.
func ceil(v float64) int {
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return int(math.Ceil(min(v, math.MaxInt32) * (1 - 1e-12)))
}

func aggregate(points []Point, how string) float64 {
	sum, low, high := 0.0, math.Inf(1), math.Inf(-1)
	for _, p := range points {
		sum, low, high = sum+p.Value, min(low, p.Value), max(high, p.Value)
	}
	switch how {
	case "Minimum":
		return low
	case "Maximum":
		return high
	}
	return sum / float64(len(points))
}

// steps yields what a step policy's alarms want.
func (w World) steps(p *Policy, yield func(n int, up bool, a *Alarm)) {
	for _, a := range p.Alarms {
		if a.State != StateAlarm || len(a.Points) == 0 {
			continue
		}
		s, ok := Fitting(p.Steps, aggregate(a.Points, p.Aggregate)-a.Threshold)
		if !ok {
			continue
		}
		base := w.base(a.Points)
		if w.LastOut.Began.After(w.LastIn.Began) && w.LastOut.cooling(w.Now, max(p.OutCooldown, a.Period)) {
			base = w.LastOut.From // a larger demand adds the difference
		}
		n := Adjust(p.Adjustment, s.Adjustment, p.Magnitude, base)
		if up := n > base; n != base {
			yield(n, up, a)
		}
	}
}

// Fitting finds the step of a distance from the threshold: the lower bound belongs to it above the threshold, the upper one below.
func Fitting(steps []Step, distance float64) (Step, bool) {
	for _, s := range steps {
		low, high := math.Inf(-1), math.Inf(1)
		if s.Lower != nil {
			low = *s.Lower
		}
		if s.Upper != nil {
			high = *s.Upper
		}
		if above := low <= distance && distance < high; above && (distance > 0 || distance == 0 && low >= 0) {
			return s, true
		}
		if low < distance && distance <= high && (distance < 0 || distance == 0 && high <= 0) {
			return s, true
		}
	}
	return Step{}, false
}

// Adjust is a capacity after a step.
func Adjust(how string, by, magnitude, base int) int {
	switch how {
	case ExactCapacity:
		return by
	case PercentChangeInCapacity:
		if by == 0 {
			return base
		}
		change, least := base*by/100, max(magnitude, 1)
		if by > 0 {
			return base + max(change, least)
		}
		return max(base+min(change, -least), 0)
	}
	return max(base+by, 0)
}

func (w World) notScaled(d wish, reason string) Decision {
	return Decision{Kind: NotScaled, Description: Description, Cause: d.cause, Reason: reason, Desired: w.Desired, Min: w.Target.Min, Max: w.Target.Max}
}

// out scales out. A cooldown forbids nothing: what was added counts already, as wishes are of the capacity before.
func (w World) out(d wish) Decision {
	n := max(min(d.n, w.Target.Max), w.Target.Min)
	switch {
	case w.Target.SuspendOut:
		return Decision{}
	case w.Desired > w.Target.Max: // somebody else's count, which the first alarm brings inside
		if w.Target.SuspendIn || w.Deploying {
			return Decision{}
		}
		return set(w.Target.Max, d.cause, 0)
	case n > w.Desired:
		return set(n, d.cause, d.cooldown)
	case d.n > w.Target.Max && w.Desired == w.Target.Max:
		return w.notScaled(d, AtMax)
	case n == w.Desired && w.LastOut.Began.IsZero():
		return w.notScaled(d, AtDesired)
	}
	return Decision{}
}

// in scales in, unless a cooldown, a deployment or what would follow forbids it.
func (w World) in(d wish) Decision {
	n := max(min(d.n, w.Target.Max), w.Target.Min)
	switch {
	case w.Desired < w.Target.Min && !w.Target.SuspendOut:
		return set(w.Target.Min, d.cause, 0)
	case w.Target.SuspendIn:
		return Decision{}
	case n >= w.Desired:
		if w.Desired == w.Target.Min && d.n <= w.Target.Min {
			return w.notScaled(d, AtMin)
		}
		return Decision{}
	case w.Deploying:
		return w.notScaled(d, Unscalable)
	case w.LastIn.cooling(w.Now, d.cooldown) && !w.LastOut.Began.After(w.LastIn.Began), !w.LastOut.Began.IsZero() && w.Now.Before(w.LastOut.settled()):
		return Decision{}
	case !d.track && w.flaps(n):
		return w.notScaled(d, Flapping)
	}
	return set(n, d.cause, d.cooldown)
}

// flaps tells whether fewer tasks would have a target-tracking policy scale out again.
func (w World) flaps(n int) bool {
	for i := range w.Policies {
		p := &w.Policies[i]
		if p.Track && p.High != nil {
			if want, ok := w.track(p, p.High); ok && min(want, w.Target.Max) > n {
				return true
			}
		}
	}
	return false
}
