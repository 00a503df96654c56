package proxy

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
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
func (q *quiet) due(now time.Time) (time.Time, bool) {
	last := q.moved.Load()
	if q.idle <= 0 || now.UnixNano()-last < int64(q.idle/4) || !q.moved.CompareAndSwap(last, now.UnixNano()) {
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
	if at, ok := c.due(time.Now()); ok {
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

// clientConn is a client's connection, which ends when nothing came or went for the idle timeout: between requests, in the middle of
// one, or because the client takes nothing. While a request is answered, its deadline for reading leaves the time that targets may
// take to be reached, so that their silence is answered for first. The http.Server's own, earlier deadlines hold.
type clientConn struct {
	net.Conn
	quiet
	born time.Time
	rest []byte // what was read of it before

	mu      sync.Mutex
	silent  time.Time // when silence ends the connection
	asked   time.Time // what the server asked for; zero: nothing
	between bool      // no request is under way
}

// note is an http.Server's ConnState.
func note(c net.Conn, state http.ConnState) {
	if c, ok := c.(*clientConn); ok && (state == http.StateIdle || state == http.StateActive) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.between = state == http.StateIdle
		_ = c.setRead() // fails only on a closed connection
	}
}

// touch notes that something is going on.
func (c *clientConn) touch() {
	at, ok := c.due(time.Now())
	if !ok {
		return
	}
	_ = c.Conn.SetWriteDeadline(at) // both fail only on a closed connection, which the next call reports
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = at.Add(c.idle / 4)
	_ = c.setRead()
}

// setRead makes the earlier of both deadlines the connection's. It needs the lock.
func (c *clientConn) setRead() error {
	at := c.silent
	if !c.between {
		at = at.Add(attempts * timeouts.ProxyDial)
	}
	if !c.asked.IsZero() && c.asked.Before(at) {
		at = c.asked
	}
	return c.Conn.SetReadDeadline(at)
}

// SetReadDeadline implements net.Conn.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	c.touch()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	return c.setRead()
}

// SetDeadline implements net.Conn. An http.Server calls it to take its deadlines back from an upgraded connection.
func (c *clientConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// Read implements io.Reader.
func (c *clientConn) Read(b []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.touch()
	}
	return n, err
}

// Write implements io.Writer.
func (c *clientConn) Write(b []byte) (int, error) {
	c.touch()
	return c.Conn.Write(b)
}

// CloseWrite lets one side of an upgraded connection end before the other.
func (c *clientConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return net.ErrClosed
}
