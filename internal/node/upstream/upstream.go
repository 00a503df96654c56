// Package upstream is a node's view of the cluster's servers, for what does not go over its session: log lines, pulls, credentials of
// task roles. Every server takes every request, so a request goes to the one that answered last, and to the next when that one is away.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what Servers needs.
type Config struct {
	// Addresses are the servers' (host:port), the preferred one first. It is asked at each request.
	Addresses func() []string
	// Client makes a client of the server at an address; URLs name no host that counts.
	Client func(address string) *http.Client
}

// Servers sends requests to a server that lives. It is an http.RoundTripper: requests are sent again when nobody answered, so they must
// be such that this changes nothing.
type Servers struct {
	c Config

	mu      sync.Mutex
	clients map[string]*http.Client
	last    string // the address of the one that answered last
}

// New makes Servers.
func New(c Config) *Servers { return &Servers{c: c, clients: map[string]*http.Client{}} }

// ErrNoServer says that no server of the cluster answered.
var ErrNoServer = errors.New("no server of the cluster answers")

// RoundTrip implements http.RoundTripper. A server that answers 503 is passed over while there are others.
func (s *Servers) RoundTrip(r *http.Request) (*http.Response, error) {
	err := ErrNoServer
	addresses := s.order()
	for n, address := range addresses {
		try, berr := again(r, n)
		if berr != nil {
			return nil, errors.Join(err, berr)
		}
		answer, terr := s.try(try, address)
		switch {
		case terr != nil:
			err = fmt.Errorf("%w: %s: %w", ErrNoServer, address, terr)
		case answer.StatusCode == http.StatusServiceUnavailable && n+1 < len(addresses):
			answer.Body.Close()
		default:
			s.answered(address)
			return answer, nil
		}
		if r.Context().Err() != nil {
			break
		}
	}
	return nil, err
}

// again is the request for its nth attempt.
func again(r *http.Request, n int) (*http.Request, error) {
	try := r.Clone(r.Context())
	try.URL.Scheme, try.URL.Host = "http", "server"
	if n == 0 || r.Body == nil || r.Body == http.NoBody {
		return try, nil
	}
	if r.GetBody == nil {
		return nil, errors.New("the request cannot be sent again")
	}
	var err error
	try.Body, err = r.GetBody()
	return try, err
}

// try sends r to one server, which has timeouts.UpstreamAnswer to begin its answer.
func (s *Servers) try(r *http.Request, address string) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	late := time.AfterFunc(timeouts.UpstreamAnswer, cancel)
	transport := s.client(address).Transport
	answer, err := transport.RoundTrip(r.WithContext(ctx))
	if !late.Stop() && err == nil {
		answer.Body.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, err
	}
	answer.Body = &body{answer.Body, cancel}
	return answer, nil
}

// body ends its request's context when it is closed.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// order is that in which servers are tried.
func (s *Servers) order() []string {
	all := s.c.Addresses()
	s.mu.Lock()
	defer s.mu.Unlock()
	order := make([]string, 0, len(all))
	for _, a := range all {
		if a == s.last {
			order = append(order, a)
		}
	}
	for _, a := range all {
		if a != s.last {
			order = append(order, a)
		}
	}
	return order
}

func (s *Servers) answered(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = address
}

func (s *Servers) client(address string) *http.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[address]
	if c == nil {
		c = s.c.Client(address)
		s.clients[address] = c
	}
	return c
}
