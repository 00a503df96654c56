package wire_test

import (
	"bytes"
	"encoding/json"
	"go/build"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	smithy "github.com/aws/smithy-go"

	awslogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/schemas"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/models"
)

// moduleDir is where the SDK's module of a service lies; its snapshots are the fixtures.
func moduleDir(t *testing.T, service string) string {
	t.Helper()
	p, err := build.Import("github.com/aws/aws-sdk-go-v2/service/"+service, ".", build.FindOnly)
	if err != nil {
		t.Skipf("no source of %s here: %v", service, err)
	}
	return p.Dir
}

// snapshots returns the bodies of a folder's snapshots by name, and the header lines before each.
func snapshots(t *testing.T, dir, suffix string) map[string][2]string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if len(files) == 0 {
		t.Skipf("%s has no snapshots", dir)
	}
	all := map[string][2]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		// First line, headers after an empty one (requests) or at once (responses), an empty line, the body.
		text := string(data)
		i := strings.LastIndex(text, "\n\n")
		if i < 0 {
			continue
		}
		all[strings.TrimSuffix(filepath.Base(f), suffix)] = [2]string{text[:i], text[i+2:]}
	}
	return all
}

// modules are the SDK modules with schemas, by the name that clients gives the service.
var modules = map[string]string{"ecs": "ecs", "ecr": "ecr", "logs": "cloudwatchlogs"}

// refused are the operations with a union or a document right in the input, where Berth refuses it.
var refused = []string{"CreateGateway", "UpdateGateway", "CreateGatewayRoute", "UpdateGatewayRoute", "PutIntegration",
	"PutMetricAlarm"}

// TestJSONRequestsOfTheSDK decodes the request snapshot of every operation and writes it again: nothing may be lost.
func TestJSONRequestsOfTheSDK(t *testing.T) {
	for service, module := range modules {
		snaps := snapshots(t, filepath.Join(moduleDir(t, module), "request_snapshot"), ".request.snap")
		eachOperation(clients(&far{})[service], func(name string, in, _ reflect.Type, _ func(any) (any, error)) {
			if !slices.Contains(refused, name) {
				v := reflect.New(in).Interface()
				roundTrip(t, name, schemaOf(v), v, snaps[name][1])
			}
		})
	}
}

// TestJSONResponsesOfTheSDK does the same with responses, which is how Berth answers.
func TestJSONResponsesOfTheSDK(t *testing.T) {
	for service, module := range modules {
		snaps := snapshots(t, filepath.Join(moduleDir(t, module), "response_snapshot"), ".response.snap")
		eachOperation(clients(&far{})[service], func(name string, _, out reflect.Type, _ func(any) (any, error)) {
			v := reflect.New(out).Interface()
			roundTrip(t, name, schemaOf(v), v, snaps[name][1])
		})
	}
}

// TestErrorsOfTheSDK writes every modelled error of the SDK's snapshots.
func TestErrorsOfTheSDK(t *testing.T) {
	registries := map[string]*smithy.TypeRegistry{"ecs": awsecs.TypeRegistry, "ecr": awsecr.TypeRegistry,
		"cloudwatchlogs": awslogs.TypeRegistry}
	for module, types := range registries {
		for name, snap := range snapshots(t, filepath.Join(moduleDir(t, module), "response_snapshot"), ".error.snap") {
			entry, ok := types.LookupEntry(name)
			if !ok {
				t.Errorf("%s has no %s", module, name)
				continue
			}
			v := entry.New()
			if err := wire.DecodeJSON([]byte(snap[1]), entry.Schema, v); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			status, out := wire.Refuse(&wire.Service{Name: module, Types: types}, v.(error))
			if got, want := tree(t, name, out), tree(t, name, []byte(snap[1])); !reflect.DeepEqual(got, want) {
				t.Errorf("%s:\n got %s\nwant %s", name, out, snap[1])
			}
			if v.(smithy.APIError).ErrorFault() == smithy.FaultServer != (status >= 500) {
				t.Errorf("%s is answered with status %d", name, status)
			}
		}
	}
}

// TestEveryModelledOperationIsListed: what AWS has and Berth does not is refused by name. It fails after an upgrade of a module until
// `go generate ./internal/api/wire/models`.
func TestEveryModelledOperationIsListed(t *testing.T) {
	for name, client := range clients(&far{}) {
		want := []string{}
		for i, c := 0, reflect.TypeOf(client); i < c.NumMethod(); i++ {
			if m := c.Method(i); m.Type.NumIn() == 4 && m.Type.NumOut() == 2 {
				want = append(want, m.Name)
			}
		}
		if got := models.Operations(name); !slices.Equal(got, want) {
			t.Errorf("%s: the list has %d operations, the SDK's module %d", name, len(got), len(want))
		}
	}
}

func roundTrip(t *testing.T, name string, s *smithy.Schema, v any, body string) {
	t.Helper()
	if err := wire.DecodeJSON([]byte(body), s, v); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	out := wire.EncodeJSON(v, s)
	if got, want := tree(t, name, out), tree(t, name, []byte(body)); !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", name, out, body)
	}
}

func tree(t *testing.T, name string, data []byte) map[string]any {
	t.Helper()
	m := map[string]any{}
	if len(bytes.TrimSpace(data)) == 0 {
		return m
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Errorf("%s: %v in %s", name, err, data)
	}
	return m
}

// TestQueryRequestsOfTheSDK decodes each request snapshot of the query services that are served; the parameters that the struct
// does not hold afterwards are lost.
func TestQueryRequestsOfTheSDK(t *testing.T) {
	inputs := map[string][]any{
		"elasticloadbalancingv2": {&awselb.CreateLoadBalancerInput{}, &awselb.CreateTargetGroupInput{}, &awselb.CreateListenerInput{},
			&awselb.CreateRuleInput{},
			&awselb.ModifyRuleInput{}, &awselb.ModifyTargetGroupInput{}, &awselb.RegisterTargetsInput{},
			&awselb.DescribeTargetHealthInput{},
			&awselb.ModifyLoadBalancerAttributesInput{}, &awselb.AddTagsInput{}, &awselb.SetRulePrioritiesInput{},
			&awselb.DescribeLoadBalancersInput{}},
		"sts": {&awssts.AssumeRoleInput{}},
	}
	for service, all := range inputs {
		snaps := snapshots(t, filepath.Join(moduleDir(t, service), "request_snapshot"), ".request.snap")
		for _, in := range all {
			op := strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
			form, err := url.ParseQuery(strings.TrimSpace(snaps[op][1]))
			if err != nil || len(form) < 3 {
				t.Errorf("%s: no request: %v", op, err)
				continue
			}
			form.Del("Action")
			form.Del("Version")
			if err := wire.DecodeQuery(form, in); err != nil {
				t.Errorf("%s: %v", op, err)
				continue
			}
			if got := leaves(reflect.ValueOf(in)); got != leavesOf(form) {
				t.Errorf("%s: the request has %d values, the input holds %d: %+v", op, leavesOf(form), got, in)
			}
		}
	}
}

// leavesOf counts the values of a form; a map's key is not one.
func leavesOf(form url.Values) (n int) {
	for k := range form {
		if !strings.HasSuffix(k, ".key") {
			n++
		}
	}
	return n
}

// leaves counts the values that are set.
func leaves(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return leaves(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return 1
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !f.Anonymous {
				n += leaves(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			n += leaves(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			n += leaves(v.MapIndex(k))
		}
	case reflect.String:
		if v.Len() > 0 {
			return 1
		}
	default:
		return 1
	}
	return n
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"family":"f","containerDefinitions":[{"name":"n","memory":"100","essential":"true"}]}`))
	f.Add([]byte(`{"containerDefinitions":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v := &awsecs.RegisterTaskDefinitionInput{}
		if err := wire.DecodeJSON(body, schemas.RegisterTaskDefinitionRequest, v); err == nil {
			if out := wire.EncodeJSON(v, schemas.RegisterTaskDefinitionRequest); !json.Valid(out) {
				t.Errorf("wrote no JSON: %s", out)
			}
		}
	})
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/ecs/aws4_request, SignedHeaders=host;x-amz-date, Signature=ab")
	f.Fuzz(func(t *testing.T, header string) { wire.ParseAuthorization(header) })
}

func FuzzDecodeQuery(f *testing.F) {
	f.Add("Tags.member.1.Key=a&Tags.member.1.Value=b&Port=80")
	f.Fuzz(func(t *testing.T, body string) {
		if form, err := url.ParseQuery(body); err == nil {
			wire.DecodeQuery(form, &awselb.CreateRuleInput{})
		}
	})
}
