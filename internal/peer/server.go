package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/timeouts"
)

// maxMessage bounds a gRPC message, bytes.
const maxMessage = 16 << 20

// Server is the cluster port of a server.
type Server struct {
	c    Config
	tls  *tls.Config
	mux  *http.ServeMux
	grpc *grpc.Server

	mu    sync.Mutex
	lanes map[string]*lane // by protocol
	conns map[*conn]struct{}
}

// NewServer makes a Server. Register everything before Serve.
func NewServer(c Config) *Server {
	c.complete()
	s := &Server{c: c, mux: http.NewServeMux(), conns: map[*conn]struct{}{}, lanes: map[string]*lane{}}
	s.grpc = grpc.NewServer(grpc.Creds(handshaken{}), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: timeouts.PeerKeepAlive / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: timeouts.PeerKeepAlive, Timeout: timeouts.PeerKeepAlive}),
		grpc.ConnectionTimeout(timeouts.PeerHandshake),
		grpc.UnaryInterceptor(unaryGuard), grpc.StreamInterceptor(streamGuard))
	s.mux.HandleFunc(clockPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, c.Clock.Now().UTC().Format(time.RFC3339Nano)) // who does not read it has gone
	})
	s.Listen(ProtocolGRPC, Machines)
	s.Listen(ProtocolHTTP, Anyone)
	s.tls = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, Time: c.Clock.Now,
		SessionTicketsDisabled: true, // so that each connection asks Admit
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Identity().TLS(), nil }}
	return s
}

// Handle serves an HTTP pattern (as net/http's ServeMux) to those of who; the others are told why not.
func (s *Server) Handle(pattern string, who Who, h http.Handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r.Context())
		if err := c.may(who); err != nil {
			status := http.StatusForbidden
			if !c.known {
				status = http.StatusUnauthorized
			}
			WriteError(w, status, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// GRPC is where gRPC services are registered. Machines may call them; a service that is for one role looks at From.
func (s *Server) GRPC() grpc.ServiceRegistrar { return s.grpc }

// Listen gives the connections of another protocol (ALPN) to the listener that it returns: those of who, after their handshake. Each
// carries its peer: see ContextOf. Call it before Serve, and once for a protocol: it panics at the second time, as http.ServeMux does.
func (s *Server) Listen(protocol string, who Who) net.Listener {
	if s.lanes[protocol] != nil {
		panic("peer: protocol " + protocol + " has two listeners")
	}
	l := &lane{who: who, conns: make(chan net.Conn), done: make(chan struct{}), address: laneAddr(protocol)}
	s.lanes[protocol] = l
	return l
}

// Serve accepts connections until ctx is done or l breaks. What is in flight then has timeouts.RequestDrain.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.tls.NextProtos = slices.Sorted(maps.Keys(s.lanes))
	web := &http.Server{Handler: s.mux, ReadHeaderTimeout: timeouts.RequestHeader, IdleTimeout: timeouts.RequestIdle, MaxHeaderBytes: 64 << 10,
		ConnContext: ContextOf, ErrorLog: slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug)}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ended(web.Serve(s.lanes[ProtocolHTTP])) })
	g.Go(func() error { return ended(s.grpc.Serve(s.lanes[ProtocolGRPC])) })
	g.Go(func() error { return s.accept(gctx, l) })
	g.Go(func() error {
		<-gctx.Done()
		_ = l.Close()
		grace, cancel := context.WithTimeout(context.WithoutCancel(gctx), timeouts.RequestDrain)
		defer cancel()
		context.AfterFunc(grace, s.grpc.Stop)
		go s.grpc.GracefulStop() // streams have no end of their own; Stop ends them
		_ = web.Shutdown(grace)
		s.grpc.Stop()
		for _, l := range s.lanes {
			_ = l.Close()
		}
		s.closeAll(func(*conn) bool { return true })
		return nil
	})
	return g.Wait()
}

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) accept(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the cluster port: %w", err)
		}
		go s.greet(ctx, c)
	}
}

// greet does the handshake and hands the connection to its protocol.
func (s *Server) greet(ctx context.Context, raw net.Conn) {
	c := &conn{server: s}
	conf := s.tls.Clone()
	conf.VerifyConnection = func(state tls.ConnectionState) (err error) {
		if c.caller, err = s.c.who(state); err != nil {
			return err
		}
		if s.lanes[state.NegotiatedProtocol] == nil {
			return errors.New("it speaks none of the cluster port's protocols")
		}
		return nil
	}
	c.Conn = tls.Server(raw, conf)
	limit, cancel := context.WithTimeout(ctx, timeouts.PeerHandshake)
	defer cancel()
	if err := c.Conn.HandshakeContext(limit); err != nil {
		s.c.Log.Debug("a connection to the cluster port was refused", "from", raw.RemoteAddr(), "reason", err)
		_ = raw.Close()
		return
	}
	protocol := c.Conn.ConnectionState().NegotiatedProtocol
	l := s.lanes[protocol]
	if err := c.caller.may(l.who); err != nil && protocol != ProtocolGRPC { // gRPC tells its callers why
		s.c.Log.Debug("a connection to the cluster port was refused", "from", raw.RemoteAddr(), "protocol", protocol, "reason", err)
		_ = c.Close()
		return
	}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if s.changed(c) || !l.hand(c) { // a Recheck since Admit did not see it
		_ = c.Close()
	}
}

// Recheck asks Admit about everybody who is connected and closes the connections of those of whom the answer has changed. Call it
// when rows of machines go.
func (s *Server) Recheck() {
	s.closeAll(s.changed)
}

// changed tells whether Admit says another thing of a connection's peer than at its handshake.
func (s *Server) changed(c *conn) bool {
	return c.caller.known && (s.c.Admit(c.caller.peer) == nil) != (c.caller.refused == nil)
}

// Peers are those who are connected, and how many connections each has.
func (s *Server) Peers() map[pki.Peer]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	peers := map[pki.Peer]int{}
	for c := range s.conns {
		if c.caller.known && c.caller.refused == nil {
			peers[c.caller.peer]++
		}
	}
	return peers
}

func (s *Server) closeAll(which func(*conn) bool) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range all {
		if which(c) {
			_ = c.Close()
		}
	}
}

// conn is a connection after its handshake.
type conn struct {
	*tls.Conn
	server *Server
	caller caller // does not change after the handshake
}

// Close closes the connection at once: what waits in it for a peer that is gone holds nobody up.
func (c *conn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c)
	c.server.mu.Unlock()
	_ = c.SetDeadline(time.Now().Add(timeouts.PeerClose))
	return c.Conn.Close()
}

// ContextOf gives the context of a connection's requests its peer; it is an http.Server's ConnContext for listeners of Listen.
func ContextOf(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, contextKey{}, &c.caller)
	}
	return ctx
}

// lane is the listener of one protocol.
type lane struct {
	who     Who
	address laneAddr
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func (l *lane) hand(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	}
}

// Accept implements net.Listener.
func (l *lane) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *lane) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *lane) Addr() net.Addr { return l.address }

type laneAddr string

func (a laneAddr) Network() string { return string(a) }
func (a laneAddr) String() string  { return string(a) }
