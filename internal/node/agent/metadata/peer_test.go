package metadata

import (
	"fmt"
	stdio "io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestMain is, when asked to, a program of another process that asks for a URL.
func TestMain(m *testing.M) {
	if url := os.Getenv("METADATA_ASK"); url != "" {
		stdio.ReadFull(os.Stdin, make([]byte, 1)) // until its process is known
		res, err := http.Get(url)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(res.StatusCode)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asker is a process that asks for url once told to, and returns the answer's status.
func asker(t *testing.T, url string) (pid int, ask func() string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "METADATA_ASK="+url)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() string {
		in.Write([]byte{1})
		answer, _ := stdio.ReadAll(out)
		cmd.Wait()
		return strings.TrimSpace(string(answer))
	}
}

// TestLoopbackServesATaskItsOwnOnly: another user of the machine who knows a container's id, and that of its credentials, gets neither.
func TestLoopbackServesATaskItsOwnOnly(t *testing.T) {
	view := aTask()
	view.Task.NetworkMode, view.Networks = types.NetworkModeHost, nil
	var inside []int // the task's processes
	now := time.Now()
	srv := httptest.NewServer(New(Config{Tasks: one{view: view}, Credentials: &counter{now: &now}}).Handler(FromHostTask(func(task string) []int {
		if task != id {
			t.Errorf("asked for the processes of %s", task)
		}
		return inside
	})))
	defer srv.Close()
	for path, refused := range map[string]string{"/v4/" + id + "-web": "404", "/v2/credentials/secret-id": "400"} {
		task, ask := asker(t, srv.URL+path)
		inside = []int{1, task, os.Getpid()}
		if got := ask(); got != "200" {
			t.Errorf("%s: the task's own process got %s", path, got)
		}
		_, ask = asker(t, srv.URL+path)
		inside = []int{1, os.Getppid(), os.Getpid()} // that of this test holds the other end of the connection, and not the asker's
		if got := ask(); got != refused {
			t.Errorf("%s: another process got %s", path, got)
		}
		own, ask := asker(t, srv.URL+path)
		view.Task.NetworkMode, inside = types.NetworkModeBridge, []int{own}
		if got := ask(); got != refused {
			t.Errorf("%s: a task of a bridge was served on loopback: %s", path, got)
		}
		view.Task.NetworkMode = types.NetworkModeHost
	}
}

// BenchmarkPeer is what the check of a peer costs a request, beside a look at /proc of the same process.
func BenchmarkPeer(b *testing.B) {
	view := aTask()
	view.Task.NetworkMode = types.NetworkModeHost
	guard := FromHostTask(func(string) []int { return []int{os.Getpid()} })
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for b.Loop() {
			if !guard(r, view) {
				b.Fatal("refused")
			}
		}
	}))
	defer srv.Close()
	res, err := http.Get(srv.URL)
	if err != nil {
		b.Fatal(err)
	}
	res.Body.Close()
}
