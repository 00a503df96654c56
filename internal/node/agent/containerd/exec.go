package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"github.com/berthdev/berth/internal/timeouts"
)

const execOutput = 4 << 10 // bytes of a command's output that are kept

// Exec implements agent.Runtime. When ctx ends first, the command is killed and ctx's error returned.
func (r *Runtime) Exec(ctx context.Context, id string, command []string) (int, string, error) {
	code, out, err := r.exec(r.context(ctx), id, command)
	if err == nil {
		return code, out, nil
	}
	// containerd has the deadline too, and may say so in its own words, also a moment before ctx does.
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < deadlineSlack {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return code, out, err
}

const deadlineSlack = 20 * time.Millisecond

func (r *Runtime) exec(ctx context.Context, id string, command []string) (int, string, error) {
	if len(command) == 0 {
		return 0, "", fmt.Errorf("exec in container %s: no command", id)
	}
	container, err := r.client.LoadContainer(ctx, id)
	if err != nil {
		return 0, "", fmt.Errorf("exec in container %s: %w", id, err)
	}
	spec, err := container.Spec(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("exec in container %s: %w", id, err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		return 0, "", fmt.Errorf("exec in container %s: %w", id, err)
	}
	ps := *spec.Process
	ps.Args, ps.Terminal = command, false
	out := &firstBytes{max: execOutput}
	execID := "exec-" + randomHex()
	process, err := task.Exec(ctx, execID, &ps, cio.NewCreator(cio.WithStreams(nil, out, out),
		cio.WithFIFODir(filepath.Join(r.c.StateDir, "fifo"))))
	if err != nil {
		return 0, "", fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer r.endExec(context.WithoutCancel(ctx), process)
	exited, err := process.Wait(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("exec in container %s: %w", id, err)
	}
	if err := process.Start(ctx); err != nil {
		return 0, out.String(), fmt.Errorf("exec %s in container %s: %s", command[0], id, plain(err))
	}
	select {
	case <-ctx.Done():
		return 0, out.String(), ctx.Err()
	case status := <-exited:
		code, _, err := status.Result()
		if err != nil {
			return 0, out.String(), fmt.Errorf("exec in container %s: %w", id, err)
		}
		drain(process, timeouts.ExecDrain)
		return int(code), out.String(), nil
	}
}

// drain waits for the rest of the output; a child that keeps it open does not hold up the answer for longer than most.
func drain(p ctd.Process, most time.Duration) {
	done := make(chan struct{})
	go func() {
		p.IO().Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(most):
		p.IO().Cancel()
	}
}

// endExec kills the process if it still runs and removes what exec made.
func (r *Runtime) endExec(ctx context.Context, p ctd.Process) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.ExecEnd)
	defer cancel()
	if err := endProcess(ctx, p); err != nil && !errdefs.IsNotFound(err) && !passing(err) {
		r.log.Warn("a command run in a container is left over", "id", p.ID(), "error", err)
	}
}

// endProcess kills a process that an exec made, if it still runs, and deletes it. containerd's WithProcessKill does not wait for the end of
// one that it is refused to kill with all others.
func endProcess(ctx context.Context, p ctd.Process) error {
	_, err := p.Delete(ctx)
	if !errdefs.IsFailedPrecondition(err) {
		return err
	}
	exited, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if err := p.Kill(ctx, syscall.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	select {
	case <-exited:
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err = p.Delete(ctx)
	return err
}

func randomHex() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// firstBytes keeps the beginning of what is written and drops the rest.
type firstBytes struct {
	mu  sync.Mutex
	max int
	buf bytes.Buffer
}

// Write implements io.Writer.
func (f *firstBytes) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if room := f.max - f.buf.Len(); room > 0 {
		f.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (f *firstBytes) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.String()
}
