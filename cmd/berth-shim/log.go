//go:build linux

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// ownLogger has this program open the log itself.
func ownLogger(c *shim.Config) { c.NoSetupLogger = true }

// openLog has the shim's log and its standard error go to the pipe in the bundle, of which containerd has the other end open before
// it starts a shim. Where the pipe or its reader is gone, so is the containerd that wanted this shim, and the error ends the shim:
// the stock one would wait for a reader for ever, and whoever asks for the container again would be sent to it and wait as well.
func openLog(ctx context.Context) error {
	fd, err := unix.Open("log", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	if err := unix.Dup3(fd, int(os.Stderr.Fd()), 0); err != nil {
		return err
	}
	logger := log.G(ctx).Logger
	logger.SetOutput(os.NewFile(uintptr(fd), "log"))
	if o, ok := ctx.Value(shim.OptsKey{}).(shim.Opts); ok && o.Debug {
		logger.SetLevel(log.DebugLevel)
	}
	return log.SetFormat(log.TextFormat)
}
