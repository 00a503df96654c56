package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/serve/proxy/h1"
)

// exchange is what one request on the fast path needs, and the next one uses again.
type exchange struct {
	out   []byte // what is to be written: the request to the target, later the answer to the client
	in    []byte // what was read of the target: bytes first to last are not used yet
	first int
	last  int
	res   h1.Response
	body  h1.Body // of the answer
	ask   h1.Body // of the request
	tried [attempts]*target

	old       bool // the client speaks HTTP/1.0
	close     bool // the client's connection ends with the answer
	streaming bool // the request's body did not come with its head
	begun     bool // the companion has begun to send it
	heard     bool // something came from the target
	answered  bool // the client gets what a target said
	broken    bool // the request's body is malformed
}

// exchanges are those not in use.
var exchanges = sync.Pool{New: func() any { return &exchange{out: make([]byte, 0, 8<<10), in: make([]byte, 16<<10)} }}

// maxReuse bounds the buffers that are kept.
const maxReuse = 64 << 10

// reset makes x new for a request.
func (x *exchange) reset(r *h1.Request) {
	if cap(x.out) > maxReuse || len(x.in) > maxReuse {
		x.out, x.in = make([]byte, 0, 8<<10), make([]byte, 16<<10)
	}
	x.out, x.first, x.last = x.out[:0], 0, 0
	x.old = r.Old
	x.close, x.streaming, x.begun, x.heard, x.answered, x.broken = false, r.Length != 0, false, false, false, false
	clear(x.tried[:])
	x.ask.Begin(r.Length)
}

// forward sends the request to a target of the group that it is to go to and relays the answer. It is false when the client's
// connection is to end.
func (l *lane) forward() bool {
	f, x := l.port.proxy.forward, l.x
	l.sent.Store(true)
	x.out = l.appendRequest(x.out[:0])
	if n := l.head.Length; n > 0 && n <= int64(min(l.last-l.first, maxInline)) {
		x.out = append(x.out, l.in[l.first:l.first+int(n)]...)
		l.first += int(n)
		x.streaming = false
		x.ask.Begin(0)
	}
	if !x.streaming {
		l.wait()
	}
	last, n := errNoTarget, 0
	for n < attempts && l.way.group != nil {
		t := f.pick(&l.way, l, x.tried[:n])
		if t == nil {
			break
		}
		x.tried[n] = t
		n++
		err := l.attempt(t)
		if err == nil {
			return l.finish()
		}
		if l.gone.Load() || x.answered {
			return false
		}
		if x.broken {
			x.close = true
			return l.answer(page(http.StatusBadRequest))
		}
		if last = err; !l.again(err) {
			break
		}
		l.now = time.Now()
		if !x.streaming {
			l.wait()
		}
	}
	l.rejoin()
	x.close = x.close || x.begun // who knows how much of the body is still to come
	return !l.gone.Load() && l.answer(f.refusal(&l.way, last))
}

// attempt asks one target and relays its answer. When it fails, nobody but the lane's goroutine is at work; answered tells whether the
// client has seen anything.
func (l *lane) attempt(t *target) error {
	t.requests.Add(1)
	defer t.end()
	began := l.now
	up, err := l.try(t)
	if err == nil {
		l.way.group.answer(l.x.res.Status, time.Since(began))
		l.way.target = t
		l.x.answered = true
		return l.relay(t, up)
	}
	l.rejoin()
	if !l.gone.Load() && !l.x.broken {
		t.failures.Add(1)
		l.way.group.failures.Add(1)
	}
	return err
}

// maxInline is the largest body that is written together with its head.
const maxInline = 16 << 10

// again tells whether the request may be sent to another target: it never reached one, or it is idempotent and did not time out; and
// its body is still whole.
func (l *lane) again(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	return !l.x.begun && !timeout(err) && slices.Contains(idempotent, l.head.Method)
}

// try sends the request to a target and reads the head of the answer. A kept connection that the target has closed meanwhile is
// not the target's failure: the request is sent again on a new one, if that is safe.
func (l *lane) try(t *target) (*upstream, error) {
	f, x := l.port.proxy.forward, l.x
	patience := l.way.balancer.IdleTimeout
	careful := x.streaming || !slices.Contains(idempotent, l.head.Method)
	for fresh := false; ; fresh = true {
		var up *upstream
		for up == nil && !fresh {
			if up = t.kept.take(l.now); up == nil {
				fresh = true
			} else if careful && !up.silent() {
				up.conn.Close()
				up = nil
			}
		}
		if up == nil {
			ctx, cancel := context.WithCancel(context.Background())
			l.cancel.Store(&cancel)
			if l.gone.Load() {
				cancel()
			}
			var err error
			up, err = f.connect(ctx, t, patience)
			l.cancel.Store(nil)
			cancel()
			l.now = time.Now()
			if err != nil {
				return nil, err
			}
		}
		if up.quiet.idle != patience {
			up.quiet.idle = patience
			up.moved.Store(0)
		}
		err := l.send(up)
		if err == nil {
			return up, nil
		}
		up.conn.Close()
		if !up.reused || x.heard || !l.again(err) || l.gone.Load() {
			return nil, err
		}
	}
}

// send writes the request and reads the head of the answer.
func (l *lane) send(up *upstream) error {
	x := l.x
	x.first, x.last, x.heard = 0, 0, false
	l.up.Store(up)
	if l.gone.Load() {
		return net.ErrClosed
	}
	up.touch(l.now)
	if _, err := up.conn.Write(x.out); err != nil {
		return err
	}
	if x.streaming {
		l.stream(up)
	}
	for interim := 0; interim < maxInterim; interim++ {
		if err := l.readHead(up); err != nil {
			return err
		}
		if x.res.Status == http.StatusSwitchingProtocols {
			return errors.New("the target switched to another protocol, which nobody asked for")
		}
		if x.res.Status >= 200 {
			return nil
		}
		if x.old {
			continue
		}
		l.now = time.Now()
		if err := l.write(l.appendInterim(nil)); err != nil {
			l.abort()
			return err
		}
	}
	return fmt.Errorf("the target sent %d interim answers", maxInterim)
}

// maxInterim bounds the answers (1xx) that come before the answer.
const maxInterim = 16

// readHead reads one head of an answer.
func (l *lane) readHead(up *upstream) error {
	x := l.x
	seen := 0
	for {
		if x.last > x.first {
			b := x.in[x.first:x.last]
			n, err := h1.HeadEnd(b, seen)
			if err == nil && n > 0 {
				x.first += n
				err = x.res.Parse(b[:n], l.head.Method)
			}
			if err != nil || n > 0 {
				return err
			}
			seen = len(b)
			if x.last == len(x.in) {
				grown := make([]byte, 2*len(x.in))
				x.last = copy(grown, b)
				x.in, x.first = grown, 0
			}
		}
		n, err := up.conn.Read(x.in[x.last:])
		x.last += n
		x.heard = x.heard || n > 0
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// appendRequest writes the head that the target gets.
func (l *lane) appendRequest(to []byte) []byte {
	r, b := &l.head, l.way.balancer
	to = h1.AppendRequest(to, r.Method, r.Target, r.Host)
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case f.Kind <= h1.Host || f.Kind == h1.Forwarded || f.Kind == h1.TraceID:
			continue
		case f.Kind == h1.ForwardedFor && !b.ForwardedFor.Preserve || b.ForwardedFor.Remove && f.Kind == h1.ForwardedFor:
			continue
		case b.DropInvalidHeaders && !validName(f.Name) || r.Named(f.Name) && f.Kind != h1.ForwardedFor:
			continue
		}
		to = h1.AppendField(to, f.Name, f.Value)
	}
	if !b.ForwardedFor.Remove && !b.ForwardedFor.Preserve && l.remote.IsValid() {
		to = append(to, "X-Forwarded-For: "...)
		to = append(appendForwardedFor(to, l, b.ForwardedFor), "\r\n"...)
	}
	to = append(to, "X-Forwarded-Proto: http\r\nX-Forwarded-Port: "...)
	to = append(strconv.AppendInt(to, int64(l.way.port), 10), "\r\n"...)
	to = l.appendTrace(to)
	if r.Trailers {
		to = h1.AppendField(to, "TE", "trailers")
	}
	switch {
	case r.Length < 0:
		to = h1.AppendField(to, "Transfer-Encoding", "chunked")
	case r.Length > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		to = h1.AppendInt(to, "Content-Length", r.Length)
	}
	return append(to, "\r\n"...)
}

// appendTrace writes X-Amzn-Trace-Id.
func (l *lane) appendTrace(to []byte) []byte {
	now := l.port.proxy.Now()
	to = append(to, "X-Amzn-Trace-Id: "...)
	var prior []string
	for i := range l.head.Fields {
		if f := &l.head.Fields[i]; f.Kind == h1.TraceID && !l.head.Named(f.Name) {
			prior = append(prior, f.Value)
		}
	}
	if prior == nil {
		to = appendTraceID(append(to, "Root="...), now)
	} else {
		to = append(to, traced(prior, string(appendTraceID(nil, now)))...)
	}
	return append(to, "\r\n"...)
}
