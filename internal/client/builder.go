package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/berthdev/berth/internal/serve/build"
)

// dialBuilder opens a connection of BuildKit's protocol: over the socket of this machine's builder or, where it is elsewhere, over the API's
// port, with the registry's password.
func (t *Target) dialBuilder(ctx context.Context, password string) (net.Conn, error) {
	if t.Builder != "" {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", t.Builder)
		if err != nil {
			return nil, fmt.Errorf("%w; it needs root on the machine that runs berth up --runtime containerd", err)
		}
		return conn, nil
	}
	u, err := url.Parse(t.Endpoint)
	if err != nil {
		return nil, err
	}
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	upgraded, err := upgrade(ctx, conn, t.Endpoint, password)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return upgraded, nil
}

// upgrade asks for BuildKit's protocol on the connection.
func upgrade(ctx context.Context, conn net.Conn, endpoint, password string) (net.Conn, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+build.Path, nil)
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth("AWS", password)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", build.Protocol)
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1024))
		return nil, fmt.Errorf("%s: %s", res.Status, said)
	}
	return &buffered{conn, in}, nil
}

// buffered is a connection of which something was read already.
type buffered struct {
	net.Conn
	in *bufio.Reader
}

// Read implements net.Conn.
func (b *buffered) Read(p []byte) (int, error) { return b.in.Read(p) }
