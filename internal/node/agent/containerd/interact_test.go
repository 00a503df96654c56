package containerd

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// A command whose Berth was killed is ended by the next one, with what runs in its foreground.
func TestInteractionsOfADeadBerthEnd(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	s := n.container(image, `trap 'exit 3' TERM; while :; do sleep 0.05; done`)
	n.start(t, s)
	stdin, keys := io.Pipe()
	defer stdin.Close()
	began := make(chan struct{}, 64)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := n.Interact(ctx, s.ID, agent.Interaction{Command: []string{"/bin/sh"}, Terminal: true, Stdin: stdin, Stdout: notice(began)})
		ended <- err
	}()
	if _, err := io.WriteString(keys, "sleep 98765\r"); err != nil {
		t.Fatal(err)
	}
	<-began
	other, err := New(n.config)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the command goes on")
	}
	for range 200 {
		_, out, err := n.Exec(t.Context(), s.ID, []string{"/bin/sh", "-c", "ps | grep -E 'bin[/]sh$|9876[5]' || true"})
		if err == nil && strings.TrimSpace(out) == "" {
			break
		}
		if <-time.After(20 * time.Millisecond); err != nil || t.Failed() {
			t.Fatalf("%q %v", out, err)
		}
	}
	if left, err := os.ReadDir(n.interactions()); err != nil || len(left) > 0 {
		t.Errorf("notes are left: %v %v", left, err)
	}
}

type notice chan struct{}

// Write implements io.Writer.
func (n notice) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	default:
	}
	return len(p), nil
}
