package daemon

import (
	"context"
	"fmt"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// steady is containerd's task service, but for this: what it has begun it finishes, though its caller be killed. The stock one
// takes back a creation whose caller is gone, at the same time as the caller, started again, asks for the container anew.
type steady struct {
	tasks.TasksServer
}

// useSteady has the servers made from now on serve steady in the place of the stock service.
func useSteady() {
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
				return steady{s}, nil
			}
		}
		registry.Register(&r)
	}
}

// Register is called by containerd's gRPC server.
func (s steady) Register(server *grpc.Server) error {
	tasks.RegisterTasksServer(server, s)
	return nil
}

const stepTime = 2 * time.Minute // for one step of a shim's and runc's; no caller waits longer

// finish returns a context for a step that its caller's end does not interrupt.
func finish(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), stepTime)
}

// Create implements the task service.
func (s steady) Create(ctx context.Context, r *tasks.CreateTaskRequest) (*tasks.CreateTaskResponse, error) {
	ctx, cancel := finish(ctx)
	defer cancel()
	return s.TasksServer.Create(ctx, r)
}

// Start implements the task service.
func (s steady) Start(ctx context.Context, r *tasks.StartRequest) (*tasks.StartResponse, error) {
	ctx, cancel := finish(ctx)
	defer cancel()
	return s.TasksServer.Start(ctx, r)
}

// Kill implements the task service.
func (s steady) Kill(ctx context.Context, r *tasks.KillRequest) (*emptypb.Empty, error) {
	ctx, cancel := finish(ctx)
	defer cancel()
	return s.TasksServer.Kill(ctx, r)
}

// Delete implements the task service.
func (s steady) Delete(ctx context.Context, r *tasks.DeleteTaskRequest) (*tasks.DeleteResponse, error) {
	ctx, cancel := finish(ctx)
	defer cancel()
	return s.TasksServer.Delete(ctx, r)
}
