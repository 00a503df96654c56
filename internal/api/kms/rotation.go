package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
)

// The days between two rotations of a key, and how often one may be rotated on demand.
const (
	leastRotation, usualRotation, mostRotation = 90, 365, 2560
	mostAsked                                  = 25
)

// materialID is what a material is called: 64 hexadecimal digits that tell nothing of it.
func materialID(key string, number int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", key, number))
	return hex.EncodeToString(sum[:])
}

func (a *api) enableKeyRotation(ctx context.Context, in *sdk.EnableKeyRotationInput) (*sdk.EnableKeyRotationOutput, error) {
	if err := between("rotationPeriodInDays", in.RotationPeriodInDays, leastRotation, mostRotation); err != nil {
		return nil, err
	}
	return &sdk.EnableKeyRotationOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error {
		if err := a.Ring.Usable(k); err != nil {
			return err
		}
		switch {
		case in.RotationPeriodInDays != nil:
			k.RotateDays = int(*in.RotationPeriodInDays)
		case k.RotateDays == 0:
			k.RotateDays = usualRotation
		}
		k.NextRotation = a.Now().AddDate(0, 0, k.RotateDays)
		return nil
	})
}

func (a *api) disableKeyRotation(ctx context.Context, in *sdk.DisableKeyRotationInput) (*sdk.DisableKeyRotationOutput, error) {
	return &sdk.DisableKeyRotationOutput{}, a.change(ctx, in.KeyId, func(k *model.KMSKey) error {
		k.RotateDays = 0
		return a.Ring.Usable(k)
	})
}

func (a *api) getKeyRotationStatus(ctx context.Context, in *sdk.GetKeyRotationStatusInput) (*sdk.GetKeyRotationStatusOutput, error) {
	k, err := a.find(ctx, in.KeyId)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetKeyRotationStatusOutput{KeyId: new(a.Ring.ARN(k.ID))}
	if k.RotateDays > 0 && keys.StateOf(k) != keys.PendingDeletion {
		out.KeyRotationEnabled, out.RotationPeriodInDays, out.NextRotationDate = true, new(int32(k.RotateDays)), &k.NextRotation
	}
	return out, nil
}

func (a *api) rotateKeyOnDemand(ctx context.Context, in *sdk.RotateKeyOnDemandInput) (*sdk.RotateKeyOnDemandOutput, error) {
	k, err := a.find(ctx, in.KeyId)
	if err != nil {
		return nil, err
	}
	if k.Service != "" {
		return nil, model.Errorf("UnsupportedOperationException", "You cannot perform this operation on an AWS managed key: %s", a.Ring.ARN(k.ID))
	}
	if err := a.Ring.Usable(k); err != nil {
		return nil, err
	}
	asked := 0
	for _, m := range k.Materials {
		if m.Asked {
			asked++
		}
	}
	if asked >= mostAsked {
		return nil, model.Errorf("LimitExceededException", "A key can be rotated on demand %d times at most", mostAsked)
	}
	return &sdk.RotateKeyOnDemandOutput{KeyId: &k.ID}, a.Ring.Rotate(ctx, k.ID, true)
}

func (a *api) listKeyRotations(ctx context.Context, in *sdk.ListKeyRotationsInput) (*sdk.ListKeyRotationsOutput, error) {
	k, err := a.find(ctx, in.KeyId)
	if err != nil {
		return nil, err
	}
	all := []numbered{}
	for i, m := range k.Materials {
		if i == 0 && in.IncludeKeyMaterial != types.IncludeKeyMaterialAllKeyMaterial {
			continue // it was no rotation
		}
		e := types.RotationsListEntry{KeyId: new(a.Ring.ARN(k.ID)), KeyMaterialId: new(materialID(k.ID, i)), KeyMaterialState: types.KeyMaterialStateNonCurrent}
		if i > 0 {
			e.RotationDate, e.RotationType = &m.At, types.RotationTypeAutomatic
		}
		if m.Asked {
			e.RotationType = types.RotationTypeOnDemand
		}
		if i == len(k.Materials)-1 {
			e.KeyMaterialState = types.KeyMaterialStateCurrent
		}
		all = append(all, numbered{i, e})
	}
	part, next, truncated, err := page(all, in.Limit, in.Marker, 100, func(n numbered) string { return fmt.Sprintf("%08d", n.number) })
	out := &sdk.ListKeyRotationsOutput{Rotations: []types.RotationsListEntry{}, NextMarker: next, Truncated: truncated}
	for _, n := range part {
		out.Rotations = append(out.Rotations, n.entry)
	}
	return out, err
}

type numbered struct {
	number int
	entry  types.RotationsListEntry
}
