package pki

import (
	"sync/atomic"
	"time"
)

// clockSlack is how far a machine's clock may be from a server's before certificates are read by the server's (machines.md §3).
const clockSlack = 5 * time.Second

// Clock is the time by which a process reads certificates: the machine's own, or a server's where the two are apart. The zero Clock
// is the machine's.
type Clock struct {
	Base   func() time.Time // the machine's clock; nil: time.Now
	offset atomic.Int64
}

// Now is the time. A nil Clock is the machine's.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return c.machine().Add(time.Duration(c.offset.Load()))
}

func (c *Clock) machine() time.Time {
	if c.Base == nil {
		return time.Now()
	}
	return c.Base()
}

// Learn tells a server's time, which was asked for at the time asked of this Clock and has just come. It returns by how much the
// server is ahead of this machine, and whether the server's clock is now the one that counts.
func (c *Clock) Learn(server, asked time.Time) (offset time.Duration, apart bool) {
	if c == nil {
		return 0, false
	}
	now := c.machine()
	asked = asked.Add(-time.Duration(c.offset.Load()))
	offset = server.Sub(asked.Add(now.Sub(asked) / 2))
	if offset.Abs() > clockSlack {
		c.offset.Store(int64(offset))
		return offset, true
	}
	c.offset.Store(0)
	return offset, false
}
