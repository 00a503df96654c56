// Package scheduler is the EventBridge Scheduler API: schedules in groups, with time zones and flexible windows. serve/events runs them.
package scheduler

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/schedule"
	"github.com/berthdev/berth/internal/serve/events"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	Now   func() time.Time
	Log   *slog.Logger
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "scheduler", Protocol: wire.RESTJSON, Schemas: schemas(), Asks: a.asks}
	for _, op := range s.Schemas {
		s.Routes = append(s.Routes, op.Schema)
	}
	wire.Handle(s, a.createSchedule)
	wire.Handle(s, a.updateSchedule)
	wire.Handle(s, a.getSchedule)
	wire.Handle(s, a.deleteSchedule)
	wire.Handle(s, a.listSchedules)
	wire.Handle(s, a.createScheduleGroup)
	wire.Handle(s, a.getScheduleGroup)
	wire.Handle(s, a.deleteScheduleGroup)
	wire.Handle(s, a.listScheduleGroups)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

const (
	defaultGroup = "default"
	maxSchedules = 10_000
)

var nameForm = regexp.MustCompile(`^[0-9a-zA-Z_.-]{1,64}$`)

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func invalid(format string, args ...any) error {
	return model.Errorf("ValidationException", format, args...)
}
func gone(format string, args ...any) error {
	return model.Errorf("ResourceNotFoundException", format, args...)
}

func (a *api) arn(group, name string) string {
	return a.Scope.ARN("scheduler", "schedule/"+group+"/"+name)
}
func (a *api) groupARN(name string) string { return a.Scope.ARN("scheduler", "schedule-group/"+name) }

func groupOf(name *string) string {
	if name == nil {
		return defaultGroup
	}
	return *name
}

func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "scheduler:" + op
	on := func(arn string) []wire.Ask { return []wire.Ask{{Action: action, Resources: []string{arn}}} }
	target := func(asks []wire.Ask, t *types.Target) []wire.Ask {
		if t != nil && t.RoleArn != nil {
			asks = append(asks, wire.Ask{Action: "iam:PassRole", Resources: []string{*t.RoleArn}, Context: map[string][]string{"iam:PassedToService": {"scheduler.amazonaws.com"}}})
		}
		return asks
	}
	switch in := in.(type) {
	case *sdk.CreateScheduleInput:
		return target(on(a.arn(groupOf(in.GroupName), deref(in.Name))), in.Target)
	case *sdk.UpdateScheduleInput:
		return target(on(a.arn(groupOf(in.GroupName), deref(in.Name))), in.Target)
	case *sdk.GetScheduleInput:
		return on(a.arn(groupOf(in.GroupName), deref(in.Name)))
	case *sdk.DeleteScheduleInput:
		return on(a.arn(groupOf(in.GroupName), deref(in.Name)))
	case *sdk.ListSchedulesInput:
		return on(a.arn("*", "*"))
	case *sdk.CreateScheduleGroupInput:
		return on(a.groupARN(deref(in.Name)))
	case *sdk.GetScheduleGroupInput:
		return on(a.groupARN(deref(in.Name)))
	case *sdk.DeleteScheduleGroupInput:
		return on(a.groupARN(deref(in.Name)))
	case *sdk.ListScheduleGroupsInput:
		return on(a.groupARN("*"))
	case *sdk.TagResourceInput:
		return on(deref(in.ResourceArn))
	case *sdk.UntagResourceInput:
		return on(deref(in.ResourceArn))
	case *sdk.ListTagsForResourceInput:
		return on(deref(in.ResourceArn))
	}
	return nil
}

func (a *api) createSchedule(ctx context.Context, in *sdk.CreateScheduleInput) (*sdk.CreateScheduleOutput, error) {
	row := &model.Schedule{Group: groupOf(in.GroupName), Name: deref(in.Name), Description: in.Description, Expression: deref(in.ScheduleExpression),
		Timezone: deref(in.ScheduleExpressionTimezone), State: in.State, Start: deref(in.StartDate), End: deref(in.EndDate), Window: deref(in.FlexibleTimeWindow),
		After: in.ActionAfterCompletion, KMSKey: in.KmsKeyArn, Target: deref(in.Target), Token: deref(in.ClientToken), CreatedAt: a.Now(), ChangedAt: a.Now()}
	if err := a.check(row, in.FlexibleTimeWindow, in.Target); err != nil {
		return nil, err
	}
	return &sdk.CreateScheduleOutput{ScheduleArn: new(row.ARN)}, a.Store.Update(ctx, func(tx store.Tx) error {
		if err := group(tx, row.Group); err != nil {
			return err
		}
		if old, ok := store.Schedules.Get(tx, row.Key()); ok {
			if row.Token != "" && old.Token == row.Token {
				return nil
			}
			return model.Errorf("ConflictException", "Schedule %s already exists.", row.Name)
		}
		n := 0
		for range store.Schedules.Scan(tx, "") {
			n++
		}
		if n >= maxSchedules {
			return model.Errorf("ServiceQuotaExceededException", "Berth keeps at most %d schedules.", maxSchedules)
		}
		store.Schedules.Put(tx, row)
		store.Ticks.Delete(tx, "schedule/"+row.Key())
		return nil
	})
}

// check checks a schedule and fills in what was left out.
func (a *api) check(s *model.Schedule, window *types.FlexibleTimeWindow, target *types.Target) error {
	s.ARN = a.arn(s.Group, s.Name)
	if s.Timezone == "" {
		s.Timezone = "UTC"
	}
	if s.State == "" {
		s.State = types.ScheduleStateEnabled
	}
	if s.After == "" {
		s.After = types.ActionAfterCompletionNone
	}
	x, bad := schedule.Parse(s.Expression)
	_, badZone := events.Location(s.Timezone)
	switch {
	case !nameForm.MatchString(s.Name):
		return invalid("1 validation error detected: Value '%.80s' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9a-zA-Z-_.]+$", s.Name)
	case !nameForm.MatchString(s.Group):
		return invalid("1 validation error detected: Value '%.80s' at 'groupName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9a-zA-Z-_.]+$", s.Group)
	case bad != nil:
		return invalid("Invalid Schedule Expression %.80s.", s.Expression)
	case badZone != nil:
		return invalid("The ScheduleExpressionTimezone %.60s is not valid.", s.Timezone)
	case window == nil || window.Mode == "":
		return invalid("1 validation error detected: Value at 'flexibleTimeWindow' failed to satisfy constraint: Member must not be null")
	case window.Mode != types.FlexibleTimeWindowModeOff && window.Mode != types.FlexibleTimeWindowModeFlexible:
		return invalid("The mode %.40s of FlexibleTimeWindow is not valid: it is OFF or FLEXIBLE.", window.Mode)
	case window.Mode == types.FlexibleTimeWindowModeFlexible && (window.MaximumWindowInMinutes == nil || *window.MaximumWindowInMinutes < 1 || *window.MaximumWindowInMinutes > 1440):
		return invalid("MaximumWindowInMinutes must be 1 to 1440 for the mode FLEXIBLE.")
	case window.Mode == types.FlexibleTimeWindowModeOff && window.MaximumWindowInMinutes != nil:
		return invalid("MaximumWindowInMinutes must not be provided for the mode OFF.")
	case s.State != types.ScheduleStateEnabled && s.State != types.ScheduleStateDisabled:
		return invalid("The State %.40s is not valid: it is ENABLED or DISABLED.", s.State)
	case s.After != types.ActionAfterCompletionNone && s.After != types.ActionAfterCompletionDelete:
		return invalid("The ActionAfterCompletion %.40s is not valid: it is NONE or DELETE.", s.After)
	case len(deref(s.Description)) > 512:
		return invalid("The Description has at most 512 characters.")
	case !s.Start.IsZero() && !s.End.IsZero() && !s.Start.Before(s.End):
		return invalid("The StartDate must be before the EndDate.")
	case !x.Once() && !s.End.IsZero() && s.End.Before(a.Now()):
		return invalid("The EndDate you specify cannot be earlier than the current time.")
	}
	return checkTarget(target)
}

func checkTarget(t *types.Target) error {
	if t == nil {
		return invalid("1 validation error detected: Value at 'target' failed to satisfy constraint: Member must not be null")
	}
	kind := events.TargetKind(deref(t.Arn))
	switch {
	case kind == "" && strings.HasPrefix(deref(t.Arn), "arn:"):
		return invalid("Provided Arn %.200s is not supported: Berth's targets are ECS clusters, log groups, SNS topics and webhooks (arn:berth:webhook:::https://…).", *t.Arn)
	case kind == "":
		return invalid("Provided Arn is not in correct format.")
	case deref(t.RoleArn) == "":
		return invalid("1 validation error detected: Value at 'target.roleArn' failed to satisfy constraint: Member must not be null")
	case (kind == "ecs") != (t.EcsParameters != nil):
		return invalid("EcsParameters must be provided for an ECS cluster, and for nothing else.")
	case kind == "ecs" && deref(t.EcsParameters.TaskDefinitionArn) == "":
		return invalid("1 validation error detected: Value at 'target.ecsParameters.taskDefinitionArn' failed to satisfy constraint: Member must not be null")
	case t.Input != nil && kind == "ecs" && !json.Valid([]byte(*t.Input)):
		return invalid("Invalid RequestJson provided. Reason: the Input of an ECS target is JSON, such as {\"containerOverrides\":[…]}.")
	case len(deref(t.Input)) > 64<<10:
		return invalid("The Input is too large.")
	}
	if p := t.EcsParameters; p != nil && p.TaskCount != nil && (*p.TaskCount < 1 || *p.TaskCount > 10) {
		return invalid("TaskCount is 1 to 10.")
	}
	if p := t.RetryPolicy; p != nil {
		if s := p.MaximumEventAgeInSeconds; s != nil && (*s < 60 || *s > 86400) {
			return invalid("MaximumEventAgeInSeconds is 60 to 86400.")
		}
		if n := p.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 185) {
			return invalid("MaximumRetryAttempts is 0 to 185.")
		}
	}
	return nil
}

// group tells whether a group is there; the default one always is.
func group(r store.Reader, name string) error {
	if _, ok := store.ScheduleGroups.Get(r, name); !ok && name != defaultGroup {
		return gone("Schedule group %s does not exist.", name)
	}
	return nil
}

func (a *api) updateSchedule(ctx context.Context, in *sdk.UpdateScheduleInput) (*sdk.UpdateScheduleOutput, error) {
	row := &model.Schedule{Group: groupOf(in.GroupName), Name: deref(in.Name), Description: in.Description, Expression: deref(in.ScheduleExpression),
		Timezone: deref(in.ScheduleExpressionTimezone), State: in.State, Start: deref(in.StartDate), End: deref(in.EndDate), Window: deref(in.FlexibleTimeWindow),
		After: in.ActionAfterCompletion, KMSKey: in.KmsKeyArn, Target: deref(in.Target), ChangedAt: a.Now()}
	if err := a.check(row, in.FlexibleTimeWindow, in.Target); err != nil {
		return nil, err
	}
	return &sdk.UpdateScheduleOutput{ScheduleArn: new(row.ARN)}, a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Schedules.Get(tx, row.Key())
		if !ok {
			return gone("Schedule %s does not exist.", row.Name)
		}
		next := *row
		next.CreatedAt, next.Token = old.CreatedAt, old.Token
		store.Schedules.Put(tx, &next)
		return nil
	})
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (a *api) getSchedule(_ context.Context, in *sdk.GetScheduleInput) (out *sdk.GetScheduleOutput, err error) {
	a.Store.View(func(r store.Reader) {
		s, ok := store.Schedules.Get(r, groupOf(in.GroupName)+"/"+deref(in.Name))
		if !ok {
			err = gone("Schedule %s does not exist.", deref(in.Name))
			return
		}
		window, target := s.Window, s.Target
		out = &sdk.GetScheduleOutput{Arn: new(s.ARN), Name: new(s.Name), GroupName: new(s.Group), Description: s.Description, ScheduleExpression: new(s.Expression),
			ScheduleExpressionTimezone: new(s.Timezone), State: s.State, StartDate: optional(s.Start), EndDate: optional(s.End), FlexibleTimeWindow: &window,
			ActionAfterCompletion: s.After, KmsKeyArn: s.KMSKey, Target: &target, CreationDate: new(s.CreatedAt), LastModificationDate: new(s.ChangedAt)}
	})
	return out, err
}

func (a *api) deleteSchedule(ctx context.Context, in *sdk.DeleteScheduleInput) (*sdk.DeleteScheduleOutput, error) {
	key := groupOf(in.GroupName) + "/" + deref(in.Name)
	return &sdk.DeleteScheduleOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Schedules.Get(tx, key); !ok {
			return gone("Schedule %s does not exist.", deref(in.Name))
		}
		store.Schedules.Delete(tx, key)
		store.Ticks.Delete(tx, "schedule/"+key)
		return nil
	})
}

// page cuts a list of keys behind the one that token holds.
func page(all []string, token *string, limit *int32) ([]string, *string, error) {
	size := 100
	if limit != nil {
		if size = int(*limit); size < 1 || size > 100 {
			return nil, nil, invalid("MaxResults is 1 to 100.")
		}
	}
	if token != nil {
		b, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil {
			return nil, nil, invalid("Invalid NextToken.")
		}
		i, found := slices.BinarySearch(all, string(b))
		if found {
			i++
		}
		all = all[i:]
	}
	if len(all) <= size {
		return all, nil, nil
	}
	return all[:size], new(base64.RawURLEncoding.EncodeToString([]byte(all[size-1]))), nil
}

func (a *api) listSchedules(_ context.Context, in *sdk.ListSchedulesInput) (*sdk.ListSchedulesOutput, error) {
	rows := map[string]*model.Schedule{}
	var keys []string
	var err error
	a.Store.View(func(r store.Reader) {
		prefix := ""
		if in.GroupName != nil {
			prefix, err = *in.GroupName+"/", group(r, *in.GroupName)
		}
		for s := range store.Schedules.Scan(r, prefix) {
			if strings.HasPrefix(s.Name, deref(in.NamePrefix)) && (in.State == "" || in.State == s.State) {
				keys = append(keys, s.Key())
				rows[s.Key()] = s
			}
		}
	})
	if err != nil {
		return nil, err
	}
	keys, next, err := page(keys, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListSchedulesOutput{Schedules: []types.ScheduleSummary{}, NextToken: next}
	for _, k := range keys {
		s := rows[k]
		out.Schedules = append(out.Schedules, types.ScheduleSummary{Arn: new(s.ARN), Name: new(s.Name), GroupName: new(s.Group), State: s.State,
			CreationDate: new(s.CreatedAt), LastModificationDate: new(s.ChangedAt), Target: &types.TargetSummary{Arn: s.Target.Arn}})
	}
	return out, nil
}
