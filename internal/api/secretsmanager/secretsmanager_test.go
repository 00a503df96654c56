package secretsmanager_test

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/secretsmanager"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

type fixture struct {
	*sdk.Client
	t       *testing.T
	service *wire.Service
	store   store.Store
	vault   *vault.Vault
	ring    *keys.Ring
	now     time.Time
}

func setup(t *testing.T) *fixture {
	s, scope := mem.New(store.Schema()), model.Scope{Account: "000000000000", Region: "us-east-1"}
	f := &fixture{t: t, store: s, now: time.Now().Truncate(time.Second)}
	clock := func() time.Time { return f.now }
	f.ring = keys.New(keys.Config{Store: s, Scope: scope, Now: clock, Master: keys.NewMaster(s, keys.Source{File: filepath.Join(t.TempDir(), "master.key")})})
	f.vault = &vault.Vault{Store: s, Scope: scope, Ring: f.ring}
	f.service = secretsmanager.New(secretsmanager.Config{Store: s, Vault: f.vault, Ring: f.ring, Scope: scope, Now: clock})
	f.Client = sdk.NewFromConfig(wiretest.Serve(t, f.service))
	return f
}

func (f *fixture) create(name, text string) *sdk.CreateSecretOutput {
	f.t.Helper()
	return wiretest.Must[*sdk.CreateSecretOutput](f.t)(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: &name, SecretString: &text}))
}

func (f *fixture) put(name, text string, stages ...string) *sdk.PutSecretValueOutput {
	f.t.Helper()
	return wiretest.Must[*sdk.PutSecretValueOutput](f.t)(f.PutSecretValue(ctx, &sdk.PutSecretValueInput{SecretId: &name, SecretString: &text, VersionStages: stages}))
}

func (f *fixture) get(in sdk.GetSecretValueInput) *sdk.GetSecretValueOutput {
	f.t.Helper()
	return wiretest.Must[*sdk.GetSecretValueOutput](f.t)(f.GetSecretValue(ctx, &in))
}

func TestVersionsAndStages(t *testing.T) {
	f := setup(t)
	one := f.create("app/db", "one")
	if !strings.HasPrefix(*one.ARN, "arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db-") || len(*one.ARN) != len("arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db-")+6 {
		t.Error(*one.ARN)
	}
	for _, id := range []string{"app/db", *one.ARN, (*one.ARN)[:len(*one.ARN)-7]} {
		if got := f.get(sdk.GetSecretValueInput{SecretId: &id}); *got.SecretString != "one" || *got.VersionId != *one.VersionId || !slices.Equal(got.VersionStages, []string{"AWSCURRENT"}) {
			t.Errorf("%s: %+v", id, got)
		}
	}
	two := f.put("app/db", "two")
	pending := f.put("app/db", "three", "AWSPENDING")
	for stage, want := range map[string]string{"AWSCURRENT": "two", "AWSPREVIOUS": "one", "AWSPENDING": "three"} {
		if got := f.get(sdk.GetSecretValueInput{SecretId: new("app/db"), VersionStage: &stage}); *got.SecretString != want {
			t.Errorf("%s is %s, want %s", stage, *got.SecretString, want)
		}
	}
	move := func(in sdk.UpdateSecretVersionStageInput) error {
		in.SecretId = new("app/db")
		return wiretest.Error(f.UpdateSecretVersionStage(ctx, &in))
	}
	wiretest.Refused(t, move(sdk.UpdateSecretVersionStageInput{VersionStage: new("AWSCURRENT"), MoveToVersionId: pending.VersionId}), "InvalidParameterException",
		"Staging label AWSCURRENT is currently attached to version "+*two.VersionId)
	if err := move(sdk.UpdateSecretVersionStageInput{VersionStage: new("AWSCURRENT"), MoveToVersionId: pending.VersionId, RemoveFromVersionId: two.VersionId}); err != nil {
		t.Error(err)
	}
	d := wiretest.Must[*sdk.DescribeSecretOutput](t)(f.DescribeSecret(ctx, &sdk.DescribeSecretInput{SecretId: new("app/db")}))
	if want := map[string][]string{*pending.VersionId: {"AWSCURRENT", "AWSPENDING"}, *two.VersionId: {"AWSPREVIOUS"}}; !reflect.DeepEqual(d.VersionIdsToStages, want) {
		t.Errorf("%v, want %v", d.VersionIdsToStages, want)
	}
	if err := move(sdk.UpdateSecretVersionStageInput{VersionStage: new("AWSCURRENT"), MoveToVersionId: two.VersionId, RemoveFromVersionId: pending.VersionId}); err != nil {
		t.Error(err)
	}
	if got := f.get(sdk.GetSecretValueInput{SecretId: new("app/db"), VersionStage: new("AWSPREVIOUS")}); *got.SecretString != "three" {
		t.Errorf("after going back: %s", *got.SecretString)
	}
	all := wiretest.Must[*sdk.ListSecretVersionIdsOutput](t)(f.ListSecretVersionIds(ctx, &sdk.ListSecretVersionIdsInput{SecretId: new("app/db"), IncludeDeprecated: new(true)}))
	if len(all.Versions) != 3 {
		t.Errorf("%d versions", len(all.Versions))
	}
	wiretest.Refused(t, wiretest.Error(f.GetSecretValue(ctx, &sdk.GetSecretValueInput{SecretId: new("app/db"), VersionStage: new("none")})), "ResourceNotFoundException",
		"Secrets Manager can't find the specified secret value for staging label: none")
	wiretest.Refused(t, wiretest.Error(f.GetSecretValue(ctx, &sdk.GetSecretValueInput{SecretId: new("no")})), "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

// TestRepeatedRequests: the same token and value are one version, another value is refused.
func TestRepeatedRequests(t *testing.T) {
	f := setup(t)
	token := strings.Repeat("a", 32)
	create := func(text string) error {
		return wiretest.Error(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: new("s"), SecretString: &text, ClientRequestToken: &token}))
	}
	if err := create("x"); err != nil {
		t.Fatal(err)
	}
	if err := create("x"); err != nil {
		t.Error(err)
	}
	wiretest.Refused(t, create("y"), "ResourceExistsException", "You can't use ClientRequestToken "+token)
	wiretest.Refused(t, wiretest.Error(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: new("s"), SecretString: new("x")})), "ResourceExistsException",
		"The operation failed because the secret s already exists.")
	again := func(text string) error {
		return wiretest.Error(f.PutSecretValue(ctx, &sdk.PutSecretValueInput{SecretId: new("s"), SecretString: &text, ClientRequestToken: &token}))
	}
	if err := again("x"); err != nil {
		t.Error(err)
	}
	wiretest.Refused(t, again("y"), "ResourceExistsException", "already in use for a version of secret")
}

func TestTheRecoveryWindow(t *testing.T) {
	f := setup(t)
	f.create("s", "x")
	gone := wiretest.Must[*sdk.DeleteSecretOutput](t)(f.DeleteSecret(ctx, &sdk.DeleteSecretInput{SecretId: new("s"), RecoveryWindowInDays: new(int64(7))}))
	if !gone.DeletionDate.Equal(f.now.AddDate(0, 0, 7)) {
		t.Error(gone.DeletionDate)
	}
	wiretest.Refused(t, wiretest.Error(f.GetSecretValue(ctx, &sdk.GetSecretValueInput{SecretId: new("s")})), "InvalidRequestException",
		"You can't perform this operation on the secret because it was marked for deletion.")
	wiretest.Refused(t, wiretest.Error(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: new("s")})), "InvalidRequestException",
		"You can't create this secret because a secret with this name is already scheduled for deletion.")
	if listed := wiretest.Must[*sdk.ListSecretsOutput](t)(f.ListSecrets(ctx, &sdk.ListSecretsInput{})); len(listed.SecretList) != 0 {
		t.Errorf("%+v", listed.SecretList)
	}
	wiretest.Must[*sdk.RestoreSecretOutput](t)(f.RestoreSecret(ctx, &sdk.RestoreSecretInput{SecretId: new("s")}))
	if got := f.get(sdk.GetSecretValueInput{SecretId: new("s")}); *got.SecretString != "x" {
		t.Error(*got.SecretString)
	}
	wiretest.Must[*sdk.DeleteSecretOutput](t)(f.DeleteSecret(ctx, &sdk.DeleteSecretInput{SecretId: new("s"), RecoveryWindowInDays: new(int64(7))}))
	if deleted, next, err := f.vault.Due(ctx, f.now.AddDate(0, 0, 6)); len(deleted) > 0 || !next.Equal(f.now.AddDate(0, 0, 7)) || err != nil {
		t.Error(deleted, next, err)
	}
	if deleted, _, err := f.vault.Due(ctx, f.now.AddDate(0, 0, 7)); len(deleted) != 1 || err != nil {
		t.Error(deleted, err)
	}
	rows := 0
	f.store.View(func(r store.Reader) {
		for range store.SecretVersions.Scan(r, "") {
			rows++
		}
	})
	if rows != 0 {
		t.Errorf("%d versions are left", rows)
	}
	f.create("s", "new")
	wiretest.Must[*sdk.DeleteSecretOutput](t)(f.DeleteSecret(ctx, &sdk.DeleteSecretInput{SecretId: new("s"), ForceDeleteWithoutRecovery: new(true)}))
	f.create("s", "newer")
}

// TestValuesAreInNoRow: neither the value nor its base64 is in what the store keeps.
func TestValuesAreInNoRow(t *testing.T) {
	f := setup(t)
	const text = "correct horse battery staple"
	f.create("s", text)
	f.store.View(func(r store.Reader) {
		for v := range store.SecretVersions.Scan(r, "") {
			row, _ := model.EncodeRow(v)
			if strings.Contains(string(row), text) || strings.Contains(string(v.Sealed), text) {
				t.Errorf("%s", row)
			}
		}
	})
}

func TestPoliciesAndWhatIsAsked(t *testing.T) {
	f := setup(t)
	s := f.create("s", "x")
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/app"},"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}`
	wiretest.Must[*sdk.PutResourcePolicyOutput](t)(f.PutResourcePolicy(ctx, &sdk.PutResourcePolicyInput{SecretId: s.ARN, ResourcePolicy: &policy, BlockPublicPolicy: new(true)}))
	if got := wiretest.Must[*sdk.GetResourcePolicyOutput](t)(f.GetResourcePolicy(ctx, &sdk.GetResourcePolicyInput{SecretId: s.ARN})); *got.ResourcePolicy != policy {
		t.Error(*got.ResourcePolicy)
	}
	open := strings.Replace(policy, `{"AWS":"arn:aws:iam::000000000000:role/app"}`, `"*"`, 1)
	wiretest.Refused(t, wiretest.Error(f.PutResourcePolicy(ctx, &sdk.PutResourcePolicyInput{SecretId: s.ARN, ResourcePolicy: &open, BlockPublicPolicy: new(true)})), "PublicPolicyException", "")
	checked := wiretest.Must[*sdk.ValidateResourcePolicyOutput](t)(f.ValidateResourcePolicy(ctx, &sdk.ValidateResourcePolicyInput{ResourcePolicy: &open}))
	if checked.PolicyValidationPassed {
		t.Error("a public policy passes")
	}
	asks := f.service.Asks(ctx, "GetSecretValue", &sdk.GetSecretValueInput{SecretId: new("s")})
	if len(asks) != 1 || asks[0].Resources[0] != *s.ARN || asks[0].Policies[0] != policy || asks[0].Context["secretsmanager:SecretId"][0] != *s.ARN ||
		asks[0].Context["secretsmanager:VersionStage"][0] != "AWSCURRENT" {
		t.Errorf("%+v", asks)
	}
	wiretest.Must[*sdk.DeleteResourcePolicyOutput](t)(f.DeleteResourcePolicy(ctx, &sdk.DeleteResourcePolicyInput{SecretId: s.ARN}))
	if got := wiretest.Must[*sdk.GetResourcePolicyOutput](t)(f.GetResourcePolicy(ctx, &sdk.GetResourcePolicyInput{SecretId: s.ARN})); got.ResourcePolicy != nil {
		t.Error(*got.ResourcePolicy)
	}
}

func TestListsAndBatches(t *testing.T) {
	f := setup(t)
	for i := range 5 {
		f.create(fmt.Sprintf("team/%d", i), fmt.Sprint(i))
	}
	f.create("other", "x")
	for _, order := range []types.SortOrderType{types.SortOrderTypeAsc, types.SortOrderTypeDesc} {
		var names []string
		pages := sdk.NewListSecretsPaginator(f.Client, &sdk.ListSecretsInput{MaxResults: new(int32(2)), SortOrder: order, SortBy: types.SortByTypeName,
			Filters: []types.Filter{{Key: types.FilterNameStringTypeName, Values: []string{"team/"}}}})
		for pages.HasMorePages() {
			for _, s := range wiretest.Must[*sdk.ListSecretsOutput](t)(pages.NextPage(ctx)).SecretList {
				names = append(names, *s.Name)
			}
		}
		want := []string{"team/0", "team/1", "team/2", "team/3", "team/4"}
		if order == types.SortOrderTypeDesc {
			slices.Reverse(want)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v", order, names)
		}
	}
	batch := wiretest.Must[*sdk.BatchGetSecretValueOutput](t)(f.BatchGetSecretValue(ctx, &sdk.BatchGetSecretValueInput{SecretIdList: []string{"team/1", "no"}}))
	if len(batch.SecretValues) != 1 || *batch.SecretValues[0].SecretString != "1" || len(batch.Errors) != 1 || *batch.Errors[0].ErrorCode != "ResourceNotFoundException" {
		t.Errorf("%+v", batch)
	}
}

func TestPasswords(t *testing.T) {
	f := setup(t)
	rapid.Check(t, func(t *rapid.T) {
		in := &sdk.GetRandomPasswordInput{PasswordLength: new(rapid.Int64Range(4, 400).Draw(t, "length")), ExcludeCharacters: new("aeiou\"@/\\"),
			ExcludePunctuation: new(rapid.Bool().Draw(t, "no punctuation")), ExcludeNumbers: new(rapid.Bool().Draw(t, "no numbers"))}
		out, err := f.GetRandomPassword(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		p := *out.RandomPassword
		if len(p) != int(*in.PasswordLength) || strings.ContainsAny(p, *in.ExcludeCharacters) || !strings.ContainsAny(p, "bcdfghjklmnpqrstvwxyz") ||
			strings.ContainsAny(p, "0123456789") == *in.ExcludeNumbers || strings.ContainsAny(p, "!#$%&'()*+,-.:;<=>?[]^_`{|}~") == *in.ExcludePunctuation {
			t.Fatalf("%q for %+v", p, in)
		}
	})
}

func TestRefusals(t *testing.T) {
	f := setup(t)
	s := f.create("s", "x")
	for name, c := range map[string]struct {
		err        error
		code, text string
	}{
		"a name":   {wiretest.Error(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: new("a b")})), "ValidationException", "Invalid name."},
		"a window": {wiretest.Error(f.DeleteSecret(ctx, &sdk.DeleteSecretInput{SecretId: new("s"), RecoveryWindowInDays: new(int64(6))})), "InvalidParameterException", "between 7 and 30 days"},
		"both": {wiretest.Error(f.DeleteSecret(ctx, &sdk.DeleteSecretInput{SecretId: new("s"), RecoveryWindowInDays: new(int64(7)), ForceDeleteWithoutRecovery: new(true)})),
			"InvalidParameterException", "in conjunction with"},
		"nothing":     {wiretest.Error(f.PutSecretValue(ctx, &sdk.PutSecretValueInput{SecretId: s.ARN})), "InvalidRequestException", "SecretString or SecretBinary"},
		"rotation":    {wiretest.Error(f.RotateSecret(ctx, &sdk.RotateSecretInput{SecretId: s.ARN})), "UnsupportedOperationException", "RotateSecret"},
		"replication": {wiretest.Error(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: new("r"), AddReplicaRegions: []types.ReplicaRegionType{{Region: new("eu-west-1")}}})), "InvalidParameterException", "AddReplicaRegions"},
		"a key":       {wiretest.Error(f.CreateSecret(ctx, &sdk.CreateSecretInput{Name: new("k"), SecretString: new("x"), KmsKeyId: new("alias/no")})), "EncryptionFailure", "alias/no"},
		"a policy":    {wiretest.Error(f.PutResourcePolicy(ctx, &sdk.PutResourcePolicyInput{SecretId: s.ARN, ResourcePolicy: new("{")})), "MalformedPolicyDocumentException", ""},
		"large":       {wiretest.Error(f.PutSecretValue(ctx, &sdk.PutSecretValueInput{SecretId: s.ARN, SecretString: new(strings.Repeat("x", 65537))})), "ValidationException", "65536"},
	} {
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, c.err, c.code, c.text) })
	}
}

// TestAnyInputIsAnswered: whatever a request holds, it is served or refused by a named error.
func TestAnyInputIsAnswered(t *testing.T) {
	f := setup(t)
	s := f.create("s", "x")
	words := []string{"", "s", "t", *s.ARN, *s.VersionId, "AWSCURRENT", "AWSPENDING", "arn:", "{}", strings.Repeat("b", 32), "alias/aws/secretsmanager"}
	client := reflect.ValueOf(f.Client)
	operations := []string{"CreateSecret", "UpdateSecret", "PutSecretValue", "GetSecretValue", "BatchGetSecretValue", "DescribeSecret", "ListSecrets", "ListSecretVersionIds",
		"UpdateSecretVersionStage", "DeleteSecret", "RestoreSecret", "TagResource", "UntagResource", "GetResourcePolicy", "PutResourcePolicy", "DeleteResourcePolicy",
		"ValidateResourcePolicy", "GetRandomPassword"}
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
