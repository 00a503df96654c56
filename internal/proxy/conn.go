package proxy

import (
	"net"
	"sync/atomic"
	"time"
)

// quiet is how long a connection may be silent before its deadlines end it. A deadline is moved only when a quarter of the idle
// timeout has passed since the last move, so that bytes cost no system calls; the silence that ends a connection is therefore
// between one and one and a quarter idle timeouts. That is later than http.Transport's own limit for an answer's first byte, which
// thus decides about slow answers.
type quiet struct {
	idle  time.Duration
	moved atomic.Int64 // Unix nanoseconds
}

// due tells whether the deadline should be moved, and to when.
func (q *quiet) due() (time.Time, bool) {
	now := time.Now()
	last := q.moved.Load()
	if now.UnixNano()-last < int64(q.idle/4) || !q.moved.CompareAndSwap(last, now.UnixNano()) {
		return time.Time{}, false
	}
	return now.Add(q.idle + q.idle/4), true
}

// targetConn is a connection to a target, which ends when nothing came or went for the idle timeout: a stream that stalled, a
// WebSocket that nobody uses.
type targetConn struct {
	net.Conn
	quiet
}

func (c *targetConn) touch() {
	if at, ok := c.due(); ok {
		_ = c.SetDeadline(at) // fails only on a closed connection, which the next call reports
	}
}

// Read implements io.Reader.
func (c *targetConn) Read(b []byte) (int, error) {
	c.touch()
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.touch()
	}
	return n, err
}

// Write implements io.Writer.
func (c *targetConn) Write(b []byte) (int, error) {
	c.touch()
	return c.Conn.Write(b)
}

// CloseWrite lets one side of an upgraded connection end before the other.
func (c *targetConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return net.ErrClosed
}

// clientConn is a client's connection, which ends when the client takes nothing for the idle timeout. What it sends is the
// http.Server's affair.
type clientConn struct {
	net.Conn
	quiet
}

// Write implements io.Writer.
func (c *clientConn) Write(b []byte) (int, error) {
	if at, ok := c.due(); ok {
		_ = c.SetWriteDeadline(at) // fails only on a closed connection, which Write reports
	}
	return c.Conn.Write(b)
}

// CloseWrite lets one side of an upgraded connection end before the other.
func (c *clientConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return net.ErrClosed
}

// clientListener gives its connections the idle timeout of the moment.
type clientListener struct {
	net.Listener
	idle *atomic.Int64 // nanoseconds
}

// Accept implements net.Listener.
func (l clientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: c, quiet: quiet{idle: time.Duration(l.idle.Load())}}, nil
}
