package daemon

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// A shim whose start was interrupted, because its caller went away or containerd was killed between the shim's start and the note
// of its address, is known to nobody and would live for ever. The janitor asks such shims to end. One that holds a container
// refuses; as no bundle refers to the shim, containerd has given that container up and told runc to delete it, and the shim is
// killed.

const sweepInterval = 3 * time.Second

// janitor looks for shims that no bundle refers to. It acts on those that it finds again: a shim that is just being started is
// not referred to for a moment.
type janitor struct {
	sockets string         // the folder of the shims' sockets
	bundles string         // of containerd's tasks: a folder a namespace, in it one a container
	address string         // of containerd, which is in the shims' command lines
	suspect map[string]int // sockets that nothing refers to, and how often they were found
}

func newJanitor(c Config) *janitor {
	return &janitor{sockets: socketDir(c), bundles: filepath.Join(c.State, "io.containerd.runtime.v2.task"), address: c.Socket,
		suspect: map[string]int{}}
}

// socketDir is where containerd is told to have shims listen.
func socketDir(c Config) string { return filepath.Join(c.State, "s") }

func (j *janitor) run(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
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

func (j *janitor) sweep(ctx context.Context) {
	entries, err := os.ReadDir(j.sockets)
	if err != nil || len(entries) == 0 {
		clear(j.suspect)
		return
	}
	known := j.referred()
	suspects := map[string]int{}
	for _, e := range entries {
		socket := filepath.Join(j.sockets, e.Name())
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
func (j *janitor) referred() map[string]bool {
	known := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(j.bundles, "*", "*", "bootstrap.json"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var boot struct {
			Address string `json:"address"`
		}
		if json.Unmarshal(data, &boot) == nil {
			known[strings.TrimPrefix(boot.Address, "unix://")] = true
		}
	}
	return known
}

// dismiss asks the shim behind a socket to end, or kills it, and removes a socket that nobody listens on.
func (j *janitor) dismiss(ctx context.Context, socket string, kill bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		if ctx.Err() == nil {
			_ = os.Remove(socket)
		}
		return
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	log.G(ctx).WithField("socket", socket).WithField("kill", kill).Warn("dismissing a shim that no container belongs to")
	if !kill {
		// It may end before it has answered, or never answer: one whose log nobody reads waits for that.
		_, _ = taskapi.NewTTRPCTaskClient(client).Shutdown(ctx, &taskapi.ShutdownRequest{})
		return
	}
	for _, r := range j.holders(socket) {
		r.signal(unix.SIGKILL)
	}
}

// holders returns the shims of this containerd that listen on a socket, as the kernel knows them.
func (j *janitor) holders(socket string) (found []record) {
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
	processes, _ := os.ReadDir("/proc")
	for _, e := range processes {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !j.isShim(pid) {
			continue
		}
		descriptors, _ := filepath.Glob("/proc/" + e.Name() + "/fd/*")
		for _, fd := range descriptors {
			link, err := os.Readlink(fd)
			if err != nil || !links[link] {
				continue
			}
			if r, err := inspect(pid); err == nil {
				found = append(found, r)
			}
			break
		}
	}
	return found
}

// isShim tells whether a process is a shim of this containerd.
func (j *janitor) isShim(pid int) bool {
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	i := slices.Index(args, "-address")
	return i > 0 && i+1 < len(args) && args[i+1] == j.address
}
