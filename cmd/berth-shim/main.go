//go:build linux

// Command berth-shim is containerd's runc shim as a small binary of its own: the stock task service, which also notes how
// containers ended (see recorder) and finishes what it has begun (see steady). Every container start executes it twice and one
// stays per task, so it links little of Berth: the all-in-one binary would cost three times the memory. It is embedded in berth
// and unpacked as containerd-shim-runc-v2 (see internal/node/embedded). Under the name docker-init it is the first process of a container whose task definition asks for
// initProcessEnabled.
package main

import (
	"context"
	"os"
	"path/filepath"

	stock "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

func main() {
	if filepath.Base(os.Args[0]) == "docker-init" {
		os.Exit(runInit(os.Args[1:]))
	}
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newTaskService,
	})
	shim.RunShim(context.Background(), manager{stock.NewShimManager("io.containerd.runc.v2")}, ownLogger)
}

func newTaskService(ic *plugin.InitContext) (any, error) {
	if err := openLog(ic.Context); err != nil {
		return nil, err
	}
	publisher, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	stop, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	// The stock watcher of OOM kills ends when its context is canceled. That of a shutdown has an error of its own, at which the
	// watcher would write to the log without pause until the process has ended.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ic.Context))
	context.AfterFunc(ic.Context, cancel)
	service, err := task.NewTaskService(ctx, publisher.(shim.Publisher), stop.(shutdown.Service))
	if err != nil {
		return nil, err
	}
	stop.(shutdown.Service).RegisterCallback(removeSocketAtEnd())
	dir, err := os.Getwd() // the bundle of the task's first container, which may be gone later
	if err != nil {
		return nil, err
	}
	return &recorder{TTRPCTaskService: newSteady(newLogged(service)), bundles: filepath.Dir(dir)}, nil
}
