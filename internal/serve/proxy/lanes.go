package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// lanes are the connections of a port that are on the fast path.
type lanes struct {
	closing atomic.Bool // idle ones end, busy ones with their answer

	mu   sync.Mutex
	all  map[*lane]struct{}
	none chan struct{} // closed when all have ended; nil while not closing
}

func (s *lanes) add(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	if s.all == nil {
		s.all = map[*lane]struct{}{}
	}
	s.all[l] = struct{}{}
	return true
}

func (s *lanes) remove(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, l)
	if s.none != nil && len(s.all) == 0 {
		close(s.none)
		s.none = nil
	}
}

// shut closes the connections that wait for a request, waits for the others until ctx is done, and then breaks them off.
func (s *lanes) shut(ctx context.Context) {
	s.mu.Lock()
	s.closing.Store(true)
	for l := range s.all {
		if l.phase.CompareAndSwap(idle, ended) {
			l.conn.Close()
		}
	}
	if len(s.all) == 0 {
		s.mu.Unlock()
		return
	}
	none := make(chan struct{})
	s.none = none
	s.mu.Unlock()
	select {
	case <-none:
		return
	case <-ctx.Done():
	}
	s.mu.Lock()
	for l := range s.all {
		l.end()
	}
	s.mu.Unlock()
	<-none
}

// handed is the listener by which the http.Server gets the connections that are its own.
type handed struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newHanded() *handed { return &handed{conns: make(chan net.Conn), ended: make(chan struct{})} }

// give gives a connection to the http.Server, or closes it when that has ended.
func (h *handed) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.ended:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.ended) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }
