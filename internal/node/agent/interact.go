package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/timeouts"
)

// Interaction is a command that somebody runs in a container and talks to.
type Interaction struct {
	Command  []string
	Terminal bool // the command gets a terminal, whose size Size and then Sizes tell
	Size     Size
	// Stdin is read until it ends or the command does; whoever gave it ends it after the command, as a reader may wait in it. nil: empty.
	Stdin          io.Reader
	Stdout, Stderr io.Writer // with a terminal everything goes to Stdout
	Sizes          <-chan Size
	Signals        <-chan syscall.Signal // to the command's process
}

// Size is that of a terminal.
type Size struct{ Columns, Rows uint16 }

// Valid tells whether a terminal can have the size.
func (s Size) Valid() bool { return s.Columns > 0 && s.Rows > 0 }

// Bounds of interactions.
const (
	interactionsPerTask = 8
	interactionsPerNode = 64
)

// ErrIdle ends an interaction in which nothing was said for timeouts.InteractionIdle.
var ErrIdle = fmt.Errorf("the session was idle for %d minutes", int(timeouts.InteractionIdle/time.Minute))

// interactions counts those that are under way.
type interactions struct {
	mu     sync.Mutex
	total  int
	byTask map[string]int
}

// enter counts one more, or says why there may not be one.
func (n *interactions) enter(task string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.byTask[task] >= interactionsPerTask:
		return fmt.Errorf("%d sessions are open in this task, as many as may be; end one first", interactionsPerTask)
	case n.total >= interactionsPerNode:
		return fmt.Errorf("%d sessions are open on this machine, as many as may be; end one first", interactionsPerNode)
	}
	if n.byTask == nil {
		n.byTask = map[string]int{}
	}
	n.total++
	n.byTask[task]++
	return nil
}

func (n *interactions) leave(task string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.total--
	if n.byTask[task]--; n.byTask[task] == 0 {
		delete(n.byTask, task)
	}
}

// Interact runs a command in a container of a task until it ends, the container ends, ctx is done or nobody says anything for
// timeouts.InteractionIdle. Errors: ErrNotRunning, ErrIdle; others are sentences.
func (a *Agent) Interact(ctx context.Context, taskID, container string, i Interaction) (exit int, err error) {
	a.mu.Lock()
	t := a.tasks[taskID]
	a.mu.Unlock()
	if t == nil || !runs(t.view.Load(), container) {
		return 0, ErrNotRunning
	}
	if err := a.interactions.enter(taskID); err != nil {
		return 0, err
	}
	defer a.interactions.leave(taskID)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := newIdleWatch(timeouts.InteractionIdle, func() { cancel(ErrIdle) })
	defer watch.stop()
	if i.Stdin != nil {
		i.Stdin = idleReader{i.Stdin, watch}
	}
	i.Stdout = idleWriter{i.Stdout, watch}
	if i.Stderr != nil {
		i.Stderr = idleWriter{i.Stderr, watch}
	}
	exit, err = a.cfg.Runtime.Interact(ctx, runtimeID(taskID, container), i)
	if err != nil && errors.Is(context.Cause(ctx), ErrIdle) {
		err = ErrIdle
	}
	return exit, err
}

func runs(v *View, container string) bool {
	for _, c := range v.Observed.Containers {
		if c.Name == container {
			return c.Status == model.Running
		}
	}
	return false
}

// idleWatch calls f when it was not touched for d.
type idleWatch struct {
	d     time.Duration
	began time.Time
	last  atomic.Int64 // since began
	timer *time.Timer
}

func newIdleWatch(d time.Duration, f func()) *idleWatch {
	w := &idleWatch{d: d, began: time.Now()}
	w.timer = time.AfterFunc(d, func() {
		if left := w.d - (time.Since(w.began) - time.Duration(w.last.Load())); left > 0 {
			w.timer.Reset(left)
			return
		}
		f()
	})
	return w
}

func (w *idleWatch) touch() { w.last.Store(int64(time.Since(w.began))) }

func (w *idleWatch) stop() { w.timer.Stop() }

type idleReader struct {
	io.Reader
	w *idleWatch
}

// Read implements io.Reader.
func (r idleReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.w.touch()
	return n, err
}

type idleWriter struct {
	io.Writer
	w *idleWatch
}

// Write implements io.Writer.
func (w idleWriter) Write(p []byte) (int, error) {
	w.w.touch()
	return w.Writer.Write(p)
}
