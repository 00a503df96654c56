package wire_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscw "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	smithy "github.com/aws/smithy-go"
	"github.com/fxamacker/cbor/v2"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

// bodies returns the bodies of a folder's snapshots by name. They may be binary: only what stands before them is text, in blocks that
// end with an empty line.
func bodies(t *testing.T, module, folder, suffix string, blocks int) map[string][]byte {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(moduleDir(t, module), folder, "*"+suffix))
	if len(files) == 0 {
		t.Skipf("%s has no snapshots", module)
	}
	all := map[string][]byte{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if parts := strings.SplitN(string(data), "\n\n", blocks+1); len(parts) == blocks+1 {
			all[strings.TrimSuffix(filepath.Base(f), suffix)] = []byte(parts[blocks])
		}
	}
	return all
}

// cborTree reads a body with another reader's own settings.
func cborTree(t *testing.T, name string, body []byte) (tree any) {
	t.Helper()
	if len(body) == 0 {
		return map[any]any{}
	}
	if err := cbor.Unmarshal(body, &tree); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return tree
}

func cborRoundTrip(t *testing.T, name string, s *smithy.Schema, v any, body []byte) {
	t.Helper()
	if err := wire.DecodeCBOR(body, s, v); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	out := wire.EncodeCBOR(v, s)
	got, want := cborTree(t, name, out), cborTree(t, name, body)
	if m, ok := want.(map[any]any); ok {
		delete(m, "__type") // of errors
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", name, got, want)
	}
}

// TestCBOROfTheSDK decodes what the SDK sends and answers for every operation of CloudWatch and writes it again: nothing may be lost.
func TestCBOROfTheSDK(t *testing.T) {
	requests := bodies(t, "cloudwatch", "request_snapshot", ".request.snap", 2)
	responses := bodies(t, "cloudwatch", "response_snapshot", ".response.snap", 1)
	n := 0
	eachOperation(awscw.New(awscw.Options{}), func(name string, in, out reflect.Type, _ func(any) (any, error)) {
		n++
		v := reflect.New(in).Interface()
		if !slices.Contains(refused, name) {
			cborRoundTrip(t, name+" request", schemaOf(v), v, requests[name])
		}
		v = reflect.New(out).Interface()
		cborRoundTrip(t, name+" response", schemaOf(v), v, responses[name])
	})
	failures := bodies(t, "cloudwatch", "response_snapshot", ".error.snap", 1)
	for name, body := range failures {
		entry, ok := awscw.TypeRegistry.LookupEntry(name)
		if !ok {
			t.Errorf("there is no %s", name)
			continue
		}
		cborRoundTrip(t, name, entry.Schema, entry.New(), body)
	}
	if n < 40 || len(requests) < 40 || len(failures) < 10 {
		t.Errorf("%d operations, %d requests, %d errors", n, len(requests), len(failures))
	}
}

// watched is a service that speaks CBOR and the query protocol, as CloudWatch does.
func watched(got *[]any) *wire.Service {
	s := &wire.Service{Name: "monitoring", Actions: "cloudwatch", Protocol: wire.Query, Shape: "GraniteServiceVersion20100801",
		Version: "2010-08-01", Types: awscw.TypeRegistry}
	wire.Handle(s, func(_ context.Context, in *awscw.PutMetricDataInput) (*awscw.PutMetricDataOutput, error) {
		*got = append(*got, in)
		return nil, nil
	})
	wire.Handle(s, func(_ context.Context, in *awscw.GetMetricStatisticsInput) (*awscw.GetMetricStatisticsOutput, error) {
		return &awscw.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []cwtypes.Datapoint{
			{Timestamp: in.StartTime, Average: aws.Float64(0), SampleCount: aws.Float64(2.5), Unit: cwtypes.StandardUnitCount}}}, nil
	})
	wire.Handle(s, func(_ context.Context, in *awscw.GetDashboardInput) (*awscw.GetDashboardOutput, error) {
		if *in.DashboardName == "x" {
			return nil, &cwtypes.DashboardNotFoundError{Message: aws.String("Dashboard x does not exist")}
		}
		return nil, model.Errorf("ValidationError", "no")
	})
	return s
}

// TestStockClientsSpeakCBOR: CloudWatch's client is served, and refused in its own protocol.
func TestStockClientsSpeakCBOR(t *testing.T) {
	var got []any
	conf := wiretest.Serve(t, watched(&got))
	c := awscw.NewFromConfig(conf)
	at := time.Unix(1_700_000_000, 250e6).UTC()
	data := &awscw.PutMetricDataInput{Namespace: aws.String("app"), MetricData: []cwtypes.MetricDatum{{MetricName: aws.String("é"),
		Value: aws.Float64(-1.5), Timestamp: &at, StorageResolution: aws.Int32(60), Values: []float64{1, 2.25},
		Dimensions: []cwtypes.Dimension{{Name: aws.String("a"), Value: aws.String("")}}}}}
	if _, err := c.PutMetricData(ctx, data); err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], data) {
		t.Errorf("%v, %+v", err, got)
	}
	out, err := c.GetMetricStatistics(ctx, &awscw.GetMetricStatisticsInput{Namespace: aws.String("app"), MetricName: aws.String("m"),
		StartTime: &at, EndTime: &at, Period: aws.Int32(60)})
	if err != nil || *out.Label != "m" || len(out.Datapoints) != 1 || !out.Datapoints[0].Timestamp.Equal(at) ||
		*out.Datapoints[0].Average != 0 || *out.Datapoints[0].SampleCount != 2.5 {
		t.Errorf("%v %+v", err, out)
	}
	_, err = c.GetDashboard(ctx, &awscw.GetDashboardInput{DashboardName: aws.String("x")})
	if e, ok := errors.AsType[*cwtypes.DashboardNotFoundError](err); !ok || *e.Message != "Dashboard x does not exist" {
		t.Errorf("a modelled error: %v", err)
	}
	wiretest.Refused(t, wiretest.Error(c.GetDashboard(ctx, &awscw.GetDashboardInput{DashboardName: aws.String("y")})), "ValidationError", "no")
	wiretest.Refused(t, wiretest.Error(c.PutMetricAlarm(ctx, &awscw.PutMetricAlarmInput{AlarmName: aws.String("a"),
		ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold, EvaluationPeriods: aws.Int32(1)})),
		"UnsupportedOperationException", "Berth does not support monitoring:PutMetricAlarm yet")
	conf.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "wrong"}, nil
	})
	wiretest.Refused(t, wiretest.Error(awscw.NewFromConfig(conf).PutMetricData(ctx, data)), "InvalidSignatureException", "")
	empty := wiretest.Serve(t)
	wiretest.Refused(t, wiretest.Error(awscw.NewFromConfig(empty).PutMetricData(ctx, data)), "UnsupportedOperationException",
		"Berth does not serve monitoring yet")
}

// TestServicesThatAreNotServedAreNamed in the protocols of their clients.
func TestServicesThatAreNotServedAreNamed(t *testing.T) {
	f := setup(t)
	for service, want := range map[string]string{
		"s3":      "<Error><Code>NotImplemented</Code><Message>Berth does not serve s3 yet</Message><Resource>/v2/key</Resource><RequestId>",
		"route53": "<ErrorResponse><Error><Type>Receiver</Type><Code>NotImplemented</Code><Message>Berth does not serve route53 yet</Message>",
	} {
		r := f.request("")
		r.Method, r.URL.Path = "GET", "/v2/key"
		r.Header.Del("Content-Type")
		got := f.send(f.sign(r, hashOf(""), service, f.now))
		if got.status != 501 || got.kind != "application/xml" || !strings.Contains(got.body, want) {
			t.Errorf("%s: %+v", service, got)
		}
	}
}

func FuzzDecodeCBOR(f *testing.F) {
	f.Add([]byte("\xa1\x69Namespace\x63app"))
	f.Add([]byte("\xbf\x6aMetricData\x9a\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		v := &awscw.PutMetricDataInput{}
		if err := wire.DecodeCBOR(body, schemas.PutMetricDataInput, v); err == nil {
			cborTree(t, "again", wire.EncodeCBOR(v, schemas.PutMetricDataInput))
		}
	})
}
