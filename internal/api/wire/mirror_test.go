package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	awslogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/berthdev/berth/internal/api/ec2"
	"github.com/berthdev/berth/internal/api/eks"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// far is the other end of an SDK client: it keeps the request and sends what the test wants to be answered.
type far struct {
	request []byte
	sent    *http.Request
	answer  []byte
	kind    string
}

var errNoAnswer = errors.New("no answer")

func (f *far) Do(r *http.Request) (*http.Response, error) {
	var err error
	f.request, f.sent = nil, r
	if r.Body != nil {
		if f.request, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	if f.answer == nil {
		return nil, errNoAnswer
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {f.kind}},
		Body: io.NopCloser(bytes.NewReader(f.answer))}, nil
}

// clients are the SDK's clients with f as their other end.
func clients(f *far) map[string]any {
	conf := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String("http://localhost:1"), HTTPClient: f, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")}
	return map[string]any{"ecs": awsecs.NewFromConfig(conf), "ecr": awsecr.NewFromConfig(conf), "logs": awslogs.NewFromConfig(conf),
		"elasticloadbalancing": awselb.NewFromConfig(conf), "sts": awssts.NewFromConfig(conf), "iam": awsiam.NewFromConfig(conf),
		"ec2": awsec2.NewFromConfig(conf), "eks": awseks.NewFromConfig(conf)}
}

// left are the operations that stream and those whose input cannot be sent without a union.
var left = []string{"StartLiveTail", "GetLogObject", "CreateGateway", "PutIntegration"}

// eachOperation calls visit with every operation of a client but those that are left out.
func eachOperation(client any, visit func(name string, in, out reflect.Type, call func(in any) (any, error))) {
	c := reflect.ValueOf(client)
	for i := range c.NumMethod() {
		m := c.Type().Method(i)
		if m.Type.NumIn() != 4 || m.Type.NumOut() != 2 || slices.Contains(left, m.Name) {
			continue
		}
		visit(m.Name, m.Type.In(2).Elem(), m.Type.Out(0).Elem(), func(in any) (any, error) {
			got := c.Method(i).Call([]reflect.Value{reflect.ValueOf(context.Background()), reflect.ValueOf(in)})
			err, _ := got[1].Interface().(error)
			return got[0].Interface(), err
		})
	}
}

// filler fills structs with values that are all different and hard to quote.
type filler struct{ n int }

func (f *filler) fill(v reflect.Value, depth int) {
	f.n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000+int64(f.n), 123e6).UTC()))
	case v.Type() == reflect.TypeFor[[]byte]():
		v.SetBytes([]byte{0, byte(f.n), 255})
	case v.Kind() == reflect.Pointer:
		if depth > 0 || v.Type().Elem().Kind() != reflect.Struct {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if t := v.Type().Field(i); t.IsExported() && !t.Anonymous && t.Type != reflect.TypeFor[middleware.Metadata]() {
				f.fill(v.Field(i), depth-1)
			}
		}
	case v.Kind() == reflect.Slice && depth > 0 && v.Type().Elem().Kind() != reflect.Interface:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0), depth)
		f.fill(v.Index(1), depth)
	case v.Kind() == reflect.Map && depth > 0:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			e := reflect.New(v.Type().Elem()).Elem()
			f.fill(e, depth)
			v.SetMapIndex(reflect.ValueOf(fmt.Sprintf("k.%d &é", f.n)).Convert(v.Type().Key()), e)
		}
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("v%d <&>\"'\\é\n🐳", f.n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(int64(f.n % 100_000))
	case v.CanFloat():
		v.SetFloat(float64(f.n) + 0.5)
	}
}

func filled(t reflect.Type) any {
	v := reflect.New(t)
	(&filler{}).fill(v.Elem(), 7)
	return v.Interface()
}

// schemaOf is the schema that a value names when it serializes itself, nil for values of services without schemas.
func schemaOf(v any) (s *smithy.Schema) {
	self, ok := v.(smithy.Serializable)
	if !ok {
		return nil
	}
	defer func() { s, _ = recover().(*smithy.Schema) }()
	self.Serialize(schemaTrap{})
	return nil
}

type schemaTrap struct{ smithy.ShapeSerializer }

func (schemaTrap) WriteStruct(s *smithy.Schema) { panic(s) }

// TestRequestsOfEveryOperation has the SDK's clients send every operation with every member set (but unions, which the snapshots
// hold) and reads it back.
func TestRequestsOfEveryOperation(t *testing.T) {
	f, n := &far{}, 0
	for service, client := range clients(f) {
		if service == "ec2" {
			continue // TestEC2Requests; the answers are tested in package ec2
		}
		eachOperation(client, func(name string, inType, _ reflect.Type, call func(any) (any, error)) {
			n++
			in, got := filled(inType), reflect.New(inType).Interface()
			f.sent = nil
			if _, err := call(in); !errors.Is(err, errNoAnswer) {
				t.Errorf("%s:%s was not sent: %v", service, name, err)
				return
			}
			err := readRequest(service, f, in, got)
			if err != nil || !reflect.DeepEqual(in, got) {
				t.Errorf("%s:%s: %v\nread %s\nof   %.2000s", service, name, err, difference(in, got), f.request)
			}
		})
	}
	atLeast(t, n)
}

// atLeast fails when the clients' methods were not found: six services have more than 400 operations.
func atLeast(t *testing.T, n int) {
	t.Helper()
	if n < 400 {
		t.Errorf("only %d operations were tried", n)
	}
}

func readRequest(service string, f *far, in, into any) error {
	s := schemaOf(in)
	if service == "eks" {
		sent := f.sent.Clone(context.Background())
		sent.Body = io.NopCloser(bytes.NewReader(f.request))
		_, _, err := wire.DecodeREST(eks.New(), sent, func(string) (*smithy.Schema, any) { return s, into })
		return err
	}
	if s != nil {
		return wire.DecodeJSON(f.request, s, into)
	}
	form, err := url.ParseQuery(string(f.request))
	if err != nil {
		return err
	}
	form.Del("Action")
	form.Del("Version")
	return wire.DecodeQuery(form, into)
}

// TestEC2Requests does the same with the operations of EC2 that Berth serves; it has far too many to try all.
func TestEC2Requests(t *testing.T) {
	f := &far{}
	client, served := clients(f)["ec2"], wire.Operations(ec2.New(ec2.Config{Store: mem.New(store.Schema()), Network: ec2.DefaultNetwork(scope), Now: time.Now, NewID: func() string { return strings.Repeat("0", 32) }}))
	eachOperation(client, func(name string, inType, _ reflect.Type, call func(any) (any, error)) {
		if !slices.ContainsFunc(served, func(o wire.Operation) bool { return o.Name == name }) {
			return
		}
		in, got := filled(inType), reflect.New(inType).Interface()
		if _, err := call(in); !errors.Is(err, errNoAnswer) {
			t.Errorf("%s was not sent: %v", name, err)
			return
		}
		form, err := url.ParseQuery(string(f.request))
		if err == nil {
			err = wire.DecodeEC2(form, got)
		}
		if err != nil || !reflect.DeepEqual(in, got) {
			t.Errorf("%s: %v\nread %s\nof   %.2000s", name, err, difference(in, got), f.request)
		}
	})
}

// TestAnswersOfEveryOperation writes every operation's output with every member set and has the SDK's clients read it.
func TestAnswersOfEveryOperation(t *testing.T) {
	f, n := &far{}, 0
	for service, client := range clients(f) {
		if service == "ec2" {
			continue // TestEC2Requests; the answers are tested in package ec2
		}
		eachOperation(client, func(name string, inType, outType reflect.Type, call func(any) (any, error)) {
			n++
			out := filled(outType)
			if s := schemaOf(out); s != nil {
				f.answer, f.kind = wire.EncodeJSON(out, s), "application/x-amz-json-1.1"
			} else {
				f.answer, f.kind = wire.EncodeXML(&wire.Service{Name: service, Protocol: wire.Query}, name, out), "text/xml"
			}
			got, err := call(filled(inType))
			if err != nil {
				t.Errorf("%s:%s was not read: %v\n%.2000s", service, name, err, f.answer)
				return
			}
			reflect.ValueOf(got).Elem().FieldByName("ResultMetadata").SetZero()
			if !reflect.DeepEqual(out, got) {
				t.Errorf("%s:%s: the client read %s\nof %.2000s", service, name, difference(out, got), f.answer)
			}
		})
	}
	atLeast(t, n)
}

// difference names the first fields that differ.
func difference(want, got any) string {
	var all []string
	compare("", reflect.ValueOf(want), reflect.ValueOf(got), &all)
	return strings.Join(all[:min(len(all), 5)], "; ")
}

func compare(path string, a, b reflect.Value, all *[]string) {
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		compare(path, a.Elem(), b.Elem(), all)
		return
	}
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return
	}
	if a.Kind() == reflect.Struct && a.Type() != reflect.TypeFor[time.Time]() {
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() {
				compare(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i), all)
			}
		}
		return
	}
	if a.Kind() == reflect.Slice && a.Len() == b.Len() {
		for i := range a.Len() {
			compare(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i), all)
		}
		return
	}
	*all = append(*all, fmt.Sprintf("%s: %#v for %#v", path, b.Interface(), a.Interface()))
}
