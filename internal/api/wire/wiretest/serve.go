package wiretest

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/wire"
)

// key is the one that Serve knows.
type key struct{}

const keyID, secret = "AKIDTEST", "secret"

func (key) Secret(id, _ string) (string, wire.Caller, error) {
	if id != keyID {
		return "", wire.Caller{}, errors.New("no such key: " + id)
	}
	return secret, wire.Caller{Account: "000000000000", ARN: "arn:aws:iam::000000000000:root"}, nil
}

// Serve puts services behind a real endpoint until the test ends. The result is for the SDK's clients, which try once.
func Serve(t testing.TB, services ...*wire.Service) aws.Config {
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: key{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Services: services}))
	t.Cleanup(srv.Close)
	return aws.Config{Region: "us-east-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, HTTPClient: Client{},
		Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, "")}
}

// Must returns what a call returned, or ends the test.
func Must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Error is the error of a call whose answer does not matter.
func Error[T any](_ T, err error) error { return err }

// Refused checks that err is an API's, has the code, and that its message holds the text.
func Refused(t testing.TB, err error, code, text string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("%v, want %s: %s", err, code, text)
	}
}
