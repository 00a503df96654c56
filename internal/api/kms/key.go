package kms

import (
	"context"
	"time"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/store"
)

const maxDescription = 8192

func (a *api) createKey(ctx context.Context, in *sdk.CreateKeyInput) (*sdk.CreateKeyOutput, error) {
	if err := checkNewKey(in); err != nil {
		return nil, err
	}
	k := &model.KMSKey{Description: value(in.Description), Tags: in.Tags, Policy: a.Ring.DefaultPolicy()}
	if in.Policy != nil {
		k.Policy = *in.Policy
	}
	k, err := a.Ring.Make(ctx, k)
	if err != nil {
		return nil, err
	}
	if err := a.Store.Update(ctx, func(tx store.Tx) error { store.KMSKeys.Put(tx, k); return nil }); err != nil {
		return nil, err
	}
	return &sdk.CreateKeyOutput{KeyMetadata: a.metadata(k)}, nil
}

// checkNewKey refuses what Berth's keys cannot be.
func checkNewKey(in *sdk.CreateKeyInput) error {
	unsupported := func(format string, args ...any) error {
		return model.Errorf("UnsupportedOperationException", format, args...)
	}
	spec := string(in.KeySpec)
	if spec == "" {
		spec = string(in.CustomerMasterKeySpec)
	} else if in.CustomerMasterKeySpec != "" {
		return invalid("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	switch {
	case spec != "" && spec != string(types.KeySpecSymmetricDefault):
		return unsupported("Berth's KMS has symmetric keys (SYMMETRIC_DEFAULT) only, not %.50s", spec)
	case in.KeyUsage != "" && in.KeyUsage != types.KeyUsageTypeEncryptDecrypt:
		return unsupported("Berth's KMS has keys that encrypt (ENCRYPT_DECRYPT) only, not %.50s", in.KeyUsage)
	case in.Origin != "" && in.Origin != types.OriginTypeAwsKms:
		return unsupported("Berth's KMS makes the material of keys itself (AWS_KMS); %.50s is not supported", in.Origin)
	case in.CustomKeyStoreId != nil || in.XksKeyId != nil:
		return unsupported("Berth's KMS has no custom key stores")
	case in.MultiRegion != nil && *in.MultiRegion:
		return unsupported("Berth's KMS has no multi-Region keys: make one in each region")
	case utf8.RuneCountInString(value(in.Description)) > maxDescription:
		return tooLong("description", maxDescription)
	}
	if in.Policy != nil {
		if err := checkPolicy(*in.Policy); err != nil {
			return err
		}
	}
	return checkTags(in.Tags)
}

func tooLong(member string, most int) error {
	return invalid("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", member, most)
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (a *api) describeKey(ctx context.Context, in *sdk.DescribeKeyInput) (*sdk.DescribeKeyOutput, error) {
	k, err := a.find(ctx, in.KeyId)
	if err != nil {
		return nil, err
	}
	return &sdk.DescribeKeyOutput{KeyMetadata: a.metadata(k)}, nil
}

func (a *api) listKeys(_ context.Context, in *sdk.ListKeysInput) (*sdk.ListKeysOutput, error) {
	all := []types.KeyListEntry{}
	a.Store.View(func(tx store.Reader) {
		for k := range store.KMSKeys.Scan(tx, "") {
			all = append(all, types.KeyListEntry{KeyId: &k.ID, KeyArn: new(a.Ring.ARN(k.ID))})
		}
	})
	out := &sdk.ListKeysOutput{}
	var err error
	out.Keys, out.NextMarker, out.Truncated, err = page(all, in.Limit, in.Marker, 100, func(k types.KeyListEntry) string { return *k.KeyId })
	return out, err
}

func (a *api) updateKeyDescription(ctx context.Context, in *sdk.UpdateKeyDescriptionInput) (*sdk.UpdateKeyDescriptionOutput, error) {
	if in.Description == nil {
		return nil, required("description", nil)
	}
	if utf8.RuneCountInString(*in.Description) > maxDescription {
		return nil, tooLong("description", maxDescription)
	}
	return &sdk.UpdateKeyDescriptionOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error {
		k.Description = *in.Description
		return nil
	})
}

func (a *api) enableKey(ctx context.Context, in *sdk.EnableKeyInput) (*sdk.EnableKeyOutput, error) {
	return &sdk.EnableKeyOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error { k.Disabled = false; return nil })
}

func (a *api) disableKey(ctx context.Context, in *sdk.DisableKeyInput) (*sdk.DisableKeyOutput, error) {
	return &sdk.DisableKeyOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error { k.Disabled = true; return nil })
}

// The days for which a key whose deletion was asked for stays.
const leastWait, usualWait = 7, 30

func (a *api) scheduleKeyDeletion(ctx context.Context, in *sdk.ScheduleKeyDeletionInput) (*sdk.ScheduleKeyDeletionOutput, error) {
	if err := between("pendingWindowInDays", in.PendingWindowInDays, leastWait, usualWait); err != nil {
		return nil, err
	}
	days := int32(usualWait)
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	out := &sdk.ScheduleKeyDeletionOutput{KeyState: types.KeyStatePendingDeletion, PendingWindowInDays: &days}
	return out, a.change(ctx, in.KeyId, func(k *model.KMSKey) error {
		k.DeleteAt = a.Now().AddDate(0, 0, int(days))
		out.KeyId, out.DeletionDate = new(a.Ring.ARN(k.ID)), &k.DeleteAt
		return nil
	})
}

// cancelKeyDeletion leaves the key disabled, as with AWS.
func (a *api) cancelKeyDeletion(ctx context.Context, in *sdk.CancelKeyDeletionInput) (*sdk.CancelKeyDeletionOutput, error) {
	out := &sdk.CancelKeyDeletionOutput{}
	return out, a.changeAny(ctx, in.KeyId, func(k *model.KMSKey) error {
		if keys.StateOf(k) != keys.PendingDeletion {
			return model.Errorf("KMSInvalidStateException", "%s is not pending deletion.", a.Ring.ARN(k.ID))
		}
		k.DeleteAt, k.Disabled = time.Time{}, true
		out.KeyId = new(a.Ring.ARN(k.ID))
		return nil
	})
}
