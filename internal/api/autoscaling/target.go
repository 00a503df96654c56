package autoscaling

import (
	"context"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) registerScalableTarget(ctx context.Context, in *sdk.RegisterScalableTargetInput) (*sdk.RegisterScalableTargetOutput, error) {
	id, err := resource(in.ServiceNamespace, in.ResourceId, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	if in.RoleARN != nil && !strings.HasPrefix(*in.RoleARN, "arn:") {
		return nil, invalid("Invalid role ARN: %.200s", *in.RoleARN)
	}
	if err := checkTags(nil, in.Tags); err != nil {
		return nil, err
	}
	var arn string
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := service(tx, id); !ok {
			return invalid("ECS service doesn't exist: %s", id)
		}
		next := &model.ScalableTarget{ResourceID: id, ARN: a.Scope.ARN("application-autoscaling", "scalable-target/0ec5"+digits(32)), CreatedAt: a.Now(), Tags: in.Tags,
			RoleARN: "arn:" + model.Partition + ":iam::" + a.Scope.Account + ":role/aws-service-role/ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService"}
		next.Suspended = types.SuspendedState{DynamicScalingInSuspended: new(false), DynamicScalingOutSuspended: new(false), ScheduledScalingSuspended: new(false)}
		old, ok := store.ScalableTargets.Get(tx, id)
		switch {
		case ok && len(in.Tags) > 0:
			return invalid("The scalable target that you tried to tag already exists. To update tags on an existing scalable target, use the TagResource API.")
		case ok:
			copied := *old
			next = &copied
		case in.MinCapacity == nil || in.MaxCapacity == nil:
			return invalid("MinCapacity and MaxCapacity are required to register a new scalable target.")
		default: // activities of an earlier target stay
			for newest := range store.ScalingActivities.Scan(tx, id+"/") {
				next.Seq = newest.Seq
				break
			}
		}
		if in.MinCapacity != nil {
			next.Min = *in.MinCapacity
		}
		if in.MaxCapacity != nil {
			next.Max = *in.MaxCapacity
		}
		switch {
		case next.Min < 0 || next.Max < 0:
			return invalid("Minimum and maximum capacity cannot be negative")
		case next.Max < next.Min:
			return invalid("Maximum capacity cannot be less than minimum capacity")
		}
		if in.MinCapacity != nil || in.MaxCapacity != nil {
			next.Bounds++
		}
		if s := in.SuspendedState; s != nil {
			for _, m := range []struct{ into, from **bool }{{&next.Suspended.DynamicScalingInSuspended, &s.DynamicScalingInSuspended},
				{&next.Suspended.DynamicScalingOutSuspended, &s.DynamicScalingOutSuspended}, {&next.Suspended.ScheduledScalingSuspended, &s.ScheduledScalingSuspended}} {
				if *m.from != nil {
					*m.into = *m.from
				}
			}
		}
		arn = next.ARN
		store.ScalableTargets.Put(tx, next)
		return nil
	})
	return &sdk.RegisterScalableTargetOutput{ScalableTargetARN: &arn}, err
}

func (a *api) describeScalableTargets(_ context.Context, in *sdk.DescribeScalableTargetsInput) (*sdk.DescribeScalableTargetsOutput, error) {
	none, err := listed(in.ServiceNamespace, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	return view(a, func(r store.Reader) (*sdk.DescribeScalableTargetsOutput, error) {
		var all []types.ScalableTarget
		for t := range store.ScalableTargets.Scan(r, "") {
			if none || len(in.ResourceIds) > 0 && !slices.Contains(in.ResourceIds, t.ResourceID) {
				continue
			}
			all = append(all, types.ScalableTarget{CreationTime: &t.CreatedAt, MinCapacity: &t.Min, MaxCapacity: &t.Max, ResourceId: &t.ResourceID, RoleARN: &t.RoleARN,
				ScalableDimension: dimension, ServiceNamespace: types.ServiceNamespaceEcs, ScalableTargetARN: &t.ARN, SuspendedState: &t.Suspended})
		}
		some, next, err := page(all, 50, in.MaxResults, in.NextToken)
		return &sdk.DescribeScalableTargetsOutput{ScalableTargets: some, NextToken: next}, err
	})
}

func (a *api) deregisterScalableTarget(ctx context.Context, in *sdk.DeregisterScalableTargetInput) (*sdk.DeregisterScalableTargetOutput, error) {
	id, err := resource(in.ServiceNamespace, in.ResourceId, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	return &sdk.DeregisterScalableTargetOutput{}, a.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		if _, err := target(tx, id); err != nil {
			return err
		}
		store.DropScaling(tx, id)
		return nil
	})
}

func (a *api) describeScalingActivities(_ context.Context, in *sdk.DescribeScalingActivitiesInput) (*sdk.DescribeScalingActivitiesOutput, error) {
	none, err := listed(in.ServiceNamespace, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	if in.ScalableDimension != "" && in.ResourceId == nil {
		return nil, invalid("A scalable dimension needs a resource ID.")
	}
	return view(a, func(r store.Reader) (*sdk.DescribeScalingActivitiesOutput, error) {
		var rows []*model.ScalingActivity
		for x := range store.ScalingActivities.Scan(r, prefix(in.ResourceId)) {
			if !none && a.Now().Sub(x.Began) < model.KeepActivity && (len(x.Reasons) == 0 || value(in.IncludeNotScaledActivities)) {
				rows = append(rows, x)
			}
		}
		slices.SortStableFunc(rows, func(x, y *model.ScalingActivity) int { return y.Began.Compare(x.Began) })
		some, next, err := page(rows, 50, in.MaxResults, in.NextToken)
		out := &sdk.DescribeScalingActivitiesOutput{NextToken: next, ScalingActivities: []types.ScalingActivity{}}
		for _, x := range some {
			one := types.ScalingActivity{ActivityId: &x.ID, Cause: &x.Cause, Description: &x.Description, ResourceId: &x.ResourceID, ScalableDimension: dimension,
				ServiceNamespace: types.ServiceNamespaceEcs, StartTime: &x.Began, StatusCode: x.Status, NotScaledReasons: x.Reasons}
			if !x.Ended.IsZero() {
				one.EndTime = &x.Ended
			}
			if x.Message != "" {
				one.StatusMessage = &x.Message
			}
			out.ScalingActivities = append(out.ScalingActivities, one)
		}
		return out, err
	})
}

// prefix is what the keys of what belongs to a resource begin with.
func prefix(id *string) string {
	if id == nil {
		return ""
	}
	return *id + "/"
}

// checkTags checks tags that are added to others.
func checkTags(old, given map[string]string) error {
	all := maps.Clone(old)
	if all == nil {
		all = map[string]string{}
	}
	for k, v := range given {
		if k == "" || len(k) > 128 || len(v) > 256 || strings.HasPrefix(strings.ToLower(k), "aws:") {
			return invalid("The tag %.128q is not valid.", k)
		}
		all[k] = v
	}
	if len(all) > 50 {
		return model.Errorf("TooManyTagsException", "A scalable target has at most 50 tags.")
	}
	return nil
}

func byARN(r store.Reader, arn *string) (*model.ScalableTarget, error) {
	for t := range store.ScalableTargets.Scan(r, "") {
		if t.ARN == value(arn) {
			return t, nil
		}
	}
	return nil, model.Errorf("ResourceNotFoundException", "No scalable target found for resource ARN: %.200s", value(arn))
}

func (a *api) tagged(ctx context.Context, arn *string, change func(map[string]string) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		t, err := byARN(tx, arn)
		if err != nil {
			return err
		}
		next := *t
		if next.Tags = maps.Clone(t.Tags); next.Tags == nil {
			next.Tags = map[string]string{}
		}
		if err := change(next.Tags); err != nil {
			return err
		}
		store.ScalableTargets.Put(tx, &next)
		return nil
	})
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	return &sdk.TagResourceOutput{}, a.tagged(ctx, in.ResourceARN, func(tags map[string]string) error {
		defer maps.Copy(tags, in.Tags)
		return checkTags(tags, in.Tags)
	})
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.tagged(ctx, in.ResourceARN, func(tags map[string]string) error {
		maps.DeleteFunc(tags, func(k, _ string) bool { return slices.Contains(in.TagKeys, k) })
		return nil
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	return view(a, func(r store.Reader) (*sdk.ListTagsForResourceOutput, error) {
		t, err := byARN(r, in.ResourceARN)
		if err != nil {
			return nil, err
		}
		out := &sdk.ListTagsForResourceOutput{Tags: map[string]string{}}
		maps.Copy(out.Tags, t.Tags)
		return out, nil
	})
}
