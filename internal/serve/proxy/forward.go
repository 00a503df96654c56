package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// attempts bounds how many targets one request is sent to.
const attempts = 3

// forwarder sends requests to targets.
type forwarder struct {
	proxy   *Proxy
	reverse *httputil.ReverseProxy
	mu      sync.Mutex
	byIdle  map[time.Duration]*http.Transport // one for each idle timeout

	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	kept     atomic.Int64 // connections, of all targets
	sweeping atomic.Bool  // a look at the kept connections is to come
}

// passage is where one request is going.
type passage struct {
	*entrance
	group *group // nil when the rule leads nowhere
	port  int    // at which the request arrived
	stats *Stats

	stick  time.Duration // of the rule: how long the client stays with the group
	target *target       // that answered
	body   *endingBody   // of the request; nil when it has none, or need not be watched
}

type passageKey struct{}

func passageOf(r *http.Request) *passage { return r.Context().Value(passageKey{}).(*passage) }

func newForwarder(p *Proxy) *forwarder {
	f := &forwarder{proxy: p, byIdle: map[time.Duration]*http.Transport{},
		dial: (&net.Dialer{Timeout: timeouts.ProxyDial, KeepAlive: timeouts.ProxyKeepAlive}).DialContext}
	f.reverse = &httputil.ReverseProxy{Rewrite: f.rewrite, Transport: f, FlushInterval: -1, BufferPool: &buffers{},
		ModifyResponse: f.answered, ErrorHandler: f.failed, ErrorLog: stdlog.New(logWriter{p.Log}, "", 0)}
	return f
}

// logWriter takes what ReverseProxy logs: broken copies, which are the clients' and targets' affair.
type logWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("proxy", "message", string(b))
	return len(b), nil
}

type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if v, ok := b.pool.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(v []byte) { b.pool.Put(&v) }

func (f *forwarder) serve(w http.ResponseWriter, r *http.Request, p *passage) {
	r = r.WithContext(context.WithValue(r.Context(), passageKey{}, p))
	if r.ProtoMajor == 1 && r.Body != nil && r.Body != http.NoBody {
		// A target may answer while the client still sends. A writer that can't do this reads the rest first.
		_ = http.NewResponseController(w).EnableFullDuplex()
		p.body = &endingBody{ReadCloser: r.Body}
		r.Body = p.body
	}
	f.reverse.ServeHTTP(w, r)
}

// endingBody is a request's body that knows whether it was read to its end.
type endingBody struct {
	io.ReadCloser
	ended atomic.Bool
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF { //nolint:errorlint // io.Reader gives it bare
		b.ended.Store(true)
	}
	return n, err
}

// part makes an answer the connection's last if it begins before the request has ended: in full duplex, net/http's server reads what
// is left of the body when the handler has returned, and fails when it then reads the next request.
func (p *passage) part(h http.Header) {
	if p.body != nil && !p.body.ended.Load() {
		h.Set("Connection", "close")
	}
}

var errNoTarget = errors.New("the target group has no target that takes requests")

// RoundTrip implements http.RoundTripper: it picks a target and, when the target's connection breaks before it answered and nothing
// is lost by asking again, another.
func (f *forwarder) RoundTrip(r *http.Request) (*http.Response, error) {
	p := passageOf(r)
	if p.group == nil {
		return nil, errNoTarget
	}
	transport := f.transport(p.balancer.IdleTimeout)
	var tried []*target
	last := errNoTarget
	for len(tried) < attempts {
		t := f.pick(p, viaHTTP{r}, tried)
		if t == nil {
			return nil, last
		}
		tried = append(tried, t)
		t.requests.Add(1)
		began := time.Now()
		res, unread, err := f.attempt(transport, r, t)
		if err == nil {
			p.group.answer(res.StatusCode, time.Since(began))
			p.target = t
			return res, nil
		}
		t.end()
		t.failures.Add(1)
		p.group.failures.Add(1)
		last = err
		if !again(r, unread, err) {
			return nil, err
		}
	}
	return nil, last
}

// pick chooses a target and counts the request as its own. A target that began to drain after it was listed means that a new table
// is being applied: refresh waits for it.
func (f *forwarder) pick(p *passage, r request, tried []*target) *target {
	if p.group.stickiness() > 0 && len(tried) == 0 {
		if t := p.group.holder(cookie(r, targetCookie)); t != nil && t.begin() {
			return t
		}
	}
	for range 10 {
		t := p.group.pick(tried)
		if t == nil || t.begin() {
			return t
		}
		f.proxy.refresh(p.group.arn)
	}
	return nil
}

// attempt sends the request to one target. When it fails, unread tells whether the request can be sent again as far as its body is
// concerned.
func (f *forwarder) attempt(transport *http.Transport, r *http.Request, t *target) (res *http.Response, unread bool, err error) {
	out, url := *r, *r.URL
	url.Host = t.address
	out.URL = &url
	var body *onceBody
	if r.Body != nil && r.Body != http.NoBody {
		body = &onceBody{src: r.Body}
		out.Body = body
	}
	res, err = transport.RoundTrip(&out)
	if err != nil {
		return nil, body == nil || body.abandon(), err
	}
	if res.StatusCode == http.StatusSwitchingProtocols && !strings.EqualFold(res.Header.Get("Upgrade"), r.Header.Get("Upgrade")) {
		res.Body.Close()
		return nil, false, fmt.Errorf("the target switched to protocol %q, which nobody asked for", res.Header.Get("Upgrade"))
	}
	res.Body = t.wrap(res.Body)
	return res, false, nil
}

// onceBody is a request's body as one attempt sees it: closing it does not close the request's own, and an attempt that has not
// read from it can be abandoned for another one.
type onceBody struct {
	src   io.Reader
	state atomic.Int32 // 0: not read, 1: read, 2: abandoned
}

// Read implements io.Reader.
func (b *onceBody) Read(p []byte) (int, error) {
	if b.state.CompareAndSwap(0, 1) || b.state.Load() == 1 {
		return b.src.Read(p)
	}
	return 0, net.ErrClosed
}

// Close implements io.Closer; ReverseProxy closes the request's body.
func (b *onceBody) Close() error { return nil }

func (b *onceBody) abandon() bool { return b.state.CompareAndSwap(0, 2) }

// idempotent are the methods of requests that may be sent twice (RFC 9110, 9.2.2).
var idempotent = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete}

// again tells whether a failed request may be sent to another target: it never reached one, or it is idempotent and did not time
// out; and its body is still whole.
func again(r *http.Request, unread bool, err error) bool {
	if r.Context().Err() != nil || !unread {
		return false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	return !timeout(err) && slices.Contains(idempotent, r.Method)
}

func timeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// wrap counts the request as in flight until its body is closed. An upgraded connection keeps its write side.
func (t *target) wrap(body io.ReadCloser) io.ReadCloser {
	b := &counted{ReadCloser: body, t: t}
	if rw, ok := body.(io.ReadWriteCloser); ok {
		t.track(rw)
		return &upgraded{counted: b, w: rw}
	}
	return b
}

type counted struct {
	io.ReadCloser
	t      *target
	closed atomic.Bool
}

// Close implements io.Closer.
func (b *counted) Close() error {
	err := b.ReadCloser.Close()
	if b.closed.CompareAndSwap(false, true) {
		b.t.end()
	}
	return err
}

type upgraded struct {
	*counted
	w io.ReadWriteCloser
}

// Write implements io.Writer.
func (u *upgraded) Write(b []byte) (int, error) { return u.w.Write(b) }

// CloseWrite tells the target that the client has said all.
func (u *upgraded) CloseWrite() error {
	if c, ok := u.w.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return http.ErrNotSupported
}

// Close implements io.Closer.
func (u *upgraded) Close() error {
	u.t.untrack(u.w)
	return u.counted.Close()
}

// transport returns the pool of connections whose idle timeout is idle. A connection that nobody uses leaves the pool well before
// its deadline can end it.
func (f *forwarder) transport(idle time.Duration) *http.Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byIdle[idle]
	if t != nil {
		return t
	}
	t = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := f.dial(ctx, network, addr)
			if err != nil || idle <= 0 {
				return c, err
			}
			return &targetConn{Conn: c, quiet: quiet{idle: idle}}, nil
		},
		ResponseHeaderTimeout: idle, IdleConnTimeout: keptFor(idle), MaxIdleConns: 4096, MaxIdleConnsPerHost: 256,
		DisableCompression: true, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10, MaxResponseHeaderBytes: 64 << 10}
	f.byIdle[idle] = t
	return t
}

// failed answers when no target did.
func (f *forwarder) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone; without this it would be told 200
	}
	p := passageOf(r)
	p.own(w)
	p.part(w.Header())
	a := f.refusal(p, err)
	p.stats.own(a.status)
	a.write(w)
}

// refusal is the answer to a request that no target answered. It is counted.
func (f *forwarder) refusal(p *passage, err error) reply {
	p.stats.Failed.Add(1)
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, errNoTarget):
		status = http.StatusServiceUnavailable
	case timeout(err):
		status = http.StatusGatewayTimeout
	}
	// A load balancer without targets fails every request: one line a second says it.
	if now, last := f.proxy.Now().Unix(), p.stats.logged.Load(); now != last && p.stats.logged.CompareAndSwap(last, now) {
		f.proxy.Log.Warn("no target answered", "balancer", p.balancer.ARN, "status", status, "error", err)
	}
	return page(status)
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.byIdle {
		t.CloseIdleConnections()
	}
}
