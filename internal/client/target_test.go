package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/serve/build"
)

// TestTarget: this machine's Berth first, then the one that the environment names, and else a sentence.
func TestTarget(t *testing.T) {
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	c := &common{}
	if _, err := c.target(t.Context()); !errors.Is(err, ErrNotHere) || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL") {
		t.Errorf("without any: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL", "https://berth.example:4566")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	far, err := c.target(t.Context())
	if err != nil || far.Registry != "berth.example:4566" || far.Region != "us-east-1" {
		t.Errorf("the environment's: %+v, %v", far, err)
	}
	here := &Target{}
	c.machine.Local = func() (*Target, error) { return here, nil }
	if got, err := c.target(t.Context()); got != here || err != nil {
		t.Errorf("this machine's: %+v, %v", got, err)
	}
	damaged := errors.New("instance.json: unexpected end of JSON input")
	c.machine.Local = func() (*Target, error) { return nil, damaged }
	if _, err := c.target(t.Context()); !errors.Is(err, damaged) {
		t.Errorf("a damaged one here is no reason to use another: %v", err)
	}
}

// TestBuilderElsewhere: BuildKit's bytes go over the API's port both ways, and only with the password.
func TestBuilderElsewhere(t *testing.T) {
	remote := &build.Remote{Log: slog.New(slog.DiscardHandler),
		Admit: func(password string) error {
			if password != "right" {
				return errors.New("wrong")
			}
			return nil
		},
		Dial: func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { defer far.Close(); _, _ = io.Copy(far, far) }()
			return near, nil
		}}
	mux := http.NewServeMux()
	mux.Handle(build.Path, remote)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	far := &Target{Endpoint: srv.URL}
	if _, err := far.dialBuilder(t.Context(), "wrong"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("with a wrong password: %v", err)
	}
	conn, err := far.dialBuilder(t.Context(), "right")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 14)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "PRI * HTTP/2.0" {
		t.Errorf("came back %q, %v", got, err)
	}
}
