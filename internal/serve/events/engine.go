// Package events runs what is scheduled and tells of what happens: the leader finds the ticks of rules and schedules that are due, and the
// events that rules wait for, and puts what their targets are to do into the outbox, in one transaction with the note that it did. A run
// is made by the API's own handler with a token that follows from the tick, so that a tick has exactly one run, whoever dies in between.
package events

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"time"
	_ "time/tzdata" // machines without zones of their own

	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	schtypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/pattern"
	"github.com/berthdev/berth/internal/plan/schedule"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Engine is that of a region.
type Engine struct {
	Store store.Store
	Scope model.Scope
	// Publish puts a message to an SNS topic's subscribers into the outbox; id tells it from others.
	Publish func(tx store.Tx, topic, message, id string) error
	// Describe is a task as DescribeTasks shows it (JSON, times in seconds); "" when it is gone. nil: nothing is told of tasks.
	Describe func(ctx context.Context, t *model.Task) string
	Now      func() time.Time
	NewID    func() string
	Log      *slog.Logger
}

// Event is what EventBridge carries.
type Event struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// eventTime is the form of an event's time.
const eventTime = "2006-01-02T15:04:05Z"

// event makes an event of this region.
func (e *Engine) event(id string, at time.Time, source, kind string, resources []string, detail json.RawMessage) Event {
	return Event{Version: "0", ID: id, DetailType: kind, Source: source, Account: e.Scope.Account, Time: at.UTC().Format(eventTime), Region: e.Scope.Region,
		Resources: append([]string{}, resources...), Detail: detail}
}

// Send gives an event to the rules whose patterns it fits, and tells how many. order: events of one order reach a target in their order.
func (e *Engine) Send(tx store.Tx, ev Event, at time.Time, order string) (fits int, err error) {
	text, err := json.Marshal(ev)
	if err != nil {
		return 0, err
	}
	for rule := range store.EventRules.Scan(tx, "") {
		if rule.Pattern == "" || rule.State == ebtypes.RuleStateDisabled || len(rule.Targets) == 0 {
			continue
		}
		p, err := pattern.Parse(rule.Pattern)
		if err != nil || !p.Match(text) {
			continue
		}
		fits++
		for _, t := range rule.Targets {
			i := Invocation{Source: rule.ARN, Key: rule.ARN + "\x00" + ev.ID, At: at, Event: string(text)}
			if order != "" {
				i.Order = rule.Name + "\x00" + order
			}
			e.limit(&i, t.RetryPolicy)
			if err := e.invoke(tx, t, "events-rule/"+rule.Name, i); err != nil {
				e.Log.Warn("a rule's target is left out", "rule", rule.Name, "target", deref(t.Arn), "error", err)
			}
		}
	}
	return fits, nil
}

// limit says for how long a run is tried.
func (e *Engine) limit(i *Invocation, p *ebtypes.RetryPolicy) {
	if p == nil {
		return
	}
	if s := deref(p.MaximumEventAgeInSeconds); s > 0 {
		i.Until = e.Now().Add(min(time.Duration(s)*time.Second, timeouts.EventOldest))
	}
	if p.MaximumRetryAttempts != nil {
		i.Most = int(*p.MaximumRetryAttempts) + 1
	}
}

// Run runs what is due and tells what happens, until ctx is done: run it on the leader.
func (e *Engine) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- e.tell(ctx) }()
	w := e.Store.Watch(ctx, store.EventRules.All(), store.Schedules.All())
	for {
		next, err := e.Look(ctx)
		if err != nil {
			if ctx.Err() == nil {
				return err
			}
			return <-ended
		}
		timer := time.NewTimer(max(min(next.Sub(e.Now()), timeouts.ScheduleLook), 10*time.Millisecond))
		select {
		case <-timer.C:
		case err := <-ended:
			timer.Stop()
			return err
		case _, ok := <-w.C():
			if !ok {
				timer.Stop()
				return <-ended
			}
			w.Take()
		}
		timer.Stop()
	}
}

// due is a rule or schedule whose time has come.
type due struct {
	of   string
	tick time.Time
	rule *model.EventRule
	plan *model.Schedule
}

// Look runs what is due and tells when the next tick is. Errors: those of the store.
func (e *Engine) Look(ctx context.Context) (next time.Time, err error) {
	now := e.Now()
	next = now.Add(timeouts.ScheduleLook)
	var all []due
	e.Store.View(func(r store.Reader) {
		for rule := range store.EventRules.Scan(r, "") {
			if d, later, ok := ruleDue(r, rule, now); ok {
				all = append(all, d)
			} else if !later.IsZero() && later.Before(next) {
				next = later
			}
		}
		for s := range store.Schedules.Scan(r, "") {
			if d, later, ok := scheduleDue(r, s, now); ok {
				all = append(all, d)
			} else if !later.IsZero() && later.Before(next) {
				next = later
			}
		}
	})
	if len(all) == 0 {
		return next, nil
	}
	return now, e.Store.Update(ctx, func(tx store.Tx) error {
		for _, d := range all {
			e.run(tx, d, now)
		}
		return nil
	})
}

// ruleDue finds the newest tick of a rule that has not been run. What is older than an hour is not caught up with.
func ruleDue(r store.Reader, rule *model.EventRule, now time.Time) (d due, later time.Time, ok bool) {
	if rule.Schedule == "" || rule.State == ebtypes.RuleStateDisabled {
		return d, later, false
	}
	x, err := schedule.Parse(rule.Schedule)
	if err != nil {
		return d, later, false
	}
	d = due{of: "rule/" + rule.Name, rule: rule}
	after := latest(rule.ChangedAt, tickOf(r, d.of), now.Add(-timeouts.ScheduleLate))
	if d.tick, ok = x.Last(after, now, rule.ChangedAt, time.UTC); ok {
		return d, later, true
	}
	later, _ = x.Next(now, rule.ChangedAt, time.UTC)
	return d, later, false
}

func tickOf(r store.Reader, of string) time.Time {
	if t, ok := store.Ticks.Get(r, of); ok {
		return t.Last
	}
	return time.Time{}
}

func latest(all ...time.Time) time.Time { return slices.MaxFunc(all, time.Time.Compare) }

// scheduleDue is ruleDue of a schedule. Within a flexible window a schedule's runs are at the same place each time.
func scheduleDue(r store.Reader, s *model.Schedule, now time.Time) (d due, later time.Time, ok bool) {
	if s.State == schtypes.ScheduleStateDisabled {
		return d, later, false
	}
	x, err := schedule.Parse(s.Expression)
	if err != nil {
		return d, later, false
	}
	loc, err := Location(s.Timezone)
	if err != nil {
		return d, later, false
	}
	shift := flexible(s)
	d = due{of: "schedule/" + s.Key(), plan: s}
	base := s.CreatedAt
	if !s.Start.IsZero() {
		base = s.Start
	}
	last := tickOf(r, d.of)
	after := latest(last, now.Add(-timeouts.ScheduleLate-shift))
	if !x.Once() {
		// a tick at Start itself counts
		after = latest(after, latest(s.ChangedAt, s.Start).Add(-time.Nanosecond))
	} else if last.IsZero() {
		after = latest(after, s.ChangedAt.Add(-timeouts.ScheduleLate))
	}
	if x.Recurs() > 0 && last.IsZero() && !base.After(now.Add(-shift)) && !base.Before(after) { // a rate runs at its beginning, too
		d.tick, ok = base, true
	}
	if tick, found := x.Last(after, now.Add(-shift), base, loc); found && (s.End.IsZero() || !tick.After(s.End)) {
		d.tick, ok = tick, true
	}
	if ok {
		return d, later, true
	}
	if later, ok = x.Next(latest(now.Add(-shift), s.Start.Add(-time.Nanosecond)), base, loc); ok {
		later = later.Add(shift)
	} else if s.After == schtypes.ActionAfterCompletionDelete && !last.IsZero() {
		later = now
	}
	return d, later, false
}

// flexible is how long after its time a schedule runs.
func flexible(s *model.Schedule) time.Duration {
	if s.Window.Mode != schtypes.FlexibleTimeWindowModeFlexible || s.Window.MaximumWindowInMinutes == nil {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(s.ARN))
	return time.Duration(h.Sum64()%uint64(max(*s.Window.MaximumWindowInMinutes, 1)*60)) * time.Second
}

// Location is a time zone by its name in the IANA's list; "" is UTC.
func Location(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" {
		return nil, fmt.Errorf("Local is no time zone")
	}
	return time.LoadLocation(name)
}

// run notes a tick and puts what is to be done into the outbox. Somebody else may have done it, or changed the rule, meanwhile.
func (e *Engine) run(tx store.Tx, d due, now time.Time) {
	if !d.tick.After(tickOf(tx, d.of)) {
		return
	}
	if d.rule != nil {
		rule, ok := store.EventRules.Get(tx, d.rule.Name)
		if !ok || !rule.ChangedAt.Equal(d.rule.ChangedAt) || rule.State == ebtypes.RuleStateDisabled {
			return
		}
		store.Ticks.Put(tx, &model.Tick{Of: d.of, Last: d.tick})
		ev := e.event(e.NewID(), d.tick, "aws.events", "Scheduled Event", []string{rule.ARN}, json.RawMessage("{}"))
		text, err := json.Marshal(ev)
		if err != nil {
			return
		}
		for _, t := range rule.Targets {
			i := Invocation{Source: rule.ARN, Key: rule.ARN + d.tick.UTC().Format(time.RFC3339Nano), At: d.tick, Event: string(text)}
			e.limit(&i, t.RetryPolicy)
			if err := e.invoke(tx, t, "events-rule/"+rule.Name, i); err != nil {
				e.Log.Warn("a rule's target is left out", "rule", rule.Name, "target", deref(t.Arn), "error", err)
			}
		}
		return
	}
	s, ok := store.Schedules.Get(tx, d.plan.Key())
	if !ok || !s.ChangedAt.Equal(d.plan.ChangedAt) {
		return
	}
	store.Ticks.Put(tx, &model.Tick{Of: d.of, Last: d.tick})
	t, retry := FromScheduler(s.Target)
	i := Invocation{Source: s.ARN, Key: s.ARN + d.tick.UTC().Format(time.RFC3339Nano), At: d.tick, Event: "{}"}
	e.limit(&i, retry)
	if err := e.invoke(tx, t, "chronos-schedule/"+s.Name, i); err != nil {
		e.Log.Warn("a schedule's target is left out", "schedule", s.Key(), "target", deref(t.Arn), "error", err)
	}
	if s.After == schtypes.ActionAfterCompletionDelete && e.over(s, d.tick) {
		store.Schedules.Delete(tx, s.Key())
		store.Ticks.Delete(tx, d.of)
	}
}

// over tells whether a schedule has no tick after one.
func (e *Engine) over(s *model.Schedule, tick time.Time) bool {
	x, err := schedule.Parse(s.Expression)
	loc, err2 := Location(s.Timezone)
	if cmp.Or(err, err2) != nil {
		return false
	}
	next, more := x.Next(tick, s.CreatedAt, loc)
	return !more || !s.End.IsZero() && next.After(s.End)
}

// FromScheduler makes of a scheduler's target one of EventBridge: they are almost the same.
func FromScheduler(s schtypes.Target) (ebtypes.Target, *ebtypes.RetryPolicy) {
	input := deref(s.Input)
	if s.Input == nil {
		input = "{}"
	}
	t := ebtypes.Target{Id: new("target"), Arn: s.Arn, RoleArn: s.RoleArn, Input: &input}
	if p := s.EcsParameters; p != nil {
		out := &ebtypes.EcsParameters{TaskDefinitionArn: p.TaskDefinitionArn, EnableECSManagedTags: deref(p.EnableECSManagedTags), EnableExecuteCommand: deref(p.EnableExecuteCommand),
			Group: p.Group, LaunchType: ebtypes.LaunchType(p.LaunchType), PlatformVersion: p.PlatformVersion, PropagateTags: ebtypes.PropagateTags(p.PropagateTags),
			ReferenceId: p.ReferenceId, TaskCount: p.TaskCount}
		if n := p.NetworkConfiguration; n != nil && n.AwsvpcConfiguration != nil {
			v := n.AwsvpcConfiguration
			out.NetworkConfiguration = &ebtypes.NetworkConfiguration{AwsvpcConfiguration: &ebtypes.AwsVpcConfiguration{Subnets: v.Subnets, SecurityGroups: v.SecurityGroups,
				AssignPublicIp: ebtypes.AssignPublicIp(v.AssignPublicIp)}}
		}
		for _, c := range p.CapacityProviderStrategy {
			out.CapacityProviderStrategy = append(out.CapacityProviderStrategy, ebtypes.CapacityProviderStrategyItem{CapacityProvider: c.CapacityProvider, Base: c.Base, Weight: c.Weight})
		}
		for _, c := range p.PlacementConstraints {
			out.PlacementConstraints = append(out.PlacementConstraints, ebtypes.PlacementConstraint{Expression: c.Expression, Type: ebtypes.PlacementConstraintType(c.Type)})
		}
		for _, c := range p.PlacementStrategy {
			out.PlacementStrategy = append(out.PlacementStrategy, ebtypes.PlacementStrategy{Field: c.Field, Type: ebtypes.PlacementStrategyType(c.Type)})
		}
		for _, tag := range p.Tags {
			for k, v := range tag {
				out.Tags = append(out.Tags, ebtypes.Tag{Key: new(k), Value: new(v)})
			}
		}
		t.EcsParameters = out
	}
	if s.RetryPolicy == nil {
		return t, nil
	}
	return t, &ebtypes.RetryPolicy{MaximumEventAgeInSeconds: s.RetryPolicy.MaximumEventAgeInSeconds, MaximumRetryAttempts: s.RetryPolicy.MaximumRetryAttempts}
}
