package kms

import (
	"context"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
)

// asks tells what a request asks to be allowed: its action on the key that it names, whose policy is asked too.
func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "kms:" + op
	switch in := in.(type) {
	case *sdk.CreateKeyInput:
		return []wire.Ask{{Action: action, Context: wire.RequestTags(in)}}
	case *sdk.CreateAliasInput:
		return []wire.Ask{a.onAlias(action, in.AliasName), a.onKey(action, in.TargetKeyId, nil)}
	case *sdk.UpdateAliasInput:
		return []wire.Ask{a.onAlias(action, in.AliasName), a.onKey(action, a.targetOf(in.AliasName), nil), a.onKey(action, in.TargetKeyId, nil)}
	case *sdk.DeleteAliasInput:
		return []wire.Ask{a.onAlias(action, in.AliasName), a.onKey(action, a.targetOf(in.AliasName), nil)}
	case *sdk.TagResourceInput:
		return []wire.Ask{a.onKey(action, in.KeyId, wire.RequestTags(in))}
	case *sdk.UntagResourceInput:
		return []wire.Ask{a.onKey(action, in.KeyId, map[string][]string{"aws:TagKeys": in.TagKeys})}
	case *sdk.ScheduleKeyDeletionInput:
		return []wire.Ask{a.onKey(action, in.KeyId, nil)}
	case *sdk.EncryptInput:
		return []wire.Ask{a.onKey(action, in.KeyId, encryption(in.EncryptionContext))}
	case *sdk.GenerateDataKeyInput:
		return []wire.Ask{a.onKey(action, in.KeyId, encryption(in.EncryptionContext))}
	case *sdk.GenerateDataKeyWithoutPlaintextInput:
		return []wire.Ask{a.onKey(action, in.KeyId, encryption(in.EncryptionContext))}
	case *sdk.DecryptInput:
		return []wire.Ask{a.onKey(action, a.keyOf(in.CiphertextBlob), encryption(in.EncryptionContext))}
	case *sdk.ReEncryptInput:
		return []wire.Ask{a.onKey("kms:ReEncryptFrom", a.keyOf(in.CiphertextBlob), encryption(in.SourceEncryptionContext)),
			a.onKey("kms:ReEncryptTo", in.DestinationKeyId, encryption(in.DestinationEncryptionContext))}
	}
	if id := keyID(in); id != nil {
		return []wire.Ask{a.onKey(action, id, nil)}
	}
	return nil
}

// keyID is the key that the other operations name.
func keyID(in any) *string {
	switch in := in.(type) {
	case *sdk.DescribeKeyInput:
		return in.KeyId
	case *sdk.UpdateKeyDescriptionInput:
		return in.KeyId
	case *sdk.EnableKeyInput:
		return in.KeyId
	case *sdk.DisableKeyInput:
		return in.KeyId
	case *sdk.CancelKeyDeletionInput:
		return in.KeyId
	case *sdk.GetKeyPolicyInput:
		return in.KeyId
	case *sdk.PutKeyPolicyInput:
		return in.KeyId
	case *sdk.ListKeyPoliciesInput:
		return in.KeyId
	case *sdk.ListResourceTagsInput:
		return in.KeyId
	case *sdk.EnableKeyRotationInput:
		return in.KeyId
	case *sdk.DisableKeyRotationInput:
		return in.KeyId
	case *sdk.GetKeyRotationStatusInput:
		return in.KeyId
	case *sdk.RotateKeyOnDemandInput:
		return in.KeyId
	case *sdk.ListKeyRotationsInput:
		return in.KeyId
	}
	return nil
}

// onKey asks for an action on a key; one that does not exist is "*", so that it is refused as missing to those alone who may ask for any.
func (a *api) onKey(action string, id *string, context map[string][]string) wire.Ask {
	ask := wire.Ask{Action: action, Context: map[string][]string{}}
	maps.Copy(ask.Context, context)
	a.Store.View(func(tx store.Reader) {
		k, err := a.Ring.Find(tx, value(id))
		if err != nil {
			return
		}
		ask.Resources, ask.Policies = []string{a.Ring.ARN(k.ID)}, []string{k.Policy}
		for _, t := range k.Tags {
			ask.Context["aws:ResourceTag/"+*t.TagKey] = []string{value(t.TagValue)}
		}
		for al := range store.KMSAliases.By(tx, store.ByTarget, k.ID) {
			ask.Context["kms:ResourceAliases"] = append(ask.Context["kms:ResourceAliases"], al.Name)
		}
	})
	if i := strings.Index(value(id), "alias/"); i >= 0 {
		ask.Context["kms:RequestAlias"] = []string{value(id)[i:]}
	}
	ask.Context["kms:CallerAccount"] = []string{a.Scope.Account}
	ask.Context["kms:KeySpec"], ask.Context["kms:KeyUsage"] = []string{"SYMMETRIC_DEFAULT"}, []string{"ENCRYPT_DECRYPT"}
	return ask
}

func (a *api) onAlias(action string, name *string) wire.Ask {
	return wire.Ask{Action: action, Resources: []string{a.Ring.AliasARN(value(name))}}
}

func (a *api) targetOf(alias *string) (id *string) {
	a.Store.View(func(tx store.Reader) {
		if al, ok := store.KMSAliases.Get(tx, value(alias)); ok {
			id = &al.KeyID
		}
	})
	return id
}

func (a *api) keyOf(sealed []byte) *string { return new(a.Ring.KeyOf(sealed)) }

func encryption(context map[string]string) map[string][]string {
	out := map[string][]string{}
	for k, v := range context {
		out["kms:EncryptionContext:"+k] = []string{v}
	}
	if len(context) > 0 {
		out["kms:EncryptionContextKeys"] = slices.Sorted(maps.Keys(context))
	}
	return out
}
