package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/creack/pty"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/serve/session"
)

// sessionOf makes a session whose command is played by play.
func sessionOf(t *testing.T, play func(begin execstream.Command, in *execstream.Reader, out *execstream.Writer)) *types.Session {
	t.Helper()
	m := session.New(session.Config{Context: t.Context(), Open: func(context.Context, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			in, out := execstream.NewReader(far), execstream.NewWriter(far)
			f, err := in.Read()
			var begin execstream.Command
			if err = errors.Join(err, f.Decode(&begin)); err != nil {
				t.Error(err)
				return
			}
			play(begin, in, out)
		}()
		return near, nil
	}})
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	t.Cleanup(m.Close)
	id, token, err := m.Create(session.Spec{Task: "t", Container: "web", Command: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	url := "ws" + strings.TrimPrefix(server.URL, "http") + session.Path + id
	return &types.Session{SessionId: &id, StreamUrl: &url, TokenValue: &token}
}

func ends(out *execstream.Writer, o execstream.Outcome) { _ = out.WriteJSON(execstream.Ended, o) }

// TestExecWithoutTerminal: what the command says comes back, apart, and its exit code; the standard input only when it is asked for.
func TestExecWithoutTerminal(t *testing.T) {
	for _, input := range []bool{false, true} {
		s := sessionOf(t, func(begin execstream.Command, in *execstream.Reader, out *execstream.Writer) {
			if begin.Terminal || begin.Container != "web" {
				t.Errorf("begun %+v", begin)
			}
			for {
				f, err := in.Read()
				if err != nil || f.Kind == execstream.Eof {
					break
				}
				_ = out.Write(execstream.Output, bytes.ToUpper(f.Data))
			}
			_ = out.Write(execstream.Errors, []byte("oops"))
			ends(out, execstream.Outcome{Code: 42})
		})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, "hello")
		w.Close()
		var out, errs bytes.Buffer
		err = talk(t.Context(), s, console{in: r, out: &out, errs: &errs, input: input})
		if exit, ok := errors.AsType[ExitError](err); !ok || exit.Code != 42 {
			t.Errorf("ended with %v", err)
		}
		want := ""
		if input {
			want = "HELLO"
		}
		if out.String() != want || errs.String() != "oops" {
			t.Errorf("said %q and %q", out.String(), errs.String())
		}
	}
}

// TestExecOnTerminal: keys go through as they are, and the size with its changes.
func TestExecOnTerminal(t *testing.T) {
	master, tty, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	defer tty.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Cols: 91, Rows: 31}); err != nil {
		t.Fatal(err)
	}
	s := sessionOf(t, func(begin execstream.Command, in *execstream.Reader, out *execstream.Writer) {
		if !begin.Terminal || begin.Size != (execstream.Size{Columns: 91, Rows: 31}) {
			t.Errorf("begun %+v", begin)
		}
		_, _ = master.Write([]byte("\x03")) // no signal here, but a key there
		if f, err := in.Read(); err != nil || f.Kind != execstream.Input || string(f.Data) != "\x03" {
			t.Errorf("%+v %v", f, err)
		}
		_ = pty.Setsize(tty, &pty.Winsize{Cols: 71, Rows: 21})
		var size execstream.Size
		if f, err := in.Read(); err != nil || f.Kind != execstream.Resize || f.Decode(&size) != nil || size.Columns != 71 {
			t.Errorf("%+v %v", f, err)
		}
		ends(out, execstream.Outcome{})
	})
	go func() { _, _ = io.Copy(io.Discard, master) }()
	if err := talk(t.Context(), s, console{in: tty, out: tty, errs: tty}); err != nil {
		t.Error(err)
	}
}

// TestExecEndsInWords: a command that never ran says why.
func TestExecEndsInWords(t *testing.T) {
	s := sessionOf(t, func(_ execstream.Command, _ *execstream.Reader, out *execstream.Writer) {
		ends(out, execstream.Outcome{Reason: "no such file"})
	})
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := talk(t.Context(), s, console{in: null, out: io.Discard, errs: io.Discard}); err == nil || err.Error() != "no such file" {
		t.Error(err)
	}
	*s.TokenValue = "used"
	if err := talk(t.Context(), s, console{in: null, out: io.Discard, errs: io.Discard}); err == nil {
		t.Error("a session was begun twice")
	}
}
