package iam

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createAccessKey(ctx context.Context, in *iam.CreateAccessKeyInput) (*iam.CreateAccessKeyOutput, error) {
	k := &model.AccessKey{ID: "AKIA" + random32(10), CreatedAt: a.Now()}
	secret := random64(30)
	k.Sealed = a.Keys.sealSecret(k.ID, secret)
	var name string
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		u, err := a.userOrCaller(ctx, tx, in.UserName)
		if err != nil {
			return err
		}
		if keys := slices.Collect(store.AccessKeys.By(tx, store.ByName, u.Key())); len(keys) >= maxUserKeys {
			return model.Errorf("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: %d", maxUserKeys)
		}
		k.User, name = u.Key(), u.Name
		store.AccessKeys.Put(tx, k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateAccessKeyOutput{AccessKey: &types.AccessKey{AccessKeyId: &k.ID, SecretAccessKey: &secret, UserName: &name,
		Status: types.StatusTypeActive, CreateDate: &k.CreatedAt}}, nil
}

// accessKey finds a key, which must be that user's; without a user it must be the caller's own, or the caller the root.
func (a *api) accessKey(ctx context.Context, r store.Reader, id, owner *string) (*model.AccessKey, error) {
	if id == nil {
		return nil, required("accessKeyId")
	}
	u, err := a.userOrCaller(ctx, r, owner)
	if err != nil {
		return nil, err
	}
	k, ok := store.AccessKeys.Get(r, *id)
	if !ok || k.User != u.Key() {
		return nil, noSuch("The Access Key with id %s cannot be found.", *id)
	}
	return k, nil
}

func (a *api) updateAccessKey(ctx context.Context, in *iam.UpdateAccessKeyInput) (*iam.UpdateAccessKeyOutput, error) {
	if in.Status != types.StatusTypeActive && in.Status != types.StatusTypeInactive {
		return nil, invalid("status", "Member must satisfy enum value set: [Active, Inactive]")
	}
	return &iam.UpdateAccessKeyOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		k, err := a.accessKey(ctx, tx, in.AccessKeyId, in.UserName)
		if err != nil {
			return err
		}
		next := *k
		next.Inactive = in.Status == types.StatusTypeInactive
		store.AccessKeys.Put(tx, &next)
		return nil
	})
}

func (a *api) deleteAccessKey(ctx context.Context, in *iam.DeleteAccessKeyInput) (*iam.DeleteAccessKeyOutput, error) {
	return &iam.DeleteAccessKeyOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		k, err := a.accessKey(ctx, tx, in.AccessKeyId, in.UserName)
		if err == nil {
			store.AccessKeys.Delete(tx, k.ID)
		}
		return err
	})
}

func (a *api) listAccessKeys(ctx context.Context, in *iam.ListAccessKeysInput) (*iam.ListAccessKeysOutput, error) {
	var all []types.AccessKeyMetadata
	var err error
	a.Store.View(func(r store.Reader) {
		var u *model.IAMUser
		if u, err = a.userOrCaller(ctx, r, in.UserName); err != nil {
			return
		}
		for k := range store.AccessKeys.By(r, store.ByName, u.Key()) {
			status := types.StatusTypeActive
			if k.Inactive {
				status = types.StatusTypeInactive
			}
			all = append(all, types.AccessKeyMetadata{AccessKeyId: &k.ID, CreateDate: &k.CreatedAt, Status: status, UserName: &u.Name})
		}
	})
	if err != nil {
		return nil, err
	}
	part, more, next, err := page(all, func(k types.AccessKeyMetadata) string { return *k.AccessKeyId }, in.Marker, in.MaxItems)
	return &iam.ListAccessKeysOutput{AccessKeyMetadata: part, IsTruncated: more, Marker: next}, err
}

// getAccessKeyLastUsed: Berth does not write down when a key was used.
func (a *api) getAccessKeyLastUsed(_ context.Context, in *iam.GetAccessKeyLastUsedInput) (out *iam.GetAccessKeyLastUsedOutput, err error) {
	a.Store.View(func(r store.Reader) {
		k, ok := store.AccessKeys.Get(r, text(in.AccessKeyId))
		if !ok {
			err = model.Errorf("AccessDenied", "User is not authorized to perform: iam:GetAccessKeyLastUsed on resource: access key %s", text(in.AccessKeyId))
			return
		}
		name := k.User
		if u, ok := store.IAMUsers.Get(r, k.User); ok {
			name = u.Name
		}
		out = &iam.GetAccessKeyLastUsedOutput{UserName: &name, AccessKeyLastUsed: &types.AccessKeyLastUsed{Region: new("N/A"), ServiceName: new("N/A")}}
	})
	return out, err
}
