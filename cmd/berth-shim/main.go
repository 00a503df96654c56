//go:build linux

// Command berth-shim is containerd's stock runc shim as a small binary of its own. Every container start executes it
// twice and one stays per task, so it links nothing of Berth: the all-in-one binary would cost three times the memory.
// It is embedded in berth and unpacked as containerd-shim-runc-v2 (see internal/embedded). Under the name docker-init it is
// the first process of a container whose task definition asks for initProcessEnabled.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin" // the shim's task service
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	if filepath.Base(os.Args[0]) == "docker-init" {
		os.Exit(runInit(os.Args[1:]))
	}
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
