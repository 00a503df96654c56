package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/timeouts"
)

// interactive begins the ids of the processes that Interact starts.
const interactive = "session-"

// Interact implements agent.Runtime.
func (r *Runtime) Interact(ctx context.Context, id string, i agent.Interaction) (int, error) {
	ctx = r.context(ctx)
	if len(i.Command) == 0 {
		return 0, fmt.Errorf("no command")
	}
	container, err := r.client.LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return 0, agent.ErrNotRunning
	}
	if err != nil {
		return 0, fmt.Errorf("find container %s: %w", id, err)
	}
	spec, err := container.Spec(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the specification of container %s: %w", id, err)
	}
	task, err := container.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return 0, agent.ErrNotRunning
	}
	if err != nil {
		return 0, fmt.Errorf("find the process of container %s: %w", id, err)
	}
	execID := interactive + randomHex()
	if err := r.noteInteraction(execID, id); err != nil {
		return 0, err
	}
	defer r.forgetInteraction(execID)
	stdin := &closingReader{Reader: i.Stdin}
	if i.Stdin == nil {
		stdin.Reader = strings.NewReader("")
	}
	// containerd loses track of a process whose start is interrupted, so a caller that goes away does not interrupt it.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeouts.CreateWait)
	defer cancel()
	process, err := task.Exec(whole, execID, interactionOf(spec.Process, i), cio.NewCreator(interactionIO(stdin, i),
		cio.WithFIFODir(filepath.Join(r.c.StateDir, "fifo"))))
	if err != nil {
		return 0, fmt.Errorf("run %s: %s", i.Command[0], plain(err))
	}
	defer r.endExec(context.WithoutCancel(ctx), process)
	exited, err := process.Wait(context.WithoutCancel(ctx))
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", i.Command[0], err)
	}
	if err := process.Start(whole); err != nil {
		return 0, fmt.Errorf("run %s: %s", i.Command[0], plain(err))
	}
	r.resize(ctx, process, i, i.Size)
	if !i.Terminal { // with one, the end of the input is a key
		stdin.onEnd(func() { _ = process.CloseIO(context.WithoutCancel(ctx), ctd.WithStdinCloser) }) // fails when the command is over
	}
	return r.converse(ctx, process, exited, i)
}

// converse passes on sizes and signals until the command has ended.
func (r *Runtime) converse(ctx context.Context, process ctd.Process, exited <-chan ctd.ExitStatus, i agent.Interaction) (int, error) {
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case size := <-i.Sizes:
			r.resize(ctx, process, i, size)
		case sig := <-i.Signals:
			if err := process.Kill(ctx, sig); err != nil && !errdefs.IsNotFound(err) {
				r.log.Debug("a command in a container is not sent a signal", "error", err)
			}
		case status := <-exited:
			code, _, err := status.Result()
			if err != nil {
				return 0, fmt.Errorf("wait for the command: %w", err)
			}
			drain(process, timeouts.ExecDrain)
			return int(code), nil
		}
	}
}

func (r *Runtime) resize(ctx context.Context, process ctd.Process, i agent.Interaction, size agent.Size) {
	if !i.Terminal || !size.Valid() {
		return
	}
	if err := process.Resize(ctx, uint32(size.Columns), uint32(size.Rows)); err != nil {
		r.log.Debug("a terminal's size is not set", "error", err)
	}
}

// interactionOf is the command's process: the container's own, but for what it runs and whether it has a terminal.
func interactionOf(own *specs.Process, i agent.Interaction) *specs.Process {
	ps := *own
	ps.Args, ps.Terminal = i.Command, i.Terminal
	if i.Terminal && i.Size.Valid() {
		ps.ConsoleSize = &specs.Box{Width: uint(i.Size.Columns), Height: uint(i.Size.Rows)}
	}
	if i.Terminal && !slices.ContainsFunc(ps.Env, func(kv string) bool { return strings.HasPrefix(kv, "TERM=") }) {
		ps.Env = append(slices.Clone(ps.Env), "TERM=xterm")
	}
	return &ps
}

func interactionIO(stdin io.Reader, i agent.Interaction) cio.Opt {
	return func(s *cio.Streams) {
		s.Stdin, s.Stdout, s.Stderr, s.Terminal = stdin, i.Stdout, i.Stderr, i.Terminal
		if s.Stderr == nil {
			s.Stderr = i.Stdout
		}
	}
}

// closingReader calls a function once its end was read.
type closingReader struct {
	io.Reader
	mu    sync.Mutex
	ended bool
	call  func()
}

// Read implements io.Reader. The end comes alone, after what was read before was written.
func (c *closingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n > 0 || err == nil {
		return n, nil
	}
	c.mu.Lock()
	c.ended = true
	call := c.call
	c.mu.Unlock()
	if call != nil {
		call()
	}
	return 0, err
}

func (c *closingReader) onEnd(call func()) {
	c.mu.Lock()
	c.call = call
	ended := c.ended
	c.mu.Unlock()
	if ended {
		call()
	}
}

// interactions is the folder of a note for each interaction: a Berth that is killed leaves their commands running.
func (r *Runtime) interactions() string { return filepath.Join(r.c.StateDir, "interactions") }

func (r *Runtime) noteInteraction(execID, id string) error {
	if err := os.MkdirAll(r.interactions(), 0o700); err != nil {
		return fmt.Errorf("note a session: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.interactions(), execID), []byte(id), 0o600); err != nil {
		return fmt.Errorf("note a session: %w", err)
	}
	return nil
}

func (r *Runtime) forgetInteraction(execID string) {
	if err := os.Remove(filepath.Join(r.interactions(), execID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.log.Warn("the note of a session is left over", "error", err)
	}
}

// endInteractions ends the commands of an earlier Runtime's interactions: whoever talked to them is gone.
func (r *Runtime) endInteractions(ctx context.Context, notes []os.DirEntry) {
	for _, note := range notes {
		id, err := os.ReadFile(filepath.Join(r.interactions(), note.Name()))
		if err != nil {
			continue
		}
		err = r.endInteraction(ctx, string(id), note.Name())
		if err != nil && !errdefs.IsNotFound(err) {
			r.log.Warn("a command of a session that was lost is left over", "container", string(id), "error", err)
			continue
		}
		r.forgetInteraction(note.Name())
	}
}

func (r *Runtime) endInteraction(ctx context.Context, id, execID string) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.ExecEnd)
	defer cancel()
	container, err := r.client.LoadContainer(ctx, id)
	if err != nil {
		return err
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		return err
	}
	process, err := task.LoadProcess(ctx, execID, nil)
	if err != nil {
		return err
	}
	return endProcess(ctx, process)
}
