package proxy

import (
	"sync"
	"time"

	"github.com/berthdev/berth/internal/serve/proxy/h1"
)

// bodies are buffers for requests' bodies that come after their heads.
var bodies = sync.Pool{New: func() any { return &bodyBuffer{in: make([]byte, 16<<10)} }}

type bodyBuffer struct{ in, out []byte }

// stream has the companion send the request's body as it comes, while the lane's goroutine waits for the answer.
func (l *lane) stream(up *upstream) {
	l.x.begun = true
	l.sent.Store(false)
	l.works.Lock() // by the companion, in effect
	l.phase.Store(watched)
	go func() {
		defer l.works.Unlock()
		defer func() { l.fault(recover()) }()
		if l.sendBody(up) {
			l.watch()
		}
	}()
}

// sendBody sends the request's body. It is false when that can't be finished, or rejoin has ended it.
func (l *lane) sendBody(up *upstream) bool {
	b := bodies.Get().(*bodyBuffer)
	defer bodies.Put(b)
	x := l.x
	pending := l.in[l.first:l.last]
	for {
		var err error
		if pending, err = l.sendPart(up, b, pending); err != nil {
			l.sent.Store(false)
			l.keep(pending)
			return false
		}
		if x.ask.Done() {
			l.keep(pending)
			return true
		}
		k := copy(b.in, pending)
		l.touch(time.Now())
		n := 0
		if !l.stop.Load() { // else the deadline that ends reading may just have been moved
			n, err = l.conn.Read(b.in[k:])
		}
		pending = b.in[:k+n]
		if l.stop.Load() {
			l.keep(pending)
			return false
		}
		if n == 0 && err != nil {
			l.keep(pending)
			l.abort()
			return false
		}
	}
}

// sendPart sends what pending holds of the body, and returns what it does not use.
func (l *lane) sendPart(up *upstream, b *bodyBuffer, pending []byte) (rest []byte, err error) {
	x := l.x
	b.out = b.out[:0]
	for len(pending) > 0 && !x.ask.Done() {
		data, n, err := x.ask.Next(pending)
		if err != nil {
			x.broken = true
			up.conn.Close()
			return pending, err
		}
		if n == 0 {
			break
		}
		pending = pending[n:]
		l.sent.Store(x.ask.Done()) // before the target can answer to the end
		if l.head.Length > 0 {
			if err := l.sendBytes(up, data); err != nil {
				return pending, err
			}
			continue
		}
		b.out = h1.AppendChunk(b.out, data)
	}
	if x.ask.Done() && l.head.Length < 0 {
		l.sent.Store(true)
		b.out = h1.AppendLastChunk(b.out, nil)
	}
	return pending, l.sendBytes(up, b.out)
}

func (l *lane) sendBytes(up *upstream, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	up.touch(time.Now())
	_, err := up.conn.Write(b)
	return err
}

// keep puts back what was read of the client and not used. Views of the head stay good: they are of the old bytes.
func (l *lane) keep(pending []byte) {
	in := make([]byte, max(firstBytes, 2*len(pending)))
	l.last = copy(in, pending)
	l.in, l.first = in, 0
}
