package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"sync"
	"time"
)

// forwarder sends requests to targets.
type forwarder struct {
	proxy   *Proxy
	reverse *httputil.ReverseProxy
	mu      sync.Mutex
	byIdle  map[time.Duration]*http.Transport // one for each idle timeout
}

// passage is where one request is going.
type passage struct {
	group    *group
	balancer *Balancer
	port     int
	stats    *Stats
}

type passageKey struct{}

func newForwarder(p *Proxy) *forwarder {
	f := &forwarder{proxy: p, byIdle: map[time.Duration]*http.Transport{}}
	f.reverse = &httputil.ReverseProxy{Rewrite: rewrite, Transport: f, FlushInterval: -1, BufferPool: &buffers{}, ErrorHandler: f.failed,
		ErrorLog: stdlog.New(logWriter{p.Log}, "", 0)}
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
	f.reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passageKey{}, p)))
}

// rewrite sets the headers that an ALB sets (ELB user guide, "HTTP headers and Application Load Balancers").
func rewrite(pr *httputil.ProxyRequest) {
	p := pr.In.Context().Value(passageKey{}).(*passage)
	pr.Out.Host = pr.In.Host
	pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "target" // the transport knows the target
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	pr.SetXForwarded()
	pr.Out.Header.Del("X-Forwarded-Host")
	pr.Out.Header.Set("X-Forwarded-Port", strconv.Itoa(p.port))
	if pr.Out.Header.Get("X-Amzn-Trace-Id") == "" {
		pr.Out.Header.Set("X-Amzn-Trace-Id", traceID())
	}
}

func traceID() string {
	var b [12]byte
	rand.Read(b[:])
	return fmt.Sprintf("Root=1-%08x-%s", time.Now().Unix(), hex.EncodeToString(b[:]))
}

var errNoTarget = errors.New("the target group has no target that takes requests")

// RoundTrip implements http.RoundTripper: it picks a target and, when the target's connection breaks before it answered and nothing
// is lost by asking again, another.
func (f *forwarder) RoundTrip(r *http.Request) (*http.Response, error) {
	p := r.Context().Value(passageKey{}).(*passage)
	transport := f.transport(p.balancer.IdleTimeout)
	var tried []*target
	last := errNoTarget
	for len(tried) < 3 {
		t := (*target)(nil)
		if p.group != nil {
			t = p.group.pick(tried)
		}
		if t == nil {
			return nil, last
		}
		tried = append(tried, t)
		if !t.begin() {
			continue
		}
		out := *r
		url := *r.URL
		url.Host = t.address
		out.URL = &url
		res, err := transport.RoundTrip(&out)
		if err == nil {
			res.Body = t.wrap(res.Body)
			return res, nil
		}
		t.end()
		last = err
		if !again(r, err) {
			return nil, err
		}
	}
	return nil, last
}

// again tells whether a failed request may be sent to another target: it never reached one, or it is idempotent, has no body, and
// did not time out.
func again(r *http.Request, err error) bool {
	if r.Context().Err() != nil {
		return false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	if timeout(err) || r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
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
		b.upgraded = rw
		return &upgraded{counted: b, w: rw}
	}
	return b
}

type counted struct {
	io.ReadCloser
	t        *target
	upgraded io.Closer
	once     sync.Once
}

// Close implements io.Closer.
func (b *counted) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() {
		if b.upgraded != nil {
			b.t.untrack(b.upgraded)
		}
		b.t.end()
	})
	return err
}

type upgraded struct {
	*counted
	w io.Writer
}

// Write implements io.Writer.
func (u *upgraded) Write(b []byte) (int, error) { return u.w.Write(b) }

func (f *forwarder) transport(idle time.Duration) *http.Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byIdle[idle]
	if t == nil {
		t = &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ResponseHeaderTimeout: idle, IdleConnTimeout: 50 * time.Second, MaxIdleConns: 4096, MaxIdleConnsPerHost: 256,
			DisableCompression: true, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10}
		f.byIdle[idle] = t
	}
	return t
}

// failed answers when no target did.
func (f *forwarder) failed(w http.ResponseWriter, r *http.Request, err error) {
	p := r.Context().Value(passageKey{}).(*passage)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // the client is gone
	}
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
	fail(w, status)
}

// fail answers as an ALB does.
func fail(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d %s", status, map[int]string{502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}[status])
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Server", "awselb/2.0")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n<center><h1>%s</h1></center>\r\n</body>\r\n</html>\r\n", title, title)
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.byIdle {
		t.CloseIdleConnections()
	}
}
