// Package shell runs the commands that servers send to this machine's containers: one stream a session, whose frames are execstream's.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/node/agent"
)

// Runner runs a command in a container of a task. agent.Agent is the real one.
type Runner func(ctx context.Context, task, container string, i agent.Interaction) (exit int, err error)

// ahead is how many frames of input wait for a command that does not read.
const ahead = 64

// Serve runs the command that a stream begins with, until it ends or the stream breaks. It closes the stream.
func Serve(ctx context.Context, stream net.Conn, run Runner) error {
	defer stream.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = stream.Close() })
	in, out := execstream.NewReader(stream), execstream.NewWriter(stream)
	first, err := in.Read()
	if err != nil {
		return fmt.Errorf("wait for a session's command: %w", err)
	}
	var c execstream.Command
	if first.Kind != execstream.Begin {
		return fmt.Errorf("a session began with a frame of kind %q", rune(first.Kind))
	}
	if err := first.Decode(&c); err != nil {
		return err
	}
	stdin, keys := io.Pipe()
	defer stdin.Close()
	i := agent.Interaction{Command: c.Command, Terminal: c.Terminal, Size: agent.Size(c.Size), Stdin: stdin,
		Stdout: out.To(execstream.Output), Stderr: out.To(execstream.Errors)}
	sizes, signals := make(chan agent.Size, 1), make(chan syscall.Signal, 8)
	i.Sizes, i.Signals = sizes, signals
	go func() {
		defer cancel() // whoever talked to the command is gone
		_ = listen(ctx, in, keys, sizes, signals)
	}()
	code, err := run(ctx, c.Task, c.Container, i)
	outcome := execstream.Outcome{Code: code}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		outcome.Reason = err.Error()
	}
	return out.WriteJSON(execstream.Ended, outcome)
}

// listen passes on what the talker sends, until the stream ends.
func listen(ctx context.Context, in *execstream.Reader, keys *io.PipeWriter, sizes chan agent.Size, signals chan<- syscall.Signal) error {
	input := make(chan []byte, ahead)
	go func() {
		for data := range input {
			if _, err := keys.Write(data); err != nil {
				continue // the command reads no more; what it does not read is dropped
			}
		}
		_ = keys.Close()
	}()
	ended := false
	finish := func() {
		if !ended {
			ended = true
			close(input)
		}
	}
	defer finish()
	for {
		f, err := in.Read()
		if err != nil {
			return err
		}
		switch f.Kind {
		case execstream.Input:
			if ended {
				return errors.New("input after its end")
			}
			select {
			case input <- append([]byte(nil), f.Data...):
			case <-ctx.Done():
				return ctx.Err()
			}
		case execstream.Eof:
			finish()
		case execstream.Resize:
			var size execstream.Size
			if err := f.Decode(&size); err != nil {
				return err
			}
			select {
			case <-sizes: // the last one counts
			default:
			}
			sizes <- agent.Size(size)
		case execstream.Signal:
			var sig execstream.Signaled
			if err := f.Decode(&sig); err != nil {
				return err
			}
			if sig.Number <= 0 || sig.Number > 64 {
				continue
			}
			select {
			case signals <- syscall.Signal(sig.Number):
			default: // nobody sends so many
			}
		}
	}
}
