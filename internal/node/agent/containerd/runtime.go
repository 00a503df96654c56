// Package containerd runs containers and keeps images with containerd and runc. Runtime implements agent.Runtime and Images
// implements agent.Images; both speak to the containerd of internal/daemon and survive its restarts.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/quota"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Runtime needs. Socket, Namespace, Snapshotter, Runc, Shim, StateDir and CgroupParent are required.
type Config struct {
	Socket      string // of containerd
	Namespace   string // of containerd, one an instance: berth-<id>
	Snapshotter string // overlayfs or native, see daemon.Snapshotter
	Runc, Shim  string // absolute paths, see embedded.Unpack
	// Init is the program that initProcessEnabled puts before a container's own, see embedded.Binaries; "" refuses it.
	Init string
	// StateDir holds what must not outlive a reboot, such as notes of exits; below /run.
	StateDir string
	// CgroupParent holds a cgroup for each task: /berth-<id>.
	CgroupParent string
	// PidsLimit bounds the processes and threads of one task, and of one container; 0 means 16384. A task gets no more than a quarter
	// of what the machine has.
	PidsLimit int64
	// Quotas bounds what tasks write to the disk; nil where the file system of the snapshots cannot.
	Quotas *quota.Quotas
	Log    *slog.Logger
}

// Runtime runs containers. Its methods may be called from many goroutines.
type Runtime struct {
	c      Config
	client *ctd.Client
	log    *slog.Logger
	cgroup *cgroup.Tree
	limits machine
	users  *cache[execUser]
	images *cache[imageConfig]
	exits  chan agent.ContainerState
	stop   context.CancelFunc
	done   sync.WaitGroup

	deleted chan struct{} // holds one notice: something was deleted

	mu       sync.Mutex
	labels   map[string]labels    // of the containers that are known, by id
	ended    map[string]bool      // whose exits were passed on
	lost     map[string]time.Time // that have no task, though they were begun: since when that is seen
	pids     map[string]uint32    // of the containers that this Runtime created, by id
	hung     map[string]bool      // tasks whose shim did not answer when last asked
	creating map[string]int       // creations in flight, by task id: their cgroup must stay
}

var _ agent.Runtime = (*Runtime)(nil)

const (
	runtimeName   = "io.containerd.runc.v2"
	groupKey      = "io.containerd.runc.v2.group"
	labelTask     = "berth.dev/task"
	labelName     = "berth.dev/name"
	labelBoot     = "berth.dev/boot"
	labelRun      = "berth.dev/run"
	extLabels     = "berth.dev/labels"
	defaultPids   = 16384
	exitsBuffered = 256
)

// New connects to containerd, which need not run yet, and begins to watch for exits. Close ends it.
func New(c Config) (*Runtime, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.PidsLimit <= 0 {
		c.PidsLimit = defaultPids
	}
	for name, dir := range map[string]string{"state": c.StateDir, "exits": filepath.Join(c.StateDir, "exits"),
		"stdin": filepath.Join(c.StateDir, "stdin"), "runc": filepath.Join(c.StateDir, "runc")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the runtime's %s folder: %w", name, err)
		}
	}
	tree, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	client, err := dial(c.Socket, c.Namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(namespaces.WithNamespace(context.Background(), c.Namespace))
	r := &Runtime{c: c, client: client, log: c.Log, cgroup: tree, limits: inspectMachine(c.Log, tree),
		users:  newCache[execUser](256),
		images: newCache[imageConfig](256), exits: make(chan agent.ContainerState, exitsBuffered), stop: cancel,
		deleted: make(chan struct{}, 1),
		labels:  map[string]labels{}, ended: map[string]bool{}, hung: map[string]bool{}, lost: map[string]time.Time{}, pids: map[string]uint32{}, creating: map[string]int{}}
	r.done.Go(func() { r.watch(ctx) })
	r.done.Go(func() { r.tidy(ctx) })
	if lost, err := os.ReadDir(r.interactions()); err == nil && len(lost) > 0 {
		r.done.Go(func() { r.endInteractions(ctx, lost) })
	}
	return r, nil
}

// dial connects to containerd lazily, and again soon after it was restarted: gRPC's own first pause is a second.
func dial(socket, namespace string) (*ctd.Client, error) {
	quick := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 200 * time.Millisecond}
	client, err := ctd.New(socket, ctd.WithDefaultNamespace(namespace), ctd.WithDialOpts([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: timeouts.ContainerdConnect}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(addr, "unix://"))
		}),
		grpc.WithChainUnaryInterceptor(outlast),
		grpc.WithChainStreamInterceptor(outlastStream),
	}))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	return client, nil
}

// outlast repeats a call that could not be sent because containerd is being restarted.
func outlast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	return untilSent(ctx, func() error { return invoke(ctx, method, req, reply, cc, opts...) })
}

// outlastStream does the same for a call with a stream.
func outlastStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption) (stream grpc.ClientStream, err error) {
	err = untilSent(ctx, func() (err error) {
		stream, err = open(ctx, desc, cc, method, opts...)
		return err
	})
	return stream, err
}

func untilSent(ctx context.Context, call func() error) error {
	for begun := time.Now(); ; {
		err := call()
		unsent := status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "Error while dialing")
		if !unsent || ctx.Err() != nil || time.Since(begun) > timeouts.ContainerdBack {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Close ends the connection. Containers keep running.
func (r *Runtime) Close() error {
	r.stop()
	r.done.Wait()
	return r.client.Close()
}

// Exits implements agent.Runtime.
func (r *Runtime) Exits() <-chan agent.ContainerState { return r.exits }

func (r *Runtime) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.c.Namespace)
}

// taskCgroup is the cgroup that all containers of a task are in; containerCgroup is the one that runc makes for a container.
func (r *Runtime) taskCgroup(taskID string) string { return path.Join("/", r.c.CgroupParent, taskID) }

// note is the file in which the container's run is noted.
func (r *Runtime) note(id string) string { return filepath.Join(r.c.StateDir, "exits", id) }

func (r *Runtime) containerCgroup(taskID, id string) string {
	return path.Join(r.taskCgroup(taskID), id)
}

// options are runc's, the same for every container.
func (r *Runtime) options() *runcoptions.Options {
	return &runcoptions.Options{BinaryName: r.c.Runc, Root: filepath.Join(r.c.StateDir, "runc")}
}

// failure makes the error that the user sees out of one of containerd's. An error that may pass, because containerd restarts or
// ctx ended, stays an ordinary error, so that the agent tries again.
func failure(name, doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*agent.Error](err); ok {
		return err
	}
	if passing(err) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &agent.Error{Name: name, Message: doing + ": " + plain(err)}
}

func passing(err error) bool {
	if errors.Is(err, errShared) {
		return true
	}
	if errdefs.IsUnavailable(err) || errdefs.IsCanceled(err) || errdefs.IsDeadlineExceeded(err) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled || shimGone(err)
}

// shimGone tells that containerd's connection to a shim broke during a call. It finds out soon what became of the shim.
func shimGone(err error) bool {
	return strings.Contains(err.Error(), "ttrpc: closed") || strings.Contains(err.Error(), "ttrpc: server closed")
}

// plain is an error's text without gRPC's wrapping, on one line.
func plain(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ": unknown")
}
