package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/berthdev/berth/internal/pki"
)

// world is a cluster with one server on loopback.
type world struct {
	t       *testing.T
	ca      *pki.CA
	server  *Server
	address string
	revoked atomic.Value // string: an id
	now     atomic.Int64
	me      atomic.Pointer[pki.Identity]
}

func (w *world) admit(p pki.Peer) error {
	if w.revoked.Load() == p.ID {
		return errors.New("node " + p.ID + " is not in this cluster any more: join again with a token")
	}
	return nil
}

func (w *world) clock() time.Time { return time.Unix(w.now.Load(), 0) }

func (w *world) issue(role pki.Role, id string) *pki.Identity {
	w.t.Helper()
	identity, err := w.ca.Issue(pki.Peer{Role: role, ID: id}, w.clock())
	if err != nil {
		w.t.Fatal(err)
	}
	return identity
}

func (w *world) dialer(id *pki.Identity) *Dialer {
	return NewDialer(Config{Identity: func() *pki.Identity { return id }, Clock: &pki.Clock{Base: w.clock}})
}

func newWorld(t *testing.T, register func(*Server)) *world {
	t.Helper()
	w := &world{t: t}
	w.revoked.Store("")
	w.now.Store(time.Now().Unix())
	var err error
	if w.ca, err = pki.NewCA("c7f2", w.clock()); err != nil {
		t.Fatal(err)
	}
	w.me.Store(w.issue(pki.RoleServer, "s1"))
	w.server = NewServer(Config{Identity: w.me.Load, Admit: w.admit, Clock: &pki.Clock{Base: w.clock}})
	register(w.server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func whoami(w http.ResponseWriter, r *http.Request) {
	if p, ok := From(r.Context()); ok {
		_, _ = io.WriteString(w, p.String())
		return
	}
	_, _ = io.WriteString(w, "a stranger")
}

func get(t *testing.T, client *http.Client, path string) (string, error) {
	t.Helper()
	defer client.CloseIdleConnections()
	res, err := client.Get("http://server" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if err := ReadError(res); err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func handlers(s *Server) {
	s.Handle("GET /nodes", Nodes, http.HandlerFunc(whoami))
	s.Handle("GET /servers", Servers, http.HandlerFunc(whoami))
	s.Handle("GET /machines", Machines, http.HandlerFunc(whoami))
	s.Handle("GET /renew", Machines|Expired, http.HandlerFunc(whoami))
	s.Handle("GET /anyone", Anyone, http.HandlerFunc(whoami))
	healthpb.RegisterHealthServer(s.GRPC(), health.NewServer())
}

// refused tells that err is a refusal with those words.
func refused(t *testing.T, err error, words string) {
	t.Helper()
	if _, ok := errors.AsType[*Refusal](err); !ok || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want a refusal with %q", err, words)
	}
}

func TestTheCertificateSaysWhoCalls(t *testing.T) {
	w := newWorld(t, handlers)
	node, server := w.dialer(w.issue(pki.RoleNode, "n1")), w.dialer(w.issue(pki.RoleServer, "s2"))
	for path, d := range map[string]*Dialer{"/nodes": node, "/renew": node, "/anyone": node, "/servers": server} {
		if got, err := get(t, d.HTTP(w.address), path); err != nil || !strings.HasSuffix(got, map[*Dialer]string{node: "node n1", server: "server s2"}[d]) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	_, err := get(t, node.HTTP(w.address), "/servers")
	refused(t, err, "node n1 may not")
	_, err = get(t, w.dialer(w.issue(pki.RoleClient, "laptop")).HTTP(w.address), "/machines")
	refused(t, err, "client laptop may not")
}

// stranger is an HTTP client without a certificate, which believes everybody.
func stranger(address string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ProtocolHTTP}}}).DialContext(ctx, "tcp", address)
	}}}
}

func TestStrangers(t *testing.T) {
	w := newWorld(t, handlers)
	if got, err := get(t, stranger(w.address), "/anyone"); err != nil || got != "a stranger" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := get(t, stranger(w.address), "/machines")
	refused(t, err, "certificate")
	foreign, err := pki.NewCA("c7f2", w.clock())
	if err != nil {
		t.Fatal(err)
	}
	intruder, err := foreign.Issue(pki.Peer{Role: pki.RoleNode, ID: "n1"}, w.clock())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, w.dialer(intruder).HTTP(w.address), "/anyone"); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("an intruder believes our server: %v", err)
	}
	intruder = intruder.With(w.issue(pki.RoleNode, "n2").Roots)
	if got, err := get(t, w.dialer(intruder).HTTP(w.address), "/anyone"); err == nil {
		t.Errorf("an intruder was served %q", got)
	}
}

func TestANodeIsNoServer(t *testing.T) {
	w := newWorld(t, handlers)
	node := w.issue(pki.RoleNode, "n1")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*node.TLS()}, NextProtos: []string{ProtocolHTTP}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	_, err = w.dialer(node).Dial(context.Background(), l.Addr().String(), ProtocolHTTP)
	if err == nil || !strings.Contains(err.Error(), "node n1") {
		t.Errorf("a node that poses as a server: %v", err)
	}
}

func TestRevoked(t *testing.T) {
	w := newWorld(t, handlers)
	client := w.dialer(w.issue(pki.RoleNode, "n1")).HTTP(w.address)
	hold, err := w.dialer(w.issue(pki.RoleNode, "n1")).Dial(context.Background(), w.address, ProtocolHTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if _, err := get(t, client, "/nodes"); err != nil {
		t.Fatal(err)
	}
	w.revoked.Store("n1")
	w.server.Recheck()
	if _, err := hold.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a node that was revoked is open")
	}
	_, err = get(t, client, "/nodes")
	refused(t, err, "join again with a token")
	if got, err := get(t, client, "/anyone"); err != nil || got != "a stranger" {
		t.Errorf("%q, %v", got, err)
	}
	if n := len(w.server.Peers()); n != 0 {
		t.Errorf("%d peers", n)
	}
}

func TestExpiredMayRenew(t *testing.T) {
	w := newWorld(t, handlers)
	node := w.issue(pki.RoleNode, "n1")
	w.now.Add(int64((pki.LeafLife + time.Hour).Seconds()))
	w.me.Store(w.issue(pki.RoleServer, "s1"))
	if got, err := get(t, w.dialer(node).HTTP(w.address), "/renew"); err != nil || got != "node n1" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := get(t, w.dialer(node).HTTP(w.address), "/nodes")
	refused(t, err, "expired")
}

func check(d *Dialer, address string) error {
	c, err := d.GRPC(address)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(false))
	return err
}

func TestGRPC(t *testing.T) {
	w := newWorld(t, handlers)
	if err := check(w.dialer(w.issue(pki.RoleNode, "n1")), w.address); err != nil {
		t.Error(err)
	}
	w.revoked.Store("n1")
	if err := check(w.dialer(w.issue(pki.RoleNode, "n1")), w.address); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "token") {
		t.Errorf("revoked: %v", err)
	}
	if err := check(w.dialer(w.issue(pki.RoleClient, "laptop")), w.address); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a laptop: %v", err)
	}
}

func TestAnotherProtocol(t *testing.T) {
	var l net.Listener
	w := newWorld(t, func(s *Server) { l = s.Listen("berth-echo", Clients) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p, _ := From(ContextOf(context.Background(), c))
			_, _ = io.WriteString(c, p.String())
			_ = c.Close()
		}
	}()
	c, err := w.dialer(w.issue(pki.RoleClient, "laptop")).Dial(context.Background(), w.address, "berth-echo")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, _ := io.ReadAll(c); string(got) != "client laptop" {
		t.Errorf("%q", got)
	}
	node, err := w.dialer(w.issue(pki.RoleNode, "n1")).Dial(context.Background(), w.address, "berth-echo")
	if err == nil {
		defer node.Close()
		if got, _ := io.ReadAll(node); len(got) > 0 {
			t.Errorf("a node heard %q", got)
		}
	}
	if _, err := w.dialer(w.issue(pki.RoleNode, "n1")).Dial(context.Background(), w.address, "h2"); err == nil {
		t.Error("a protocol that nobody speaks")
	}
}

func TestWrongClock(t *testing.T) {
	w := newWorld(t, handlers)
	id := w.issue(pki.RoleNode, "n1")
	for _, wrong := range []time.Duration{-30 * time.Hour, 2 * pki.LeafLife} {
		for name, call := range map[string]func(*Dialer) error{
			"HTTP": func(d *Dialer) error { _, err := get(t, d.HTTP(w.address), "/nodes"); return err },
			"GRPC": func(d *Dialer) error {
				err := check(d, w.address)
				if err != nil { // the first connection learns
					err = check(d, w.address)
				}
				return err
			},
		} {
			c := Config{Identity: func() *pki.Identity { return id }, Clock: &pki.Clock{Base: func() time.Time { return w.clock().Add(wrong) }}}
			if err := call(NewDialer(c)); err != nil {
				t.Errorf("%s, a clock wrong by %v: %v", name, wrong, err)
			}
			if apart := c.Clock.Now().Sub(w.clock()).Abs(); apart > time.Minute {
				t.Errorf("%s: the clock is %v apart after all", name, apart)
			}
		}
	}
	_, err := NewDialer(Config{Identity: func() *pki.Identity { return id }, Clock: &pki.Clock{Base: func() time.Time { return w.clock().Add(-30 * time.Hour) }},
		Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("cut") }}).Dial(context.Background(), w.address, ProtocolHTTP)
	if err == nil {
		t.Error("no connection and no error")
	}
}
