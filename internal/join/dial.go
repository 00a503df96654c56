package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/timeouts"
)

// errUnreached is in the error of a server that was not reached, and errLost in that of one that may have taken the machine in and did
// not say so. Another may be tried.
var (
	errUnreached = errors.New("no server was reached")
	errLost      = errors.New("no server has answered")
)

// atError is what happened at one server.
type atError struct {
	address  string
	what, by error
}

func (e *atError) Error() string   { return e.address + ": " + e.by.Error() }
func (e *atError) Unwrap() []error { return []error{e.what, e.by} }

func unreached(address string, err error) error { return &atError{address, errUnreached, err} }

// maxAnswer bounds an answer, bytes.
const maxAnswer = 1 << 20

// at joins at one server.
func (c *Config) at(ctx context.Context, address string, key *ecdsa.PrivateKey) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.JoinCall)
	defer cancel()
	res := &Result{}
	conn, err := c.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	clock := c.Clock
	if clock == nil {
		clock = &pki.Clock{}
	}
	res.Ahead, res.Apart, err = peer.AskClock(ctx, conn, clock) // closes conn
	if err != nil {
		return nil, unreached(address, err)
	}
	if c.URL.Token.Role == pki.RoleServer && res.Ahead.Abs() > serverSlack {
		return nil, fmt.Errorf("this machine's clock is %s the server's at %s; servers must agree within %s: set both by NTP (timedatectl set-ntp true) and join again",
			apart(res.Ahead), address, serverSlack)
	}
	if conn, err = c.dial(ctx, address); err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := c.ask(ctx, conn, address, key)
	if err != nil {
		return nil, err
	}
	return res, c.take(res, answer, key)
}

func apart(ahead time.Duration) string {
	if ahead > 0 {
		return ahead.Round(time.Second).String() + " behind"
	}
	return (-ahead).Round(time.Second).String() + " ahead of"
}

// dial connects to a server whose certificate leads to the token's authority; dates are not looked at.
func (c *Config) dial(ctx context.Context, address string) (net.Conn, error) {
	dial := c.Dial
	if dial == nil {
		dial = peer.DialTCP
	}
	limit, cancel := context.WithTimeout(ctx, timeouts.PeerDial)
	defer cancel()
	raw, err := dial(limit, address)
	if err != nil {
		return nil, unreached(address, err)
	}
	var wrong error
	conn := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{peer.ProtocolHTTP},
		InsecureSkipVerify: true, // VerifyConnection compares with the pin
		VerifyConnection: func(s tls.ConnectionState) error {
			wrong = c.pinned(s.PeerCertificates)
			return wrong
		}})
	if err := conn.HandshakeContext(limit); err != nil {
		_ = raw.Close()
		if wrong != nil {
			return nil, fmt.Errorf("%s: %w", address, wrong)
		}
		return nil, unreached(address, err)
	}
	return conn, nil
}

func (c *Config) pinned(chain []*x509.Certificate) error {
	p, err := pki.VerifyPin(chain, c.URL.Token.Pin)
	if err != nil {
		return fmt.Errorf("the server there is not of the cluster that made the token: its authority is another one, or has changed since (berth ca rotate); "+
			"compare the address, or make a new token with: berth token %s", c.URL.Token.Role)
	}
	if p.Role != pki.RoleServer {
		return fmt.Errorf("what answers there is %s and no server; compare the address", p)
	}
	return nil
}

// ask sends the request.
func (c *Config) ask(ctx context.Context, conn net.Conn, address string, key *ecdsa.PrivateKey) (*Answer, error) {
	csr, err := pki.Request(key)
	if err != nil {
		return nil, err
	}
	token := c.URL.Token
	r := Request{TokenID: token.ID, Secret: token.Secret[:], CSR: csr, Machine: c.Machine}
	if r.Machine.Address == "" {
		if r.Machine.Address, _, err = net.SplitHostPort(conn.LocalAddr().String()); err != nil {
			return nil, err
		}
	}
	if len(c.Ports) > 0 {
		r.Nonce = make([]byte, nonceSize)
		rand.Read(r.Nonce)
		var closeEchoes func()
		r.Ports, closeEchoes = listenEchoes(c.Ports, r.Nonce)
		defer closeEchoes()
	}
	answer := &Answer{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	if err := Post(ctx, client, PathJoin, r, answer); err != nil {
		if _, refused := errors.AsType[*peer.Refusal](err); refused {
			return nil, err
		}
		if _, elsewhere := errors.AsType[*peer.Elsewhere](err); elsewhere {
			return nil, err
		}
		return nil, &atError{address, errLost, err}
	}
	return answer, nil
}

// take reads an answer.
func (c *Config) take(res *Result, a *Answer, key *ecdsa.PrivateKey) error {
	roots, err := pki.DecodeCerts([]byte(a.Roots))
	if err != nil {
		return fmt.Errorf("the server's answer has no authorities: %w", err)
	}
	if res.Identity, err = pki.NewIdentity(key, a.Cert, roots); err != nil {
		return fmt.Errorf("the server's answer has no certificate for this machine: %w", err)
	}
	known := false
	for _, root := range roots {
		known = known || pki.Pin(root) == c.URL.Token.Pin
	}
	if !known || res.Identity.Peer.Role != c.URL.Token.Role || len(a.Servers) == 0 {
		return errors.New("the server's answer is not what was asked for; are the versions of Berth the same?")
	}
	res.Servers, res.Site, res.Address, res.BeatKey, res.Ports, res.Again, res.RootKey =
		a.Servers, a.Site, a.Address, a.BeatKey, a.Ports, a.Again, a.RootKey
	if c.URL.Token.Role == pki.RoleServer {
		if a.Authority == nil || len(a.RootKey) == 0 {
			return errors.New("the server's answer has no keys for a server; are the versions of Berth the same?")
		}
		if res.CA, err = pki.DecodeCA(a.Authority.Cert, a.Authority.Key); err != nil {
			return fmt.Errorf("the server's answer has no authority's key: %w", err)
		}
		res.BeatKey = a.Authority.BeatKey
	}
	return nil
}

// Post sends a value as JSON to a path of the cluster port and reads the answer. A refusal is a *peer.Refusal or *peer.Elsewhere.
func Post(ctx context.Context, client *http.Client, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return call(ctx, client, http.MethodPost, path, bytes.NewReader(body), out)
}

// Get asks a path of the cluster port.
func Get(ctx context.Context, client *http.Client, path string, out any) error {
	return call(ctx, client, http.MethodGet, path, nil, out)
}

func call(ctx context.Context, client *http.Client, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://server"+path, body)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := peer.ReadError(res); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return nil
}
