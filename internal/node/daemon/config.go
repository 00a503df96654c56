// Package daemon runs Berth's own containerd: Run is the process `berth containerd`, Daemon starts, watches and stops it.
// It is a process of its own, so that an upgrade or a crash of `berth up` leaves it and all containers running.
package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"

	"github.com/berthdev/berth/internal/node/recovery"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what containerd runs with. Root, State and Socket are required.
type Config struct {
	Root   string `json:"root"`   // what lasts: images and snapshots
	State  string `json:"state"`  // what ends with a reboot: bundles, the process's record. Below /run, at most 60 characters
	Socket string `json:"socket"` // of the API; its folder is made with mode 0700
	// LogFile is appended to, "" means Root/containerd.log. Start sets it aside when it is over 8 MiB.
	LogFile string `json:"logFile"`
	// Cgroup is the cgroup that the process moves itself to, so that it does not die with that of its caller.
	// "" leaves it where it is.
	Cgroup string `json:"cgroup"`
	// MemoryBytes is a soft bound on the process's heap, 0 means 64 MiB.
	MemoryBytes int64 `json:"memoryBytes"`
	Verbose     bool  `json:"verbose"`
	// Exe is the program to run, "" means this one; Args come before "--config <file>", nil means "containerd".
	Exe  string   `json:"-"`
	Args []string `json:"-"`
}

const maxSocketPath = 104 // what fits in a sockaddr_un, with room for a suffix of containerd's

func (c Config) withDefaults() (Config, error) {
	if c.Root == "" || c.State == "" || c.Socket == "" {
		return c, errors.New("containerd: root, state and socket are required")
	}
	for _, p := range []*string{&c.Root, &c.State, &c.Socket, &c.LogFile} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return c, err
		}
		*p = abs
	}
	if len(c.Socket)+len(".ttrpc") > maxSocketPath {
		return c, fmt.Errorf("containerd: the path of the socket %s is too long; use one of at most %d characters",
			c.Socket, maxSocketPath-len(".ttrpc"))
	}
	if c.LogFile == "" {
		c.LogFile = filepath.Join(c.Root, "containerd.log")
	}
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 64 << 20
	}
	if c.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find this program: %w", err)
		}
		c.Exe = exe
	}
	if c.Args == nil {
		c.Args = []string{"containerd"}
	}
	return c, nil
}

// shims is where containerd keeps what it knows of its shims.
func (c Config) shims() recovery.Shims { return recovery.Shims{State: c.State, Socket: c.Socket} }

// file is where Start leaves the config for Run.
func (c Config) file() string { return filepath.Join(c.State, "config.json") }

// ReadConfig reads the file that `berth containerd --config` names.
func ReadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("containerd's config: %w", err)
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("containerd's config %s: %w", path, err)
	}
	return c.withDefaults()
}

func (c Config) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.file(), data)
}

// fingerprint changes with the config and with the program, so that a containerd of an older berth is replaced.
func (c Config) fingerprint() string {
	data, _ := json.Marshal(c)
	h := sha256.New()
	h.Write(data)
	if info, err := os.Stat(c.Exe); err == nil {
		fmt.Fprint(h, info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprint(h, " ", st.Dev, st.Ino)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// server is the config in containerd's own form.
func (c Config) server() *srvconfig.Config {
	level := "warn"
	if c.Verbose {
		level = "debug"
	}
	return &srvconfig.Config{
		Version: 4,
		Root:    c.Root,
		State:   c.State,
		TempDir: filepath.Join(c.Root, "tmp"),
		Debug:   srvconfig.Debug{Level: level},
		// containerd gives up a shim, and kills its containers, that has not answered for so long when containerd comes back. On a
		// machine that is busy, five seconds (the default) can be too short; a shim that is gone is noticed at once in any case.
		Timeouts: map[string]string{
			"io.containerd.timeout.shim.load":    timeouts.ShimLoad.String(),
			"io.containerd.timeout.shim.cleanup": timeouts.ShimCleanup.String(),
			"io.containerd.timeout.task.state":   timeouts.ShimState.String(),
		},
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc":  map[string]any{"address": c.Socket},
			"io.containerd.server.v1.ttrpc": map[string]any{"address": c.Socket + ".ttrpc"},
			"io.containerd.shim.v1.manager": map[string]any{"socket_dir": c.shims().Sockets()},
			// What was deleted is off the disk a second later; deletions close together share one collection.
			"io.containerd.gc.v1.scheduler": map[string]any{"deletion_threshold": 1, "schedule_delay": "1s"},
		},
	}
}

// Snapshotter is the one to use for images and containers below root: overlayfs, or native where the file system cannot carry
// overlayfs (then reason says why, and every container gets a full copy of its image).
func Snapshotter(root string) (name, reason string) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "native", err.Error()
	}
	if err := overlayutils.Supported(root); err != nil {
		return "native", err.Error()
	}
	return "overlayfs", ""
}

func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
