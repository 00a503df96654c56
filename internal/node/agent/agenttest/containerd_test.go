package agenttest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/node/agent/agenttest"
	"github.com/berthdev/berth/internal/node/agent/containerd"
	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
	"github.com/berthdev/berth/internal/node/agent/logdriver"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/daemon"
	"github.com/berthdev/berth/internal/node/embedded"
)

// TestMain is also `berth containerd` for the daemon that TestContainerd starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "containerd" && os.Args[2] == "--config" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		c, err := daemon.ReadConfig(os.Args[3])
		if err == nil {
			err = daemon.Run(ctx, c)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestContainerd runs the suite on real containers.
func TestContainerd(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("BERTH_INTEGRATION") != "1" {
		t.Skip("runs containers: set BERTH_INTEGRATION=1 and be root")
	}
	m := newMachine(t)
	agenttest.Run(t, func(t *testing.T) agenttest.Env {
		logs := logdriver.New(logdriver.Config{Log: m.log})
		t.Cleanup(func() { logs.Close() })
		return agenttest.Env{
			Runtime: m.runtime, Images: m.images, Network: m.network, Logs: logs, RunDir: m.run + "/files", Program: agenttest.Shell("busybox:suite"),
			Missing: "127.0.0.1:1/no/such:1", Shell: true, Memory: true, Settled: m.settled,
		}
	})
}

// machine is a containerd of its own, with a network.
type machine struct {
	runtime *containerd.Runtime
	images  *containerd.Images
	network *network.Network
	log     *slog.Logger
	id, run string
}

func newMachine(t *testing.T) *machine {
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	id := "t" + hex.EncodeToString(b)
	run := "/run/berth/" + id
	root := filepath.Join(t.TempDir(), "containerd")
	bins, err := embedded.Unpack(filepath.Join(os.TempDir(), "berth-test-bin"))
	if err != nil {
		t.Skip(err)
	}
	m := &machine{log: slog.New(slog.NewTextHandler(t.Output(), nil)), id: id, run: run}
	d, err := daemon.New(daemon.Config{Root: root, State: run + "/containerd", Socket: run + "/containerd.sock",
		Cgroup: "/berth-" + id + "/daemon"}, m.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	snapshotter, _ := daemon.Snapshotter(root)
	m.runtime, err = containerd.New(containerd.Config{Socket: run + "/containerd.sock", Namespace: "berth-" + id, Snapshotter: snapshotter,
		Runc: bins.Runc, Shim: bins.Shim, Init: bins.Init, StateDir: run + "/runtime", CgroupParent: "/berth-" + id, Log: m.log})
	if err != nil {
		t.Fatal(err)
	}
	if m.images, err = containerd.NewImages(m.runtime, containerd.ImagesConfig{Log: m.log}); err != nil {
		t.Fatal(err)
	}
	archive := imagetest.Archive(t, imagetest.Busybox(t, nil), "busybox:suite")
	if _, err := m.images.Import(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	if m.network, err = network.Open(t.Context(), network.Config{ID: id[1:], StateDir: t.TempDir(), RunDir: run + "/network", Log: m.log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.close(t, d, id, run) })
	return m
}

func (m *machine) close(t *testing.T, d *daemon.Daemon, id, run string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tree, err := cgroup.Detect()
	for _, step := range []func() error{
		func() error { return m.network.Destroy(ctx) },
		func() error { return m.runtime.Purge(ctx) },
		m.runtime.Close,
		func() error { return d.Stop(ctx) },
		func() error { return err },
		func() error { return tree.Remove("/berth-" + id) },
		func() error { return os.RemoveAll(run) },
	} {
		if err := step(); err != nil {
			t.Error(err)
		}
	}
}

// settled is that no shim runs and no container's file system is mounted any more. A shim may take a moment to end.
func (m *machine) settled(t *testing.T) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := m.leftovers(t)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left over: %q", left)
			return
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (m *machine) leftovers(t *testing.T) (left []string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, m.run+"/containerd/io.containerd.runtime") || strings.Contains(line, m.run+"/network") ||
			strings.Contains(line, m.run+"/files") {
			left = append(left, line)
		}
	}
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cmdlines {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte("-namespace\x00berth-"+m.id+"\x00")) {
			left = append(left, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return left
}
