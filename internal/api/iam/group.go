package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createGroup(ctx context.Context, in *iam.CreateGroupInput) (*iam.CreateGroupOutput, error) {
	name, err := checkName("groupName", in.GroupName, 128)
	if err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	g := &model.IAMGroup{IAMIdentity: model.IAMIdentity{Name: name, Path: path, ID: newID("AGPA"), ARN: a.arn("group", path, name), CreatedAt: a.Now()}}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.IAMGroups.Get(tx, g.Key()); ok {
			return exists("Group with name %s already exists.", name)
		}
		store.IAMGroups.Put(tx, g)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateGroupOutput{Group: groupView(g)}, nil
}

func groupView(g *model.IAMGroup) *types.Group {
	return &types.Group{Arn: &g.ARN, CreateDate: &g.CreatedAt, GroupId: &g.ID, GroupName: &g.Name, Path: &g.Path}
}

func group(r store.Reader, name *string) (*model.IAMGroup, error) {
	if name == nil {
		return nil, required("groupName")
	}
	if g, ok := store.IAMGroups.Get(r, strings.ToLower(*name)); ok {
		return g, nil
	}
	return nil, cannotBeFound("group", *name)
}

func (a *api) changeGroup(ctx context.Context, name *string, change func(store.Tx, *model.IAMGroup) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := group(tx, name)
		if err != nil {
			return err
		}
		next := *old
		if err := change(tx, &next); err != nil {
			return err
		}
		store.IAMGroups.Put(tx, &next)
		return nil
	})
}

func (a *api) getGroup(_ context.Context, q *iam.GetGroupInput) (*iam.GetGroupOutput, error) {
	var g *model.IAMGroup
	var users []types.User
	var err error
	a.Store.View(func(r store.Reader) {
		if g, err = group(r, q.GroupName); err == nil {
			for _, u := range members(r, g.Key()) {
				users = append(users, *userView(u, false))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	part, more, next, err := page(users, func(u types.User) string { return strings.ToLower(*u.UserName) }, q.Marker, q.MaxItems)
	return &iam.GetGroupOutput{Group: groupView(g), Users: part, IsTruncated: more, Marker: next}, err
}

// members are the users of a group, by its key.
func members(r store.Reader, group string) (all []*model.IAMUser) {
	for u := range store.IAMUsers.Scan(r, "") {
		if in(u, group) {
			all = append(all, u)
		}
	}
	return all
}

func (a *api) updateGroup(ctx context.Context, in *iam.UpdateGroupInput) (*iam.UpdateGroupOutput, error) {
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := group(tx, in.GroupName)
		if err != nil {
			return err
		}
		next := *old
		if err := a.rename(&next.IAMIdentity, "group", in.NewGroupName, in.NewPath); err != nil {
			return err
		}
		if _, taken := store.IAMGroups.Get(tx, next.Key()); taken && next.Key() != old.Key() {
			return exists("Group with name %s already exists.", next.Name)
		}
		for _, u := range members(tx, old.Key()) {
			user := *u
			user.Groups = slices.Clone(u.Groups)
			user.Groups[slices.Index(user.Groups, old.Key())] = next.Key()
			store.IAMUsers.Put(tx, &user)
		}
		store.IAMGroups.Delete(tx, old.Key())
		store.IAMGroups.Put(tx, &next)
		return nil
	})
	return &iam.UpdateGroupOutput{}, err
}

func (a *api) deleteGroup(ctx context.Context, in *iam.DeleteGroupInput) (*iam.DeleteGroupOutput, error) {
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		g, err := group(tx, in.GroupName)
		if err != nil {
			return err
		}
		if len(members(tx, g.Key())) > 0 {
			return conflict("remove users from group")
		}
		if err := bare(&g.IAMIdentity); err != nil {
			return err
		}
		store.IAMGroups.Delete(tx, g.Key())
		return nil
	})
	return &iam.DeleteGroupOutput{}, err
}

func (a *api) listGroups(_ context.Context, in *iam.ListGroupsInput) (*iam.ListGroupsOutput, error) {
	var all []types.Group
	a.Store.View(func(r store.Reader) {
		for g := range store.IAMGroups.Scan(r, "") {
			if strings.HasPrefix(g.Path, text(in.PathPrefix)) {
				all = append(all, *groupView(g))
			}
		}
	})
	part, more, next, err := page(all, groupName, in.Marker, in.MaxItems)
	return &iam.ListGroupsOutput{Groups: part, IsTruncated: more, Marker: next}, err
}

func groupName(g types.Group) string { return strings.ToLower(*g.GroupName) }

func (a *api) listGroupsForUser(_ context.Context, in *iam.ListGroupsForUserInput) (*iam.ListGroupsForUserOutput, error) {
	var all []types.Group
	var err error
	a.Store.View(func(r store.Reader) {
		var u *model.IAMUser
		if u, err = user(r, in.UserName); err != nil {
			return
		}
		for _, name := range slices.Sorted(slices.Values(u.Groups)) {
			if g, ok := store.IAMGroups.Get(r, name); ok {
				all = append(all, *groupView(g))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	part, more, next, err := page(all, groupName, in.Marker, in.MaxItems)
	return &iam.ListGroupsForUserOutput{Groups: part, IsTruncated: more, Marker: next}, err
}

func (a *api) addUserToGroup(ctx context.Context, q *iam.AddUserToGroupInput) (*iam.AddUserToGroupOutput, error) {
	return &iam.AddUserToGroupOutput{}, a.changeUser(ctx, q.UserName, func(tx store.Tx, u *model.IAMUser) error {
		g, err := group(tx, q.GroupName)
		if err != nil || in(u, g.Key()) {
			return err
		}
		if len(u.Groups) >= maxGroupsOf {
			return model.Errorf("LimitExceeded", "Cannot exceed quota for GroupsPerUser: %d", maxGroupsOf)
		}
		u.Groups = append(slices.Clone(u.Groups), g.Key())
		return nil
	})
}

func (a *api) removeUserFromGroup(ctx context.Context, q *iam.RemoveUserFromGroupInput) (*iam.RemoveUserFromGroupOutput, error) {
	return &iam.RemoveUserFromGroupOutput{}, a.changeUser(ctx, q.UserName, func(tx store.Tx, u *model.IAMUser) error {
		g, err := group(tx, q.GroupName)
		if err != nil {
			return err
		}
		if !in(u, g.Key()) {
			return noSuch("User %s is not in group %s.", u.Name, g.Name)
		}
		u.Groups = slices.DeleteFunc(slices.Clone(u.Groups), func(name string) bool { return name == g.Key() })
		return nil
	})
}
