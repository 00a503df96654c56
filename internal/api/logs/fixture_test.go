package logs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/logs"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
)

var ctx = context.Background()

const group = "/ecs/web"

// key is the one caller of the fixture.
type key struct{}

func (key) Secret(string, string) (string, wire.Caller, error) { return "secret", wire.Caller{}, nil }

type fixture struct {
	*sdk.Client
	t     *testing.T
	store *logstore.Store
	now   int64 // Unix milliseconds
}

// setup serves the API to a stock client; group exists in it.
func setup(t *testing.T) *fixture {
	now := time.Now().Truncate(time.Millisecond)
	clock := func() time.Time { return now }
	quiet := slog.New(slog.DiscardHandler)
	store, err := logstore.Open(t.TempDir(), logstore.Config{Log: quiet, Now: clock, SyncInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	service := logs.New(logs.Config{Store: store, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"},
		Now: clock, Log: quiet})
	server := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: key{}, Now: time.Now, Log: quiet,
		Services: []*wire.Service{service}}))
	t.Cleanup(func() {
		server.Close()
		store.Close()
	})
	f := &fixture{t: t, store: store, now: now.UnixMilli(), Client: sdk.NewFromConfig(aws.Config{Region: "us-east-1",
		BaseEndpoint: &server.URL, RetryMaxAttempts: 3, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")})}
	f.ok(store.CreateGroup(logstore.Group{Name: group}))
	return f
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// put stores messages in a stream, which it makes when it is missing, a millisecond apart from at on.
func (f *fixture) put(stream string, at int64, messages ...string) *sdk.PutLogEventsOutput {
	f.t.Helper()
	f.ok(f.store.Prepare(ctx, group, stream, true))
	in := &sdk.PutLogEventsInput{LogGroupName: new(group), LogStreamName: &stream}
	for i, m := range messages {
		in.LogEvents = append(in.LogEvents, types.InputLogEvent{Timestamp: new(at + int64(i)), Message: &m})
	}
	out, err := f.PutLogEvents(ctx, in)
	f.ok(err)
	return out
}

// refused checks the name and the text of a refusal.
func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	e, is := errors.AsType[smithy.APIError](err)
	if !is || e.ErrorCode() != code || e.ErrorMessage() != message {
		t.Errorf("got %v\nwant %s: %s", err, code, message)
	}
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func numbers(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func texts(events []types.OutputLogEvent) (all []string) {
	for _, e := range events {
		all = append(all, *e.Message)
	}
	return all
}
