package kms_test

import (
	"context"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/kms"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

type fixture struct {
	*sdk.Client
	service *wire.Service
	t       *testing.T
	ring    *keys.Ring
	now     time.Time
}

func setup(t *testing.T) *fixture {
	f := &fixture{t: t, now: time.Now().Truncate(time.Second)}
	clock := func() time.Time { return f.now }
	s, scope := mem.New(store.Schema()), model.Scope{Account: "000000000000", Region: "us-east-1"}
	f.ring = keys.New(keys.Config{Store: s, Scope: scope, Now: clock, Master: keys.NewMaster(s, keys.Source{File: filepath.Join(t.TempDir(), "master.key")})})
	f.service = kms.New(kms.Config{Store: s, Ring: f.ring, Scope: scope, Now: clock})
	f.Client = sdk.NewFromConfig(wiretest.Serve(t, f.service))
	return f
}

func (f *fixture) key(in sdk.CreateKeyInput) *types.KeyMetadata {
	f.t.Helper()
	return wiretest.Must[*sdk.CreateKeyOutput](f.t)(f.CreateKey(ctx, &in)).KeyMetadata
}

// TestTheLifeOfAKey walks through what Terraform and applications call.
func TestTheLifeOfAKey(t *testing.T) {
	f := setup(t)
	k := f.key(sdk.CreateKeyInput{Description: new("for the shop"), Tags: []types.Tag{{TagKey: new("team"), TagValue: new("a")}}})
	if k.KeyState != types.KeyStateEnabled || !k.Enabled || k.KeyManager != types.KeyManagerTypeCustomer || *k.Arn != f.ring.ARN(*k.KeyId) ||
		*k.Description != "for the shop" || k.KeySpec != types.KeySpecSymmetricDefault {
		t.Errorf("%+v", k)
	}
	must := wiretest.Must[*sdk.CreateAliasOutput](t)
	must(f.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: new("alias/shop"), TargetKeyId: k.KeyId}))
	said := map[string]string{"service": "shop"}
	sealed := wiretest.Must[*sdk.EncryptOutput](t)(f.Encrypt(ctx, &sdk.EncryptInput{KeyId: new("alias/shop"), Plaintext: []byte("x"), EncryptionContext: said}))
	wiretest.Must[*sdk.RotateKeyOnDemandOutput](t)(f.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.Arn}))
	plain := wiretest.Must[*sdk.DecryptOutput](t)(f.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: said}))
	if string(plain.Plaintext) != "x" || *plain.KeyId != *k.Arn {
		t.Errorf("%+v", plain)
	}
	wiretest.Refused(t, wiretest.Error(f.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})), "InvalidCiphertextException", "")
	other := f.key(sdk.CreateKeyInput{})
	moved := wiretest.Must[*sdk.ReEncryptOutput](t)(f.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, SourceEncryptionContext: said,
		DestinationKeyId: other.KeyId}))
	if *moved.KeyId != *other.Arn || *moved.SourceKeyId != *k.Arn {
		t.Errorf("%+v", moved)
	}
	wiretest.Refused(t, wiretest.Error(f.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: moved.CiphertextBlob, KeyId: k.KeyId})), "IncorrectKeyException", "does not identify")
	data := wiretest.Must[*sdk.GenerateDataKeyOutput](t)(f.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: other.Arn, KeySpec: types.DataKeySpecAes256}))
	if len(data.Plaintext) != 32 {
		t.Errorf("%d bytes", len(data.Plaintext))
	}
	rotations := wiretest.Must[*sdk.ListKeyRotationsOutput](t)(f.ListKeyRotations(ctx, &sdk.ListKeyRotationsInput{KeyId: k.KeyId}))
	if len(rotations.Rotations) != 1 || rotations.Rotations[0].RotationType != types.RotationTypeOnDemand {
		t.Errorf("%+v", rotations.Rotations)
	}
	wiretest.Must[*sdk.DisableKeyOutput](t)(f.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: k.KeyId}))
	wiretest.Refused(t, wiretest.Error(f.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")})), "DisabledException", *k.Arn+" is disabled.")
	gone := wiretest.Must[*sdk.ScheduleKeyDeletionOutput](t)(f.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: new(int32(7))}))
	if !gone.DeletionDate.Equal(f.now.AddDate(0, 0, 7)) {
		t.Errorf("%+v", gone)
	}
	wiretest.Refused(t, wiretest.Error(f.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId})), "KMSInvalidStateException", "is pending deletion.")
	if d := wiretest.Must[*sdk.DescribeKeyOutput](t)(f.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})); d.KeyMetadata.KeyState != types.KeyStatePendingDeletion {
		t.Errorf("%+v", d.KeyMetadata)
	}
	wiretest.Must[*sdk.CancelKeyDeletionOutput](t)(f.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}))
	wiretest.Must[*sdk.EnableKeyOutput](t)(f.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId}))
	wiretest.Must[*sdk.DeleteAliasOutput](t)(f.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: new("alias/shop")}))
}

// TestWhatTerraformReads reads policy, rotation and tags as they were written.
func TestWhatTerraformReads(t *testing.T) {
	f := setup(t)
	k := f.key(sdk.CreateKeyInput{})
	policy := wiretest.Must[*sdk.GetKeyPolicyOutput](t)(f.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId, PolicyName: new("default")}))
	if !strings.Contains(*policy.Policy, "arn:aws:iam::000000000000:root") {
		t.Error(*policy.Policy)
	}
	own := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}]}`
	wiretest.Must[*sdk.PutKeyPolicyOutput](t)(f.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &own}))
	policy = wiretest.Must[*sdk.GetKeyPolicyOutput](t)(f.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId}))
	if *policy.Policy != own {
		t.Error(*policy.Policy)
	}
	status := wiretest.Must[*sdk.GetKeyRotationStatusOutput](t)(f.GetKeyRotationStatus(ctx, &sdk.GetKeyRotationStatusInput{KeyId: k.KeyId}))
	if status.KeyRotationEnabled {
		t.Error("rotated without being asked")
	}
	wiretest.Must[*sdk.EnableKeyRotationOutput](t)(f.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId, RotationPeriodInDays: new(int32(90))}))
	status = wiretest.Must[*sdk.GetKeyRotationStatusOutput](t)(f.GetKeyRotationStatus(ctx, &sdk.GetKeyRotationStatusInput{KeyId: k.KeyId}))
	if !status.KeyRotationEnabled || *status.RotationPeriodInDays != 90 || !status.NextRotationDate.Equal(f.now.AddDate(0, 0, 90)) {
		t.Errorf("%+v", status)
	}
	wiretest.Must[*sdk.TagResourceOutput](t)(f.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: []types.Tag{{TagKey: new("b"), TagValue: new("1")}, {TagKey: new("a"), TagValue: new("")}}}))
	wiretest.Must[*sdk.UntagResourceOutput](t)(f.UntagResource(ctx, &sdk.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{"a"}}))
	tags := wiretest.Must[*sdk.ListResourceTagsOutput](t)(f.ListResourceTags(ctx, &sdk.ListResourceTagsInput{KeyId: k.KeyId}))
	if len(tags.Tags) != 1 || *tags.Tags[0].TagKey != "b" {
		t.Errorf("%+v", tags.Tags)
	}
	managed := wiretest.Must[*sdk.DescribeKeyOutput](t)(f.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: new("alias/aws/ssm")})).KeyMetadata
	if managed.KeyManager != types.KeyManagerTypeAws {
		t.Errorf("%+v", managed)
	}
	aliases := wiretest.Must[*sdk.ListAliasesOutput](t)(f.ListAliases(ctx, &sdk.ListAliasesInput{KeyId: managed.KeyId}))
	if len(aliases.Aliases) != 1 || *aliases.Aliases[0].AliasName != "alias/aws/ssm" {
		t.Errorf("%+v", aliases.Aliases)
	}
	seen := 0
	for pages := sdk.NewListKeysPaginator(f.Client, &sdk.ListKeysInput{Limit: new(int32(1))}); pages.HasMorePages(); {
		seen += len(wiretest.Must[*sdk.ListKeysOutput](t)(pages.NextPage(ctx)).Keys)
	}
	if seen != 2 {
		t.Errorf("%d keys in pages of one", seen)
	}
}

func TestRefusals(t *testing.T) {
	f := setup(t)
	k := f.key(sdk.CreateKeyInput{})
	for name, c := range map[string]struct {
		err        error
		code, text string
	}{
		"asymmetric": {wiretest.Error(f.CreateKey(ctx, &sdk.CreateKeyInput{KeySpec: types.KeySpecRsa2048})), "UnsupportedOperationException", "RSA_2048"},
		"no key": {wiretest.Error(f.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: new("00000000-0000-0000-0000-000000000000")})), "NotFoundException",
			"Key 'arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000' does not exist"},
		"no alias": {wiretest.Error(f.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: new("alias/x")})), "NotFoundException",
			"Alias arn:aws:kms:us-east-1:000000000000:alias/x is not found."},
		"no id": {wiretest.Error(f.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: new("")})), "ValidationException", "keyId"},
		"soon":  {wiretest.Error(f.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: new(int32(6))})), "ValidationException", "equal to 7"},
		"long":  {wiretest.Error(f.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: make([]byte, 4097)})), "ValidationException", "4096"},
		"a data key of what size": {wiretest.Error(f.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId})), "ValidationException",
			"Please specify either number of bytes or key spec."},
		"AWS's alias":  {wiretest.Error(f.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: new("alias/aws/x"), TargetKeyId: k.KeyId})), "NotAuthorizedException", ""},
		"no policy":    {wiretest.Error(f.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: new("{")})), "MalformedPolicyDocumentException", ""},
		"dry":          {wiretest.Error(f.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x"), DryRun: new(true)})), "DryRunOperationException", ""},
		"a grant":      {wiretest.Error(f.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: new("x"), Operations: []types.GrantOperation{"Decrypt"}})), "UnsupportedOperationException", "CreateGrant"},
		"AWS's tag":    {wiretest.Error(f.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: []types.Tag{{TagKey: new("aws:x"), TagValue: new("")}}})), "TagException", "aws:"},
		"cancel":       {wiretest.Error(f.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId})), "KMSInvalidStateException", "is not pending deletion."},
		"random bytes": {wiretest.Error(f.GenerateRandom(ctx, &sdk.GenerateRandomInput{NumberOfBytes: new(int32(1025))})), "ValidationException", "1024"},
	} {
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, c.err, c.code, c.text) })
	}
}

// TestWhatIsAsked: an operation asks for its action on the key, however that is named, with the key's policy.
func TestWhatIsAsked(t *testing.T) {
	f := setup(t)
	k := f.key(sdk.CreateKeyInput{Tags: []types.Tag{{TagKey: new("team"), TagValue: new("a")}}})
	wiretest.Must[*sdk.CreateAliasOutput](t)(f.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: new("alias/shop"), TargetKeyId: k.KeyId}))
	sealed := wiretest.Must[*sdk.EncryptOutput](t)(f.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")}))
	for op, in := range map[string]any{"DescribeKey": &sdk.DescribeKeyInput{KeyId: new("alias/shop")}, "Encrypt": &sdk.EncryptInput{KeyId: k.KeyId,
		EncryptionContext: map[string]string{"a": "b"}}, "Decrypt": &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}} {
		asks := f.service.Asks(ctx, op, in)
		if len(asks) != 1 || asks[0].Action != "kms:"+op || !reflect.DeepEqual(asks[0].Resources, []string{*k.Arn}) || len(asks[0].Policies) != 1 ||
			asks[0].Context["aws:ResourceTag/team"][0] != "a" || asks[0].Context["kms:ResourceAliases"][0] != "alias/shop" {
			t.Errorf("%s: %+v", op, asks)
		}
	}
	if c := f.service.Asks(ctx, "Encrypt", &sdk.EncryptInput{EncryptionContext: map[string]string{"a": "b"}})[0].Context; c["kms:EncryptionContext:a"][0] != "b" {
		t.Errorf("%v", c)
	}
}

// TestAnyInputIsAnswered: whatever a request holds, it is served or refused by a named error.
func TestAnyInputIsAnswered(t *testing.T) {
	f := setup(t)
	k := f.key(sdk.CreateKeyInput{})
	words := []string{"", "x", *k.KeyId, *k.Arn, "alias/x", "alias/aws/ssm", "default", "arn:aws:kms:us-east-1:000000000000:alias/x", "{}", strings.Repeat("y", 9000)}
	client := reflect.ValueOf(f.Client)
	operations := []string{"CreateKey", "DescribeKey", "ListKeys", "UpdateKeyDescription", "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "CreateAlias",
		"UpdateAlias", "DeleteAlias", "ListAliases", "GetKeyPolicy", "PutKeyPolicy", "ListKeyPolicies", "TagResource", "UntagResource", "ListResourceTags",
		"EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus", "RotateKeyOnDemand", "ListKeyRotations", "Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey",
		"GenerateDataKeyWithoutPlaintext", "GenerateRandom"}
	rapid.Check(t, func(t *rapid.T) {
		op := rapid.SampledFrom(operations).Draw(t, "operation")
		call := client.MethodByName(op)
		in := reflect.New(call.Type().In(1).Elem())
		wiretest.Fill(t, in.Elem(), words, 0)
		f.service.Asks(ctx, op, in.Interface())
		out := call.Call([]reflect.Value{reflect.ValueOf(ctx), in})
		if err, _ := out[1].Interface().(error); err != nil && (strings.Contains(err.Error(), "StatusCode: 5") || strings.Contains(err.Error(), "InternalFailure")) {
			t.Fatalf("%+v: %v", in.Elem().Interface(), err)
		}
	})
}
