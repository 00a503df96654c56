package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
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
	c, err := d.dial(ctx, address, protocol)
	if badDate(err) && d.learn(ctx, address) {
		return d.dial(ctx, address, protocol)
	}
	return c, err
}

func (d *Dialer) dial(ctx context.Context, address, protocol string) (net.Conn, error) {
	raw, err := d.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	return d.handshake(ctx, raw, d.config(address, protocol, d.c.Clock.Now), address)
}

// handshake makes raw a connection to a server of the cluster, or closes it.
func (d *Dialer) handshake(ctx context.Context, raw net.Conn, conf *tls.Config, address string) (net.Conn, error) {
	c := tls.Client(raw, conf)
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
	return DialTCP(ctx, address)
}

// Dial connects to an address, host:port.
type Dial func(ctx context.Context, address string) (net.Conn, error)

// DialTCP is the usual Dial. The kernel notices when the other machine is gone.
func DialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: timeouts.PeerKeepAlive, Interval: timeouts.PeerKeepAlive / 2, Count: 2}}).
		DialContext(ctx, "tcp", address)
}

// config is that of a client of the address. With a nil now, certificates' dates are not looked at.
func (d *Dialer) config(address, protocol string, now func() time.Time) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, NextProtos: []string{protocol},
		InsecureSkipVerify:   true, // VerifyConnection does: a certificate names the machine's id, which has several addresses
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return d.c.Identity().TLS(), nil },
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errAnonymous
			}
			cert := state.PeerCertificates[0]
			at := cert.NotAfter
			if now != nil {
				at = now()
			}
			p, err := d.c.Identity().Verify(cert, at)
			switch {
			case err != nil:
				return err
			case p.Role != pki.RoleServer || !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
				return fmt.Errorf("the certificate there is that of %s", p)
			case state.NegotiatedProtocol != protocol:
				return fmt.Errorf("it does not speak %s", protocol)
			}
			return d.c.Admit(p)
		}}
}

// badDate tells that a certificate is good, but not now.
func badDate(err error) bool {
	_, early := errors.AsType[*pki.DateError](err)
	return early || errors.Is(err, pki.ErrExpired)
}

// clockPath answers with the server's time.
const clockPath = "/v1/clock"

// learn takes a server's clock for this process's, which makes a good certificate look bad: the server must have the key of one of this
// cluster's, whatever its dates.
func (d *Dialer) learn(ctx context.Context, address string) bool {
	if d.c.Clock == nil {
		return false
	}
	raw, err := d.connect(ctx, address)
	if err != nil {
		return false
	}
	c, err := d.handshake(ctx, raw, d.config(address, ProtocolHTTP, nil), address)
	if err != nil {
		return false
	}
	defer c.Close()
	offset, apart, err := AskClock(ctx, c, d.c.Clock)
	if err != nil || !apart {
		return false
	}
	d.c.Log.Warn("this machine's clock is wrong, or a server's: certificates are read by the server's; set both by NTP (timedatectl set-ntp true)",
		"server", address, "server ahead by", offset.Round(time.Second))
	return true
}

// AskClock asks the server at the other end of a connection of ProtocolHTTP for its time, and has the clock learn it.
func AskClock(ctx context.Context, c net.Conn, clock *pki.Clock) (offset time.Duration, apart bool, err error) {
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server"+clockPath, nil)
	if err != nil {
		return 0, false, err
	}
	asked := clock.Now()
	res, err := once.Do(req)
	if err != nil {
		return 0, false, err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if err != nil {
		return 0, false, err
	}
	now, err := time.Parse(time.RFC3339Nano, string(said))
	if err != nil {
		return 0, false, fmt.Errorf("the server's time cannot be read: %w", err)
	}
	offset, apart = clock.Learn(now, asked)
	return offset, apart, nil
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
		grpc.WithIdleTimeout(0), // a standby's connection stays
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: timeouts.PeerDial,
			Backoff: backoff.Config{BaseDelay: timeouts.SessionRetry, Multiplier: 2, Jitter: 0.5, MaxDelay: timeouts.SessionLonger}}),
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
	c, err := d.d.handshake(ctx, raw, d.d.config(d.address, ProtocolGRPC, d.d.c.Clock.Now), d.address)
	if badDate(err) {
		d.d.learn(ctx, d.address) // for the next attempt
	}
	return c, authInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, err
}

func (d dialing) Clone() credentials.TransportCredentials { return d }
