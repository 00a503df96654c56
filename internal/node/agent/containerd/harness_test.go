package containerd

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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/daemon"
	"github.com/berthdev/berth/internal/node/embedded"
	"github.com/berthdev/berth/internal/node/quota"
)

// TestMain is also `berth containerd` for the daemons that the tests start.
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

// node is a containerd of its own with a runtime and an image store.
type node struct {
	*Runtime
	store  *Images
	daemon *daemon.Daemon
	config Config
	tree   *cgroup.Tree
	id     string
	run    string
	root   string
	logs   string
	serial atomic.Int64
}

func integration(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv("BERTH_INTEGRATION") != "1" {
		t.Skip("runs containers; set BERTH_INTEGRATION=1")
	}
}

func newNode(t testing.TB) *node {
	t.Helper()
	return newNodeIn(t, t.TempDir())
}

// newNodeIn keeps images and snapshots in dir.
func newNodeIn(t testing.TB, dir string) *node {
	t.Helper()
	integration(t)
	b := make([]byte, 3)
	rand.Read(b)
	n := &node{id: "t" + hex.EncodeToString(b), logs: t.TempDir()}
	n.run = "/run/berth/" + n.id
	root := filepath.Join(dir, "containerd")
	bins, err := embedded.Unpack(filepath.Join(os.TempDir(), "berth-test-bin"))
	if err != nil {
		t.Skip(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	n.root = root
	n.daemon, err = daemon.New(n.daemonConfig(), logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.daemon.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	snapshotter, reason := daemon.Snapshotter(root)
	t.Logf("instance %s, snapshotter %s %s", n.id, snapshotter, reason)
	n.config = Config{Socket: n.run + "/containerd.sock", Namespace: "berth-" + n.id, Snapshotter: snapshotter, Runc: bins.Runc,
		Shim: bins.Shim, Init: bins.Init, StateDir: n.run + "/runtime", CgroupParent: "/berth-" + n.id, Log: logger}
	if disk, err := quota.Detect(root); err == nil {
		if n.config.Quotas, err = quota.Open(filepath.Join(dir, "quotas"), disk); err != nil {
			t.Fatal(err)
		}
	}
	if n.Runtime, err = New(n.config); err != nil {
		t.Fatal(err)
	}
	if n.store, err = NewImages(n.Runtime, ImagesConfig{Log: logger}); err != nil {
		t.Fatal(err)
	}
	n.tree, _ = cgroup.Detect()
	t.Cleanup(func() { n.close(t, root) })
	return n
}

func (n *node) daemonConfig(change ...func(*daemon.Config)) daemon.Config {
	c := daemon.Config{Root: n.root, State: n.run + "/containerd", Socket: n.run + "/containerd.sock",
		Cgroup: "/berth-" + n.id + "/daemon"}
	for _, f := range change {
		f(&c)
	}
	return c
}

func (n *node) close(t testing.TB, root string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.daemon.Start(ctx); err != nil { // a test may have killed it
		t.Error(err)
	}
	if err := n.Purge(ctx); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.daemon.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := n.tree.Remove("/berth-" + n.id); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(root, "containerd.log")); err == nil && len(data) > 0 && (t.Failed() ||
		testing.Verbose()) {
		t.Logf("containerd's log:\n%s", data[max(0, len(data)-4000):])
	}
	if err := os.RemoveAll(n.run); err != nil {
		t.Error(err)
	}
}

// busybox imports a busybox image and returns it as pulled.
func (n *node) busybox(t testing.TB, configure func(*v1.Config), files ...imagetest.File) agent.Image {
	t.Helper()
	ref := fmt.Sprintf("busybox:%d", n.serial.Add(1))
	archive := imagetest.Archive(t, imagetest.Busybox(t, configure, files...), ref)
	if _, err := n.store.Import(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	image, err := n.store.Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// container is the spec of a new container that runs a shell script in the machine's network.
func (n *node) container(image agent.Image, script string, change ...func(*agent.ContainerSpec)) agent.ContainerSpec {
	task := fmt.Sprintf("%032x", n.serial.Add(1))
	s := agent.ContainerSpec{ID: task + "-main", TaskID: task, Name: "main", Image: image,
		Definition: types.ContainerDefinition{Name: new("main"), EntryPoint: []string{"/bin/sh", "-c"}, Command: []string{script}},
		Stdout:     filepath.Join(n.logs, task+".out"), Stderr: filepath.Join(n.logs, task+".err"),
		Labels: map[string]string{"com.example": "x"}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func (n *node) start(t testing.TB, s agent.ContainerSpec) {
	t.Helper()
	if err := n.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the exit of a container on the channel of exits.
func (n *node) exit(t testing.TB, id string) agent.ContainerState {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case s := <-n.Exits():
			if s.ID == id {
				return s
			}
		case <-timeout:
			t.Fatalf("container %s did not exit", id)
		}
	}
}

// runs starts a container, waits for its end and returns its state and output.
func (n *node) runs(t testing.TB, s agent.ContainerSpec) (state agent.ContainerState, stdout, stderr string) {
	t.Helper()
	n.start(t, s)
	state = n.exit(t, s.ID)
	if err := n.Delete(t.Context(), s.ID); err != nil { // after which the shim has written all output
		t.Fatal(err)
	}
	return state, read(t, s.Stdout), read(t, s.Stderr)
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// state finds a container in the list.
func (n *node) state(t testing.TB, id string) (agent.ContainerState, bool) {
	t.Helper()
	all, err := n.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s, true
		}
	}
	return agent.ContainerState{}, false
}
