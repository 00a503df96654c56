// Package vitals watches what a machine needs to be given more tasks: a disk that finishes writes and has room, memory, and a containerd that
// answers. What is wrong is said in the node's beats; what runs goes on.
package vitals

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what Vitals look at.
type Config struct {
	Dir string // the data directory; a small file in it is written again and again
	// Runtime is when containerd last answered; nil: nobody asks.
	Runtime func() time.Time
	Log     *slog.Logger

	write func() error                         // for tests, as the next ones
	room  func() (free, total uint64, ok bool) // of the disk, bytes
	memo  func() (free, total uint64, ok bool) // of memory, bytes
	now   func() time.Time
}

// Vitals are those of this machine.
type Vitals struct {
	c       Config
	health  atomic.Uint32
	writing atomic.Pointer[time.Time] // since when the write that has not ended
	room    level
	memory  level
}

// level is something that runs out: low from a bound on, and until there is twice as much.
type level struct{ low bool }

func (l *level) is(free, bound uint64) bool {
	if l.low {
		bound *= 2
	}
	l.low = free < bound
	return l.low
}

// The bounds: what a task that is started there would most likely need at once.
const (
	leastRoom   = 256 << 20 // of the disk, or a twentieth of a small one; the store of a server stops writing at half of it
	leastMemory = 3         // percent
)

// New makes Vitals that find nothing wrong until they run.
func New(c Config) *Vitals {
	if c.write == nil {
		c.write = func() error { return writeThrough(filepath.Join(c.Dir, "vitals")) }
	}
	if c.room == nil {
		c.room = func() (uint64, uint64, bool) { return roomOf(c.Dir) }
	}
	if c.memo == nil {
		c.memo = memory
	}
	if c.now == nil {
		c.now = time.Now
	}
	return &Vitals{c: c}
}

// Health is what is wrong now; it does not block.
func (v *Vitals) Health() beat.Health { return beat.Health(v.health.Load()) }

// Run looks until ctx is done.
func (v *Vitals) Run(ctx context.Context) error {
	tick := time.NewTicker(timeouts.VitalsLook)
	defer tick.Stop()
	for {
		v.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks everything once.
func (v *Vitals) look() {
	now := v.c.now()
	var h beat.Health
	if since := v.writing.Load(); since == nil {
		v.writing.Store(&now)
		go func() {
			if err := v.c.write(); err != nil {
				v.c.Log.Debug("the disk takes no writes", "error", err) // a full one is told as such
			}
			v.writing.Store(nil)
		}()
	} else if now.Sub(*since) > timeouts.VitalsWrite {
		h |= beat.Disk
	}
	if h&beat.Disk == 0 { // else this would wait too
		if free, total, ok := v.c.room(); ok && v.room.is(free, min(leastRoom, total/20)) {
			h |= beat.Full
		}
	}
	if free, total, ok := v.c.memo(); ok && v.memory.is(free, total/100*leastMemory) {
		h |= beat.Memory
	}
	if v.c.Runtime != nil && now.Sub(v.c.Runtime()) > timeouts.VitalsRuntime {
		h |= beat.Runtime
	}
	if was := beat.Health(v.health.Swap(uint32(h))); was != h {
		if h == 0 {
			v.c.Log.Info("this machine is well again")
		} else {
			v.c.Log.Warn("this machine should be given no tasks", "because", strings.Join(h.Words(), " and "))
		}
	}
}

// writeThrough writes a few bytes to the disk itself.
func writeThrough(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%20d\n", time.Now().Unix()); err != nil {
		return err
	}
	return f.Sync()
}

func roomOf(dir string) (free, total uint64, ok bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return 0, 0, false
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), true
}

// memory is what the kernel says that programs may still have.
func memory() (free, total uint64, ok bool) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, false
	}
	for line := range bytes.Lines(data) {
		var kb uint64
		if _, err := fmt.Sscanf(string(line), "MemTotal: %d kB", &kb); err == nil {
			total = kb << 10
		} else if _, err := fmt.Sscanf(string(line), "MemAvailable: %d kB", &kb); err == nil {
			return kb << 10, total, total > 0
		}
	}
	return 0, 0, false
}
