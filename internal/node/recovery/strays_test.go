package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
)

// fakeShim answers on a socket and counts how often it is told to end.
type fakeShim struct {
	taskapi.TTRPCTaskService
	told atomic.Int64
}

func (f *fakeShim) Shutdown(context.Context, *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	f.told.Add(1)
	return &emptypb.Empty{}, nil
}

func (f *fakeShim) Connect(context.Context, *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	return &taskapi.ConnectResponse{}, nil
}

func serveShim(t *testing.T, socket string) *fakeShim {
	t.Helper()
	f := &fakeShim{}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	taskapi.RegisterTTRPCTaskService(server, f)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(context.Background(), l)
	t.Cleanup(func() { server.Close() })
	return f
}

// stubbornShim is a process that looks like a shim, listens and never answers. It has room for a single connection.
func stubbornShim(t *testing.T, socket, address string) *exec.Cmd {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), socket)
	defer f.Close()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do sleep 1; done", "shim", "-address", address)
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestStrays(t *testing.T) {
	state, err := os.MkdirTemp("", "j") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	j := NewStrays(Shims{State: state, Socket: "/run/some/containerd.sock"})
	j.sweep(t.Context()) // nothing is there yet
	bundle := filepath.Join(j.folder(), "ns", "c")
	for _, dir := range []string{j.Sockets(), bundle} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	known, orphan := filepath.Join(j.Sockets(), "known"), filepath.Join(j.Sockets(), "orphan")
	boot, err := json.Marshal(map[string]any{"version": 3, "address": "unix://" + known, "protocol": "ttrpc"})
	if err == nil {
		err = os.WriteFile(filepath.Join(bundle, "bootstrap.json"), boot, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	good, lost := serveShim(t, known), serveShim(t, orphan)
	dead := filepath.Join(j.Sockets(), "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	j.sweep(t.Context())
	if lost.told.Load() != 0 {
		t.Error("a shim that may be just starting was dismissed")
	}
	j.sweep(t.Context())
	if lost.told.Load() != 1 || good.told.Load() != 0 {
		t.Errorf("dismissed: the lost shim %d times, the good one %d times", lost.told.Load(), good.told.Load())
	}
	if got := j.holders(orphan); len(got) != 0 {
		t.Errorf("%v would be killed; the socket is this very process's, which is no shim", got)
	}
	shim := stubbornShim(t, orphan+"2", j.Socket)
	for range 3 { // seen, asked, killed
		j.sweep(t.Context())
	}
	over := make(chan error, 1)
	go func() { over <- shim.Wait() }()
	select {
	case err := <-over:
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("a shim that does not answer: %v, want it killed", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a shim that does not answer was not killed by the third look")
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("a socket of a dead shim is left over")
	}
}
