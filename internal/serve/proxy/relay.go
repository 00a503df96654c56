package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/serve/proxy/h1"
	"github.com/berthdev/berth/internal/timeouts"
)

// relay sends the client the answer whose head was read, and keeps the target's connection if it can be used again. It fails when the
// client did not get all of it.
func (l *lane) relay(t *target, up *upstream) error {
	x := l.x
	l.now = time.Now()
	up.touch(l.now)
	early := !l.sent.Load() // a target that does not wait for the request's end may not read it either
	x.out = l.appendAnswer(x.out[:0])
	err := l.relayBody(up)
	whole := err == nil && !early && !x.res.Close && x.first == x.last
	switch {
	case !whole:
		up.conn.Close() // which also ends a companion that still sends
	case x.begun: // it is writing the last part, or has just done so
		_ = up.conn.SetWriteDeadline(l.now.Add(timeouts.ProxyLastWrite)) // fails only on a closed connection
		up.moved.Store(0)
	}
	l.rejoin()
	l.up.Store(nil)
	if whole && l.sent.Load() && !l.gone.Load() {
		l.port.proxy.forward.keep(t, up, l.now)
	} else {
		up.conn.Close()
	}
	if err == nil && l.gone.Load() {
		return net.ErrClosed
	}
	return err
}

// chunked tells whether the client gets the answer's body in chunks. One of HTTP/1.0 knows none: its connection ends with the body.
func (x *exchange) chunked() bool { return x.res.Length < 0 && !x.old }

// relayBody writes out and then the answer's body as it comes.
func (l *lane) relayBody(up *upstream) error {
	x := l.x
	x.body.Begin(x.res.Length)
	for {
		for x.first < x.last && !x.body.Done() {
			data, n, err := x.body.Next(x.in[x.first:x.last])
			x.first += n
			switch {
			case err != nil:
				return errors.Join(err, l.flush())
			case x.chunked():
				x.out = h1.AppendChunk(x.out, data)
			case len(x.out)+len(data) <= cap(x.out):
				x.out = append(x.out, data...)
			default:
				if err := l.flush(); err != nil {
					return err
				}
				l.now = time.Now() // the client may have been slow
				if err := l.write(data); err != nil {
					return err
				}
			}
			if n == 0 {
				break
			}
		}
		if x.body.Done() && x.chunked() {
			x.out = h1.AppendLastChunk(x.out, x.body.Trailers())
		}
		if err := l.flush(); err != nil || x.body.Done() {
			return err
		}
		up.touch(time.Now()) // as may the client have been now
		n, err := l.more(up)
		l.now = time.Now()
		switch {
		case n > 0:
		case errors.Is(err, io.EOF) && x.body.UntilClose():
			if x.chunked() {
				x.out = h1.AppendLastChunk(x.out, nil)
			}
			return l.flush()
		case err != nil:
			return err
		}
	}
}

// flush writes out to the client.
func (l *lane) flush() error {
	if len(l.x.out) == 0 {
		return nil
	}
	err := l.write(l.x.out)
	l.x.out = l.x.out[:0]
	return err
}

// more reads more of the answer.
func (l *lane) more(up *upstream) (int, error) {
	x := l.x
	if x.first > 0 {
		x.last = copy(x.in, x.in[x.first:x.last])
		x.first = 0
	}
	n, err := up.conn.Read(x.in[x.last:])
	x.last += n
	return n, err
}

// appendAnswer writes the head that the client gets of the target's answer.
func (l *lane) appendAnswer(to []byte) []byte {
	x, p := l.x, &l.way
	res := &x.res
	x.close = x.close || x.old && res.Length < 0
	reason := res.Reason
	if reason == "" {
		reason = http.StatusText(res.Status)
	}
	to = h1.AppendStatus(to, res.Status, reason)
	dated := false
	for i := range res.Fields {
		f := &res.Fields[i]
		switch {
		case f.Kind < h1.Host && (f.Kind != h1.Trailer || !x.chunked()) || res.Named(f.Name):
			continue
		case f.Kind == h1.Server && p.listener.HideServer || len(p.listener.Headers) > 0 && has(p.listener.Headers, f.Name):
			continue
		case f.Kind == h1.Date:
			dated = true
		}
		to = h1.AppendField(to, f.Name, f.Value)
	}
	for k, v := range p.listener.Headers {
		to = h1.AppendField(to, k, v)
	}
	if c := p.targetCookie(l.now); c != "" {
		to = h1.AppendField(to, "Set-Cookie", c)
	}
	if c := p.groupCookie(l.now); c != "" {
		to = h1.AppendField(to, "Set-Cookie", c)
	}
	if !dated {
		to = h1.AppendField(to, "Date", date(l.now))
	}
	switch {
	case x.chunked():
		to = h1.AppendField(to, "Transfer-Encoding", "chunked")
	case res.Said >= 0 && res.Status != http.StatusNoContent:
		to = h1.AppendInt(to, "Content-Length", res.Said)
	}
	return append(x.appendConnection(to), "\r\n"...)
}

// appendConnection says what becomes of the client's connection.
func (x *exchange) appendConnection(to []byte) []byte {
	switch {
	case x.close:
		return h1.AppendField(to, "Connection", "close")
	case x.old:
		return h1.AppendField(to, "Connection", "keep-alive")
	}
	return to
}

// appendInterim writes a target's interim answer (1xx).
func (l *lane) appendInterim(to []byte) []byte {
	res := &l.x.res
	to = h1.AppendStatus(to, res.Status, http.StatusText(res.Status))
	for i := range res.Fields {
		if f := &res.Fields[i]; f.Kind >= h1.Host && !res.Named(f.Name) {
			to = h1.AppendField(to, f.Name, f.Value)
		}
	}
	return append(to, "\r\n"...)
}

// answer sends the load balancer's own answer. It is false when the connection is to end.
func (l *lane) answer(a reply) bool {
	x := l.x
	l.now = time.Now()
	l.way.stats.own(a.status)
	to := h1.AppendStatus(x.out[:0], a.status, http.StatusText(a.status))
	to = h1.AppendField(to, "Date", date(l.now))
	if p := &l.way; p.entrance != nil {
		if !p.listener.HideServer && !has(p.listener.Headers, "Server") {
			to = h1.AppendField(to, "Server", ownServer)
		}
		for k, v := range p.listener.Headers {
			if k := http.CanonicalHeaderKey(k); k != "Content-Type" && k != "Content-Length" && (k != "Location" || a.location == "") {
				to = h1.AppendField(to, k, v)
			}
		}
	} else {
		to = h1.AppendField(to, "Server", ownServer)
	}
	to = h1.AppendField(to, "Content-Type", a.contentType)
	if a.location != "" {
		to = h1.AppendField(to, "Location", a.location)
	}
	to = h1.AppendInt(to, "Content-Length", int64(len(a.body)))
	to = append(x.appendConnection(to), "\r\n"...)
	if l.head.Method != http.MethodHead {
		to = append(to, a.body...)
	}
	x.out = to
	return l.flush() == nil && l.finish()
}

// has tells whether headers has a name, in any case.
func has(headers map[string]string, name string) bool {
	for k := range headers {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

// maxDiscard is how much of a body that nobody wants is read for the connection's sake.
const maxDiscard = 256 << 10

// finish comes after an answer: what is left of the request's body is read and dropped, so that the next request can follow. It is
// false when the connection is to end; then the client has had the time to read the answer.
func (l *lane) finish() bool {
	x := l.x
	for left := maxDiscard; !x.close && !x.ask.Done() && !x.broken; {
		_, n, err := x.ask.Next(l.in[l.first:l.last])
		l.first += n
		left -= n
		switch {
		case err != nil || left < 0:
			x.close = true
		case n == 0 && !l.fill():
			return false
		}
	}
	if x.close {
		l.linger()
	}
	return !x.close
}

// fill reads more of the client into what was used.
func (l *lane) fill() bool {
	l.last = copy(l.in, l.in[l.first:l.last])
	l.first = 0
	l.touch(time.Now())
	if l.last == len(l.in) {
		return false // trailers that long are not worth a connection
	}
	n, _ := l.conn.Read(l.in[l.last:])
	l.last += n
	return n > 0
}

// linger reads what a client still sends after the last answer, for ProxyLinger and up to maxDiscard: a connection that is closed over
// unread bytes is reset, and the client may lose the answer.
func (l *lane) linger() {
	if l.head.Plain && l.x.ask.Done() && l.first == l.last {
		return // it has nothing more to say
	}
	if c, ok := l.conn.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		return
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(timeouts.ProxyLinger)) // fails only on a closed connection
	for left := maxDiscard; left > 0; {
		n, err := l.conn.Read(l.in)
		if err != nil {
			return
		}
		left -= n
	}
}

// stamp is a Date header's value.
type stamp struct {
	second int64
	text   string
}

// lastStamp is the newest one that was made.
var lastStamp atomic.Pointer[stamp]

func date(now time.Time) string {
	if s := lastStamp.Load(); s != nil && s.second == now.Unix() {
		return s.text
	}
	s := &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastStamp.Store(s)
	return s.text
}
