// Package forward lets any server take any request: one that does not lead hands it whole, with its path, its Host and its signature as
// they came, to the one that does, over the cluster port. It waits a while for a leader when there is none. A request whose outcome nobody
// knows is answered 503 and never repeated here: clients' SDKs try again, with the client token that makes a repetition harmless.
package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Protocol (ALPN) is that of forwarded requests: HTTP/1.1. Servers alone may speak it.
const Protocol = "berth-forward"

// Headers between servers. Those of clients with these names are taken away.
const (
	headerClient = "Berth-Client"  // the address that the request came from
	headerNotLed = "Berth-Not-Led" // in an answer: this server does not lead, and nothing happened
)

// maxReplay is how large a body may be that is kept so that it can be sent to another leader when the first did not take it.
const maxReplay = 2 << 20

// Office says who leads at a moment.
type Office struct {
	Here    bool
	Address string          // of the leader's cluster port; "" while there is none, or it is Here
	Changed <-chan struct{} // closed when something else is true
}

// Config is what a Forwarder works with. All are required but Log.
type Config struct {
	Office func() Office
	// Confirm returns nil once it is sure that this server leads and has all that was ever acknowledged.
	Confirm func(context.Context) error
	// Dial connects to a server for a protocol.
	Dial  func(ctx context.Context, address, protocol string) (net.Conn, error)
	Local http.Handler
	Log   *slog.Logger
}

// Forwarder is both halves: what clients ask, and what other servers hand on.
type Forwarder struct {
	c         Config
	transport *http.Transport
}

// New makes a Forwarder.
func New(c Config) *Forwarder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{c, &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: timeouts.RequestIdle / 2,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return c.Dial(ctx, address, Protocol) }}}
}

// ServeHTTP answers a client's request, wherever the leader is.
func (f *Forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeouts.ForwardHold)
	defer cancel()
	var body *replay
	for {
		o := f.c.Office()
		if o.Here {
			err := f.c.Confirm(ctx)
			if err == nil {
				f.c.Local.ServeHTTP(w, body.put(r))
				return
			}
			f.c.Log.Debug("this server is not sure that it leads", "error", err)
		} else if o.Address != "" {
			if body == nil {
				var err error
				if body, err = newReplay(r); err != nil {
					unavailable(w, r, fmt.Errorf("the request's body cannot be read: %w", err))
					return
				}
			}
			again, err := f.hand(w, r, body, o.Address)
			if !again {
				if err != nil {
					f.c.Log.Warn("nobody knows what became of a request", "leader", o.Address, "error", err)
					unavailable(w, r, fmt.Errorf("the leader was lost before it had answered, and nobody knows whether this happened: %w", err))
				}
				return
			}
			f.c.Log.Debug("the leader did not take a request", "leader", o.Address, "error", err)
		}
		pause := time.NewTimer(timeouts.ForwardRetry)
		select {
		case <-o.Changed:
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			unavailable(w, r, errors.New("no server leads: too few of them reach each other, or they are electing one; nothing happened"))
			return
		}
		pause.Stop()
	}
}

// hand sends the request to the leader and its answer back. again: the leader did not take it, nothing happened, and the body is whole. An
// error without it: the outcome is unknown.
func (f *Forwarder) hand(w http.ResponseWriter, r *http.Request, body *replay, address string) (again bool, err error) {
	wrote := false
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{WroteHeaders: func() { wrote = true }})
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", address, ""
	out.Body = body.reader()
	protocol := upgradeOf(r)
	dropHops(out.Header)
	if protocol != "" {
		out.Header["Connection"], out.Header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or it would get one
	}
	out.Header.Del(headerNotLed)
	out.Header.Set(headerClient, r.RemoteAddr)
	res, err := f.transport.RoundTrip(out)
	if err != nil {
		return !wrote && body.whole(), err
	}
	defer res.Body.Close()
	if res.Header.Get(headerNotLed) != "" {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10))
		if !body.whole() {
			unavailable(w, r, errors.New("another server has just begun to lead; nothing happened"))
			return false, nil
		}
		return true, errors.New("it does not lead")
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		f.join(w, res)
		return false, nil
	}
	dropHops(res.Header)
	for name, values := range res.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(res.StatusCode)
	if err := copyFlushing(w, res.Body); err != nil {
		panic(http.ErrAbortHandler) // the client must not take the answer for whole
	}
	return false, nil
}

// upgradeOf is the protocol that a request wants its connection to change to; "" for none.
func upgradeOf(r *http.Request) string {
	for _, list := range r.Header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), "Upgrade") {
				return r.Header.Get("Upgrade")
			}
		}
	}
	return ""
}

// join makes one connection of the client's and the leader's, which has changed its protocol, until either ends.
func (f *Forwarder) join(w http.ResponseWriter, res *http.Response) {
	leader, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	client, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		f.c.Log.Warn("a connection cannot be taken over", "error", err)
		panic(http.ErrAbortHandler)
	}
	defer client.Close()
	_ = client.SetDeadline(time.Time{})
	res.Body = nil
	if err := res.Write(client); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(client, leader) // ends when either side is closed
		_ = client.Close()
	}()
	_, _ = io.Copy(leader, in)
	_ = leader.Close()
	<-done
}

// copyFlushing hands on each piece as it comes: answers may be streams.
func copyFlushing(w http.ResponseWriter, from io.Reader) error {
	flush := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			_ = flush.Flush() // a writer that cannot does not hold back either
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Serve answers what other servers hand on, until ctx is done.
func (f *Forwarder) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: http.HandlerFunc(f.take), ReadHeaderTimeout: timeouts.RequestHeader, IdleTimeout: timeouts.RequestIdle,
		MaxHeaderBytes: 128 << 10, ErrorLog: slog.NewLogLogger(f.c.Log.Handler(), slog.LevelDebug)}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), timeouts.RequestDrain)
		defer cancel()
		_ = srv.Shutdown(grace) // what is still open then is closed with the process
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	<-stopped
	f.transport.CloseIdleConnections()
	return nil
}

// take answers a request from another server, or says that this one does not lead.
func (f *Forwarder) take(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeouts.ForwardHold)
	defer cancel()
	if !f.c.Office().Here || f.c.Confirm(ctx) != nil {
		w.Header().Set(headerNotLed, "1")
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	r.RemoteAddr = r.Header.Get(headerClient)
	r.Header.Del(headerClient)
	f.c.Local.ServeHTTP(w, r)
}

// dropHops removes what is of one connection only.
func dropHops(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}

// replay is a body that can be read again, if it is small.
type replay struct {
	kept    []byte
	rest    io.ReadCloser // what is not kept; nil: all is
	started bool          // somebody has begun to read rest
}

func newReplay(r *http.Request) (*replay, error) {
	if r.ContentLength > maxReplay {
		return &replay{rest: r.Body}, nil
	}
	kept, err := io.ReadAll(io.LimitReader(r.Body, maxReplay+1))
	if err != nil {
		return nil, err
	}
	if len(kept) <= maxReplay {
		return &replay{kept: kept}, nil
	}
	return &replay{kept: kept, rest: r.Body}, nil
}

func (b *replay) reader() io.ReadCloser {
	if b.rest == nil {
		if len(b.kept) == 0 {
			return http.NoBody
		}
		return io.NopCloser(bytes.NewReader(b.kept))
	}
	return &once{io.MultiReader(bytes.NewReader(b.kept), b.rest), b}
}

// once notes that the rest is being read. Closing does nothing: the server closes the request's body.
type once struct {
	io.Reader
	b *replay
}

// Read implements io.Reader.
func (o *once) Read(p []byte) (int, error) {
	o.b.started = true
	return o.Reader.Read(p)
}

// Close implements io.Closer.
func (o *once) Close() error { return nil }

// whole tells whether the body can be read from its beginning.
func (b *replay) whole() bool { return b.rest == nil || !b.started }

// put gives the request its body back; b may be nil: nobody has read it.
func (b *replay) put(r *http.Request) *http.Request {
	if b == nil {
		return r
	}
	out := r.Clone(r.Context())
	out.Body = b.reader()
	return out
}

// unavailable answers 503, which every SDK takes for a reason to try again.
func unavailable(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Retry-After", "1")
	if r.Header.Get("X-Amz-Target") != "" {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, `{"__type":"ServiceUnavailableException","message":%q}`, err.Error())
		return
	}
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}
