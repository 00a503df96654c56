package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/keeper"
)

// KeeperSocket is where the agent charges the keeper that runs in containerd's process.
func (c Config) KeeperSocket() string { return filepath.Join(c.State, "keeper.sock") }

// keep stands in for agents that are away, until ctx is done.
func keep(ctx context.Context, c Config) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "keeper")
	tree, err := cgroup.Detect()
	if err != nil {
		log.Warn("the keeper cannot stop tasks", "error", err)
	}
	err = keeper.Run(ctx, keeper.Config{Socket: c.KeeperSocket(), Log: log, Signal: func(path string, sig unix.Signal) {
		switch {
		case tree == nil:
		case sig == unix.SIGKILL:
			tree.Kill(path)
		default:
			for _, pid := range tree.Processes(path) {
				_ = unix.Kill(pid, sig) // what has ended needs none
			}
		}
	}})
	if err != nil {
		log.Error("there is no keeper: an agent that is away is taken for a dead machine", "error", err)
	}
}
