//go:build linux

package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/cache/remotecache"
	inlinecache "github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/util/resolver"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	bkcontainerd "github.com/moby/buildkit/worker/containerd"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

// Config is what a Server needs.
type Config struct {
	Root       string // for BuildKit's cache records
	Containerd string // path of containerd's socket
	Namespace  string // of containerd, the one that tasks run in: a built image is in the node's store
	Runc, Shim string // paths of the binaries that RUN steps use
	// Snapshotter is the one that tasks use, "overlayfs" or "native".
	Snapshotter string
	// CgroupParent holds the cgroups of RUN steps.
	CgroupParent string
	// Registry is the host:port of Berth's own registry, reached without TLS.
	Registry string
	// CacheBytes is how much build cache is kept on disk.
	CacheBytes int64
	Log        *slog.Logger
}

// Server serves BuildKit on a socket. The controller starts with the first connection: who never builds does not pay for it.
type Server struct {
	Config
	mu         sync.Mutex
	grpc       *grpc.Server
	controller *control.Controller
	conns      chan net.Conn
	done       chan struct{}
}

// NewServer makes a Server.
func NewServer(c Config) *Server {
	return &Server{Config: c, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Serve accepts connections on l until ctx is done; running builds then end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	context.AfterFunc(ctx, func() { l.Close() })
	defer s.close()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept a build: %w", err)
		}
		if err := s.start(ctx); err != nil {
			s.Log.Error("cannot start the builder", "error", err)
			conn.Close()
			continue
		}
		select {
		case s.conns <- conn:
		case <-ctx.Done():
			conn.Close()
		}
	}
}

// handOver is the listener of the gRPC server: it yields what Serve accepted.
type handOver struct{ s *Server }

func (h handOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.s.conns:
		return c, nil
	case <-h.s.done:
		return nil, net.ErrClosed
	}
}
func (h handOver) Close() error   { return nil }
func (h handOver) Addr() net.Addr { return &net.UnixAddr{Name: "build", Net: "unix"} }

func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc != nil {
		return nil
	}
	c, err := s.newController(ctx)
	if err != nil {
		return err
	}
	s.controller = c
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(16<<20), grpc.MaxSendMsgSize(16<<20))
	c.Register(s.grpc)
	go func() { _ = s.grpc.Serve(handOver{s}) }() // ends with Stop
	return nil
}

func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.done)
	if s.grpc != nil {
		s.grpc.Stop()
		if err := s.controller.Close(); err != nil {
			s.Log.Warn("cannot close the builder", "error", err)
		}
	}
}

func (s *Server) newController(ctx context.Context) (*control.Controller, error) {
	if err := os.MkdirAll(s.Root, 0o700); err != nil {
		return nil, err
	}
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	w, err := s.newWorker(ctx)
	if err != nil {
		return nil, err
	}
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(s.Root, "cache.db"))
	if err != nil {
		return nil, fmt.Errorf("open build cache: %w", err)
	}
	history, err := boltutil.SafeOpen(filepath.Join(s.Root, "history.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open build history: %w", err), cache.Close())
	}
	return control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends:        map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)},
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"inline": inlinecache.ResolveCacheExporterFunc(), "local": localcache.ResolveCacheExporterFunc(sessions),
			"registry": registrycache.ResolveCacheExporterFunc(sessions, s.hosts())},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{"local": localcache.ResolveCacheImporterFunc(sessions),
			"registry": registrycache.ResolveCacheImporterFunc(sessions, w.ContentStore(), s.hosts())},
		CacheManager:   solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers)),
		HistoryDB:      history,
		CacheStore:     cache,
		LeaseManager:   w.LeaseManager(),
		ContentStore:   w.ContentStore(),
		GarbageCollect: w.GarbageCollect,
		GracefulStop:   ctx.Done(),
	})
}

// hosts says how registries are reached: Berth's own without TLS.
func (s *Server) hosts() docker.RegistryHosts {
	plain := true
	return resolver.NewRegistryConfig(map[string]resolverconfig.RegistryConfig{s.Registry: {PlainHTTP: &plain}})
}

func (s *Server) newWorker(ctx context.Context) (worker.Worker, error) {
	opt, err := bkcontainerd.NewWorkerOpt(bkcontainerd.WorkerOptions{
		Root:            s.Root,
		Address:         s.Containerd,
		SnapshotterName: s.Snapshotter,
		Namespace:       s.Namespace,
		CgroupParent:    s.CgroupParent,
		NetworkOpt:      netproviders.Opt{Mode: "host"},
		Runtime: &bkcontainerd.RuntimeInfo{Name: "io.containerd.runc.v2", Path: s.Shim,
			Options: &runcoptions.Options{BinaryName: s.Runc}},
	}, ctd.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect the builder to containerd: %w", err)
	}
	opt.RegistryHosts = s.hosts()
	opt.GCPolicy = []bkclient.PruneInfo{{KeepDuration: 48 * time.Hour, Filter: []string{"type==source.local,type==exec.cachemount"},
		MaxUsedSpace: s.CacheBytes / 4}, {All: true, MaxUsedSpace: s.CacheBytes}}
	return base.NewWorker(ctx, opt)
}
