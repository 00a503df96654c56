package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// companion is the other goroutine of a lane: there is none for a request that is answered quickly. It looks whether the client
// leaves, after sending the rest of a body that did not come with its head. While it works (phase watched) it alone reads the
// client's side, and it alone writes to the target.
type companion struct {
	phase   atomic.Int32
	count   atomic.Uint32 // of requests that were waited for
	timer   *time.Timer
	ticking atomic.Bool // the timer runs
	told    uint32      // the timer's own: count at its last tick

	sent   atomic.Bool // all of the request is, or is about to be
	works  sync.Mutex  // held by the companion
	stop   atomic.Bool
	gone   atomic.Bool // the client has left
	up     atomic.Pointer[upstream]
	cancel atomic.Pointer[context.CancelFunc] // of the dial under way
}

// wait begins the time in which the client may leave unnoticed.
func (l *lane) wait() {
	l.count.Add(1)
	l.phase.Store(waiting)
	if !l.ticking.Load() && l.ticking.CompareAndSwap(false, true) {
		l.timer.Reset(timeouts.ProxyWatch)
	}
}

// tick finds out whether a request has been waited for since the last tick. The timer runs on while there are requests: to arm it
// for each would cost more.
func (l *lane) tick() {
	n := l.count.Load()
	if n != l.told {
		l.told = n
		l.timer.Reset(timeouts.ProxyWatch)
		return
	}
	l.works.Lock()
	defer l.works.Unlock()
	defer func() { l.fault(recover()) }()
	if l.phase.CompareAndSwap(waiting, watched) {
		l.ticking.Store(false)
		l.watch()
		return
	}
	l.ticking.Store(false)
	if l.count.Load() != n && l.ticking.CompareAndSwap(false, true) { // one came just now, and saw the timer run
		l.timer.Reset(timeouts.ProxyWatch)
	}
}

// watch reads the client's side until a byte of its next request comes, it leaves, or rejoin ends this.
func (l *lane) watch() {
	for l.last < len(l.in) {
		_ = l.conn.SetReadDeadline(time.Time{}) // it may be silent while it waits; fails only on a closed connection
		if l.stop.Load() {
			return
		}
		n, err := l.conn.Read(l.in[l.last:])
		l.last += n
		switch {
		case n > 0 || l.stop.Load():
			return
		case err != nil && !timeout(err): // a deadline may have been moved meanwhile
			l.abort()
			return
		}
	}
}

// abort ends the request under way: its client has left.
func (l *lane) abort() {
	l.gone.Store(true)
	if u := l.up.Load(); u != nil {
		u.conn.Close()
	}
	if cancel := l.cancel.Load(); cancel != nil {
		(*cancel)()
	}
}

// rejoin ends the companion's work, if there is any, and makes the lane's goroutine the only one again.
func (l *lane) rejoin() {
	if l.phase.CompareAndSwap(waiting, busy) || l.phase.Load() != watched {
		return
	}
	l.stop.Store(true)
	_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
	l.works.Lock()
	l.stop.Store(false)
	l.phase.CompareAndSwap(watched, busy)
	l.works.Unlock()
	l.moved.Store(0) // the deadline is to be set anew
}
