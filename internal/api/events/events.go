// Package events is the EventBridge API, of the default bus: rules with schedules and patterns, their targets, and events that clients put.
// serve/events runs them.
package events

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/pattern"
	"github.com/berthdev/berth/internal/plan/schedule"
	engine "github.com/berthdev/berth/internal/serve/events"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	// Send gives an event to the rules that it fits.
	Send  func(tx store.Tx, ev engine.Event, at time.Time, order string) (int, error)
	Now   func() time.Time
	NewID func() string // 32 hexadecimal digits
	Log   *slog.Logger
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "events", Protocol: wire.JSON11, Target: "AWSEvents", Types: sdk.TypeRegistry, Asks: a.asks}
	wire.Handle(s, a.putRule)
	wire.Handle(s, a.describeRule)
	wire.Handle(s, a.listRules)
	wire.Handle(s, a.deleteRule)
	wire.Handle(s, a.enableRule)
	wire.Handle(s, a.disableRule)
	wire.Handle(s, a.putTargets)
	wire.Handle(s, a.removeTargets)
	wire.Handle(s, a.listTargetsByRule)
	wire.Handle(s, a.listRuleNamesByTarget)
	wire.Handle(s, a.putEvents)
	wire.Handle(s, a.testEventPattern)
	wire.Handle(s, a.describeEventBus)
	wire.Handle(s, a.listEventBuses)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

// AWS's bounds.
const (
	maxRules   = 300
	maxTargets = 5
	maxInput   = 8192
	maxEvents  = 10
	maxEvent   = 256 << 10
)

var nameForm = regexp.MustCompile(`^[.\-_A-Za-z0-9]{1,64}$`)

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func invalid(format string, args ...any) error {
	return model.Errorf("ValidationException", format, args...)
}

func (a *api) ruleARN(name string) string { return a.Scope.ARN("events", "rule/"+name) }
func (a *api) busARN() string             { return a.Scope.ARN("events", "event-bus/default") }

// bus lets the default bus pass: Berth has no other.
func (a *api) bus(name *string) error {
	if name == nil || *name == "default" || *name == a.busARN() {
		return nil
	}
	return &types.ResourceNotFoundException{Message: new("Event bus " + *name + " does not exist.")}
}

func noRule(name string) error {
	return &types.ResourceNotFoundException{Message: new("Rule " + name + " does not exist on EventBus default.")}
}

func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "events:" + op
	rule := func(name *string) []wire.Ask {
		return []wire.Ask{{Action: action, Resources: []string{a.ruleARN(deref(name))}}}
	}
	switch in := in.(type) {
	case *sdk.PutRuleInput:
		ask := rule(in.Name)
		ask[0].Context = wire.RequestTags(in)
		if in.RoleArn != nil {
			ask = append(ask, pass(*in.RoleArn))
		}
		return ask
	case *sdk.PutTargetsInput:
		ask := rule(in.Rule)
		for _, t := range in.Targets {
			if ask[0].Context == nil {
				ask[0].Context = map[string][]string{}
			}
			ask[0].Context["events:TargetArn"] = append(ask[0].Context["events:TargetArn"], deref(t.Arn))
			if t.RoleArn != nil {
				ask = append(ask, pass(*t.RoleArn))
			}
		}
		return ask
	case *sdk.DescribeRuleInput:
		return rule(in.Name)
	case *sdk.DeleteRuleInput:
		return rule(in.Name)
	case *sdk.EnableRuleInput:
		return rule(in.Name)
	case *sdk.DisableRuleInput:
		return rule(in.Name)
	case *sdk.RemoveTargetsInput:
		return rule(in.Rule)
	case *sdk.ListTargetsByRuleInput:
		return rule(in.Rule)
	case *sdk.PutEventsInput:
		return []wire.Ask{{Action: action, Resources: []string{a.busARN()}}}
	case *sdk.TagResourceInput:
		return []wire.Ask{{Action: action, Resources: []string{deref(in.ResourceARN)}, Context: wire.RequestTags(in)}}
	case *sdk.UntagResourceInput:
		return []wire.Ask{{Action: action, Resources: []string{deref(in.ResourceARN)}, Context: map[string][]string{"aws:TagKeys": in.TagKeys}}}
	case *sdk.ListTagsForResourceInput:
		return []wire.Ask{{Action: action, Resources: []string{deref(in.ResourceARN)}}}
	}
	return nil
}

// pass asks whether a role may be given to EventBridge.
func pass(role string) wire.Ask {
	return wire.Ask{Action: "iam:PassRole", Resources: []string{role}, Context: map[string][]string{"iam:PassedToService": {"events.amazonaws.com"}}}
}

func (a *api) putRule(ctx context.Context, in *sdk.PutRuleInput) (*sdk.PutRuleOutput, error) {
	name := deref(in.Name)
	if err := a.checkRule(in); err != nil {
		return nil, err
	}
	return &sdk.PutRuleOutput{RuleArn: new(a.ruleARN(name))}, a.Store.Update(ctx, func(tx store.Tx) error {
		next := &model.EventRule{Name: name, ARN: a.ruleARN(name), Tags: in.Tags}
		old, ok := store.EventRules.Get(tx, name)
		if ok {
			copied := *old
			next = &copied // tags of a rule that is there are left as they are
		} else if count(tx) >= maxRules {
			return &types.LimitExceededException{Message: new("The requested resource exceeds the maximum number allowed.")}
		}
		next.Description, next.Pattern, next.Schedule, next.RoleARN, next.State = in.Description, deref(in.EventPattern), deref(in.ScheduleExpression), in.RoleArn, in.State
		if next.State == "" {
			next.State = types.RuleStateEnabled
		}
		if !ok || old.Pattern != next.Pattern || old.Schedule != next.Schedule || old.State != next.State {
			next.ChangedAt = a.Now()
		}
		store.EventRules.Put(tx, next)
		return nil
	})
}

func (a *api) checkRule(in *sdk.PutRuleInput) error {
	switch {
	case !nameForm.MatchString(deref(in.Name)):
		return invalid("1 validation error detected: Value '%.80s' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\.\\-_A-Za-z0-9]+", deref(in.Name))
	case in.EventPattern == nil && in.ScheduleExpression == nil:
		return invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
	case utf8.RuneCountInString(deref(in.Description)) > 512:
		return invalid("1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 512")
	case in.State != "" && in.State != types.RuleStateEnabled && in.State != types.RuleStateDisabled && in.State != types.RuleStateEnabledWithAllCloudtrailManagementEvents:
		return invalid("1 validation error detected: Value '%.40s' at 'state' failed to satisfy constraint: Member must satisfy enum value set: [ENABLED, DISABLED, ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS]", in.State)
	}
	if in.ScheduleExpression != nil {
		if x, err := schedule.Parse(*in.ScheduleExpression); err != nil || x.Once() {
			return invalid("Parameter ScheduleExpression is not valid.")
		}
	}
	if in.EventPattern != nil {
		if _, err := pattern.Parse(*in.EventPattern); err != nil {
			return &types.InvalidEventPatternException{Message: new("Event pattern is not valid. Reason: " + err.Error())}
		}
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	return a.bus(in.EventBusName)
}

func checkTags(tags []types.Tag) error {
	if len(tags) > 50 {
		return &types.LimitExceededException{Message: new("A resource has at most 50 tags.")}
	}
	for _, t := range tags {
		if k := deref(t.Key); k == "" || len(k) > 128 || strings.HasPrefix(k, "aws:") || len(deref(t.Value)) > 256 {
			return invalid("The tag key %.60q is not valid.", k)
		}
	}
	return nil
}

func count(r store.Reader) (n int) {
	for range store.EventRules.Scan(r, "") {
		n++
	}
	return n
}

// rule finds a rule.
func (a *api) rule(r store.Reader, name, bus *string) (*model.EventRule, error) {
	if err := a.bus(bus); err != nil {
		return nil, err
	}
	row, ok := store.EventRules.Get(r, deref(name))
	if !ok {
		return nil, noRule(deref(name))
	}
	return row, nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (a *api) describeRule(_ context.Context, in *sdk.DescribeRuleInput) (out *sdk.DescribeRuleOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var row *model.EventRule
		if row, err = a.rule(r, in.Name, in.EventBusName); err == nil {
			out = &sdk.DescribeRuleOutput{Name: new(row.Name), Arn: new(row.ARN), Description: row.Description, EventPattern: optional(row.Pattern),
				ScheduleExpression: optional(row.Schedule), State: row.State, RoleArn: row.RoleARN, EventBusName: new("default"), CreatedBy: new(a.Scope.Account)}
		}
	})
	return out, err
}

// page cuts a list behind the name that token holds.
func page(all []string, token *string, limit *int32) ([]string, *string, error) {
	size := 100
	if limit != nil {
		if size = int(*limit); size < 1 || size > 100 {
			return nil, nil, invalid("1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must be between 1 and 100", size)
		}
	}
	if token != nil {
		b, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil {
			return nil, nil, invalid("The NextToken is not valid.")
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

func (a *api) listRules(_ context.Context, in *sdk.ListRulesInput) (*sdk.ListRulesOutput, error) {
	if err := a.bus(in.EventBusName); err != nil {
		return nil, err
	}
	var names []string
	rows := map[string]*model.EventRule{}
	a.Store.View(func(r store.Reader) {
		for row := range store.EventRules.Scan(r, deref(in.NamePrefix)) {
			names = append(names, row.Name)
			rows[row.Name] = row
		}
	})
	names, next, err := page(names, in.NextToken, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListRulesOutput{Rules: []types.Rule{}, NextToken: next}
	for _, n := range names {
		row := rows[n]
		out.Rules = append(out.Rules, types.Rule{Name: new(row.Name), Arn: new(row.ARN), Description: row.Description, EventPattern: optional(row.Pattern),
			ScheduleExpression: optional(row.Schedule), State: row.State, RoleArn: row.RoleARN, EventBusName: new("default")})
	}
	return out, nil
}

func (a *api) deleteRule(ctx context.Context, in *sdk.DeleteRuleInput) (*sdk.DeleteRuleOutput, error) {
	if err := a.bus(in.EventBusName); err != nil {
		return nil, err
	}
	return &sdk.DeleteRuleOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		row, ok := store.EventRules.Get(tx, deref(in.Name))
		if !ok {
			return nil // as on AWS
		}
		if len(row.Targets) > 0 {
			return invalid("Rule can't be deleted since it has targets.")
		}
		store.EventRules.Delete(tx, row.Name)
		store.Ticks.Delete(tx, "rule/"+row.Name)
		return nil
	})
}

func (a *api) enableRule(ctx context.Context, in *sdk.EnableRuleInput) (*sdk.EnableRuleOutput, error) {
	return &sdk.EnableRuleOutput{}, a.change(ctx, in.Name, in.EventBusName, func(r *model.EventRule) error {
		if r.State != types.RuleStateEnabled {
			r.State, r.ChangedAt = types.RuleStateEnabled, a.Now()
		}
		return nil
	})
}

func (a *api) disableRule(ctx context.Context, in *sdk.DisableRuleInput) (*sdk.DisableRuleOutput, error) {
	return &sdk.DisableRuleOutput{}, a.change(ctx, in.Name, in.EventBusName, func(r *model.EventRule) error {
		r.State = types.RuleStateDisabled
		return nil
	})
}

// change changes a rule.
func (a *api) change(ctx context.Context, name, bus *string, f func(*model.EventRule) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		row, err := a.rule(tx, name, bus)
		if err != nil {
			return err
		}
		next := *row
		if err := f(&next); err != nil {
			return err
		}
		store.EventRules.Put(tx, &next)
		return nil
	})
}

func (a *api) testEventPattern(_ context.Context, in *sdk.TestEventPatternInput) (*sdk.TestEventPatternOutput, error) {
	p, err := pattern.Parse(deref(in.EventPattern))
	if err != nil {
		return nil, &types.InvalidEventPatternException{Message: new("Event pattern is not valid. Reason: " + err.Error())}
	}
	var event map[string]any
	if json.Unmarshal([]byte(deref(in.Event)), &event) != nil {
		return nil, invalid("Parameter Event is not valid.")
	}
	for _, k := range []string{"id", "account", "source", "time", "region", "resources", "detail-type"} {
		if _, ok := event[k]; !ok {
			return nil, invalid("Parameter Event is not valid. Reason: %s is a required argument.", k)
		}
	}
	return &sdk.TestEventPatternOutput{Result: p.Match([]byte(*in.Event))}, nil
}

func (a *api) putEvents(ctx context.Context, in *sdk.PutEventsInput) (*sdk.PutEventsOutput, error) {
	if n := len(in.Entries); n == 0 || n > maxEvents {
		return nil, invalid("1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length between 1 and %d", maxEvents)
	}
	size := 0
	for _, e := range in.Entries {
		size += len(deref(e.Detail)) + len(deref(e.Source)) + len(deref(e.DetailType))
	}
	if size > maxEvent {
		return nil, invalid("Total size of the entries in the request is over the limit.")
	}
	out := &sdk.PutEventsOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		out.Entries, out.FailedEntryCount = []types.PutEventsResultEntry{}, 0
		for _, e := range in.Entries {
			code, text := a.checkEvent(e)
			if code != "" {
				out.Entries = append(out.Entries, types.PutEventsResultEntry{ErrorCode: &code, ErrorMessage: &text})
				out.FailedEntryCount++
				continue
			}
			at := a.Now()
			if e.Time != nil {
				at = *e.Time
			}
			h := a.NewID()
			id := h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
			ev := engine.Event{Version: "0", ID: id, DetailType: *e.DetailType, Source: *e.Source, Account: a.Scope.Account, Time: at.UTC().Format("2006-01-02T15:04:05Z"),
				Region: a.Scope.Region, Resources: append([]string{}, e.Resources...), Detail: json.RawMessage(*e.Detail)}
			if _, err := a.Send(tx, ev, a.Now(), ""); err != nil {
				return err
			}
			out.Entries = append(out.Entries, types.PutEventsResultEntry{EventId: &id})
		}
		return nil
	})
	return out, err
}

func (a *api) checkEvent(e types.PutEventsRequestEntry) (code, text string) {
	var detail map[string]any
	switch {
	case deref(e.Source) == "":
		return "InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument."
	case strings.HasPrefix(*e.Source, "aws."):
		return "NotAuthorizedForSourceException", "Not authorized for the source."
	case deref(e.DetailType) == "":
		return "InvalidArgument", "Parameter DetailType is not valid. Reason: DetailType is a required argument."
	case e.Detail == nil:
		return "InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument."
	case json.Unmarshal([]byte(*e.Detail), &detail) != nil:
		return "MalformedDetail", "Detail is malformed."
	case a.bus(e.EventBusName) != nil:
		return "InternalFailure", fmt.Sprintf("Event bus %s does not exist.", *e.EventBusName)
	}
	return "", ""
}

func (a *api) describeEventBus(_ context.Context, in *sdk.DescribeEventBusInput) (*sdk.DescribeEventBusOutput, error) {
	if err := a.bus(in.Name); err != nil {
		return nil, err
	}
	return &sdk.DescribeEventBusOutput{Name: new("default"), Arn: new(a.busARN())}, nil
}

func (a *api) listEventBuses(_ context.Context, in *sdk.ListEventBusesInput) (*sdk.ListEventBusesOutput, error) {
	out := &sdk.ListEventBusesOutput{EventBuses: []types.EventBus{}}
	if strings.HasPrefix("default", deref(in.NamePrefix)) {
		out.EventBuses = append(out.EventBuses, types.EventBus{Name: new("default"), Arn: new(a.busARN())})
	}
	return out, nil
}
