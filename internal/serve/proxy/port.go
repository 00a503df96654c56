package proxy

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// port is a port of this machine on which listeners answer. All but the server's own work is done under the Proxy's lock.
type port struct {
	proxy  *Proxy
	number int
	idle   atomic.Int64 // time.Duration: how long a client's connection may be silent
	lanes  lanes
	handed *handed
	server *http.Server            // of what is handed to it
	listen map[string]net.Listener // by address
	retry  *time.Timer             // not nil while an address could not be taken
}

// applyPorts opens the ports that the table needs and closes the others. It needs the lock.
func (p *Proxy) applyPorts(l *live) {
	if p.leaving.Load() {
		return
	}
	for number, q := range p.ports {
		if _, ok := l.byPort[number]; ok {
			continue
		}
		delete(p.ports, number)
		q.leave()
		p.closing.Go(func() { // requests in flight end in their own time
			ctx, cancel := context.WithTimeout(p.ctx, timeouts.PortDrain)
			defer cancel()
			q.shut(ctx)
		})
	}
	told := p.told
	p.told = map[string]string{}
	for number, entrances := range l.byPort {
		q := p.ports[number]
		if q == nil {
			q = p.newPort(number)
		}
		idle := timeouts.ProxyLeastIdle
		for _, e := range entrances {
			if problem, ok := told[e.listener.ARN]; ok {
				p.told[e.listener.ARN] = problem
			}
			idle = max(idle, e.balancer.IdleTimeout)
		}
		q.idle.Store(int64(idle))
		q.open(entrances)
	}
}

// tell reports a problem of listeners, once.
func (p *Proxy) tell(entrances []entrance, problem string) {
	for _, e := range entrances {
		if last, ok := p.told[e.listener.ARN]; !ok || last != problem {
			p.told[e.listener.ARN] = problem
			p.OnProblem(e.listener.ARN, problem)
		}
	}
}

func (p *Proxy) newPort(number int) *port {
	q := &port{proxy: p, number: number, handed: newHanded(), listen: map[string]net.Listener{}}
	q.server = &http.Server{Handler: q, ReadHeaderTimeout: timeouts.ProxyHead, MaxHeaderBytes: 64 << 10, ConnState: note,
		ErrorLog: stdlog.New(logWriter{p.Log}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, bornKey{}, c.(*clientConn).born)
		}}
	q.server.Protocols = new(http.Protocols)
	q.server.Protocols.SetHTTP1(true)
	q.server.Protocols.SetUnencryptedHTTP2(true)
	go q.server.Serve(q.handed) // until it is shut down
	p.ports[number] = q
	return q
}

// accept serves the connections that come to a listener until it is closed.
func (q *port) accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if q.proxy.slow {
			go q.library(c, nil, q.proxy.Now())
			continue
		}
		if lane := newLane(q, c); q.lanes.add(lane) {
			go lane.serve()
		} else {
			c.Close()
		}
	}
}

// library has net/http serve a connection, of which rest was read already.
func (q *port) library(c net.Conn, rest []byte, born time.Time) {
	_ = c.SetDeadline(time.Time{}) // fails only on a closed connection
	own := &clientConn{Conn: c, quiet: quiet{idle: time.Duration(q.idle.Load())}, born: born, rest: rest}
	own.touch()
	q.handed.give(own)
}

// bornKey is the context key of a connection's beginning.
type bornKey struct{}

// open takes the port at every address, or says why it can't and tries again later. It needs the lock.
func (q *port) open(entrances []entrance) {
	var problem string
	for _, a := range q.proxy.Addresses {
		if q.listen[a] != nil {
			continue
		}
		l, err := q.proxy.Listen(net.JoinHostPort(a, strconv.Itoa(q.number)))
		if err != nil {
			if problem == "" {
				problem = portProblem(a, q.number, err)
			}
			continue
		}
		q.listen[a] = l
		go func() {
			if err := q.accept(q.proxy.gate.Listener(l)); !errors.Is(err, net.ErrClosed) {
				q.proxy.Log.Error("a listener ended", "address", l.Addr(), "error", err)
			}
		}()
		q.proxy.Log.Info("listening", "address", l.Addr())
	}
	q.proxy.tell(entrances, problem)
	if problem == "" {
		q.retry = nil
	} else if q.retry == nil {
		q.retry = time.AfterFunc(timeouts.PortRetry, q.again)
	}
}

func portProblem(address string, number int, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("port %d is in use by another program", number)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("port %d may be taken by root only", number)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("port %d cannot be taken: this machine does not have the address %s", number, address)
	}
	return fmt.Sprintf("port %d: %v", number, err)
}

func (q *port) again() {
	p := q.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.ports[q.number] == q {
		q.retry = nil
		q.open(p.table.Load().byPort[q.number])
	}
}

// leave gives the port up, so that it can be taken again at once. It needs the lock.
func (q *port) leave() {
	if q.retry != nil {
		q.retry.Stop()
	}
	for _, l := range q.listen {
		l.Close() // nothing can be done about a listener that does not close
	}
}

// shut waits for the requests in flight until ctx is done and then breaks them off.
func (q *port) shut(ctx context.Context) {
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() { q.lanes.shut(ctx) })
	if err := q.server.Shutdown(ctx); err != nil {
		q.server.Close() // its error is that of a listener that was closed before
	}
}

// ServeHTTP implements http.Handler.
func (q *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := q.proxy.table.Load()
	in := l.entrance(q.number, r.Host)
	if in == nil { // the listener was deleted while the connection is open
		w.Header().Set("Connection", "close")
		page(http.StatusServiceUnavailable).write(w)
		return
	}
	q.proxy.serve(w, r, l, in, q.number)
}
