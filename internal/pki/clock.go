package pki

import (
	"sync/atomic"
	"time"
)

// clockSlack is how far a machine's clock may be from a server's before certificates are read by the server's (machines.md §3).
const clockSlack = 5 * time.Second

// Clock is the time by which a process reads certificates: the machine's own, or a server's where the two are apart. The zero Clock
// is the machine's.
type Clock struct{ offset atomic.Int64 }

// Now is the time. A nil Clock is the machine's.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(c.offset.Load()))
}

// Learn tells that a server's clock is ahead of this machine's by offset; apart says whether it is now used.
func (c *Clock) Learn(offset time.Duration) (apart bool) {
	apart = offset.Abs() > clockSlack
	if !apart {
		offset = 0
	}
	c.offset.Store(int64(offset))
	return apart
}
