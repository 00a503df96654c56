// Package gate bounds what strangers may take of a server before it knows them: connections, by source and in total (Gate), bytes of
// requests in memory (Budget), and the time in which they must come (Pace).
package gate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Gate is told. Total is required.
type Config struct {
	// Name says in the log whose connections these are.
	Name string
	// Total is how many connections may be open at once, over all listeners of the Gate.
	Total int
	// PerSource is how many of them one source may have; 0 means no more than are left free, as for every source: a source that
	// takes what it can gets half, ten that do so get an eleventh each, and somebody new always finds a place.
	PerSource int
	Log       *slog.Logger // nil discards
}

// Gate bounds the connections of its listeners. A source is an IPv4 address, a /64 of IPv6, or all there is of another network.
type Gate struct {
	c Config

	mu      sync.Mutex
	open    int
	sources map[netip.Addr]int
	refused uint64
	unsaid  uint64    // refusals since the log last told of one
	said    time.Time // when it did
}

// New makes a Gate.
func New(c Config) *Gate {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Gate{c: c, sources: map[netip.Addr]int{}}
}

// Stats are a Gate's counters.
type Stats struct {
	Open    int    // connections
	Sources int    // that have one
	Refused uint64 // connections closed at accept, ever
}

// Stats returns the counters of now.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Open: g.open, Sources: len(g.sources), Refused: g.refused}
}

// Listener lets connections of l through within the Gate's bounds and closes the others at once. Its Accept fails only when the
// listener is closed or broken: what passes, such as a process without free descriptors, is waited out.
func (g *Gate) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, gate: g, closed: make(chan struct{})}
}

// admit counts a connection of a source in, unless it is beyond a bound.
func (g *Gate) admit(source netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	has := g.sources[source]
	if has < g.c.Total-g.open && (g.c.PerSource == 0 || has < g.c.PerSource) {
		g.sources[source] = has + 1
		g.open++
		return true
	}
	g.refused++
	g.unsaid++
	if now := time.Now(); now.Sub(g.said) >= timeouts.GateWarn {
		g.c.Log.Warn("connections are refused: one source, or all together, have too many", "of", g.c.Name, "source", source, "its", has,
			"open", g.open, "total", g.c.Total, "refused", g.unsaid)
		g.said, g.unsaid = now, 0
	}
	return false
}

func (g *Gate) leave(source netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.sources[source]--; g.sources[source] == 0 {
		delete(g.sources, source)
	}
}

// sourceOf is the zero Addr for networks without addresses.
func sourceOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return sourceOfAddr(tcp.AddrPort().Addr())
}

func sourceOfAddr(ip netip.Addr) netip.Addr {
	if ip = ip.Unmap(); ip.Is6() {
		p, _ := ip.WithZone("").Prefix(64) // 64 bits are never too many
		return p.Addr()
	}
	return ip
}

type listener struct {
	net.Listener
	gate   *Gate
	once   sync.Once
	closed chan struct{}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	var pause time.Duration
	for {
		c, err := l.Listener.Accept()
		if err != nil && passes(err) {
			if pause == 0 {
				l.gate.c.Log.Warn("no connection can be accepted for now", "of", l.gate.c.Name, "error", err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), timeouts.GatePause)
			if !l.wait(pause) {
				return nil, net.ErrClosed
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		pause = 0
		source := sourceOf(c.RemoteAddr())
		if l.gate.admit(source) {
			return wrap(c, func() { l.gate.leave(source) }), nil
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, which leaves nothing behind; without it the close is only slower
		}
		_ = c.Close()
	}
}

func (l *listener) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.closed:
		return false
	}
}

// passes tells whether an error of accept says nothing about the listener itself (accept(2), "Errors").
func passes(err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		return false
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return false
	}
	switch errno {
	case syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, syscall.EOPNOTSUPP, syscall.EFAULT:
		return false
	}
	return true
}

// wrap gives the connection's place back when it is closed. A TCP connection stays one for those who look for its methods, as
// sendfile and half-closing do.
func wrap(c net.Conn, leave func()) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return &tcpConn{TCPConn: tcp, leave: leave}
	}
	return &conn{Conn: c, leave: leave}
}

type tcpConn struct {
	*net.TCPConn
	once  sync.Once
	leave func()
}

// Close implements net.Conn.
func (c *tcpConn) Close() error {
	defer c.once.Do(c.leave)
	return c.TCPConn.Close()
}

type conn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.once.Do(c.leave)
	return c.Conn.Close()
}
