package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awslogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/schemas"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

// keys knows one secret.
type keys struct{}

func (keys) Secret(string, string) (string, wire.Caller, error) {
	return "secret", wire.Caller{Account: scope.Account}, nil
}

// stock serves services to the SDK's clients and returns what was logged.
func stock(t *testing.T, services ...*wire.Service) (aws.Config, *bytes.Buffer) {
	log := &bytes.Buffer{}
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: keys{}, Log: slog.New(slog.NewTextHandler(log, nil)),
		Services: services}))
	t.Cleanup(srv.Close)
	return aws.Config{Region: "eu-west-3", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")}, log
}

func newECS() *wire.Service {
	return &wire.Service{Name: "ecs", Target: "AmazonEC2ContainerServiceV20141113", Types: awsecs.TypeRegistry}
}

// TestQueryThroughTheSDK: lists, maps, times and the three ways to refuse.
func TestQueryThroughTheSDK(t *testing.T) {
	elb := &wire.Service{Name: "elasticloadbalancing", Protocol: wire.Query, Version: "2015-12-01",
		Namespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"}
	var in *awselb.CreateLoadBalancerInput
	var region string
	created := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	wire.Handle(elb, func(ctx context.Context,
		i *awselb.CreateLoadBalancerInput) (*awselb.CreateLoadBalancerOutput, error) {
		in, region = i, wire.CallerFrom(ctx).Region
		return &awselb.CreateLoadBalancerOutput{LoadBalancers: []elbtypes.LoadBalancer{{LoadBalancerName: i.Name, CreatedTime: &created,
			SecurityGroups: []string{}, AvailabilityZones: []elbtypes.AvailabilityZone{{SubnetId: &i.Subnets[1]}}}}}, nil
	})
	refusal := errors.New("secret detail")
	wire.Handle(elb, func(context.Context,
		*awselb.DescribeLoadBalancersInput) (*awselb.DescribeLoadBalancersOutput, error) {
		return nil, refusal
	})
	conf, log := stock(t, elb)
	c := awselb.NewFromConfig(conf)
	out, err := c.CreateLoadBalancer(ctx, &awselb.CreateLoadBalancerInput{Name: aws.String("a<&>b"), Subnets: []string{"s1", "s2"},
		Tags: []elbtypes.Tag{{Key: aws.String("k"), Value: aws.String("")}}})
	if err != nil {
		t.Fatal(err)
	}
	if in.Tags[0].Value == nil || *in.Tags[0].Value != "" || region != "eu-west-3" {
		t.Errorf("the handler saw %+v of %s", in, region)
	}
	if lb := out.LoadBalancers[0]; *lb.LoadBalancerName != "a<&>b" || !lb.CreatedTime.Equal(created) || lb.SecurityGroups == nil ||
		*lb.AvailabilityZones[0].SubnetId != "s2" {
		t.Errorf("the client saw %+v", lb)
	}
	for _, refusal = range []error{model.Errorf("LoadBalancerNotFound", "none"),
		&elbtypes.LoadBalancerNotFoundException{Message: aws.String("none")}, fmt.Errorf("looking: %w",
			model.Errorf("LoadBalancerNotFound", "none"))} {
		_, err := c.DescribeLoadBalancers(ctx, nil)
		if e, ok := errors.AsType[*elbtypes.LoadBalancerNotFoundException](err); !ok || e.ErrorMessage() != "none" {
			t.Errorf("%T became %v", refusal, err)
		}
	}
	refusal = errors.New("secret detail")
	_, err = c.DescribeLoadBalancers(ctx, nil)
	if code(err) != "InternalFailure" || strings.Contains(err.Error(), "secret") || !strings.Contains(log.String(),
		"secret detail") {
		t.Errorf("a fault: %v; logged: %s", err, log)
	}
}

// TestJSONThroughTheSDK: zeros, empty lists, no output, modelled errors with all their members.
func TestJSONThroughTheSDK(t *testing.T) {
	s := newECS()
	var refusal error
	wire.Handle(s, func(context.Context, *awsecs.DescribeServicesInput) (*awsecs.DescribeServicesOutput, error) {
		return &awsecs.DescribeServicesOutput{Services: []ecstypes.Service{{Deployments: []ecstypes.Deployment{}}}}, refusal
	})
	wire.Handle(s, func(context.Context, *awsecs.ListTasksInput) (*awsecs.ListTasksOutput, error) { return nil, nil })
	conf, log := stock(t, s)
	c := awsecs.NewFromConfig(conf)
	in := &awsecs.DescribeServicesInput{Services: []string{"a"}}
	out, err := c.DescribeServices(ctx, in)
	if err != nil || out.Services[0].Deployments == nil || out.Failures != nil {
		t.Errorf("%v %+v", err, out)
	}
	if out, err := c.ListTasks(ctx, nil); err != nil || out.TaskArns != nil {
		t.Errorf("no output: %v %+v", err, out)
	}
	refusal = &ecstypes.ConflictException{Message: aws.String("busy"), ResourceIds: []string{"x", "y"}}
	_, err = c.DescribeServices(ctx, in)
	if e, ok := errors.AsType[*ecstypes.ConflictException](err); !ok || *e.Message != "busy" || len(e.ResourceIds) != 2 {
		t.Errorf("a modelled error: %v", err)
	}
	refusal = model.Errorf("ClusterNotFoundException", "Cluster not found.")
	_, err = c.DescribeServices(ctx, in)
	if e, ok := errors.AsType[*ecstypes.ClusterNotFoundException](err); !ok || *e.Message != "Cluster not found." {
		t.Errorf("an error by name: %v", err)
	}
	if log.Len() > 0 {
		t.Errorf("refusals are logged as faults: %s", log)
	}
	refusal = errors.New("secret detail")
	_, err = c.DescribeServices(ctx, in)
	if e, ok := errors.AsType[*ecstypes.ServerException](err); !ok || strings.Contains(e.ErrorMessage(), "secret") ||
		!strings.Contains(log.String(), "operation=DescribeServices") {
		t.Errorf("a fault: %v; logged: %s", err, log)
	}
}

// TestStopping: what a stopping server gives up is no success, and no fault either.
func TestStopping(t *testing.T) {
	base, stop := context.WithCancel(context.Background())
	s, log := newECS(), &bytes.Buffer{}
	wire.Handle(s, func(ctx context.Context, _ *awsecs.ListTasksInput) (*awsecs.ListTasksOutput, error) {
		stop()
		<-ctx.Done()
		return nil, fmt.Errorf("reading: %w", ctx.Err())
	})
	srv := httptest.NewUnstartedServer(wire.NewEndpoint(wire.Config{Keys: keys{}, Log: slog.New(slog.NewTextHandler(log, nil)),
		Services: []*wire.Service{s}}))
	srv.Config.BaseContext = func(net.Listener) context.Context { return base }
	srv.Start()
	defer srv.Close()
	_, err := awsecs.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")}).ListTasks(ctx, nil)
	if code(err) != "ServiceUnavailable" || log.Len() > 0 {
		t.Errorf("%v; logged: %s", err, log)
	}
}

// TestUnavailable: an error that passes is 503, so that the SDK tries again, under the service's own name for it.
func TestUnavailable(t *testing.T) {
	passing := errors.New("nobody leads")
	tries := 0
	s := newECS()
	wire.Handle(s, func(context.Context, *awsecs.ListTasksInput) (*awsecs.ListTasksOutput, error) {
		if tries++; tries%3 != 0 {
			return nil, fmt.Errorf("storing: %w", passing)
		}
		return nil, nil
	})
	own := &wire.Service{Name: "logs", Protocol: wire.JSON11, Target: "Logs_20140328", Types: awslogs.TypeRegistry}
	wire.Handle(own, func(context.Context, *awslogs.DescribeLogGroupsInput) (*awslogs.DescribeLogGroupsOutput, error) {
		return nil, passing
	})
	log := &bytes.Buffer{}
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: keys{}, Log: slog.New(slog.NewTextHandler(log, nil)), Services: []*wire.Service{s, own},
		Unavailable: func(err error) bool { return errors.Is(err, passing) }}))
	defer srv.Close()
	conf := aws.Config{Region: "us-east-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")}
	_, err := awsecs.NewFromConfig(conf).ListTasks(ctx, nil)
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.HTTPStatusCode() != http.StatusServiceUnavailable || code(err) != "ServiceUnavailable" || strings.Contains(log.String(), "ERROR") {
		t.Errorf("%v; logged: %s", err, log)
	}
	if _, err := awslogs.NewFromConfig(conf).DescribeLogGroups(ctx, nil); code(err) != "ServiceUnavailableException" {
		t.Errorf("a service with a name for it: %v", err)
	}
	conf.RetryMaxAttempts, conf.Retryer = 0, func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	}
	if _, err = awsecs.NewFromConfig(conf).ListTasks(ctx, nil); err != nil || tries != 3 {
		t.Errorf("after %d tries: %v", tries, err)
	}
}

// TestZerosAndEmptyLists: AWS says runningCount 0 and events []; the SDK's own serializer would say nothing of the count.
func TestZerosAndEmptyLists(t *testing.T) {
	out := string(wire.EncodeJSON(&awsecs.DescribeServicesOutput{Services: []ecstypes.Service{{Events: []ecstypes.ServiceEvent{}}}},
		schemas.DescribeServicesResponse))
	for _, want := range []string{`"runningCount":0`, `"events":[]`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s lacks %s", out, want)
		}
	}
	if strings.Contains(out, "loadBalancers") || strings.Contains(out, "launchType") {
		t.Errorf("what is not set is written: %s", out)
	}
}

// TestTypesThatPeopleConfuse: what is taken for what, and how the rest is refused.
func TestTypesThatPeopleConfuse(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"family":"f","containerDefinitions":[{"memory":"100","cpu":"99","essential":"True"}]}`, ""},
		{`{"containerDefinitions":[{"memory":1e2,"cpu":"99.0","essential":null,"ulimits":null}],"tags":[null,{"key":"k"}]}`, ""},
		{"  ", ""},
		{`{"family":1}`, "family: got a number, want a string"},
		{`{"family":true}`, "family: got a boolean, want a string"},
		{`{"containerDefinitions":{}}`, "containerDefinitions: got an object, want a list"},
		{`{"containerDefinitions":["x"]}`, "containerDefinitions[0]: got a string, want an object"},
		{`{"containerDefinitions":[{},{"cpu":"many"}]}`, "containerDefinitions[1].cpu: got a string, want an integer of 32 bits"},
		{`{"containerDefinitions":[{"cpu":4294967296}]}`, "containerDefinitions[0].cpu: got a number, want an integer of 32 bits"},
		{`{"containerDefinitions":[{"cpu":1.5}]}`, "containerDefinitions[0].cpu: got a number, want an integer of 32 bits"},
		{`{"containerDefinitions":[{"essential":1}]}`, "containerDefinitions[0].essential: got a number, want a boolean"},
		{`{"containerDefinitions":[{"environment":[{"name":"n","value":5}]}]}`,
			"containerDefinitions[0].environment[0].value: got a number, want a string"},
		{`{"containerDefinitions":[{"dockerLabels":{"a":[]}}]}`, "containerDefinitions[0].dockerLabels.a: got a list, want a string"},
		{`[]`, "the body: got a list, want an object"},
		{`null`, "the body is null, want an object"},
		{`{} {}`, "the body goes on after its JSON value"},
		{`{`, "the body is not JSON: unexpected EOF"},
		{strings.Repeat("[", 100_000), "the body is not JSON: invalid character '[' exceeded max depth"},
	} {
		err := wire.DecodeJSON([]byte(c.body), schemas.RegisterTaskDefinitionRequest, &awsecs.RegisterTaskDefinitionInput{})
		got := ""
		if e, ok := errors.AsType[*model.Error](err); ok && e.Code == "SerializationException" {
			got = e.Message
		} else if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%.80s: %q, want %q", c.body, got, c.want)
		}
	}
}

func TestUnions(t *testing.T) {
	const body = `{"containerDefinitions":[{"resourceRequirements":[{"type":"GPU","sharingStrategy":%s}]}]}`
	read := func(union string) (ecstypes.SharingStrategy, error) {
		in := &awsecs.RegisterTaskDefinitionInput{}
		err := wire.DecodeJSON([]byte(fmt.Sprintf(body, union)), schemas.RegisterTaskDefinitionRequest, in)
		if err != nil {
			return nil, err
		}
		return in.ContainerDefinitions[0].ResourceRequirements[0].SharingStrategy, nil
	}
	got, err := read(`{"nvidiaMps":{"memory":5},"unknown":1}`)
	if u, ok := got.(*ecstypes.SharingStrategyMemberNvidiaMps); !ok || err != nil || *u.Value.Memory != 5 {
		t.Errorf("%v %+v", err, got)
	}
	if got, err := read(`null`); got != nil || err != nil {
		t.Errorf("null: %v %v", got, err)
	}
	if got, err := read(`{"future":{}}`); got != nil || err != nil {
		t.Errorf("a variant that the model does not know, as any such member: %v %v", got, err)
	}
	if _, err := read(`[]`); model.ErrorCode(err) != "SerializationException" {
		t.Errorf("a list: %v", err)
	}
}

// TestBoundsOfQueries: what a form may hold, and that unknown names are not kept.
func TestBoundsOfQueries(t *testing.T) {
	deep := url.Values{"A" + strings.Repeat(".A", 40): {"1"}}
	many := url.Values{}
	for i := range 10_001 {
		many.Set(fmt.Sprint("Subnets.member.", i+1), "s")
	}
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"depth": {deep, "MalformedQueryString"}, "number": {many, "MalformedQueryString"},
		"unknown": {url.Values{"No.Such.Thing": {"1"}, "": {"1"}, ".": {"1"}, "\xff": {"1"}, "ResultMetadata.x": {"1"}}, ""},
		"a gap": {url.Values{"Subnets.member.7": {"a"}, "Subnets.member.x": {"b"}, "Subnets.member.-1": {"c"},
			"Subnets.member.01": {"d"}}, ""},
	} {
		in := &awselb.CreateLoadBalancerInput{}
		if err := wire.DecodeQuery(c.form, in); model.ErrorCode(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if name == "a gap" && (len(in.Subnets) != 1 || in.Subnets[0] != "a") {
			t.Errorf("%+v", in.Subnets)
		}
	}
	if err := wire.DecodeQuery(url.Values{"Port": {"http"}},
		&awselb.CreateListenerInput{}); model.ErrorCode(err) != "MalformedInput" {
		t.Errorf("a port that is no number: %v", err)
	}
}

func BenchmarkDescribeServices(b *testing.B) {
	in := []byte(`{"cluster":"c","services":["a","b","c"]}`)
	out := filled(reflect.TypeFor[awsecs.DescribeServicesOutput]())
	b.ReportAllocs()
	for b.Loop() {
		if err := wire.DecodeJSON(in, schemas.DescribeServicesRequest, &awsecs.DescribeServicesInput{}); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(wire.EncodeJSON(out, schemas.DescribeServicesResponse))))
	}
}
