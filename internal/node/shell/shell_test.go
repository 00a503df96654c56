package shell_test

import (
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/shell"
)

// begin has a command run on the far end of a stream.
func begin(t *testing.T, run shell.Runner) (net.Conn, *execstream.Reader, *execstream.Writer, chan error) {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	served := make(chan error, 1)
	go func() { served <- shell.Serve(t.Context(), far, run) }()
	w := execstream.NewWriter(near)
	if err := w.WriteJSON(execstream.Begin, execstream.Command{Task: "task", Container: "web", Command: []string{"cat"}, Terminal: true,
		Size: execstream.Size{Columns: 80, Rows: 24}}); err != nil {
		t.Fatal(err)
	}
	return near, execstream.NewReader(near), w, served
}

func TestServe(t *testing.T) {
	_, r, w, served := begin(t, func(_ context.Context, task, container string, i agent.Interaction) (int, error) {
		if task != "task" || container != "web" || i.Command[0] != "cat" || !i.Terminal || i.Size.Rows != 24 {
			t.Errorf("%s %s %+v", task, container, i)
		}
		if s := <-i.Sizes; s != (agent.Size{Columns: 90, Rows: 30}) {
			t.Errorf("size %+v", s)
		}
		if s := <-i.Signals; s != syscall.SIGINT {
			t.Errorf("signal %v", s)
		}
		data, err := io.ReadAll(i.Stdin)
		if err != nil {
			t.Error(err)
		}
		_, _ = i.Stdout.Write(data)
		_, _ = i.Stderr.Write([]byte("oops"))
		return 5, nil
	})
	for _, err := range []error{w.WriteJSON(execstream.Resize, execstream.Size{Columns: 90, Rows: 30}),
		w.WriteJSON(execstream.Signal, execstream.Signaled{Number: 2}), w.Write(execstream.Input, []byte("hello ")),
		w.Write(execstream.Input, []byte("there")), w.Write(execstream.Eof, nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	for {
		f, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		said.WriteString(string(f.Kind) + ":" + string(f.Data) + " ")
		if f.Kind == execstream.Ended {
			break
		}
	}
	if want := `o:hello there x:oops q:{"Code":5} `; said.String() != want {
		t.Errorf("heard %q, want %q", said.String(), want)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestTalkerGone ends the command of somebody who is gone.
func TestTalkerGone(t *testing.T) {
	near, _, _, served := begin(t, func(ctx context.Context, _, _ string, _ agent.Interaction) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	near.Close()
	if err := <-served; err == nil {
		t.Error("a session whose stream broke ended well")
	}
}
