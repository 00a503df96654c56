// Package kms is the Key Management Service's API over the ring of keys (serve/keys): symmetric keys, their aliases, policies, rotation
// and deletion, and encryption under them. Asymmetric keys, imported material, key stores, multi-Region keys and grants are refused by name.
package kms

import (
	"context"
	"log/slog"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Ring  *keys.Ring
	Scope model.Scope
	Now   func() time.Time
	Log   *slog.Logger
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "kms", Protocol: wire.JSON11, Target: "TrentService", Types: sdk.TypeRegistry, Asks: a.asks}
	wire.Handle(s, a.createKey)
	wire.Handle(s, a.describeKey)
	wire.Handle(s, a.listKeys)
	wire.Handle(s, a.updateKeyDescription)
	wire.Handle(s, a.enableKey)
	wire.Handle(s, a.disableKey)
	wire.Handle(s, a.scheduleKeyDeletion)
	wire.Handle(s, a.cancelKeyDeletion)
	wire.Handle(s, a.createAlias)
	wire.Handle(s, a.updateAlias)
	wire.Handle(s, a.deleteAlias)
	wire.Handle(s, a.listAliases)
	wire.Handle(s, a.getKeyPolicy)
	wire.Handle(s, a.putKeyPolicy)
	wire.Handle(s, a.listKeyPolicies)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listResourceTags)
	wire.Handle(s, a.enableKeyRotation)
	wire.Handle(s, a.disableKeyRotation)
	wire.Handle(s, a.getKeyRotationStatus)
	wire.Handle(s, a.rotateKeyOnDemand)
	wire.Handle(s, a.listKeyRotations)
	wire.Handle(s, a.encrypt)
	wire.Handle(s, a.decrypt)
	wire.Handle(s, a.reEncrypt)
	wire.Handle(s, a.generateDataKey)
	wire.Handle(s, a.generateDataKeyWithoutPlaintext)
	wire.Handle(s, a.generateRandom)
	return s
}

func invalid(format string, args ...any) error {
	return model.Errorf("ValidationException", format, args...)
}

// required refuses a member that is missing.
func required(member string, v *string) error {
	if v == nil {
		return invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	}
	if *v == "" {
		return invalid("1 validation error detected: Value '' at '%s' failed to satisfy constraint: Member must have length greater than or equal to 1", member)
	}
	return nil
}

// between refuses a number that is set and out of bounds.
func between(member string, v *int32, least, most int32) error {
	switch {
	case v == nil:
	case *v < least:
		return invalid("1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value greater than or equal to %d",
			*v, member, least)
	case *v > most:
		return invalid("1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value less than or equal to %d",
			*v, member, most)
	}
	return nil
}

// find reads the key that a request names; those of AWS's are made when they are first named by alias.
func (a *api) find(ctx context.Context, keyID *string) (*model.KMSKey, error) {
	if err := required("keyId", keyID); err != nil {
		return nil, err
	}
	return a.Ring.Lookup(ctx, *keyID)
}

// change changes a customer's key, named by id or ARN, unless it is about to be deleted.
func (a *api) change(ctx context.Context, keyID *string, f func(*model.KMSKey) error) error {
	return a.changeAny(ctx, keyID, func(k *model.KMSKey) error {
		if keys.StateOf(k) == keys.PendingDeletion {
			return a.Ring.Usable(k)
		}
		return f(k)
	})
}

func (a *api) changeAny(ctx context.Context, keyID *string, f func(*model.KMSKey) error) error {
	if err := required("keyId", keyID); err != nil {
		return err
	}
	return a.Ring.Change(ctx, *keyID, func(k *model.KMSKey) error {
		if k.Service != "" {
			return model.Errorf("UnsupportedOperationException", "You cannot perform this operation on an AWS managed key: %s", a.Ring.ARN(k.ID))
		}
		return f(k)
	})
}

// page cuts a list, which is in the order of names, at a limit.
func page[T any](all []T, limit *int32, marker *string, usual int, name func(T) string) (part []T, next *string, truncated bool, err error) {
	if err := between("limit", limit, 1, 1000); err != nil {
		return nil, nil, false, err
	}
	size := usual
	if limit != nil {
		size = int(*limit)
	}
	if marker != nil {
		from := slices.IndexFunc(all, func(v T) bool { return name(v) > *marker })
		if from < 0 {
			from = len(all)
		}
		all = all[from:]
	}
	if len(all) <= size {
		return all, nil, false, nil
	}
	return all[:size], new(name(all[size-1])), true, nil
}

// metadata describes a key.
func (a *api) metadata(k *model.KMSKey) *types.KeyMetadata {
	m := &types.KeyMetadata{KeyId: &k.ID, AWSAccountId: &a.Scope.Account, Arn: new(a.Ring.ARN(k.ID)), CreationDate: &k.CreatedAt,
		CustomerMasterKeySpec: types.CustomerMasterKeySpecSymmetricDefault, KeySpec: types.KeySpecSymmetricDefault,
		KeyUsage: types.KeyUsageTypeEncryptDecrypt, Description: &k.Description, Enabled: keys.StateOf(k) == keys.Enabled,
		EncryptionAlgorithms: []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecSymmetricDefault},
		KeyManager:           types.KeyManagerTypeCustomer, KeyState: types.KeyState(keys.StateOf(k)), MultiRegion: new(false), Origin: types.OriginTypeAwsKms,
		CurrentKeyMaterialId: new(materialID(k.ID, len(k.Materials)-1))}
	if k.Service != "" {
		m.KeyManager = types.KeyManagerTypeAws
	}
	if !k.DeleteAt.IsZero() {
		m.DeletionDate = &k.DeleteAt
	}
	return m
}
