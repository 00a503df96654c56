// Package peer is the cluster port (4567/tcp): one TLS listener, on which ALPN says what a connection is for, and the other side's
// certificate who it is. Who may do what is asked at each handshake, and again when Recheck says so; no message is believed about it.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"

	grpcpeer "google.golang.org/grpc/peer"

	"github.com/berthdev/berth/internal/pki"
)

// The protocols (ALPN) that every server speaks.
const (
	ProtocolGRPC = "berth-grpc"
	ProtocolHTTP = "berth-http" // HTTP/1.1
)

// Port is the cluster port.
const Port = 4567

// Config is what both sides need.
type Config struct {
	// Identity is asked at each handshake, so that renewals need no restart.
	Identity func() *pki.Identity
	// Admit looks up whether the peer is still known; its error is a sentence, and what the peer is told. nil admits everybody whose
	// certificate is good.
	Admit func(pki.Peer) error
	// Clock is the time by which certificates are read; nil: the machine's. A Dialer whose clock makes a server's certificate look bad
	// asks the server for its own.
	Clock *pki.Clock
	Log   *slog.Logger // nil discards
	// Dial makes connections; nil: TCP.
	Dial Dial
}

func (c *Config) complete() {
	if c.Admit == nil {
		c.Admit = func(pki.Peer) error { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Who is a set of those who may call something.
type Who uint8

// Who there is. A machine with an expired certificate is refused everywhere but where Expired is in the set: it may renew.
const (
	Nodes Who = 1 << iota
	Servers
	Clients
	Expired
	Anyone   // without a certificate too
	Machines = Nodes | Servers
)

func whoIs(r pki.Role) Who {
	switch r {
	case pki.RoleNode:
		return Nodes
	case pki.RoleServer:
		return Servers
	case pki.RoleClient:
		return Clients
	}
	return 0
}

// caller is what a handshake found out.
type caller struct {
	peer    pki.Peer
	known   bool  // there was a certificate of this cluster
	expired bool  // it was good once
	refused error // what Admit said
}

// errAnonymous is for those without a certificate.
var errAnonymous = errors.New("this needs the certificate of a machine of the cluster; run berth node --join first")

// may is nil when the caller is one of who.
func (c *caller) may(who Who) error {
	switch {
	case who&Anyone != 0:
		return nil
	case !c.known:
		return errAnonymous
	case c.refused != nil:
		return c.refused
	case c.expired && who&Expired == 0:
		return fmt.Errorf("%s: %w; it may still renew it", c.peer, pki.ErrExpired)
	case who&whoIs(c.peer.Role) == 0:
		return fmt.Errorf("%s may not do this", c.peer)
	}
	return nil
}

// who reads the other side's certificate. An error breaks the handshake.
func (c *Config) who(s tls.ConnectionState) (caller, error) {
	if len(s.PeerCertificates) == 0 {
		return caller{}, nil
	}
	p, err := c.Identity().Verify(s.PeerCertificates[0], c.Clock.Now())
	expired := errors.Is(err, pki.ErrExpired)
	if err != nil && !expired {
		return caller{}, err
	}
	return caller{peer: p, known: true, expired: expired, refused: c.Admit(p)}, nil
}

type contextKey struct{}

// With is a context of the peer's, for callers inside the process (the pipe of berth up) and for tests.
func With(ctx context.Context, p pki.Peer) context.Context {
	return context.WithValue(ctx, contextKey{}, &caller{peer: p, known: true})
}

// From is who calls, in HTTP handlers and gRPC methods; ok is false for those without a certificate that is good now.
func From(ctx context.Context) (p pki.Peer, ok bool) {
	c := callerOf(ctx)
	if c == nil || !c.known || c.refused != nil {
		return pki.Peer{}, false
	}
	return c.peer, true
}

// callerOf is nil outside of a Server's handlers.
func callerOf(ctx context.Context) *caller {
	if c, ok := ctx.Value(contextKey{}).(*caller); ok {
		return c
	}
	if p, ok := grpcpeer.FromContext(ctx); ok {
		if a, ok := p.AuthInfo.(authInfo); ok {
			return a.caller
		}
	}
	return nil
}
