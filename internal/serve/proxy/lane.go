package proxy

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/serve/proxy/h1"
	"github.com/berthdev/berth/internal/timeouts"
)

// lane is a client's connection on the fast path: HTTP/1.1 without an upgrade, one request after the other, all by one goroutine.
// What it reads and does not serve itself it hands to the port's http.Server, with the connection and all that comes after.
type lane struct {
	port   *port
	conn   net.Conn
	quiet  // of the client
	born   time.Time
	now    time.Time // the lane's clock: set when a request has come, when its answer has, and when time has passed in between
	remote netip.AddrPort

	in    []byte // what was read of the client: bytes first to last are not used yet
	first int
	last  int
	head  h1.Request
	way   passage
	x     *exchange // of the request under way
	companion
}

// phase is what a lane does: whoever moves it from idle owns the connection's end.
const (
	idle    = iota // waits for a request
	busy           // serves one
	waiting        // serves one, and nobody looks whether its client leaves
	watched        // serves one, and the companion reads the client's side
	ended
)

// firstBytes is what a lane reads at once between requests; heads that are larger make it grow.
const firstBytes = 4 << 10

func newLane(q *port, c net.Conn) *lane {
	l := &lane{port: q, conn: c, born: q.proxy.Now(), now: time.Now()}
	l.quiet.idle = time.Duration(q.idle.Load())
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		from := at.AddrPort()
		l.remote = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	}
	l.timer = time.AfterFunc(timeouts.ProxyHead, l.tick)
	l.timer.Stop()
	return l
}

// serve serves the client until one of both ends the connection, or it is handed over.
func (l *lane) serve() {
	defer l.port.lanes.remove(l)
	defer l.timer.Stop()
	defer func() { l.fault(recover()) }()
	for l.next() {
		if !l.head.Plain {
			l.handOver()
			return
		}
		if !l.request() {
			break
		}
	}
	l.conn.Close()
}

// fault ends the connection when serving it panicked: that is a fault of this program, and not to be the other connections' end.
func (l *lane) fault(what any) {
	if what != nil {
		l.port.proxy.Log.Error("a connection ended by a fault of the proxy", "client", l.remote, "fault", what, "stack", string(debug.Stack()))
		l.end()
	}
}

// next waits for a request's head. It is false when there is none to be served: the client has left, or was refused.
func (l *lane) next() bool {
	seen := 0
	var began time.Time // of a head that is not whole
	for {
		if l.last > l.first {
			b := l.in[l.first:l.last]
			n, err := h1.HeadEnd(b, seen)
			if n > 0 && err == nil {
				if !began.IsZero() {
					l.moved.Store(0) // the deadline was the head's
				}
				if err = l.head.Parse(b[:n]); err == nil {
					l.first += n
					return l.begin()
				}
			}
			if err != nil {
				l.begin()
				l.refuse(err)
				return false
			}
			seen = len(b)
		}
		if !l.read(&began) {
			return false
		}
	}
}

// begin moves the lane from idle; false when somebody has ended it.
func (l *lane) begin() bool { return l.phase.Load() == busy || l.phase.CompareAndSwap(idle, busy) }

// read reads more of a head, or the beginning of one.
func (l *lane) read(began *time.Time) bool {
	if l.first == l.last {
		l.first, l.last = 0, 0
		if cap(l.in) != firstBytes {
			l.in = make([]byte, firstBytes)
		}
		if l.phase.Store(idle); l.port.lanes.closing.Load() {
			return false
		}
		l.touch(l.now)
	} else {
		now := time.Now()
		if began.IsZero() {
			*began = now
		}
		at := began.Add(timeouts.ProxyHead)
		if silent := now.Add(l.quiet.idle); silent.Before(at) {
			at = silent
		}
		_ = l.conn.SetReadDeadline(at) // fails only on a closed connection, which Read reports
		l.room()
	}
	n, err := l.conn.Read(l.in[l.last:])
	l.last += n
	return (n > 0 || err == nil) && l.begin()
}

// room makes room for more of a head. Nothing sees views of what was read.
func (l *lane) room() {
	if l.last < len(l.in) {
		return
	}
	to := l.in
	if l.first == 0 {
		to = make([]byte, 2*len(l.in))
	}
	l.last = copy(to, l.in[l.first:l.last])
	l.in, l.first = to, 0
}

// touch moves the deadlines when they are due.
func (l *lane) touch(now time.Time) {
	if at, ok := l.due(now); ok {
		_ = l.conn.SetDeadline(at) // fails only on a closed connection, which the next call reports
	}
}

// write sends bytes to the client.
func (l *lane) write(b []byte) error {
	l.touch(l.now)
	_, err := l.conn.Write(b)
	return err
}

// request serves the request whose head was read. It is false when the connection is to end.
func (l *lane) request() bool {
	q := l.port
	l.now = time.Now()
	l.x = exchanges.Get().(*exchange)
	l.x.reset(&l.head)
	defer l.done()
	t := q.proxy.table.Load()
	in := t.entrance(q.number, l.head.Host)
	l.way = passage{}
	if in == nil { // the listener was deleted while the connection is open
		l.x.close = true
		return l.answer(page(http.StatusServiceUnavailable))
	}
	l.way = passage{entrance: in, port: q.number, stats: t.stats[in.balancer.ARN]}
	l.x.close = l.head.Close || q.proxy.leaving.Load() || q.lanes.closing.Load() || q.proxy.aged(l.born, in.balancer)
	if own := l.way.route(l, 1, t); own.status != 0 {
		return l.answer(own)
	}
	return l.forward()
}

// done gives the exchange back, unless a panic leaves it to who knows whom.
func (l *lane) done() {
	if l.phase.Load() == busy {
		exchanges.Put(l.x)
	}
}

// refuse answers a request that can't be read, and ends the connection.
func (l *lane) refuse(err error) {
	status := http.StatusBadRequest
	if e, ok := errors.AsType[*h1.Error](err); ok {
		status = e.Status
	}
	l.x = exchanges.Get().(*exchange)
	l.head = h1.Request{Fields: l.head.Fields[:0]}
	l.x.reset(&l.head)
	l.x.close = true
	l.way = passage{}
	l.answer(page(status))
	exchanges.Put(l.x)
}

// handOver gives the connection to the http.Server, which reads what was read here as if it came from the client.
func (l *lane) handOver() {
	l.port.library(l.conn, append([]byte(l.head.Raw), l.in[l.first:l.last]...), l.born)
}

// end breaks the connection off, whatever it does.
func (l *lane) end() {
	l.phase.CompareAndSwap(idle, ended)
	l.abort()
	l.conn.Close()
}

// The request interface: what routing sees.

func (l *lane) method() string         { return l.head.Method }
func (l *lane) host() string           { return l.head.Host }
func (l *lane) rawPath() string        { return l.head.Path }
func (l *lane) query() string          { return l.head.Query }
func (l *lane) client() netip.AddrPort { return l.remote }

func (l *lane) path() string {
	if strings.IndexByte(l.head.Path, '%') < 0 {
		return l.head.Path
	}
	decoded, err := url.PathUnescape(l.head.Path)
	if err != nil {
		return l.head.Path // h1 has refused what can't be decoded
	}
	return decoded
}

func (l *lane) value(name string, i int) (string, bool) {
	for j := range l.head.Fields {
		if f := &l.head.Fields[j]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			if i == 0 {
				return f.Value, true
			}
			i--
		}
	}
	return "", false
}
