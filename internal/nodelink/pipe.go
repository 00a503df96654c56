package nodelink

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is returned by a closed Conn.
var ErrClosed = errors.New("the node session is closed")

// pipe is one end of a session inside a process.
type pipe struct {
	in, out chan Message
	done    chan struct{}
	once    *sync.Once
}

// Pipe returns the two ends of a session inside a process. Closing one end closes both.
func Pipe() (server, node Conn) {
	a, b, done, once := make(chan Message, 16), make(chan Message, 16), make(chan struct{}), new(sync.Once)
	return &pipe{a, b, done, once}, &pipe{b, a, done, once}
}

// Send implements Conn.
func (p *pipe) Send(ctx context.Context, m Message) error {
	select {
	case <-p.done:
		return ErrClosed
	default:
	}
	select {
	case p.out <- m:
		return nil
	case <-p.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Recv implements Conn.
func (p *pipe) Recv(ctx context.Context) (Message, error) {
	select {
	case m := <-p.in:
		return m, nil
	case <-p.done:
		return Message{}, ErrClosed
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

// Close implements Conn.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}
