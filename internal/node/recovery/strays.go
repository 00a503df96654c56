package recovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/process"
	"github.com/berthdev/berth/internal/timeouts"
)

// A shim whose start was interrupted, because its caller went away or containerd was killed between the shim's start and the note
// of its address, is known to nobody and would live for ever. Strays asks such shims to end. One that holds a container
// refuses; as no bundle refers to the shim, containerd has given that container up and told runc to delete it, and the shim is
// killed.

// Strays looks for shims that no bundle refers to. It acts on those that it finds again: a shim that is just being started is
// not referred to for a moment.
type Strays struct {
	Shims
	suspect map[string]int // sockets that nothing refers to, and how often they were found
}

// NewStrays makes one. It does nothing before Run.
func NewStrays(s Shims) *Strays { return &Strays{Shims: s, suspect: map[string]int{}} }

// Run looks again and again, until ctx is done.
func (j *Strays) Run(ctx context.Context) {
	tick := time.NewTicker(timeouts.Stray)
	defer tick.Stop()
	for {
		j.sweep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (j *Strays) sweep(ctx context.Context) {
	entries, err := os.ReadDir(j.Sockets())
	if err != nil || len(entries) == 0 {
		clear(j.suspect)
		return
	}
	known := j.referred()
	suspects := map[string]int{}
	for _, e := range entries {
		socket := filepath.Join(j.Sockets(), e.Name())
		if known[socket] {
			continue
		}
		suspects[socket] = j.suspect[socket] + 1
		if found := suspects[socket]; found > 1 {
			j.dismiss(ctx, socket, found > 2)
		}
	}
	j.suspect = suspects
}

// referred returns the sockets that bundles refer to.
func (j *Strays) referred() map[string]bool {
	known := map[string]bool{}
	for _, b := range j.bundles() {
		known[b.socket] = true
	}
	return known
}

// dismiss ends the shim behind a socket: it asks it to, or kills it. Killing needs no answer of the shim and has no deadline: one that
// hangs takes no connection once enough of them wait. A socket is removed only when nobody listens on it: without it, a shim that
// lives would never be found again.
func (j *Strays) dismiss(ctx context.Context, socket string, kill bool) {
	log := log.G(ctx).WithField("socket", socket)
	if kill {
		if holders := j.holders(socket); len(holders) > 0 {
			log.Warn("killing a shim that no container belongs to")
			for _, p := range holders {
				p.Signal(unix.SIGKILL)
			}
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.StrayAnswer)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if errors.Is(err, unix.ECONNREFUSED) {
		_ = os.Remove(socket)
	}
	if err != nil {
		return
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	log.Warn("asking a shim that no container belongs to to end")
	// It may end before it has answered, or never answer: one whose log nobody reads waits for that.
	_, _ = taskapi.NewTTRPCTaskClient(client).Shutdown(ctx, &taskapi.ShutdownRequest{})
}

// holders returns the shims of this containerd that listen on a socket, as the kernel knows them.
func (j *Strays) holders(socket string) []process.ID {
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil
	}
	links := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		// Num RefCount Protocol Flags Type St Inode Path
		if f := strings.Fields(line); len(f) == 8 && f[7] == socket {
			links["socket:["+f[6]+"]"] = true
		}
	}
	return slices.DeleteFunc(process.Named(j.isShim), func(p process.ID) bool {
		descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID))
		return !slices.ContainsFunc(descriptors, func(fd string) bool {
			link, err := os.Readlink(fd)
			return err == nil && links[link]
		})
	})
}

// isShim tells by its arguments whether a process is a shim of this containerd.
func (j *Strays) isShim(args []string) bool {
	i := slices.Index(args, "-address")
	return i > 0 && i+1 < len(args) && args[i+1] == j.Socket
}
