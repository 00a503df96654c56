package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berthdev/berth/internal/node/recovery"
	"github.com/berthdev/berth/internal/node/recovery/steps"
)

// steady is containerd's task service, but for this: what it has begun it finishes, though its caller be killed (the stock one
// takes back a creation whose caller is gone, at the same time as the caller, started again, asks for the container anew); and of
// a container whose shim was set aside it says at once that nothing is heard of it, where the stock one would say that there is no
// such container.
type steady struct {
	tasks.TasksServer
	ward *recovery.Ward
	work *inFlight
}

// useSteady has the servers made from now on serve steady in the place of the stock service.
func useSteady(ward *recovery.Ward) *inFlight {
	work := &inFlight{}
	all := registry.Graph(nil)
	registry.Reset()
	for _, r := range all {
		if r.Type == plugins.GRPCPlugin && r.ID == "tasks" {
			stock := r.InitFn
			r.InitFn = func(ic *plugin.InitContext) (any, error) {
				service, err := stock(ic)
				if err != nil {
					return nil, err
				}
				s, ok := service.(tasks.TasksServer)
				if !ok {
					return nil, fmt.Errorf("containerd's task service is a %T", service)
				}
				return steady{s, ward, work}, nil
			}
		}
		registry.Register(&r)
	}
	return work
}

// Register is called by containerd's gRPC server.
func (s steady) Register(server *grpc.Server) error {
	tasks.RegisterTasksServer(server, s)
	return nil
}

// heard tells that the container's shim was not set aside.
func (s steady) heard(ctx context.Context, id string) error {
	if ns, ok := namespaces.Namespace(ctx); ok && s.ward.Holds(ns, id) {
		return status.Errorf(codes.DeadlineExceeded, "the shim of container %s does not answer", id)
	}
	return nil
}

// finish makes a step that its caller's end does not interrupt.
func finish[Req, Res any](ctx context.Context, s steady, id string, r Req, step func(context.Context, Req) (Res, error)) (res Res, err error) {
	if err := s.heard(ctx, id); err != nil {
		return res, err
	}
	if !s.work.begin() {
		return res, status.Error(codes.Unavailable, "containerd is about to begin anew")
	}
	defer s.work.end()
	return steps.Finish(ctx, r, step)
}

// Create implements the task service.
func (s steady) Create(ctx context.Context, r *tasks.CreateTaskRequest) (*tasks.CreateTaskResponse, error) {
	return finish(ctx, s, r.ContainerID, r, s.TasksServer.Create)
}

// Start implements the task service.
func (s steady) Start(ctx context.Context, r *tasks.StartRequest) (*tasks.StartResponse, error) {
	return finish(ctx, s, r.ContainerID, r, s.TasksServer.Start)
}

// Kill implements the task service.
func (s steady) Kill(ctx context.Context, r *tasks.KillRequest) (*emptypb.Empty, error) {
	return finish(ctx, s, r.ContainerID, r, s.TasksServer.Kill)
}

// Delete implements the task service.
func (s steady) Delete(ctx context.Context, r *tasks.DeleteTaskRequest) (*tasks.DeleteResponse, error) {
	return finish(ctx, s, r.ContainerID, r, s.TasksServer.Delete)
}

// Get implements the task service.
func (s steady) Get(ctx context.Context, r *tasks.GetRequest) (*tasks.GetResponse, error) {
	if err := s.heard(ctx, r.ContainerID); err != nil {
		return nil, err
	}
	return s.TasksServer.Get(ctx, r)
}

// Wait implements the task service.
func (s steady) Wait(ctx context.Context, r *tasks.WaitRequest) (*tasks.WaitResponse, error) {
	if err := s.heard(ctx, r.ContainerID); err != nil {
		return nil, err
	}
	return s.TasksServer.Wait(ctx, r)
}

// Exec implements the task service.
func (s steady) Exec(ctx context.Context, r *tasks.ExecProcessRequest) (*emptypb.Empty, error) {
	if err := s.heard(ctx, r.ContainerID); err != nil {
		return nil, err
	}
	return s.TasksServer.Exec(ctx, r)
}

// inFlight counts the steps that are under way.
type inFlight struct {
	mu       sync.Mutex
	n        int
	draining bool
}

// begin counts one, unless no more are to begin.
func (f *inFlight) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining {
		return false
	}
	f.n++
	return true
}

func (f *inFlight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
}

// drain lets no more begin and returns when none is under way, or ctx is done.
func (f *inFlight) drain(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		f.mu.Lock()
		f.draining = true
		n := f.n
		f.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
