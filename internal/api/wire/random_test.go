package wire_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	smithy "github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/api/ec2"
	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/elb"
	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/logs"
	"github.com/berthdev/berth/internal/api/sts"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// anyToken is a registry's guard that lets everybody in, and issues a password.
type anyToken struct{}

func (anyToken) CheckRegistryToken(string) (string, error)    { return "", nil }
func (anyToken) AllowToken(_, _, _ string, _ ...string) error { return nil }

func (anyToken) IssueRegistryToken(_ wire.Caller, ttl time.Duration) (string, time.Time) {
	return "t", time.Now().Add(ttl)
}

// servers are the services but ecs, which has a test of its own, on one empty state.
func servers(t *testing.T) []*wire.Service {
	st := mem.New(store.Schema())
	t.Cleanup(func() { st.Close() })
	quiet := slog.New(slog.DiscardHandler)
	lines, err := logstore.Open(t.TempDir(), logstore.Config{Log: quiet, SyncInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lines.Close() })
	blobs, err := registry.OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	images := registry.New(registry.Config{Store: st, Blobs: blobs, Auth: anyToken{}, Scope: scope, Now: time.Now, Log: quiet})
	keys, err := iam.Open(filepath.Join(t.TempDir(), "root.json"), scope, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	keys.Store = st
	n := 0
	id := func() string { n++; return fmt.Sprintf("%016x%016x", n, n) }
	return []*wire.Service{
		sts.New(sts.Config{Store: st, Scope: scope, Now: time.Now, Sessions: keys}),
		iam.New(iam.Config{Store: st, Scope: scope, Now: time.Now, Keys: keys}),
		ec2.New(ec2.Config{Store: st, Network: ec2.DefaultNetwork(scope), Now: time.Now, NewID: id}),
		ecr.New(ecr.Config{Store: st, Scope: scope, Manifests: images, Layers: images, Tokens: anyToken{}, Host: "localhost:1", Now: time.Now, Log: quiet}),
		logs.New(logs.Config{Store: lines, Scope: scope, Now: time.Now, Log: quiet}),
		elb.New(elb.Config{Store: st, Scope: scope, Now: time.Now, NewID: id, Log: quiet, VPC: "vpc-1", SecurityGroup: "sg-1",
			Subnets: []elb.Subnet{{ID: "subnet-a", Zone: "us-east-1a"}, {ID: "subnet-b", Zone: "us-east-1b"}}}),
	}
}

// known is what a random request is made of: requests that were answered, by operation, and the values of members seen anywhere.
type known struct {
	requests map[string][]reflect.Value
	values   map[string][]string // by the member's name in the singular
}

// words for a member: what was seen there, any ARN for an ARN, and what fits nowhere.
func (k *known) words(member string) []string {
	words := append([]string{"", "app", "A", "/", "arn:", "%", "10.0.0.1", "80", "true", "200-299", "/x*", "10.0.0.0/8", "{}",
		strings.Repeat("x", 300), "é\x00\u2028"}, k.values[strings.TrimSuffix(member, "s")]...)
	if strings.Contains(member, "Arn") {
		words = append(words, k.values["arn"]...)
	}
	return words
}

// learn keeps the strings in v.
func (k *known) learn(v reflect.Value, member string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			k.learn(v.Elem(), member)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				k.learn(v.Field(i), strings.TrimSuffix(f.Name, "s"))
			}
		}
	case reflect.Slice:
		for i := range min(v.Len(), 3) {
			k.learn(v.Index(i), member)
		}
	case reflect.String:
		if strings.HasPrefix(v.String(), "arn:aws:") {
			k.learnValue("arn", v.String())
		}
		k.learnValue(member, v.String())
	}
}

func (k *known) learnValue(member, s string) {
	if all := k.values[member]; len(all) < 20 && !slices.Contains(all, s) {
		k.values[member] = append(all, s)
	}
}

// request makes an input: one that was answered once with some members changed, or one of chance alone.
func (k *known) request(t *rapid.T, op wire.Operation) any {
	in := op.NewInput()
	v, old := reflect.ValueOf(in).Elem(), k.requests[op.Name]
	if len(old) == 0 || rapid.IntRange(0, 3).Draw(t, "anew") == 0 {
		wiretest.FillNamed(t, v, k.words, "", 0)
		return in
	}
	v.Set(old[rapid.IntRange(0, len(old)-1).Draw(t, "old")])
	for range rapid.IntRange(0, 2).Draw(t, "changes") {
		i := rapid.IntRange(0, v.NumField()-1).Draw(t, "member")
		if f := v.Type().Field(i); f.IsExported() {
			v.Field(i).SetZero()
			wiretest.FillNamed(t, v.Field(i), k.words, f.Name, 1)
		}
	}
	return in
}

// answered keeps what is worth to be known of a request that was answered.
func (k *known) answered(op string, in, out any) {
	k.learn(reflect.ValueOf(in), "")
	k.learn(reflect.ValueOf(out), "")
	if all := k.requests[op]; len(all) < 30 {
		k.requests[op] = append(all, reflect.ValueOf(in).Elem())
	}
}

// firsts are requests that are answered, in this order.
func firsts() []any {
	subnets, forward := []string{"subnet-a", "subnet-b"}, []elbtypes.Action{{Type: "forward", TargetGroupArn: aws.String("$TargetGroupArn")}}
	manifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	return []any{
		&awsiam.CreateRoleInput{RoleName: new("app"), AssumeRolePolicyDocument: new(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}`)},
		&awsiam.CreateUserInput{UserName: new("app")}, &awsiam.CreateGroupInput{GroupName: new("app")},
		&awsiam.CreatePolicyInput{PolicyName: new("app"), PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)},
		&awsiam.CreateInstanceProfileInput{InstanceProfileName: new("app")},
		&awsecr.CreateRepositoryInput{RepositoryName: aws.String("team/app"), Tags: []ecrtypes.Tag{{Key: aws.String("k"), Value: aws.String("v")}}},
		&awsecr.PutImageInput{RepositoryName: aws.String("team/app"), ImageManifest: &manifest, ImageTag: aws.String("latest")},
		&awslogs.CreateLogGroupInput{LogGroupName: aws.String("group")},
		&awslogs.CreateLogStreamInput{LogGroupName: aws.String("group"), LogStreamName: aws.String("stream")},
		&awslogs.PutLogEventsInput{LogGroupName: aws.String("group"), LogStreamName: aws.String("stream"),
			LogEvents: []logstypes.InputLogEvent{{Message: aws.String("m"), Timestamp: aws.Int64(time.Now().UnixMilli())}}},
		&awselb.CreateLoadBalancerInput{Name: aws.String("web"), Subnets: subnets},
		&awselb.CreateTargetGroupInput{Name: aws.String("g"), Protocol: "HTTP", Port: aws.Int32(80), TargetType: "ip", VpcId: aws.String("vpc-1")},
		&awselb.CreateListenerInput{LoadBalancerArn: aws.String("$LoadBalancerArn"), Port: aws.Int32(80), Protocol: "HTTP", DefaultActions: forward},
		&awselb.CreateRuleInput{ListenerArn: aws.String("$ListenerArn"), Priority: aws.Int32(1), Actions: forward,
			Conditions: []elbtypes.RuleCondition{{Field: aws.String("path-pattern"), Values: []string{"/x"}}}},
		&awselb.RegisterTargetsInput{TargetGroupArn: aws.String("$TargetGroupArn"), Targets: []elbtypes.TargetDescription{{Id: aws.String("10.0.0.1")}}},
		&awselb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: aws.String("$LoadBalancerArn"), Attributes: []elbtypes.LoadBalancerAttribute{
			{Key: aws.String("idle_timeout.timeout_seconds"), Value: aws.String("30")}}},
		&awselb.ModifyTargetGroupAttributesInput{TargetGroupArn: aws.String("$TargetGroupArn"), Attributes: []elbtypes.TargetGroupAttribute{
			{Key: aws.String("stickiness.enabled"), Value: aws.String("true")}}},
	}
}

// fillIn replaces "$Member" by a value of that member that was seen.
func (k *known) fillIn(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			k.fillIn(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				k.fillIn(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			k.fillIn(v.Index(i))
		}
	case reflect.String:
		if member, ok := strings.CutPrefix(v.String(), "$"); ok {
			v.SetString(k.values[member][0])
		}
	}
}

// TestRandomRequests: whatever a request holds, a service answers or refuses by name; it neither panics nor fails in itself, and
// what it answers can be written. The state goes on from one request to the next, so a failure may not show again by itself.
func TestRandomRequests(t *testing.T) {
	for _, service := range servers(t) {
		operations := wire.Operations(service)
		k := &known{requests: map[string][]reflect.Value{}, values: map[string][]string{}}
		for _, in := range firsts() {
			name := strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
			i := slices.IndexFunc(operations, func(o wire.Operation) bool { return reflect.TypeOf(o.NewInput()) == reflect.TypeOf(in) })
			if i < 0 {
				continue
			}
			k.fillIn(reflect.ValueOf(in))
			out, err := call(operations[i], in)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			k.answered(name, in, out)
		}
		t.Run(service.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				op := rapid.SampledFrom(operations).Draw(t, "operation")
				in := k.request(t, op)
				if service.Asks != nil {
					service.Asks(ctx, op.Name, in)
				}
				out, err := call(op, in)
				if err == nil {
					k.answered(op.Name, in, out)
					write(t, service, op, out)
					return
				}
				refusal, named := errors.AsType[*model.Error](err)
				modelled, isModelled := errors.AsType[smithy.APIError](err)
				switch {
				case named && (refusal.Code == "" || refusal.Message == "" || strings.Contains(refusal.Message, "%!")):
					t.Fatalf("%s refused with %q: %q", op.Name, refusal.Code, refusal.Message)
				case isModelled && modelled.ErrorFault() == smithy.FaultServer, !named && !isModelled:
					t.Fatalf("%s failed in itself: %v\nof %+v", op.Name, err, in)
				}
			})
		})
	}
}

func call(op wire.Operation, in any) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return op.Call(context.Background(), in)
}

// write encodes an answer and reads it again as far as its form goes.
func write(t *rapid.T, service *wire.Service, op wire.Operation, out any) {
	if reflect.ValueOf(out).IsNil() {
		out = op.NewOutput()
	}
	if op.Schema == nil {
		if text := string(wire.EncodeXML(service, op.Name, out)); !strings.HasPrefix(text, "<"+op.Name) {
			t.Fatalf("%s was written as %.100s", op.Name, text)
		}
		return
	}
	if text := wire.EncodeJSON(out, op.Schema.Output); len(text) < 2 || text[0] != '{' {
		t.Fatalf("%s was written as %.100s", op.Name, text)
	}
}
