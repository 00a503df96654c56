// Package scaling changes the desired counts of services: the leader reads targets, policies, their alarms and metrics, asks the planner,
// and stores what it decides with an activity. serve/alarms judges the alarms.
package scaling

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	plan "github.com/berthdev/berth/internal/plan/scaling"
	"github.com/berthdev/berth/internal/serve/metrics/data"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Scaler scales the services of a region.
type Scaler struct {
	Store  store.Store
	Series data.Reader
	Pace   model.Pace
	Now    func() time.Time
	NewID  func() string // 32 hexadecimal digits
	Log    *slog.Logger
}

// Run looks at targets until ctx is done: run it on the leader.
func (s *Scaler) Run(ctx context.Context) error {
	pause := timeouts.Scale
	if s.Pace == model.PaceFast {
		pause = timeouts.ScaleOften
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.Look(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// Look looks at every target once. Errors: those of the store.
func (s *Scaler) Look(ctx context.Context) error {
	var keys []string
	s.Store.View(func(r store.Reader) {
		for t := range store.ScalableTargets.Scan(r, "") {
			keys = append(keys, t.ResourceID)
		}
	})
	for _, k := range keys {
		if err := s.look(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// seen is a target with what belongs to it.
type seen struct {
	target   *model.ScalableTarget
	service  *model.Service
	gone     bool // the service is
	running  int32
	policies []*model.ScalingPolicy
	actions  []*model.ScalingAction
	alarms   map[string][]*model.Alarm // by policy: high and low, or those of a step policy
	deploys  bool
}

// read reads a target; nil when it is gone.
func read(r store.Reader, key string) *seen {
	v := &seen{alarms: map[string][]*model.Alarm{}}
	var ok bool
	if v.target, ok = store.ScalableTargets.Get(r, key); !ok {
		return nil
	}
	name := strings.TrimPrefix(key, "service/")
	if v.service, ok = store.Services.Get(r, name); !ok || v.service.Status != "ACTIVE" {
		v.gone = true
		return v
	}
	for t := range store.Tasks.By(r, store.ByOpen, name) {
		if t.LastStatus() == model.Running {
			v.running++
		}
	}
	for d := range store.Deployments.Scan(r, name+"/") {
		v.deploys = v.deploys || d.Live() && d.RolloutState == ecstypes.DeploymentRolloutStateInProgress
	}
	steps := false
	for p := range store.ScalingPolicies.Scan(r, key+"/") {
		v.policies = append(v.policies, p)
		steps = steps || p.Step != nil
		if p.Tracking != nil {
			high, _ := store.Alarms.Get(r, p.High)
			low, _ := store.Alarms.Get(r, p.Low)
			v.alarms[p.Name] = []*model.Alarm{high, low}
		}
	}
	for a := range store.ScalingActions.Scan(r, key+"/") {
		v.actions = append(v.actions, a)
	}
	if !steps {
		return v
	}
	for a := range store.Alarms.Scan(r, "") {
		for _, arn := range a.Actions(plan.StateAlarm) {
			for _, p := range v.policies {
				if p.Step != nil && arn == p.ARN && a.Metric != nil && a.ActionsEnabled() {
					v.alarms[p.Name] = append(v.alarms[p.Name], a)
				}
			}
		}
	}
	return v
}

func (s *Scaler) look(ctx context.Context, key string) error {
	var v *seen
	s.Store.View(func(r store.Reader) { v = read(r, key) })
	switch {
	case v == nil:
		return nil
	case v.gone:
		return s.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
			if again := read(tx, key); again != nil && again.gone {
				store.DropScaling(tx, key)
			}
			return nil
		})
	}
	now := s.Now()
	if s.Pace == model.PaceFast {
		if err := s.fit(ctx, v, now); err != nil {
			return err
		}
	}
	w, fired, err := s.world(ctx, v, now)
	if err != nil {
		if ctx.Err() == nil {
			s.Log.Warn("a target's metrics cannot be read", "target", key, "error", err)
		}
		return nil
	}
	d := plan.Plan(w)
	over := v.over()
	bounded := w.Bounded && (d.Kind == plan.SetDesired || v.service.DesiredCount >= v.target.Min && v.service.DesiredCount <= v.target.Max)
	if d.Kind == plan.Nothing && !over && !bounded && len(fired) == 0 || d.Kind == plan.NotScaled && s.told(key, d) && !over && !bounded && len(fired) == 0 {
		return nil
	}
	if d.Kind == plan.SetDesired && int32(d.Desired) < v.service.DesiredCount {
		ctx = store.Freeing(ctx)
	}
	return s.Store.Update(ctx, func(tx store.Tx) error {
		again := read(tx, key)
		if again == nil || again.gone || again.target != v.target || again.service.DesiredCount != v.service.DesiredCount {
			return nil // it is looked at again
		}
		s.apply(tx, again, d, fired, bounded, now)
		return nil
	})
}

// over tells whether something that was under way is fulfilled, or was changed by somebody else.
func (v *seen) over() bool {
	return v.done(v.target.LastOut, true) != "" || v.done(v.target.LastIn, false) != ""
}

// done is how a change ended, "" while it is under way.
func (v *seen) done(p model.Scaled, out bool) types.ScalingActivityStatusCode {
	switch {
	case p.Began.IsZero() || !p.Done.IsZero():
		return ""
	case v.service.DesiredCount != p.To:
		return types.ScalingActivityStatusCodeOverridden
	case out && v.running >= p.To, !out && v.running <= p.To:
		return types.ScalingActivityStatusCodeSuccessful
	}
	return ""
}

// told tells whether the newest activity says the same already.
func (s *Scaler) told(key string, d plan.Decision) (same bool) {
	s.Store.View(func(r store.Reader) {
		for a := range store.ScalingActivities.Scan(r, key+"/") {
			same = len(a.Reasons) == 1 && *a.Reasons[0].Code == d.Reason && a.Cause == d.Cause
			return
		}
	})
	return same
}

// apply stores what ended and what was decided.
func (s *Scaler) apply(tx store.Tx, v *seen, d plan.Decision, fired []*model.ScalingAction, bounded bool, now time.Time) {
	t := *v.target
	for _, a := range fired {
		if row, ok := store.ScalingActions.Get(tx, a.Key()); ok && row.ChangedAt.Equal(a.ChangedAt) {
			next := *row
			next.Fired = now
			store.ScalingActions.Put(tx, &next)
		}
	}
	if bounded {
		t.Bounded = t.Bounds
	}
	s.finish(tx, v, &t.LastOut, v.done(t.LastOut, true), v.service.DesiredCount, now)
	s.finish(tx, v, &t.LastIn, v.done(t.LastIn, false), v.service.DesiredCount, now)
	switch d.Kind {
	case plan.SetBounds:
		t.Min, t.Max = int32(d.Min), int32(d.Max)
		t.Bounds++
		s.note(tx, &t, d, types.ScalingActivityStatusCodeSuccessful, "Successfully set"+strings.TrimPrefix(d.Description, "Setting"), now)
	case plan.NotScaled:
		status := types.ScalingActivityStatusCodeSuccessful
		if d.Reason != plan.AtDesired {
			status = types.ScalingActivityStatusCodeFailed
		}
		s.note(tx, &t, d, status, "", now)
	case plan.SetDesired:
		n := int32(d.Desired)
		out, last := n > v.service.DesiredCount, &t.LastIn
		if out {
			last = &t.LastOut
		}
		from := v.running
		if v.deploys {
			from = min(from, v.service.DesiredCount) // as the planner counts
		}
		if out && !last.Began.IsZero() && last.Done.IsZero() {
			from = last.From // what is measured is of the capacity before
		}
		s.finish(tx, v, &t.LastOut, overridden(t.LastOut), n, now)
		s.finish(tx, v, &t.LastIn, overridden(t.LastIn), n, now)
		seq := s.note(tx, &t, d, types.ScalingActivityStatusCodeInProgress, fmt.Sprintf("Successfully set desired count to %d. Waiting for change to be fulfilled by ecs.", n), now)
		*last = model.Scaled{From: from, To: n, Began: now, Cooldown: d.Cooldown, Activity: seq}
		svc := *v.service
		svc.DesiredCount = n
		store.Services.Put(tx, &svc)
		s.Log.Info("desired count set", "service", svc.Key(), "count", n, "cause", d.Cause)
	}
	store.ScalableTargets.Put(tx, &t)
}

// overridden is how what is under way ends when something else is decided.
func overridden(p model.Scaled) types.ScalingActivityStatusCode {
	if p.Began.IsZero() || !p.Done.IsZero() {
		return ""
	}
	return types.ScalingActivityStatusCodeOverridden
}

// finish ends an activity, and tells the service of one that was fulfilled.
func (s *Scaler) finish(tx store.Tx, v *seen, p *model.Scaled, how types.ScalingActivityStatusCode, desired int32, now time.Time) {
	if how == "" {
		return
	}
	p.Done = now
	row, ok := store.ScalingActivities.Get(tx, model.ScalingActivityKey(v.target.ResourceID, p.Activity))
	if !ok {
		return
	}
	a := *row
	a.Status, a.Ended = how, now
	a.Message = fmt.Sprintf("Successfully set desired count to %d. Change successfully fulfilled by ecs.", p.To)
	if how == types.ScalingActivityStatusCodeOverridden {
		a.Message = fmt.Sprintf("Successfully set desired count to %d. Found it was later changed to %d.", p.To, desired)
	} else {
		store.AddEvent(tx, v.service, ecstypes.ServiceEvent{Id: new(uuid(s.NewID())), CreatedAt: &now, Message: new("Message: " + a.Message + " Cause: " + a.Cause)})
	}
	store.ScalingActivities.Put(tx, &a)
}

func uuid(h string) string {
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// note adds an activity and drops the oldest.
func (s *Scaler) note(tx store.Tx, t *model.ScalableTarget, d plan.Decision, status types.ScalingActivityStatusCode, message string, now time.Time) int64 {
	t.Seq++
	a := &model.ScalingActivity{ResourceID: t.ResourceID, Seq: t.Seq, ID: uuid(s.NewID()), Began: now, Status: status, Description: d.Description, Cause: d.Cause, Message: message}
	if d.Reason != "" {
		reason := types.NotScaledReason{Code: &d.Reason}
		switch d.Reason {
		case plan.AtMax:
			reason.MaxCapacity = new(int32(d.Max))
		case plan.AtMin:
			reason.MinCapacity = new(int32(d.Min))
		case plan.AtDesired:
			reason.CurrentCapacity = new(int32(d.Desired))
		}
		a.Reasons = []types.NotScaledReason{reason}
	} else if status == types.ScalingActivityStatusCodeSuccessful {
		a.Ended = now
	}
	store.ScalingActivities.Put(tx, a)
	store.ScalingActivities.Delete(tx, model.ScalingActivityKey(t.ResourceID, t.Seq-model.KeepActivities))
	return t.Seq
}
