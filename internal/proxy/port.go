package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// port is a port of this machine on which listeners answer.
type port struct {
	proxy  *Proxy
	number int
	server *http.Server
	listen []net.Listener
	retry  *time.Timer // not nil while the port could not be taken
}

// applyPorts opens the ports that the table needs and closes the others. It needs the lock.
func (p *Proxy) applyPorts(l *live) {
	for number, q := range p.ports {
		if _, ok := l.byPort[number]; !ok {
			delete(p.ports, number)
			go func() { // requests in flight end in their own time
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := q.close(ctx); err != nil {
					p.Log.Warn("cannot close a listener's port", "port", number, "error", err)
				}
			}()
		}
	}
	for number, entrances := range l.byPort {
		q := p.ports[number]
		if q == nil {
			q = &port{proxy: p, number: number}
			p.ports[number] = q
		}
		if q.server == nil {
			p.open(q, entrances)
		} else {
			p.tell(entrances, "")
		}
	}
}

func (p *Proxy) tell(entrances []entrance, problem string) {
	for _, e := range entrances {
		p.OnProblem(e.listener.ARN, problem)
	}
}

// open takes the port, or says why it can't and tries again later. It needs the lock.
func (p *Proxy) open(q *port, entrances []entrance) {
	if q.retry != nil {
		q.retry.Stop()
		q.retry = nil
	}
	for _, a := range p.Addresses {
		l, err := net.Listen("tcp", net.JoinHostPort(a, strconv.Itoa(q.number)))
		if err == nil {
			q.listen = append(q.listen, l)
			continue
		}
		for _, l := range q.listen {
			l.Close()
		}
		q.listen = nil
		p.tell(entrances, portProblem(q.number, err))
		q.retry = time.AfterFunc(3*time.Second, func() { p.reopen(q) })
		return
	}
	q.server = &http.Server{Handler: q, ReadHeaderTimeout: 60 * time.Second, IdleTimeout: 65 * time.Second, MaxHeaderBytes: 64 << 10}
	q.server.Protocols = new(http.Protocols)
	q.server.Protocols.SetHTTP1(true)
	q.server.Protocols.SetUnencryptedHTTP2(true)
	for _, l := range q.listen {
		go func() {
			if err := q.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				p.Log.Error("a listener ended", "port", q.number, "error", err)
			}
		}()
	}
	p.tell(entrances, "")
	p.Log.Info("listening", "port", q.number)
}

func portProblem(number int, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("port %d is in use by another program", number)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("port %d may be taken by root only", number)
	}
	return fmt.Sprintf("port %d: %v", number, err)
}

func (p *Proxy) reopen(q *port) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.ports[q.number] == q && q.server == nil {
		p.open(q, p.table.Load().byPort[q.number])
	}
}

func (q *port) close(ctx context.Context) error {
	if q.retry != nil {
		q.retry.Stop()
	}
	if q.server == nil {
		return nil
	}
	if err := q.server.Shutdown(ctx); err != nil {
		return q.server.Close()
	}
	return nil
}

// ServeHTTP gives the request to the load balancer that its Host names; a request with another name goes to the one that has the
// port to itself, or to the oldest.
func (q *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := q.proxy.table.Load()
	entrances := l.byPort[q.number]
	if len(entrances) == 0 {
		fail(w, http.StatusServiceUnavailable)
		return
	}
	host, chosen := strings.ToLower(hostname(r.Host)), entrances[0]
	for _, e := range entrances[1:] {
		if strings.ToLower(e.balancer.DNSName) == host {
			chosen = e
		}
	}
	q.proxy.serve(w, r, l, chosen)
}

func sortTargets(all []*target) {
	slices.SortFunc(all, func(a, b *target) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.port, b.port)) })
}
