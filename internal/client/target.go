package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"
)

// Target is a Berth and how to speak to it.
type Target struct {
	Endpoint    string // URL of the API
	Region      string
	Credentials aws.CredentialsProvider
	// Registry is host:port under which the clients of this machine reach the registry.
	Registry string
	// Builder is the socket of this machine's own builder; "" where builds go over the API.
	Builder string
	// Logs is where a task's json-file logs are on this machine; nil when they are elsewhere.
	Logs func(task string) string
	// Start is the command that starts this Berth when it does not answer; "" when it runs elsewhere.
	Start string
}

// target is the Berth of this machine or, where there is none, the one that the environment and the AWS configuration name.
func (c *common) target(ctx context.Context) (*Target, error) {
	here := ErrNotHere
	if c.machine.Local != nil {
		t, err := c.machine.Local()
		if !errors.Is(err, ErrNotHere) {
			return t, err
		}
		here = err
	}
	conf, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if conf.BaseEndpoint == nil || *conf.BaseEndpoint == "" {
		return nil, fmt.Errorf("%w; or name one elsewhere by AWS_ENDPOINT_URL and the variables that berth env prints there", here)
	}
	u, err := url.Parse(*conf.BaseEndpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("AWS_ENDPOINT_URL is %q: want a URL such as http://127.0.0.1:4566", *conf.BaseEndpoint)
	}
	if conf.Region == "" {
		conf.Region = "us-east-1"
	}
	return &Target{Endpoint: *conf.BaseEndpoint, Region: conf.Region, Credentials: conf.Credentials, Registry: u.Host}, nil
}

// config is the SDK's configuration for the target.
func (t *Target) config() aws.Config {
	return aws.Config{Region: t.Region, BaseEndpoint: &t.Endpoint, Credentials: t.Credentials}
}

// answering is the target, once it is known that something listens there.
func (c *common) answering(ctx context.Context) (*Target, error) {
	t, err := c.target(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := t.dial(ctx)
	switch {
	case err != nil && t.Start != "":
		return nil, fmt.Errorf("Berth does not answer at %s; start it with: %s", t.Endpoint, t.Start)
	case err != nil:
		return nil, fmt.Errorf("Berth does not answer at %s: %w", t.Endpoint, err)
	}
	return t, conn.Close()
}

// dial opens a connection to the API's host.
func (t *Target) dial(ctx context.Context) (net.Conn, error) {
	u, err := url.Parse(t.Endpoint)
	if err != nil {
		return nil, err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"https": "443"}[u.Scheme]+map[string]string{"http": "80"}[u.Scheme])
	}
	return new(net.Dialer).DialContext(ctx, "tcp", host)
}

func (c *common) env() *cobra.Command {
	return &cobra.Command{Use: "env", Short: `Print what clients need, for: eval "$(berth env)"`, Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := c.target(cmd.Context())
			if err != nil {
				return err
			}
			keys, err := t.Credentials.Retrieve(cmd.Context())
			if err != nil {
				return err
			}
			for _, kv := range [][2]string{{"AWS_ENDPOINT_URL", t.Endpoint}, {"AWS_ACCESS_KEY_ID", keys.AccessKeyID},
				{"AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey}, {"AWS_REGION", t.Region}, {"AWS_DEFAULT_REGION", t.Region}} {
				fmt.Fprintf(cmd.OutOrStdout(), "export %s=%s\n", kv[0], kv[1])
			}
			return nil
		}}
}
