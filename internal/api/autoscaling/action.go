package autoscaling

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/schedule"
	"github.com/berthdev/berth/internal/store"
)

var actionName = regexp.MustCompile(`^[^\x00-\x1f\x7f-\x9f:/|]{1,256}$`)

func (a *api) putScheduledAction(ctx context.Context, in *sdk.PutScheduledActionInput) (*sdk.PutScheduledActionOutput, error) {
	id, err := resource(in.ServiceNamespace, in.ResourceId, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	name := value(in.ScheduledActionName)
	if !actionName.MatchString(name) || strings.TrimSpace(name) != name {
		return nil, invalid("Invalid scheduled action name: %.256q", name)
	}
	return &sdk.PutScheduledActionOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := target(tx, id); err != nil {
			return err
		}
		now := a.Now()
		next := &model.ScalingAction{ResourceID: id, Name: name, CreatedAt: now,
			ARN: "arn:" + model.Partition + ":autoscaling:" + a.Scope.Region + ":" + a.Scope.Account + ":scheduledAction:" + uuid() + ":resource/ecs/" + id + ":scheduledActionName/" + name}
		if old, ok := store.ScalingActions.Get(tx, next.Key()); ok {
			copied := *old
			next = &copied
		}
		next.ChangedAt = now
		if in.Schedule != nil {
			next.Schedule = *in.Schedule
		}
		if in.Timezone != nil {
			next.Timezone = *in.Timezone
		}
		next.Start, next.End = value(in.StartTime), value(in.EndTime)
		if c := in.ScalableTargetAction; c != nil {
			next.Min, next.Max = c.MinCapacity, c.MaxCapacity
		}
		if err := checkAction(next); err != nil {
			return err
		}
		store.ScalingActions.Put(tx, next)
		return nil
	})
}

func checkAction(x *model.ScalingAction) error {
	e, err := schedule.Parse(x.Schedule)
	switch {
	case err != nil:
		return invalid("Invalid schedule expression %.256q: %s", x.Schedule, err)
	case e.Recurs() > 0 && x.Timezone != "":
		return invalid("A time zone is of at and cron expressions only.")
	case !x.Start.IsZero() && !x.End.IsZero() && !x.Start.Before(x.End):
		return invalid("The start time must be before the end time.")
	case x.Min == nil && x.Max == nil:
		return invalid("At least one of MinCapacity and MaxCapacity must be specified.")
	case value(x.Min) < 0 || value(x.Max) < 0:
		return invalid("Minimum and maximum capacity cannot be negative")
	case x.Min != nil && x.Max != nil && *x.Max < *x.Min:
		return invalid("Maximum capacity cannot be less than minimum capacity")
	}
	if x.Timezone != "" {
		if _, err := time.LoadLocation(x.Timezone); err != nil || x.Timezone == "Local" {
			return invalid("Invalid time zone: %.100q", x.Timezone)
		}
	}
	return nil
}

func (a *api) describeScheduledActions(_ context.Context, in *sdk.DescribeScheduledActionsInput) (*sdk.DescribeScheduledActionsOutput, error) {
	none, err := listed(in.ServiceNamespace, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return view(a, func(r store.Reader) (*sdk.DescribeScheduledActionsOutput, error) {
		var all []types.ScheduledAction
		for x := range store.ScalingActions.Scan(r, prefix(in.ResourceId)) {
			if none || len(in.ScheduledActionNames) > 0 && !slices.Contains(in.ScheduledActionNames, x.Name) {
				continue
			}
			one := types.ScheduledAction{CreationTime: &x.CreatedAt, ResourceId: &x.ResourceID, Schedule: &x.Schedule, ScheduledActionARN: &x.ARN, ScheduledActionName: &x.Name,
				ServiceNamespace: types.ServiceNamespaceEcs, ScalableDimension: dimension, StartTime: at(x.Start), EndTime: at(x.End),
				ScalableTargetAction: &types.ScalableTargetAction{MinCapacity: x.Min, MaxCapacity: x.Max}}
			if x.Timezone != "" {
				one.Timezone = &x.Timezone
			}
			all = append(all, one)
		}
		some, next, err := page(all, 50, in.MaxResults, in.NextToken)
		return &sdk.DescribeScheduledActionsOutput{ScheduledActions: some, NextToken: next}, err
	})
}

func (a *api) deleteScheduledAction(ctx context.Context, in *sdk.DeleteScheduledActionInput) (*sdk.DeleteScheduledActionOutput, error) {
	id, err := resource(in.ServiceNamespace, in.ResourceId, in.ScalableDimension)
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteScheduledActionOutput{}, a.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		key := id + "/" + value(in.ScheduledActionName)
		if _, ok := store.ScalingActions.Get(tx, key); !ok {
			return model.Errorf("ObjectNotFoundException", "No scheduled action found for service namespace: ecs, resource ID: %s, scalable dimension: %s, scheduled action name: %.256s",
				id, dimension, value(in.ScheduledActionName))
		}
		store.ScalingActions.Delete(tx, key)
		return nil
	})
}
