package scheduler

import (
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createScheduleGroup(ctx context.Context, in *sdk.CreateScheduleGroupInput) (*sdk.CreateScheduleGroupOutput, error) {
	name := deref(in.Name)
	if !nameForm.MatchString(name) {
		return nil, invalid("1 validation error detected: Value '%.80s' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9a-zA-Z-_.]+$", name)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &sdk.CreateScheduleGroupOutput{ScheduleGroupArn: new(a.groupARN(name))}, a.Store.Update(ctx, func(tx store.Tx) error {
		if group(tx, name) == nil {
			return model.Errorf("ConflictException", "Schedule group %s already exists.", name)
		}
		n := 0
		for range store.ScheduleGroups.Scan(tx, "") {
			n++
		}
		if n >= 500 {
			return model.Errorf("ServiceQuotaExceededException", "There are at most 500 schedule groups.")
		}
		store.ScheduleGroups.Put(tx, &model.ScheduleGroup{Name: name, ARN: a.groupARN(name), Tags: in.Tags, CreatedAt: a.Now(), ChangedAt: a.Now()})
		return nil
	})
}

// row is a group's row; the default one may have none.
func (a *api) row(r store.Reader, name string) (*model.ScheduleGroup, error) {
	if g, ok := store.ScheduleGroups.Get(r, name); ok {
		return g, nil
	}
	if name == defaultGroup {
		return &model.ScheduleGroup{Name: name, ARN: a.groupARN(name)}, nil
	}
	return nil, gone("Schedule group %s does not exist.", name)
}

func (a *api) getScheduleGroup(_ context.Context, in *sdk.GetScheduleGroupInput) (out *sdk.GetScheduleGroupOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var g *model.ScheduleGroup
		if g, err = a.row(r, deref(in.Name)); err == nil {
			out = &sdk.GetScheduleGroupOutput{Name: new(g.Name), Arn: new(g.ARN), State: types.ScheduleGroupStateActive, CreationDate: optional(g.CreatedAt),
				LastModificationDate: optional(g.ChangedAt)}
		}
	})
	return out, err
}

func (a *api) deleteScheduleGroup(ctx context.Context, in *sdk.DeleteScheduleGroupInput) (*sdk.DeleteScheduleGroupOutput, error) {
	name := deref(in.Name)
	if name == defaultGroup {
		return nil, invalid("Default schedule group cannot be deleted.")
	}
	return &sdk.DeleteScheduleGroupOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if err := group(tx, name); err != nil {
			return err
		}
		for s := range store.Schedules.Scan(tx, name+"/") { // they go with it
			store.Schedules.Delete(tx, s.Key())
			store.Ticks.Delete(tx, "schedule/"+s.Key())
		}
		store.ScheduleGroups.Delete(tx, name)
		return nil
	})
}

func (a *api) listScheduleGroups(_ context.Context, in *sdk.ListScheduleGroupsInput) (*sdk.ListScheduleGroupsOutput, error) {
	rows := map[string]*model.ScheduleGroup{}
	a.Store.View(func(r store.Reader) {
		if g, err := a.row(r, defaultGroup); err == nil {
			rows[g.Name] = g
		}
		for g := range store.ScheduleGroups.Scan(r, "") {
			rows[g.Name] = g
		}
	})
	var names []string
	for n := range rows {
		if strings.HasPrefix(n, deref(in.NamePrefix)) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	names, next, err := page(names, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListScheduleGroupsOutput{ScheduleGroups: []types.ScheduleGroupSummary{}, NextToken: next}
	for _, n := range names {
		g := rows[n]
		out.ScheduleGroups = append(out.ScheduleGroups, types.ScheduleGroupSummary{Name: new(g.Name), Arn: new(g.ARN), State: types.ScheduleGroupStateActive,
			CreationDate: optional(g.CreatedAt), LastModificationDate: optional(g.ChangedAt)})
	}
	return out, nil
}

func checkTags(tags []types.Tag) error {
	if len(tags) > 50 {
		return invalid("A resource has at most 50 tags.")
	}
	for _, t := range tags {
		if k := deref(t.Key); k == "" || len(k) > 128 || strings.HasPrefix(k, "aws:") || len(deref(t.Value)) > 256 {
			return invalid("The tag key %.60q is not valid.", k)
		}
	}
	return nil
}

// tagged changes the tags of the group with an ARN: schedules have none of their own.
func (a *api) tagged(ctx context.Context, arn *string, change func([]types.Tag) []types.Tag) error {
	name, ok := strings.CutPrefix(deref(arn), a.groupARN(""))
	if !ok {
		return invalid("The ResourceArn %.200s is not that of a schedule group.", deref(arn))
	}
	return a.Store.Update(ctx, func(tx store.Tx) error {
		g, err := a.row(tx, name)
		if err != nil {
			return err
		}
		next := *g
		next.Tags, next.ChangedAt = change(slices.Clone(g.Tags)), a.Now()
		if err := checkTags(next.Tags); err != nil {
			return err
		}
		store.ScheduleGroups.Put(tx, &next)
		return nil
	})
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	return &sdk.TagResourceOutput{}, a.tagged(ctx, in.ResourceArn, func(all []types.Tag) []types.Tag {
		for _, t := range in.Tags {
			all = slices.DeleteFunc(all, func(o types.Tag) bool { return deref(o.Key) == deref(t.Key) })
			all = append(all, t)
		}
		return all
	})
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, a.tagged(ctx, in.ResourceArn, func(all []types.Tag) []types.Tag {
		return slices.DeleteFunc(all, func(o types.Tag) bool { return slices.Contains(in.TagKeys, deref(o.Key)) })
	})
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (out *sdk.ListTagsForResourceOutput, err error) {
	name, ok := strings.CutPrefix(deref(in.ResourceArn), a.groupARN(""))
	if !ok {
		return nil, invalid("The ResourceArn %.200s is not that of a schedule group.", deref(in.ResourceArn))
	}
	a.Store.View(func(r store.Reader) {
		var g *model.ScheduleGroup
		if g, err = a.row(r, name); err == nil {
			out = &sdk.ListTagsForResourceOutput{Tags: append([]types.Tag{}, g.Tags...)}
		}
	})
	return out, err
}
