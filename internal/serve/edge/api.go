package edge

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// api is the API's port: a load balancer's name is served here, everything else goes to the server as it came.
type api struct {
	proxy   *proxy.Proxy
	server  *upstream
	reverse *httputil.ReverseProxy
	leaving atomic.Bool // connections are asked to end
	log     *slog.Logger
}

func newAPI(p *proxy.Proxy, socket string, log *slog.Logger) *api {
	a := &api{proxy: p, server: &upstream{socket: socket, hold: timeouts.APIHold}, log: log}
	a.reverse = &httputil.ReverseProxy{Rewrite: unchanged, FlushInterval: -1, ErrorHandler: a.failed, BufferPool: &buffers{},
		ErrorLog: stdlog.New(io.Discard, "", 0), // broken copies are the clients' and the server's affair
		Transport: &http.Transport{DialContext: a.server.dial, DisableKeepAlives: true, // a connection carries one request
			DisableCompression: true, ExpectContinueTimeout: timeouts.APIContinue, MaxResponseHeaderBytes: 1 << 20,
			WriteBufferSize: copySize, ReadBufferSize: copySize}}
	return a
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.proxy.ServeHost(w, r) {
		return
	}
	if a.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	a.reverse.ServeHTTP(w, r)
}

// unchanged undoes what ReverseProxy does to a request but for the headers of the connection: signatures cover the rest.
func unchanged(r *httputil.ProxyRequest) {
	in, out := r.In, r.Out
	out.Host = in.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := in.Header[name]; ok {
			out.Header[name] = v
		}
	}
	out.URL.Scheme, out.URL.Host = "http", "server"
	path, query, found := strings.Cut(in.RequestURI, "?")
	out.URL.RawQuery, out.URL.ForceQuery = query, found && query == ""
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		out.URL.Opaque = path // byte for byte; what begins with // would be taken for a host
	}
}

const copySize = 64 << 10

type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if v, ok := b.pool.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, copySize)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(v []byte) { b.pool.Put(&v) }

// errAway says that the server did not come back in time.
var errAway = errors.New("Berth's server is not running or just restarting; try again")

// failed answers for a server that did not: 503, which every SDK tries again. A request that was under way is not repeated here: what
// became of it nobody knows.
func (a *api) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client is gone
	}
	text := errAway.Error()
	if !errors.Is(err, errAway) {
		text = "Berth's server ended while it answered; what became of the request is not known; try again"
	}
	contentType, body := refusal(r, text)
	a.log.Debug("the server did not answer", "error", err)
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Amzn-Errortype", "ServiceUnavailableException")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(body) // fails only when the client is gone
}

// refusal is the error in the form that the client reads: the registry's, the Query protocol's, or JSON.
func refusal(r *http.Request, text string) (contentType string, body []byte) {
	switch {
	case r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/"):
		body, _ = json.Marshal(map[string]any{"errors": []map[string]string{{"code": "UNAVAILABLE", "message": text}}})
		return "application/json", body
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		var escaped strings.Builder
		_ = xml.EscapeText(&escaped, []byte(text)) // a strings.Builder takes all
		return "text/xml", fmt.Appendf(nil, "<ErrorResponse><Error><Type>Receiver</Type><Code>ServiceUnavailable</Code><Message>%s</Message></Error></ErrorResponse>",
			escaped.String())
	}
	body, _ = json.Marshal(map[string]string{"__type": "ServiceUnavailableException", "message": text})
	return "application/x-amz-json-1.1", body
}

// upstream is the server's socket. While nobody listens there, those who want to connect wait for it together.
type upstream struct {
	socket string
	hold   time.Duration

	mu   sync.Mutex
	wait *waiting
}

// waiting is one time of the server's absence.
type waiting struct {
	back  chan struct{} // closed when it is over, or nobody waits any more
	count int
}

// dial connects to the server and says whose request it is. The context is the request's.
func (u *upstream) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	deadline := time.Now().Add(u.hold)
	for {
		c, err := new(net.Dialer).DialContext(ctx, "unix", u.socket)
		if err == nil {
			remote, local := addresses(ctx)
			if err := writePreamble(c, remote, local); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return c, nil
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EAGAIN) {
			return nil, err
		}
		if err := u.await(ctx, time.Until(deadline)); err != nil {
			return nil, err
		}
	}
}

// retryInterval is how often the socket of a server that is away is looked at.
const retryInterval = 10 * time.Millisecond

// await returns when the server may be back.
func (u *upstream) await(ctx context.Context, limit time.Duration) error {
	u.mu.Lock()
	if u.wait == nil {
		u.wait = &waiting{back: make(chan struct{})}
		go u.look(u.wait)
	}
	w := u.wait
	w.count++
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		w.count--
		u.mu.Unlock()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-w.back:
		return nil
	case <-timer.C:
		return errAway
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look tries the socket for all who wait.
func (u *upstream) look(w *waiting) {
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	for {
		<-tick.C
		c, err := net.Dial("unix", u.socket)
		if err == nil {
			c.Close()
		}
		u.mu.Lock()
		over := err == nil || w.count == 0
		if over {
			u.wait = nil
			close(w.back)
		}
		u.mu.Unlock()
		if over {
			return
		}
	}
}

// clientKey is the context key of a request's own connection.
type clientKey struct{}

// addresses are those of the client's connection.
func addresses(ctx context.Context) (remote, local string) {
	if c, ok := ctx.Value(clientKey{}).(net.Conn); ok {
		return c.RemoteAddr().String(), c.LocalAddr().String()
	}
	return "0.0.0.0:0", "0.0.0.0:0"
}

// newServer serves the API's port.
func (a *api) newServer() *http.Server {
	s := &http.Server{Handler: a, ReadHeaderTimeout: timeouts.RequestHeader, IdleTimeout: timeouts.RequestIdle, MaxHeaderBytes: 64 << 10,
		ErrorLog:    stdlog.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, clientKey{}, c) }}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}
