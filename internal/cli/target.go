package cli

import (
	"context"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/app"
)

// target is a Berth and how to speak to it.
type target struct {
	in       *app.Instance
	endpoint string
	keyID    string
	secret   string
}

func (c *common) target() (*target, error) {
	in, err := app.LoadInstance(c.dataDir)
	if err != nil {
		return nil, err
	}
	keyID, secret, err := iam.ReadRoot(in.RootKey())
	if err != nil {
		return nil, fmt.Errorf("read the root key: %w", err)
	}
	host, port, err := net.SplitHostPort(in.Listen)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return &target{in, "http://" + net.JoinHostPort(host, port), keyID, secret}, nil
}

// config is the SDK's configuration for the target.
func (t *target) config() aws.Config {
	return aws.Config{Region: t.in.Region, BaseEndpoint: &t.endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(t.keyID, t.secret, "")}
}

// reachable says in one sentence when nothing listens.
func (t *target) reachable(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.endpoint[len("http://"):])
	if err != nil {
		return fmt.Errorf("Berth does not answer at %s; start it with: berth up --data-dir %s", t.endpoint, t.in.Path())
	}
	return conn.Close()
}
