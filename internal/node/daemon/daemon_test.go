package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/node/cgroup"
)

// TestMain is also the daemon that the tests start, and a program that never answers.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[len(os.Args)-2] == "--config" {
		os.Exit(child(os.Args[1], os.Args[len(os.Args)-1]))
	}
	os.Exit(m.Run())
}

func child(mode, config string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if mode == "broken" {
		fmt.Fprintln(os.Stderr, "the disk is on fire")
		return 3
	}
	c, err := ReadConfig(config)
	if err == nil {
		err = Run(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func newDaemon(t *testing.T, change ...func(*Config)) (*Daemon, Config) {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv("BERTH_INTEGRATION") != "1" {
		t.Skip("starts containerd: needs root and BERTH_INTEGRATION=1")
	}
	b := make([]byte, 3)
	rand.Read(b)
	id := "d" + hex.EncodeToString(b)
	c := Config{Root: filepath.Join(t.TempDir(), "root"), State: "/run/berth/" + id + "/state",
		Socket: "/run/berth/" + id + "/sock/containerd.sock",
		Cgroup: "/berth-" + id}
	for _, f := range change {
		f(&c)
	}
	d, err := New(c, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		tree, err := cgroup.Detect()
		if err == nil {
			err = tree.Remove("/berth-" + id)
		}
		if err = errors.Join(err, os.RemoveAll("/run/berth/"+id)); err != nil {
			t.Error(err)
		}
	})
	return d, c
}

func TestStartStop(t *testing.T) {
	d, c := newDaemon(t)
	if d.PID() != 0 {
		t.Fatal("it runs before it was started")
	}
	for range 2 {
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pid := d.PID()
	if !d.answers(t.Context(), time.Second) || pid == 0 {
		t.Fatal("it does not answer")
	}
	if info, err := os.Stat(filepath.Dir(c.Socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder: %v %v, want mode 0700", info, err)
	}
	if own, _ := syscall.Getpgid(pid); own != pid {
		t.Error("it is not in a session of its own")
	}
	procs, err := os.ReadFile("/proc/" + fmt.Sprint(pid) + "/cgroup")
	if err != nil || !strings.Contains(string(procs), c.Cgroup) {
		t.Errorf("its cgroups are\n%s(%v), want %s", procs, err, c.Cgroup)
	}
	env, _ := os.ReadFile("/proc/" + fmt.Sprint(pid) + "/environ")
	if strings.Contains(string(env), "HOSTNAME") || strings.Contains(string(env), "BERTH_INTEGRATION") {
		t.Errorf("it was given this process's environment: %q", env)
	}
	for range 2 {
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d.PID() != 0 || d.answers(t.Context(), time.Second) {
		t.Error("it still runs")
	}
}

// Another process takes over the daemon that runs, and starts none beside it.
func TestAdopt(t *testing.T) {
	d, c := newDaemon(t)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err != nil || second.PID() != d.PID() {
		t.Errorf("adopted %d, want %d; %v", second.PID(), d.PID(), err)
	}
	rival := exec.CommandContext(t.Context(), os.Args[0], "containerd", "--config", d.c.file())
	out, err := rival.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another containerd runs") {
		t.Errorf("a second one on the same state: %v, %s", err, out)
	}
	if !d.answers(t.Context(), time.Second) {
		t.Error("the first one is disturbed")
	}
}

func TestSupervise(t *testing.T) {
	d, _ := newDaemon(t)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Supervise(ctx) }()
	old := d.PID()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(15 * time.Second)
	for !d.answers(ctx, time.Second) || d.PID() == old {
		select {
		case <-deadline:
			t.Fatal("it was not started again")
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if d.PID() == 0 {
		t.Error("the end of Supervise ended containerd")
	}
}

// Whoever ends while containerd starts leaves it to the next one.
func TestStartThatNobodyWaitsFor(t *testing.T) {
	d, _ := newDaemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	deadline := time.After(15 * time.Second)
	for !d.answers(t.Context(), time.Second) {
		select {
		case <-deadline:
			t.Fatal("it was not started")
		case <-time.After(5 * time.Millisecond):
		}
	}
	pid := d.PID()
	if err := d.Start(ctx); !errors.Is(err, context.Canceled) && err != nil {
		t.Error(err)
	}
	if err := d.Start(t.Context()); err != nil || pid == 0 || d.PID() != pid {
		t.Errorf("adopted %d, want %d; %v", d.PID(), pid, err)
	}
}

func TestStartThatFailsSaysWhy(t *testing.T) {
	d, _ := newDaemon(t, func(c *Config) { c.Args = []string{"broken"} })
	err := d.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("%v, want what the process said", err)
	}
}

// What is no record of a process is not believed.
func TestRecords(t *testing.T) {
	c := Config{State: t.TempDir()}
	for name, data := range map[string]string{"nothing": "", "text": "x", "pid 1": `{"pid":1}`, "a negative pid": `{"pid":-5}`} {
		if err := os.WriteFile(recordFile(c), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, ok := load(c); ok {
			t.Errorf("%s was read as %+v", name, r)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{Root: "/r", State: "/s"}, nil); err == nil {
		t.Error("a config without a socket was taken")
	}
	if _, err := New(Config{Root: "/r", State: "/s", Socket: "/" + strings.Repeat("x", 120)}, nil); err == nil ||
		!strings.Contains(err.Error(), "too long") {
		t.Errorf("a long socket path: %v", err)
	}
	dir := t.TempDir()
	d, err := New(Config{Root: "/r", State: dir, Socket: "/run/s", Verbose: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.c.save(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(d.c.file())
	if err != nil || got.fingerprint() != d.c.fingerprint() {
		t.Errorf("%+v, want %+v; %v", got, d.c, err)
	}
	got.MemoryBytes++
	if got.fingerprint() == d.c.fingerprint() {
		t.Error("another config has the same fingerprint")
	}
}
