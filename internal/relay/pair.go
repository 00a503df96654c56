package relay

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// pair is a client's connection and the one to a server that carries it.
type pair struct {
	client, server net.Conn
	address        string
	owed           atomic.Int64 // since when the server has said nothing to what the client said, in Unix nanoseconds; 0: it owes nothing
	once           sync.Once
}

// owes is for how long the server has owed an answer.
func (p *pair) owes() time.Duration {
	since := p.owed.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - since)
}

// close ends both connections.
func (p *pair) close() {
	p.once.Do(func() {
		_ = p.client.Close()
		_ = p.server.SetDeadline(time.Now()) // a goodbye to a machine that is gone waits for nobody
		_ = p.server.Close()
	})
}

// copy carries bytes both ways until both sides have said all, or one breaks.
func (p *pair) copy() {
	defer p.close()
	var both sync.WaitGroup
	both.Go(func() { p.half(p.server, watched{p.client, p.asked}) })
	both.Go(func() { p.half(p.client, watched{p.server, p.answered}) })
	both.Wait()
}

func (p *pair) asked() { p.owed.CompareAndSwap(0, time.Now().UnixNano()) }

func (p *pair) answered() { p.owed.Store(0) }

// half carries one direction. Who has said all may still listen.
func (p *pair) half(to net.Conn, from io.Reader) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(writerOnly{to}, from, buf[:])
	if c, ok := to.(interface{ CloseWrite() error }); err != nil || !ok || c.CloseWrite() != nil {
		p.close()
	}
}

const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// watched tells when something was read.
type watched struct {
	io.Reader
	read func()
}

func (w watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.read()
	}
	return n, err
}

// writerOnly hides a connection's ReadFrom, which would not use the buffer.
type writerOnly struct{ io.Writer }
