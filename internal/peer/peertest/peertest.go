// Package peertest puts up servers of a cluster on loopback, which tests kill and start again.
package peertest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
)

// Cluster issues certificates.
type Cluster struct {
	t  testing.TB
	ca *pki.CA
}

// New makes a cluster without machines.
func New(t testing.TB) *Cluster {
	t.Helper()
	ca, err := pki.NewCA("c7f2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &Cluster{t, ca}
}

func (c *Cluster) config(role pki.Role, id string) peer.Config {
	c.t.Helper()
	identity, err := c.ca.Issue(pki.Peer{Role: role, ID: id}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return peer.Config{Identity: func() *pki.Identity { return identity }}
}

// Node is the dialer of a node.
func (c *Cluster) Node(id string) *peer.Dialer { return peer.NewDialer(c.config(pki.RoleNode, id)) }

// Server is a machine with a cluster port.
type Server struct {
	ID, Address string
	*peer.Dialer

	t      testing.TB
	conf   peer.Config
	handle func(*peer.Server)
	kill   func()
}

// Server starts a server; handle registers what it serves, at each start.
func (c *Cluster) Server(id string, handle func(*peer.Server)) *Server {
	c.t.Helper()
	conf := c.config(pki.RoleServer, id)
	s := &Server{ID: id, Address: "127.0.0.1:0", Dialer: peer.NewDialer(conf), t: c.t, conf: conf, handle: handle}
	s.Start()
	c.t.Cleanup(s.Kill)
	return s
}

// Client is a client of to, as of this server; its connections end with the test.
func (s *Server) Client(to *Server) *http.Client {
	client := s.HTTP(to.Address)
	s.t.Cleanup(client.CloseIdleConnections)
	return client
}

// Start starts the server at its address, if it does not run.
func (s *Server) Start() {
	if s.kill != nil {
		return
	}
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Address = l.Addr().String()
	server := peer.NewServer(s.conf)
	s.handle(server)
	ctx, cancel := context.WithCancel(context.Background())
	open := &conns{Listener: l, open: map[net.Conn]bool{}}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ctx, open) }()
	s.kill = func() { cancel(); open.closeAll(); <-done }
}

// Kill breaks all of the server's connections at once, as its death would.
func (s *Server) Kill() {
	if s.kill != nil {
		s.kill()
		s.kill = nil
	}
}

// conns are a listener's connections.
type conns struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]bool
	dead bool
}

// Accept implements net.Listener.
func (l *conns) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		c.Close()
	}
	l.open[c] = true
	return c, nil
}

func (l *conns) closeAll() {
	l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for c := range l.open {
		c.Close()
	}
}
