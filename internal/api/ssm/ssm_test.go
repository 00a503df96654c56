package ssm_test

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/ssm"
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
}

func setup(t *testing.T) *fixture {
	s, scope := mem.New(store.Schema()), model.Scope{Account: "000000000000", Region: "us-east-1"}
	ring := keys.New(keys.Config{Store: s, Scope: scope, Now: time.Now, Master: keys.NewMaster(s, keys.Source{File: filepath.Join(t.TempDir(), "master.key")})})
	f := &fixture{t: t, store: s, ring: ring, vault: &vault.Vault{Store: s, Scope: scope, Ring: ring}}
	f.service = ssm.New(ssm.Config{Store: s, Vault: f.vault, Ring: ring, Scope: scope, Now: time.Now})
	f.Client = sdk.NewFromConfig(wiretest.Serve(t, f.service))
	return f
}

func (f *fixture) put(name, text string, kind types.ParameterType, overwrite bool) *sdk.PutParameterOutput {
	f.t.Helper()
	return wiretest.Must[*sdk.PutParameterOutput](f.t)(f.PutParameter(ctx, &sdk.PutParameterInput{Name: &name, Value: &text, Type: kind, Overwrite: &overwrite}))
}

func (f *fixture) get(name string) *types.Parameter {
	f.t.Helper()
	return wiretest.Must[*sdk.GetParameterOutput](f.t)(f.GetParameter(ctx, &sdk.GetParameterInput{Name: &name, WithDecryption: new(true)})).Parameter
}

func TestVersionsAndLabels(t *testing.T) {
	f := setup(t)
	for i := range 3 {
		if out := f.put("/app/url", fmt.Sprint("v", i+1), types.ParameterTypeString, i > 0); out.Version != int64(i+1) || out.Tier != types.ParameterTierStandard {
			t.Errorf("%+v", out)
		}
	}
	wiretest.Refused(t, wiretest.Error(f.PutParameter(ctx, &sdk.PutParameterInput{Name: new("/app/url"), Value: new("x"), Type: types.ParameterTypeString})),
		"ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
	label := func(version int64, labels ...string) *sdk.LabelParameterVersionOutput {
		t.Helper()
		return wiretest.Must[*sdk.LabelParameterVersionOutput](t)(f.LabelParameterVersion(ctx, &sdk.LabelParameterVersionInput{Name: new("/app/url"),
			ParameterVersion: &version, Labels: labels}))
	}
	if out := label(1, "live", "aws-x", "1st"); out.ParameterVersion != 1 || !slices.Equal(out.InvalidLabels, []string{"aws-x", "1st"}) {
		t.Errorf("%+v", out)
	}
	label(2, "live")
	for name, want := range map[string]string{"/app/url": "v3", "/app/url:1": "v1", "/app/url:live": "v2",
		"arn:aws:ssm:us-east-1:000000000000:parameter/app/url:3": "v3"} {
		p := f.get(name)
		if *p.Value != want || *p.Name != "/app/url" || *p.ARN != "arn:aws:ssm:us-east-1:000000000000:parameter/app/url" {
			t.Errorf("%s: %+v", name, p)
		}
		if _, selector, ok := strings.Cut(name, "url:"); ok != (p.Selector != nil) || ok && *p.Selector != ":"+selector {
			t.Errorf("%s: selector %v", name, p.Selector)
		}
	}
	wiretest.Refused(t, wiretest.Error(f.GetParameter(ctx, &sdk.GetParameterInput{Name: new("/app/url:9")})), "ParameterVersionNotFound",
		"Systems Manager could not find version 9 of /app/url. Verify the version and try again.")
	wiretest.Refused(t, wiretest.Error(f.GetParameter(ctx, &sdk.GetParameterInput{Name: new("/app/no")})), "ParameterNotFound", "")
	un := wiretest.Must[*sdk.UnlabelParameterVersionOutput](t)(f.UnlabelParameterVersion(ctx, &sdk.UnlabelParameterVersionInput{Name: new("/app/url"),
		ParameterVersion: new(int64(2)), Labels: []string{"live", "no"}}))
	if !slices.Equal(un.RemovedLabels, []string{"live"}) || !slices.Equal(un.InvalidLabels, []string{"no"}) {
		t.Errorf("%+v", un)
	}
	label(1, "first")
	for i := 3; i < 100; i++ {
		f.put("/app/url", "x", "", true)
	}
	wiretest.Refused(t, wiretest.Error(f.PutParameter(ctx, &sdk.PutParameterInput{Name: new("/app/url"), Value: new("x"), Overwrite: new(true)})),
		"ParameterMaxVersionLimitExceeded", "the oldest version, can't be deleted because it has a label")
	label(2, "first")
	f.put("/app/url", "last", "", true)
	history := 0
	for pages := sdk.NewGetParameterHistoryPaginator(f.Client, &sdk.GetParameterHistoryInput{Name: new("/app/url")}); pages.HasMorePages(); {
		for _, v := range wiretest.Must[*sdk.GetParameterHistoryOutput](t)(pages.NextPage(ctx)).Parameters {
			if history++; v.Version != int64(history+1) || v.Version == 2 && !slices.Equal(v.Labels, []string{"first"}) {
				t.Errorf("%+v", v)
			}
		}
	}
	if history != 100 {
		t.Errorf("%d versions", history)
	}
}

// TestSecureStrings: without being asked to decrypt, and in the store, the value is not to be seen.
func TestSecureStrings(t *testing.T) {
	f := setup(t)
	const text = "correct horse battery staple"
	f.put("/db/password", text, types.ParameterTypeSecureString, false)
	if p := f.get("/db/password"); *p.Value != text || p.Type != types.ParameterTypeSecureString {
		t.Errorf("%+v", p)
	}
	closed := wiretest.Must[*sdk.GetParameterOutput](t)(f.GetParameter(ctx, &sdk.GetParameterInput{Name: new("/db/password")}))
	if strings.Contains(*closed.Parameter.Value, text) || *closed.Parameter.Value == "" {
		t.Error(*closed.Parameter.Value)
	}
	f.store.View(func(r store.Reader) {
		for v := range store.ParameterVersions.Scan(r, "") {
			row, _ := model.EncodeRow(v)
			if strings.Contains(string(row), text) || strings.Contains(string(v.Sealed), text) {
				t.Errorf("a row shows it: %s", row)
			}
		}
	})
	described := wiretest.Must[*sdk.DescribeParametersOutput](t)(f.DescribeParameters(ctx, &sdk.DescribeParametersInput{
		ParameterFilters: []types.ParameterStringFilter{{Key: new("Name"), Values: []string{"/db/password"}}}}))
	if len(described.Parameters) != 1 || *described.Parameters[0].KeyId != "alias/aws/ssm" {
		t.Errorf("%+v", described.Parameters)
	}
	wiretest.Refused(t, wiretest.Error(f.PutParameter(ctx, &sdk.PutParameterInput{Name: new("x"), Value: new("x"), Type: types.ParameterTypeSecureString, KeyId: new("alias/no")})),
		"InvalidKeyId", "Alias")
}

func TestTopLevelNamesAreOne(t *testing.T) {
	f := setup(t)
	f.put("top", "1", types.ParameterTypeString, false)
	if p := f.get("/top"); *p.Value != "1" || *p.Name != "top" || *p.ARN != "arn:aws:ssm:us-east-1:000000000000:parameter/top" {
		t.Errorf("%+v", p)
	}
	out := wiretest.Must[*sdk.GetParametersOutput](t)(f.GetParameters(ctx, &sdk.GetParametersInput{Names: []string{"/top", "no", "top:7"}}))
	if len(out.Parameters) != 1 || !slices.Equal(out.InvalidParameters, []string{"no", "top:7"}) {
		t.Errorf("%+v", out)
	}
}

func TestPathsAndFilters(t *testing.T) {
	f := setup(t)
	for _, name := range []string{"/a/b", "/a/c/d", "/a/c/e", "/ab", "top"} {
		f.put(name, "x", types.ParameterTypeString, false)
	}
	wiretest.Must[*sdk.AddTagsToResourceOutput](t)(f.AddTagsToResource(ctx, &sdk.AddTagsToResourceInput{ResourceType: types.ResourceTypeForTaggingParameter,
		ResourceId: new("/a/b"), Tags: []types.Tag{{Key: new("team"), Value: new("web")}}}))
	below := func(path string, recursive bool) (names []string) {
		t.Helper()
		pages := sdk.NewGetParametersByPathPaginator(f.Client, &sdk.GetParametersByPathInput{Path: &path, Recursive: &recursive, MaxResults: new(int32(1))})
		for pages.HasMorePages() {
			for _, p := range wiretest.Must[*sdk.GetParametersByPathOutput](t)(pages.NextPage(ctx)).Parameters {
				names = append(names, *p.Name)
			}
		}
		return names
	}
	for _, c := range []struct {
		path      string
		recursive bool
		want      string
	}{{"/a", false, "[/a/b]"}, {"/a/", true, "[/a/b /a/c/d /a/c/e]"}, {"/a/c", false, "[/a/c/d /a/c/e]"}, {"/none", true, "[]"}, {"/", false, "[/ab top]"}} {
		if got := fmt.Sprint(below(c.path, c.recursive)); got != c.want {
			t.Errorf("below %s (%t): %s, want %s", c.path, c.recursive, got, c.want)
		}
	}
	if got := below("/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended", true); !slices.Contains(got, "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id") {
		t.Errorf("public parameters: %v", got)
	}
	for _, c := range []struct {
		key, option, value, want string
	}{{"Name", "BeginsWith", "/a/c", "[/a/c/d /a/c/e]"}, {"Name", "Contains", "c/", "[/a/c/d /a/c/e]"}, {"Name", "Equals", "/top", "[top]"},
		{"Path", "Recursive", "/a", "[/a/b /a/c/d /a/c/e]"}, {"Path", "OneLevel", "/a", "[/a/b]"}, {"tag:team", "Equals", "web", "[/a/b]"},
		{"Type", "Equals", "SecureString", "[]"}, {"Tier", "Equals", "Standard", "[/a/b /a/c/d /a/c/e /ab top]"}} {
		out := wiretest.Must[*sdk.DescribeParametersOutput](t)(f.DescribeParameters(ctx, &sdk.DescribeParametersInput{
			ParameterFilters: []types.ParameterStringFilter{{Key: &c.key, Option: &c.option, Values: []string{c.value}}}}))
		names := []string{}
		for _, p := range out.Parameters {
			names = append(names, *p.Name)
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.key, c.option, c.value, got, c.want)
		}
	}
	tags := wiretest.Must[*sdk.ListTagsForResourceOutput](t)(f.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: new("/a/b")}))
	if len(tags.TagList) != 1 {
		t.Errorf("%+v", tags.TagList)
	}
	gone := wiretest.Must[*sdk.DeleteParametersOutput](t)(f.DeleteParameters(ctx, &sdk.DeleteParametersInput{Names: []string{"/a/b", "/no"}}))
	if !slices.Equal(gone.DeletedParameters, []string{"/a/b"}) || !slices.Equal(gone.InvalidParameters, []string{"/no"}) {
		t.Errorf("%+v", gone)
	}
}

func TestRefusals(t *testing.T) {
	f := setup(t)
	f.put("/x", "1", types.ParameterTypeString, false)
	put := func(in sdk.PutParameterInput) error {
		if in.Value == nil {
			in.Value = new("v")
		}
		return wiretest.Error(f.PutParameter(ctx, &in))
	}
	str := types.ParameterTypeString
	for name, c := range map[string]struct {
		err        error
		code, text string
	}{
		"AWS's name":     {put(sdk.PutParameterInput{Name: new("/aws/x"), Type: str}), "AccessDeniedException", "No access to reserved parameter name: /aws/x."},
		"aws":            {put(sdk.PutParameterInput{Name: new("awsx"), Type: str}), "ValidationException", `can't be prefixed with "aws" or "ssm"`},
		"no path":        {put(sdk.PutParameterInput{Name: new("a/b"), Type: str}), "ValidationException", "Parameter name must be a fully qualified name."},
		"letters":        {put(sdk.PutParameterInput{Name: new("/a b"), Type: str}), "ValidationException", "3 symbols .-_"},
		"deep":           {put(sdk.PutParameterInput{Name: new(strings.Repeat("/a", 16)), Type: str}), "HierarchyLevelLimitExceededException", "15"},
		"no type":        {put(sdk.PutParameterInput{Name: new("/new")}), "ValidationException", "A parameter type is required when you create a parameter."},
		"another type":   {put(sdk.PutParameterInput{Name: new("/x"), Type: types.ParameterTypeSecureString, Overwrite: new(true)}), "HierarchyTypeMismatchException", ""},
		"large":          {put(sdk.PutParameterInput{Name: new("/l"), Type: str, Value: new(strings.Repeat("x", 4097))}), "ValidationException", "Standard tier"},
		"too large":      {put(sdk.PutParameterInput{Name: new("/l"), Type: str, Tier: types.ParameterTierAdvanced, Value: new(strings.Repeat("x", 8193))}), "ValidationException", "8192"},
		"pattern":        {put(sdk.PutParameterInput{Name: new("/p"), Type: str, AllowedPattern: new("^[0-9]+$")}), "ParameterPatternMismatchException", "^[0-9]+$"},
		"a bad pattern":  {put(sdk.PutParameterInput{Name: new("/p"), Type: str, AllowedPattern: new("(")}), "InvalidAllowedPatternException", ""},
		"policies":       {put(sdk.PutParameterInput{Name: new("/p"), Type: str, Policies: new(`[{"Type":"Expiration"}]`)}), "InvalidPolicyTypeException", "parameter policies"},
		"tags":           {put(sdk.PutParameterInput{Name: new("/x"), Overwrite: new(true), Tags: []types.Tag{{Key: new("a"), Value: new("b")}}}), "ValidationException", "tags and overwrite can't be used together"},
		"eleven":         {wiretest.Error(f.GetParameters(ctx, &sdk.GetParametersInput{Names: make([]string, 11)})), "ValidationException", "10"},
		"a filter":       {wiretest.Error(f.DescribeParameters(ctx, &sdk.DescribeParametersInput{ParameterFilters: []types.ParameterStringFilter{{Key: new("Label"), Values: []string{"x"}}}})), "InvalidFilterKey", ""},
		"a token":        {wiretest.Error(f.DescribeParameters(ctx, &sdk.DescribeParametersInput{NextToken: new("!")})), "InvalidNextToken", ""},
		"another's tags": {wiretest.Error(f.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingDocument, ResourceId: new("x")})), "InvalidResourceType", ""},
		"a document":     {wiretest.Error(f.GetDocument(ctx, &sdk.GetDocumentInput{Name: new("x")})), "UnsupportedOperationException", "ssm:GetDocument"},
	} {
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, c.err, c.code, c.text) })
	}
}

func TestWhatIsAsked(t *testing.T) {
	f := setup(t)
	asks := f.service.Asks(ctx, "GetParameters", &sdk.GetParametersInput{Names: []string{"/a/b:3", "c", "/aws/service/aws-for-fluent-bit/stable"}})
	got := []string{}
	for _, a := range asks {
		got = append(got, a.Action+" "+strings.Join(a.Resources, " "))
	}
	want := []string{"ssm:GetParameters arn:aws:ssm:us-east-1:000000000000:parameter/a/b", "ssm:GetParameters arn:aws:ssm:us-east-1:000000000000:parameter/c",
		"ssm:GetParameters arn:aws:ssm:us-east-1::parameter/aws/service/aws-for-fluent-bit/stable"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAnyInputIsAnswered: whatever a request holds, it is served or refused by a named error.
func TestAnyInputIsAnswered(t *testing.T) {
	f := setup(t)
	f.put("/x", "1", types.ParameterTypeString, false)
	f.put("s", "1", types.ParameterTypeSecureString, false)
	words := []string{"", "x", "/x", "/x:1", "s:l", "arn:aws:ssm:us-east-1:000000000000:parameter/x", "/", "/a/b", "Name", "tag:x", "Equals", ":", "/aws/reference/secretsmanager/x"}
	client := reflect.ValueOf(f.Client)
	operations := []string{"PutParameter", "GetParameter", "GetParameters", "GetParametersByPath", "GetParameterHistory", "DescribeParameters", "DeleteParameter",
		"DeleteParameters", "LabelParameterVersion", "UnlabelParameterVersion", "AddTagsToResource", "RemoveTagsFromResource", "ListTagsForResource"}
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
