package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/timeouts"
)

// Dialer calls servers of the cluster. Whoever answers must show the certificate of a server that Admit knows.
type Dialer struct{ c Config }

// NewDialer makes a Dialer.
func NewDialer(c Config) *Dialer {
	c.complete()
	return &Dialer{c}
}

// Dial connects to the server at the address (host:port) for a protocol (ALPN).
func (d *Dialer) Dial(ctx context.Context, address, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.PeerDial)
	defer cancel()
	raw, err := d.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	return d.handshake(ctx, raw, address, protocol)
}

// handshake makes raw a connection to a server of the cluster, or closes it.
func (d *Dialer) handshake(ctx context.Context, raw net.Conn, address, protocol string) (net.Conn, error) {
	c := tls.Client(raw, d.config(address, protocol))
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, unwrapped(address, err)
	}
	return c, nil
}

// unwrapped makes of a handshake's error what a person can act on.
func unwrapped(address string, err error) error {
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		err = certificate.Err
	}
	return fmt.Errorf("no server of this cluster at %s: %w", address, err)
}

func (d *Dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	if d.c.Dial != nil {
		return d.c.Dial(ctx, address)
	}
	return (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: timeouts.PeerKeepAlive, Interval: timeouts.PeerKeepAlive / 2, Count: 2}}).
		DialContext(ctx, "tcp", address)
}

func (d *Dialer) config(address, protocol string) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Time: d.c.Now, ServerName: host, NextProtos: []string{protocol},
		InsecureSkipVerify:   true, // VerifyConnection does: a certificate names the machine's id, which has several addresses
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return d.c.Identity().TLS(), nil },
		VerifyConnection: func(state tls.ConnectionState) error {
			who, err := d.c.who(state)
			switch {
			case err != nil:
				return err
			case who.expired:
				return pki.ErrExpired
			case !who.known || who.peer.Role != pki.RoleServer:
				return fmt.Errorf("the certificate there is that of %s", who.peer)
			case !mayServe(state.PeerCertificates[0]):
				return errors.New("the certificate there is not for a server")
			case state.NegotiatedProtocol != protocol:
				return fmt.Errorf("it does not speak %s", protocol)
			}
			return who.refused
		}}
}

func mayServe(cert *x509.Certificate) bool {
	for _, u := range cert.ExtKeyUsage {
		if u == x509.ExtKeyUsageServerAuth {
			return true
		}
	}
	return false
}

// HTTP is a client of the server at the address; the URLs' host is not looked at (http://server/…). Its connections are its own: close
// them with CloseIdleConnections.
func (d *Dialer) HTTP(address string) *http.Client {
	return &http.Client{Transport: &http.Transport{IdleConnTimeout: timeouts.RequestIdle / 2, MaxIdleConnsPerHost: 8,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx, address, ProtocolHTTP) },
	}}
}

// GRPC is a connection to the server at the address; it connects with the first call.
func (d *Dialer) GRPC(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithContextDialer(d.connect), // gRPC sets TCP_USER_TIMEOUT before the handshake
		grpc.WithTransportCredentials(dialing{insecure.NewCredentials(), d, address}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: timeouts.PeerKeepAlive, Timeout: timeouts.PeerKeepAlive, PermitWithoutStream: true}))
}

// dialing are gRPC's credentials of one server.
type dialing struct {
	credentials.TransportCredentials
	d       *Dialer
	address string
}

func (d dialing) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.PeerDial)
	defer cancel()
	c, err := d.d.handshake(ctx, raw, d.address, ProtocolGRPC)
	return c, authInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, err
}

func (d dialing) Clone() credentials.TransportCredentials { return d }
