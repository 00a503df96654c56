//go:build linux

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// containerd 2.4 no longer writes down where the stock shim finds the address of its socket, so that the stock shim leaves its
// socket behind: one file a task. This shim removes it itself, and that of a shim that was killed.

// listener is the descriptor on which containerd's shim package hands the socket to the shim.
const listener = 3

// removeSocketAtEnd returns what removes this shim's socket, but not that of a successor with the same path.
func removeSocketAtEnd() func(context.Context) error {
	none := func(context.Context) error { return nil }
	addr, err := unix.Getsockname(listener)
	if err != nil {
		return none
	}
	socket, ok := addr.(*unix.SockaddrUnix)
	if !ok || !filepath.IsAbs(socket.Name) {
		return none
	}
	own, err := os.Lstat(socket.Name)
	if err != nil {
		return none
	}
	return func(context.Context) error {
		if now, err := os.Lstat(socket.Name); err == nil && os.SameFile(own, now) {
			return os.Remove(socket.Name)
		}
		return nil
	}
}

// manager is the stock one, but for this: what cleans up after a shim that was killed notes the container's end, since whoever looks
// finds no trace of the container until containerd tells it, and removes the shim's socket.
type manager struct {
	shim.Shim
}

// Stop implements shim.Shim.
func (m manager) Stop(ctx context.Context, id string) (shim.StopStatus, error) {
	address := socketOf(id)
	noted := func(shim.StopStatus) error { return nil }
	if dir, err := os.Getwd(); err == nil {
		noted = (&recorder{bundles: filepath.Dir(dir)}).watch(id)
	}
	status, err := m.Shim.Stop(ctx, id)
	if err == nil {
		if nerr := noted(status); nerr != nil {
			log.G(ctx).WithError(nerr).WithField("id", id).Error("the end of a container cannot be noted")
		}
	}
	if address != "" && !shim.CanConnect(address) { // a shim that lives has other containers
		_ = shim.RemoveSocket(address)
	}
	return status, err
}

// socketOf reads the address of a container's shim, which containerd keeps in the bundle.
func socketOf(id string) string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), id, "bootstrap.json"))
	if err != nil {
		return ""
	}
	var boot struct {
		Address string `json:"address"`
	}
	if json.Unmarshal(data, &boot) != nil || !strings.HasPrefix(boot.Address, "unix:///") {
		return ""
	}
	return boot.Address
}
