package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createUser(ctx context.Context, in *iam.CreateUserInput) (*iam.CreateUserOutput, error) {
	name, err := checkName("userName", in.UserName, 64)
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
	u := &model.IAMUser{IAMIdentity: model.IAMIdentity{Name: name, Path: path, ID: newID("AIDA"), ARN: a.arn("user", path, name), CreatedAt: a.Now()},
		Boundary: text(in.PermissionsBoundary), Tags: in.Tags}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.IAMUsers.Get(tx, u.Key()); ok {
			return exists("User with name %s already exists.", name)
		}
		if err := a.checkBoundary(tx, in.PermissionsBoundary); err != nil {
			return err
		}
		store.IAMUsers.Put(tx, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateUserOutput{User: userView(u, true)}, nil
}

func userView(u *model.IAMUser, whole bool) *types.User {
	v := &types.User{Arn: &u.ARN, CreateDate: &u.CreatedAt, Path: &u.Path, UserId: &u.ID, UserName: &u.Name}
	if whole {
		v.PermissionsBoundary = boundary(u.Boundary)
		if len(u.Tags) > 0 {
			v.Tags = u.Tags
		}
	}
	return v
}

func user(r store.Reader, name *string) (*model.IAMUser, error) {
	if name == nil {
		return nil, required("userName")
	}
	if u, ok := store.IAMUsers.Get(r, strings.ToLower(*name)); ok {
		return u, nil
	}
	return nil, cannotBeFound("user", *name)
}

// userOrCaller is the user of that name or, without one, the one that calls.
func (a *api) userOrCaller(ctx context.Context, r store.Reader, name *string) (*model.IAMUser, error) {
	if name != nil {
		return user(r, name)
	}
	return user(r, callingUser(ctx))
}

// callingUser is the name of the user that calls; nil when nobody of IAM's users does.
func callingUser(ctx context.Context) *string {
	if arn := wire.CallerFrom(ctx).ARN; strings.Contains(arn, ":iam::") && strings.Contains(arn, ":user/") {
		return new(model.ARNTail(arn))
	}
	return nil
}

func (a *api) changeUser(ctx context.Context, name *string, change func(store.Tx, *model.IAMUser) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := user(tx, name)
		if err != nil {
			return err
		}
		next := *old
		if err := change(tx, &next); err != nil {
			return err
		}
		store.IAMUsers.Put(tx, &next)
		return nil
	})
}

func (a *api) getUser(ctx context.Context, in *iam.GetUserInput) (out *iam.GetUserOutput, err error) {
	if c := wire.CallerFrom(ctx); in.UserName == nil && strings.HasSuffix(c.ARN, ":root") {
		return &iam.GetUserOutput{User: &types.User{Arn: &c.ARN, UserId: &c.Account, CreateDate: new(a.Now()), Path: new("/")}}, nil
	}
	a.Store.View(func(r store.Reader) {
		var u *model.IAMUser
		if u, err = a.userOrCaller(ctx, r, in.UserName); err == nil {
			out = &iam.GetUserOutput{User: userView(u, true)}
		}
	})
	return out, err
}

// updateUser renames a user, or moves it to another path.
func (a *api) updateUser(ctx context.Context, in *iam.UpdateUserInput) (*iam.UpdateUserOutput, error) {
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := user(tx, in.UserName)
		if err != nil {
			return err
		}
		next := *old
		if err := a.rename(&next.IAMIdentity, "user", in.NewUserName, in.NewPath); err != nil {
			return err
		}
		if _, taken := store.IAMUsers.Get(tx, next.Key()); taken && next.Key() != old.Key() {
			return exists("User with name %s already exists.", next.Name)
		}
		for k := range store.AccessKeys.By(tx, store.ByName, old.Key()) {
			key := *k
			key.User = next.Key()
			store.AccessKeys.Put(tx, &key)
		}
		store.IAMUsers.Delete(tx, old.Key())
		store.IAMUsers.Put(tx, &next)
		return nil
	})
	return &iam.UpdateUserOutput{}, err
}

// rename gives an identity another name or path.
func (a *api) rename(i *model.IAMIdentity, kind string, name, path *string) (err error) {
	if name != nil {
		if i.Name, err = checkName("new"+strings.ToUpper(kind[:1])+kind[1:]+"Name", name, 128); err != nil {
			return err
		}
	}
	if path != nil {
		if i.Path, err = checkPath(path); err != nil {
			return err
		}
	}
	i.ARN = a.arn(kind, i.Path, i.Name)
	return nil
}

func (a *api) deleteUser(ctx context.Context, in *iam.DeleteUserInput) (*iam.DeleteUserOutput, error) {
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		u, err := user(tx, in.UserName)
		if err != nil {
			return err
		}
		for range store.AccessKeys.By(tx, store.ByName, u.Key()) {
			return conflict("delete access keys")
		}
		if len(u.Groups) > 0 {
			return conflict("remove users from group")
		}
		if err := bare(&u.IAMIdentity); err != nil {
			return err
		}
		store.IAMUsers.Delete(tx, u.Key())
		return nil
	})
	return &iam.DeleteUserOutput{}, err
}

func (a *api) listUsers(_ context.Context, in *iam.ListUsersInput) (*iam.ListUsersOutput, error) {
	var all []types.User
	a.Store.View(func(r store.Reader) {
		for u := range store.IAMUsers.Scan(r, "") {
			if strings.HasPrefix(u.Path, text(in.PathPrefix)) {
				all = append(all, *userView(u, false))
			}
		}
	})
	part, more, next, err := page(all, func(u types.User) string { return strings.ToLower(*u.UserName) }, in.Marker, in.MaxItems)
	return &iam.ListUsersOutput{Users: part, IsTruncated: more, Marker: next}, err
}

func (a *api) tagUser(ctx context.Context, in *iam.TagUserInput) (*iam.TagUserOutput, error) {
	return &iam.TagUserOutput{}, a.changeUser(ctx, in.UserName, func(_ store.Tx, u *model.IAMUser) (err error) {
		u.Tags, err = withTags(u.Tags, in.Tags)
		return err
	})
}

func (a *api) untagUser(ctx context.Context, in *iam.UntagUserInput) (*iam.UntagUserOutput, error) {
	return &iam.UntagUserOutput{}, a.changeUser(ctx, in.UserName, func(_ store.Tx, u *model.IAMUser) error {
		u.Tags = withoutTags(u.Tags, in.TagKeys)
		return nil
	})
}

func (a *api) listUserTags(_ context.Context, in *iam.ListUserTagsInput) (*iam.ListUserTagsOutput, error) {
	u, err := a.viewUser(in.UserName)
	if err != nil {
		return nil, err
	}
	part, more, next, err := pageTags(u.Tags, in.Marker, in.MaxItems)
	return &iam.ListUserTagsOutput{Tags: part, IsTruncated: more, Marker: next}, err
}

func (a *api) viewUser(name *string) (u *model.IAMUser, err error) {
	a.Store.View(func(r store.Reader) { u, err = user(r, name) })
	return u, err
}

func (a *api) putUserPermissionsBoundary(ctx context.Context, in *iam.PutUserPermissionsBoundaryInput) (*iam.PutUserPermissionsBoundaryOutput, error) {
	return &iam.PutUserPermissionsBoundaryOutput{}, a.changeUser(ctx, in.UserName, func(tx store.Tx, u *model.IAMUser) error {
		u.Boundary = text(in.PermissionsBoundary)
		return a.checkBoundary(tx, in.PermissionsBoundary)
	})
}

func (a *api) deleteUserPermissionsBoundary(ctx context.Context, in *iam.DeleteUserPermissionsBoundaryInput) (*iam.DeleteUserPermissionsBoundaryOutput, error) {
	return &iam.DeleteUserPermissionsBoundaryOutput{}, a.changeUser(ctx, in.UserName, func(_ store.Tx, u *model.IAMUser) error {
		u.Boundary = ""
		return nil
	})
}

// What Terraform asks before it deletes a user, and Berth's users have none of.

func (a *api) listSSHPublicKeys(_ context.Context, in *iam.ListSSHPublicKeysInput) (*iam.ListSSHPublicKeysOutput, error) {
	return &iam.ListSSHPublicKeysOutput{SSHPublicKeys: []types.SSHPublicKeyMetadata{}}, a.hasUser(in.UserName)
}

func (a *api) listSigningCertificates(_ context.Context, in *iam.ListSigningCertificatesInput) (*iam.ListSigningCertificatesOutput, error) {
	return &iam.ListSigningCertificatesOutput{Certificates: []types.SigningCertificate{}}, a.hasUser(in.UserName)
}

func (a *api) listMFADevices(_ context.Context, in *iam.ListMFADevicesInput) (*iam.ListMFADevicesOutput, error) {
	return &iam.ListMFADevicesOutput{MFADevices: []types.MFADevice{}}, a.hasUser(in.UserName)
}

func (a *api) listVirtualMFADevices(context.Context, *iam.ListVirtualMFADevicesInput) (*iam.ListVirtualMFADevicesOutput, error) {
	return &iam.ListVirtualMFADevicesOutput{VirtualMFADevices: []types.VirtualMFADevice{}}, nil
}

func (a *api) listServiceSpecificCredentials(_ context.Context, in *iam.ListServiceSpecificCredentialsInput) (*iam.ListServiceSpecificCredentialsOutput, error) {
	return &iam.ListServiceSpecificCredentialsOutput{ServiceSpecificCredentials: []types.ServiceSpecificCredentialMetadata{}}, a.hasUser(in.UserName)
}

func (a *api) getLoginProfile(ctx context.Context, in *iam.GetLoginProfileInput) (*iam.GetLoginProfileOutput, error) {
	return nil, a.noLogin(ctx, in.UserName)
}

func (a *api) deleteLoginProfile(ctx context.Context, in *iam.DeleteLoginProfileInput) (*iam.DeleteLoginProfileOutput, error) {
	return nil, a.noLogin(ctx, in.UserName)
}

// noLogin: nobody has a password.
func (a *api) noLogin(ctx context.Context, name *string) (err error) {
	a.Store.View(func(r store.Reader) {
		var u *model.IAMUser
		if u, err = a.userOrCaller(ctx, r, name); err == nil {
			err = noSuch("Login Profile for User %s cannot be found.", u.Name)
		}
	})
	return err
}

func (a *api) hasUser(name *string) (err error) {
	if name != nil {
		_, err = a.viewUser(name)
	}
	return err
}

// in tells whether a user is in a group, by its key.
func in(u *model.IAMUser, group string) bool { return slices.Contains(u.Groups, group) }
