package iam

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createInstanceProfile(ctx context.Context, in *iam.CreateInstanceProfileInput) (*iam.CreateInstanceProfileOutput, error) {
	name, err := checkName("instanceProfileName", in.InstanceProfileName, 128)
	if err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	p := &model.InstanceProfile{Name: name, Path: path, ID: newID("AIPA"), ARN: a.arn("instance-profile", path, name), Tags: in.Tags, CreatedAt: a.Now()}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.InstanceProfiles.Get(tx, p.Key()); ok {
			return exists("Instance Profile %s already exists.", name)
		}
		store.InstanceProfiles.Put(tx, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateInstanceProfileOutput{InstanceProfile: &types.InstanceProfile{Arn: &p.ARN, CreateDate: &p.CreatedAt, InstanceProfileId: &p.ID,
		InstanceProfileName: &p.Name, Path: &p.Path, Roles: []types.Role{}, Tags: p.Tags}}, nil
}

func profileView(r store.Reader, p *model.InstanceProfile, whole bool) *types.InstanceProfile {
	v := &types.InstanceProfile{Arn: &p.ARN, CreateDate: &p.CreatedAt, InstanceProfileId: &p.ID, InstanceProfileName: &p.Name, Path: &p.Path,
		Roles: []types.Role{}}
	if role, ok := store.IAMRoles.Get(r, p.Role); ok && p.Role != "" {
		v.Roles = append(v.Roles, *roleView(role, false))
	}
	if whole && len(p.Tags) > 0 {
		v.Tags = p.Tags
	}
	return v
}

func profile(r store.Reader, name *string) (*model.InstanceProfile, error) {
	if name == nil {
		return nil, required("instanceProfileName")
	}
	if p, ok := store.InstanceProfiles.Get(r, strings.ToLower(*name)); ok {
		return p, nil
	}
	return nil, noSuch("Instance Profile %s cannot be found.", *name)
}

func (a *api) changeProfile(ctx context.Context, name *string, change func(store.Tx, *model.InstanceProfile) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := profile(tx, name)
		if err != nil {
			return err
		}
		next := *old
		if err := change(tx, &next); err != nil {
			return err
		}
		store.InstanceProfiles.Put(tx, &next)
		return nil
	})
}

func (a *api) getInstanceProfile(_ context.Context, in *iam.GetInstanceProfileInput) (out *iam.GetInstanceProfileOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var p *model.InstanceProfile
		if p, err = profile(r, in.InstanceProfileName); err == nil {
			out = &iam.GetInstanceProfileOutput{InstanceProfile: profileView(r, p, true)}
		}
	})
	return out, err
}

func (a *api) deleteInstanceProfile(ctx context.Context, in *iam.DeleteInstanceProfileInput) (*iam.DeleteInstanceProfileOutput, error) {
	return &iam.DeleteInstanceProfileOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		p, err := profile(tx, in.InstanceProfileName)
		if err != nil {
			return err
		}
		if p.Role != "" {
			return conflict("remove roles from instance profile")
		}
		store.InstanceProfiles.Delete(tx, p.Key())
		return nil
	})
}

// profiles lists those that keep wants.
func (a *api) profiles(keep func(*model.InstanceProfile) bool, marker *string, maxItems *int32) ([]types.InstanceProfile, bool, *string, error) {
	var all []types.InstanceProfile
	a.Store.View(func(r store.Reader) {
		for p := range store.InstanceProfiles.Scan(r, "") {
			if keep(p) {
				all = append(all, *profileView(r, p, false))
			}
		}
	})
	return page(all, func(p types.InstanceProfile) string { return strings.ToLower(*p.InstanceProfileName) }, marker, maxItems)
}

func (a *api) listInstanceProfiles(_ context.Context, in *iam.ListInstanceProfilesInput) (*iam.ListInstanceProfilesOutput, error) {
	part, more, next, err := a.profiles(func(p *model.InstanceProfile) bool { return strings.HasPrefix(p.Path, text(in.PathPrefix)) }, in.Marker, in.MaxItems)
	return &iam.ListInstanceProfilesOutput{InstanceProfiles: part, IsTruncated: more, Marker: next}, err
}

func (a *api) listInstanceProfilesForRole(_ context.Context, in *iam.ListInstanceProfilesForRoleInput) (*iam.ListInstanceProfilesForRoleOutput, error) {
	var of *model.IAMRole
	var err error
	a.Store.View(func(r store.Reader) { of, err = role(r, in.RoleName) })
	if err != nil {
		return nil, err
	}
	part, more, next, err := a.profiles(func(p *model.InstanceProfile) bool { return p.Role == of.Key() }, in.Marker, in.MaxItems)
	return &iam.ListInstanceProfilesForRoleOutput{InstanceProfiles: part, IsTruncated: more, Marker: next}, err
}

func (a *api) addRoleToInstanceProfile(ctx context.Context, in *iam.AddRoleToInstanceProfileInput) (*iam.AddRoleToInstanceProfileOutput, error) {
	return &iam.AddRoleToInstanceProfileOutput{}, a.changeProfile(ctx, in.InstanceProfileName, func(tx store.Tx, p *model.InstanceProfile) error {
		r, err := role(tx, in.RoleName)
		if err != nil {
			return err
		}
		if p.Role != "" {
			return model.Errorf("LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
		}
		p.Role = r.Key()
		return nil
	})
}

func (a *api) removeRoleFromInstanceProfile(ctx context.Context, in *iam.RemoveRoleFromInstanceProfileInput) (*iam.RemoveRoleFromInstanceProfileOutput, error) {
	return &iam.RemoveRoleFromInstanceProfileOutput{}, a.changeProfile(ctx, in.InstanceProfileName, func(tx store.Tx, p *model.InstanceProfile) error {
		if p.Role == "" || p.Role != strings.ToLower(text(in.RoleName)) {
			return cannotBeFound("role", text(in.RoleName))
		}
		p.Role = ""
		return nil
	})
}

func (a *api) tagInstanceProfile(ctx context.Context, in *iam.TagInstanceProfileInput) (*iam.TagInstanceProfileOutput, error) {
	return &iam.TagInstanceProfileOutput{}, a.changeProfile(ctx, in.InstanceProfileName, func(_ store.Tx, p *model.InstanceProfile) (err error) {
		p.Tags, err = withTags(p.Tags, in.Tags)
		return err
	})
}

func (a *api) untagInstanceProfile(ctx context.Context, in *iam.UntagInstanceProfileInput) (*iam.UntagInstanceProfileOutput, error) {
	return &iam.UntagInstanceProfileOutput{}, a.changeProfile(ctx, in.InstanceProfileName, func(_ store.Tx, p *model.InstanceProfile) error {
		p.Tags = withoutTags(p.Tags, in.TagKeys)
		return nil
	})
}

func (a *api) listInstanceProfileTags(_ context.Context, in *iam.ListInstanceProfileTagsInput) (*iam.ListInstanceProfileTagsOutput, error) {
	var p *model.InstanceProfile
	var err error
	a.Store.View(func(r store.Reader) { p, err = profile(r, in.InstanceProfileName) })
	if err != nil {
		return nil, err
	}
	part, more, next, err := pageTags(p.Tags, in.Marker, in.MaxItems)
	return &iam.ListInstanceProfileTagsOutput{Tags: part, IsTruncated: more, Marker: next}, err
}
