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

// finish makes a step that its caller's end does not interrupt.
func finish[Req, Res any](ctx context.Context, r Req, step func(context.Context, Req) (Res, error)) (Res, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTime)
	defer cancel()
	return step(ctx, r)
}

// Create implements the task service.
func (s steady) Create(ctx context.Context, r *tasks.CreateTaskRequest) (*tasks.CreateTaskResponse, error) {
	return finish(ctx, r, s.TasksServer.Create)
}

// Start implements the task service.
func (s steady) Start(ctx context.Context, r *tasks.StartRequest) (*tasks.StartResponse, error) {
	return finish(ctx, r, s.TasksServer.Start)
}

// Kill implements the task service.
func (s steady) Kill(ctx context.Context, r *tasks.KillRequest) (*emptypb.Empty, error) {
	return finish(ctx, r, s.TasksServer.Kill)
}

// Delete implements the task service.
func (s steady) Delete(ctx context.Context, r *tasks.DeleteTaskRequest) (*tasks.DeleteResponse, error) {
	return finish(ctx, r, s.TasksServer.Delete)
}
