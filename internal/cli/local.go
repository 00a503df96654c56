package cli

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/client"
)

// local is the Berth of the data directory.
func (c *common) local() (*client.Target, error) {
	in, err := app.LoadInstance(c.dataDir)
	if errors.Is(err, app.ErrNoInstance) {
		return nil, notHere{err}
	}
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
	return &client.Target{Endpoint: "http://" + net.JoinHostPort(host, port), Region: in.Region,
		Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, ""), Registry: in.RegistryHost(), Builder: in.BuildSocket(),
		Logs: func(task string) string { return in.Path("tasks", task) }, Start: "berth up --data-dir " + in.Path()}, nil
}

// notHere is a client.ErrNotHere in the words of app.
type notHere struct{ error }

// Is implements the interface that errors.Is asks for.
func (notHere) Is(err error) bool { return err == client.ErrNotHere }

// built notes an image that is in this machine's store only.
func (c *common) built(ctx context.Context, image string) error {
	in, err := app.LoadInstance(c.dataDir)
	if err != nil {
		return err
	}
	return app.MarkBuilt(ctx, in, image)
}
