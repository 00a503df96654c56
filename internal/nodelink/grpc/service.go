package grpc

import (
	"context"
	"log/slog"
	"sync"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
)

// The stream's name.
const (
	serviceName = "berth.NodeLink"
	streamName  = "Session"
)

// Service takes sessions from nodes at the cluster port.
type Service struct {
	serve func(context.Context, nodelink.Caller, nodelink.Conn) error
	log   *slog.Logger

	mu   sync.Mutex
	run  context.Context // of Run; nil before and after
	open sync.WaitGroup
}

// NewService makes a Service whose sessions serve holds, as nodelink.Server.Serve does.
func NewService(serve func(context.Context, nodelink.Caller, nodelink.Conn) error, log *slog.Logger) *Service {
	return &Service{serve: serve, log: log}
}

// Register adds the service to a server. Until Run it refuses.
func (s *Service) Register(r rpc.ServiceRegistrar) {
	r.RegisterService(&rpc.ServiceDesc{ServiceName: serviceName, HandlerType: (*any)(nil),
		Streams: []rpc.StreamDesc{{StreamName: streamName, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream rpc.ServerStream) error { return s.handle(stream) }}}}, s)
}

// Run takes sessions until ctx is done, and returns when all have ended.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.run = ctx
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	s.open.Wait()
	return nil
}

// begin counts a session; its context ends with Run's.
func (s *Service) begin() (context.Context, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.Err() != nil {
		return nil, false
	}
	s.open.Add(1)
	return s.run, true
}

// handle is one stream. gRPC ends the stream when it returns, which is how a session that is stuck in it is ended.
func (s *Service) handle(stream rpc.ServerStream) error {
	who, ok := peer.From(stream.Context())
	if !ok || who.Role != pki.RoleNode {
		return status.Errorf(codes.PermissionDenied, "sessions are for nodes, and the certificate is that of %s", who)
	}
	run, ok := s.begin()
	if !ok {
		return status.Error(codes.Unavailable, "the server is not ready, or about to stop")
	}
	end := make(chan struct{})
	c := newConn(stream, sync.OnceFunc(func() { close(end) }))
	go func() {
		defer s.open.Done()
		defer c.end()
		if err := s.serve(run, nodelink.Caller{Node: who.ID, Key: who.KeyHash}, c); err != nil && run.Err() == nil {
			s.log.Debug("a node's session has ended", "node", who.ID, "reason", err)
		}
	}()
	select {
	case <-run.Done():
	case <-stream.Context().Done():
	case <-end:
	}
	return status.Error(codes.Unavailable, "the session has ended")
}
