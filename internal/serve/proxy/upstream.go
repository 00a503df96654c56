package proxy

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/timeouts"
)

// upstream is a connection to a target on the fast path. Between requests nothing is read from it: its owner looks, before it
// relies on one, whether the target has closed it.
type upstream struct {
	conn net.Conn
	quiet
	raw    syscall.RawConn // nil when it is no socket
	poll   func(uintptr)   // sets open; made once, so that looking allocates nothing
	open   bool
	reused bool      // it has served a request
	until  time.Time // when, kept, it is too old
}

func newUpstream(c net.Conn, idle time.Duration) *upstream {
	u := &upstream{conn: c, quiet: quiet{idle: idle}}
	s, ok := c.(syscall.Conn)
	if !ok {
		return u
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return u
	}
	u.raw = raw
	events := make([]unix.PollFd, 1)
	u.poll = func(fd uintptr) {
		events[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
		n, err := unix.Poll(events, 0)
		u.open = n == 0 && err == nil
	}
	return u
}

// touch moves the deadlines when they are due.
func (u *upstream) touch(now time.Time) {
	if at, ok := u.due(now); ok {
		_ = u.conn.SetDeadline(at) // fails only on a closed connection, which the next call reports
	}
}

// silent tells whether a connection that is not in use is as it should be: open, and without a word from the target.
func (u *upstream) silent() bool {
	if u.raw == nil {
		return true
	}
	return u.raw.Control(u.poll) == nil && u.open
}

// maxKept is how many connections to a target are kept for requests to come.
const maxKept = 256

// maxKeptInAll bounds the connections that are kept for all targets together.
const maxKeptInAll = 4096

// kept are a target's connections that no request uses, the one used last at the end.
type kept struct {
	inAll *atomic.Int64 // how many all targets keep

	mu     sync.Mutex
	free   []*upstream
	closed bool
}

// take returns the connection used last, nil when there is none.
func (k *kept) take(now time.Time) *upstream {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.free)
	if n == 0 {
		return nil
	}
	u := k.free[n-1]
	k.free[n-1] = nil
	k.free = k.free[:n-1]
	k.inAll.Add(-1)
	if now.After(u.until) { // and so are all others, which the sweep finds
		u.conn.Close()
		return nil
	}
	return u
}

// put keeps a connection on which nothing is under way.
func (k *kept) put(u *upstream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(k.free) >= maxKept || k.inAll.Load() >= maxKeptInAll { // one more or less does not matter
		u.conn.Close()
		return false
	}
	k.inAll.Add(1)
	k.free = append(k.free, u)
	return true
}

// sweep closes the connections that are too old, or that their target has closed, and tells whether any are left.
func (k *kept) sweep(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func(before int) { k.inAll.Add(int64(len(k.free) - before)) }(len(k.free))
	k.free = slices.DeleteFunc(k.free, func(u *upstream) bool {
		if now.Before(u.until) && u.silent() {
			return false
		}
		u.conn.Close()
		return true
	})
	return len(k.free) > 0
}

// close closes the connections, and those that come back later.
func (k *kept) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, u := range k.free {
		u.conn.Close()
	}
	k.inAll.Add(-int64(len(k.free)))
	k.free = nil
}

// keptFor is how long a connection that nobody uses is kept: well shorter than its deadline.
func keptFor(idle time.Duration) time.Duration { return min(timeouts.ProxyKept, idle/2) }

// keep puts a connection back, and sees to it that it does not stay for ever.
func (f *forwarder) keep(t *target, u *upstream, now time.Time) {
	u.reused = true
	u.until = now.Add(keptFor(u.quiet.idle))
	if t.kept.put(u) && f.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(timeouts.ProxySweep, f.sweep)
	}
}

// sweep looks at all kept connections, and again while there are any.
func (f *forwarder) sweep() {
	f.proxy.mu.Lock()
	targets := make([]*target, 0, len(f.proxy.targets))
	for _, t := range f.proxy.targets {
		targets = append(targets, t)
	}
	f.proxy.mu.Unlock()
	f.sweeping.Store(false) // what is put back from now on is seen to by the next one
	now, left := time.Now(), false
	for _, t := range targets {
		left = t.kept.sweep(now) || left
	}
	if left && f.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(timeouts.ProxySweep, f.sweep)
	}
}

// connect opens a connection to a target, or fails with a *net.OpError of "dial".
func (f *forwarder) connect(ctx context.Context, t *target, idle time.Duration) (*upstream, error) {
	c, err := f.dial(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	return newUpstream(c, idle), nil
}
