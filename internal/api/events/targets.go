package events

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/berthdev/berth/internal/model"
	engine "github.com/berthdev/berth/internal/serve/events"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) putTargets(ctx context.Context, in *sdk.PutTargetsInput) (*sdk.PutTargetsOutput, error) {
	if len(in.Targets) == 0 || len(in.Targets) > 100 {
		return nil, invalid("1 validation error detected: Value at 'targets' failed to satisfy constraint: Member must have length between 1 and 100")
	}
	for i := range in.Targets {
		if err := checkTarget(&in.Targets[i]); err != nil {
			return nil, err
		}
	}
	return &sdk.PutTargetsOutput{FailedEntries: []types.PutTargetsResultEntry{}}, a.change(ctx, in.Rule, in.EventBusName, func(r *model.EventRule) error {
		next := slices.Clone(r.Targets)
		for _, t := range in.Targets {
			next = slices.DeleteFunc(next, func(o types.Target) bool { return *o.Id == *t.Id })
			next = append(next, t)
		}
		if len(next) > maxTargets {
			return &types.LimitExceededException{Message: new("The requested resource exceeds the maximum number allowed.")}
		}
		r.Targets = next
		return nil
	})
}

func checkTarget(t *types.Target) error {
	id := deref(t.Id)
	if !nameForm.MatchString(id) {
		return invalid("1 validation error detected: Value '%.80s' at 'targets.1.member.id' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\.\\-_A-Za-z0-9]+", id)
	}
	kind := engine.TargetKind(deref(t.Arn))
	inputs := 0
	for _, given := range []bool{t.Input != nil, t.InputPath != nil, t.InputTransformer != nil} {
		if given {
			inputs++
		}
	}
	switch {
	case kind == "" && !strings.HasPrefix(deref(t.Arn), "arn:"):
		return invalid("Parameter %.200s is not valid. Reason: Provided Arn is not in correct format.", deref(t.Arn))
	case kind == "":
		return invalid("Parameter %.200s is not valid. Reason: Berth's targets are ECS clusters, log groups, SNS topics and webhooks (arn:berth:webhook:::https://…).", *t.Arn)
	case inputs > 1:
		return invalid("Only one of Input, InputPath, or InputTransformer must be provided for target %s.", id)
	case kind == "ecs" && t.EcsParameters == nil:
		return invalid("Parameter EcsParameters must be specified for target %s.", id)
	case kind == "ecs" && deref(t.EcsParameters.TaskDefinitionArn) == "":
		return invalid("Parameter TaskDefinitionArn must be specified for target %s.", id)
	case kind == "ecs" && deref(t.RoleArn) == "":
		return invalid("RoleArn is required for target %s.", *t.Arn)
	case kind != "ecs" && t.EcsParameters != nil:
		return invalid("Parameter EcsParameters is not supported for target %s.", id)
	case t.Input != nil && (len(*t.Input) > maxInput || !json.Valid([]byte(*t.Input))):
		return invalid("JSON syntax error in input for target %s : it must be JSON of at most %d characters.", id, maxInput)
	}
	if p := t.EcsParameters; p != nil && p.TaskCount != nil && (*p.TaskCount < 1 || *p.TaskCount > 10) {
		return invalid("TaskCount of target %s is 1 to 10.", id)
	}
	if t.InputPath != nil {
		if _, err := engine.Path("{}", *t.InputPath); err != nil {
			return invalid("Invalid InputPath for target %s : %v", id, err)
		}
	}
	if x := t.InputTransformer; x != nil {
		if deref(x.InputTemplate) == "" || len(*x.InputTemplate) > maxInput || len(x.InputPathsMap) > 100 {
			return invalid("Invalid InputTemplate for target %s : it has 1 to %d characters.", id, maxInput)
		}
		for _, path := range x.InputPathsMap {
			if _, err := engine.Path("{}", path); err != nil {
				return invalid("Invalid InputPath for target %s : %v", id, err)
			}
		}
	}
	if p := t.RetryPolicy; p != nil {
		if s := p.MaximumEventAgeInSeconds; s != nil && (*s < 60 || *s > 86400) {
			return invalid("MaximumEventAgeInSeconds of target %s is 60 to 86400.", id)
		}
		if n := p.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 185) {
			return invalid("MaximumRetryAttempts of target %s is 0 to 185.", id)
		}
	}
	return nil
}

func (a *api) removeTargets(ctx context.Context, in *sdk.RemoveTargetsInput) (*sdk.RemoveTargetsOutput, error) {
	if len(in.Ids) == 0 || len(in.Ids) > 100 {
		return nil, invalid("1 validation error detected: Value at 'ids' failed to satisfy constraint: Member must have length between 1 and 100")
	}
	return &sdk.RemoveTargetsOutput{FailedEntries: []types.RemoveTargetsResultEntry{}}, a.change(ctx, in.Rule, in.EventBusName, func(r *model.EventRule) error {
		r.Targets = slices.DeleteFunc(slices.Clone(r.Targets), func(t types.Target) bool { return slices.Contains(in.Ids, *t.Id) })
		return nil
	})
}

func (a *api) listTargetsByRule(_ context.Context, in *sdk.ListTargetsByRuleInput) (out *sdk.ListTargetsByRuleOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var row *model.EventRule
		if row, err = a.rule(r, in.Rule, in.EventBusName); err == nil { // five at most: one page
			out = &sdk.ListTargetsByRuleOutput{Targets: append([]types.Target{}, row.Targets...)}
		}
	})
	return out, err
}

func (a *api) listRuleNamesByTarget(_ context.Context, in *sdk.ListRuleNamesByTargetInput) (*sdk.ListRuleNamesByTargetOutput, error) {
	if err := a.bus(in.EventBusName); err != nil {
		return nil, err
	}
	var names []string
	a.Store.View(func(r store.Reader) {
		for row := range store.EventRules.Scan(r, "") {
			if slices.ContainsFunc(row.Targets, func(t types.Target) bool { return deref(t.Arn) == deref(in.TargetArn) }) {
				names = append(names, row.Name)
			}
		}
	})
	names, next, err := page(names, in.NextToken, in.Limit)
	return &sdk.ListRuleNamesByTargetOutput{RuleNames: append([]string{}, names...), NextToken: next}, err
}

// named is the rule that an ARN names.
func (a *api) named(arn *string) *string {
	name, _ := strings.CutPrefix(deref(arn), a.ruleARN(""))
	name = strings.TrimPrefix(name, "default/")
	return &name
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &sdk.TagResourceOutput{}, a.change(ctx, a.named(in.ResourceARN), nil, func(r *model.EventRule) error {
		next := slices.Clone(r.Tags)
		for _, t := range in.Tags {
			next = slices.DeleteFunc(next, func(o types.Tag) bool { return *o.Key == *t.Key })
			next = append(next, t)
		}
		r.Tags = next
		return checkTags(next)
	})
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.change(ctx, a.named(in.ResourceARN), nil, func(r *model.EventRule) error {
		r.Tags = slices.DeleteFunc(slices.Clone(r.Tags), func(t types.Tag) bool { return slices.Contains(in.TagKeys, *t.Key) })
		return nil
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (out *sdk.ListTagsForResourceOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var row *model.EventRule
		if row, err = a.rule(r, a.named(in.ResourceARN), nil); err == nil {
			out = &sdk.ListTagsForResourceOutput{Tags: append([]types.Tag{}, row.Tags...)}
		}
	})
	return out, err
}
