package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// exitBuffer bounds the exits that nobody has received yet; further ones are missed, as the contract allows.
const exitBuffer = 4096

// ErrClosed is returned by a Runtime after Close.
var ErrClosed = errors.New("the runtime is closed")

// Runtime keeps containers in memory.
type Runtime struct {
	faults
	cfg     Config
	logs    *Logs
	network *Network
	made    time.Time

	mu         sync.Mutex
	closed     bool
	deaf       bool // exits are not sent
	nextPID    uint32
	containers map[string]*container
	exits      chan agent.ContainerState
}

type container struct {
	spec   agent.ContainerSpec
	script Script
	state  agent.ContainerState
	begun  time.Time      // its process
	timer  *time.Timer    // ends the process
	talks  map[int]func() // end the interactions with it
	guests int            // that there ever were
}

func newRuntime(cfg Config, logs *Logs, network *Network) *Runtime {
	return &Runtime{
		cfg: cfg, logs: logs, network: network, made: cfg.Now(), nextPID: 1000, containers: map[string]*container{},
		exits: make(chan agent.ContainerState, exitBuffer),
	}
}

// Create implements agent.Runtime.
func (r *Runtime) Create(ctx context.Context, spec agent.ContainerSpec) error {
	if err := cmp.Or(r.take("Create"), ctx.Err()); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	if r.containers[spec.ID] != nil {
		return nil
	}
	script := r.cfg.Script(spec.Image.Ref, append(slices.Clone(spec.Definition.EntryPoint), spec.Definition.Command...))
	if script.CreateError != "" {
		return &agent.Error{Name: "CannotCreateContainerError", Message: script.CreateError}
	}
	for _, m := range spec.Mounts {
		if _, err := os.Stat(m.Source); m.Type == "bind" && err != nil {
			return &agent.Error{Name: "CannotCreateContainerError", Message: fmt.Sprintf("mount %s: %v", m.Destination, err)}
		}
	}
	r.containers[spec.ID] = &container{spec: spec, script: script, state: agent.ContainerState{
		ID: spec.ID, TaskID: spec.TaskID, Name: spec.Name, Run: spec.Run, Status: agent.ContainerCreated, Labels: spec.Labels,
	}}
	return nil
}

// Start implements agent.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	if err := cmp.Or(r.take("Start"), wait(ctx, r.cfg.StartFor)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	switch {
	case r.closed:
		return ErrClosed
	case c == nil:
		return fmt.Errorf("start %s: no such container", id)
	case c.state.Status != agent.ContainerCreated:
		return nil
	case c.script.StartError != "":
		return &agent.Error{Name: "CannotStartContainerError", Message: c.script.StartError}
	}
	r.nextPID++
	c.state.Status, c.state.PID, c.begun = agent.ContainerRunning, r.nextPID, r.cfg.Now()
	r.write(c, c.spec.Name+" started")
	for _, line := range c.script.Output {
		r.write(c, line)
	}
	if c.script.Ends {
		code := c.script.ExitCode
		if c.script.OOM {
			code = 128 + int32(syscall.SIGKILL)
		}
		r.endIn(c, c.script.RunFor, code, c.script.OOM)
	}
	return nil
}

// endIn ends c's process after d. r.mu is held.
func (r *Runtime) endIn(c *container, d time.Duration, code int32, oom bool) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.end(c, code, oom)
	})
}

// end ends c's process now. r.mu is held.
func (r *Runtime) end(c *container, code int32, oom bool) {
	if c.state.Status != agent.ContainerRunning {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, end := range c.talks {
		end()
	}
	c.state.Status, c.state.PID = agent.ContainerExited, 0
	c.state.ExitCode, c.state.OOMKilled, c.state.FinishedAt = code, oom, r.cfg.Now()
	if r.deaf || r.closed {
		return
	}
	select {
	case r.exits <- c.state:
	default:
	}
}

// write appends a line to the container's output. r.mu is held.
func (r *Runtime) write(c *container, line string) {
	if c.spec.Stdout == "" {
		r.logs.line(c.spec.ID, line)
		return
	}
	f, err := os.OpenFile(c.spec.Stdout, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return // a container whose log is gone goes on
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// Signal implements agent.Runtime.
func (r *Runtime) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	if err := cmp.Or(r.take("Signal"), ctx.Err()); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if r.closed {
		return ErrClosed
	}
	if c == nil || c.state.Status != agent.ContainerRunning {
		return nil
	}
	if sig == syscall.SIGKILL {
		r.end(c, 128+int32(syscall.SIGKILL), false)
		return nil
	}
	r.write(c, fmt.Sprintf("%s got signal %d (%s)", c.spec.Name, int(sig), sig))
	if !c.script.IgnoreTerm {
		r.endIn(c, c.script.TermFor, c.script.TermCode, false)
	}
	return nil
}

// Exec implements agent.Runtime. A command that is an exit (see ScriptOf) gives its code; any other succeeds unless the
// container's script is Unhealthy.
func (r *Runtime) Exec(ctx context.Context, id string, command []string) (int, string, error) {
	if err := cmp.Or(r.take("Exec"), ctx.Err()); err != nil {
		return 0, "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.state.Status != agent.ContainerRunning {
		return 0, "", fmt.Errorf("exec in %s: the container does not run", id)
	}
	if c.script.Unhealthy {
		return 1, "unhealthy", nil
	}
	code, _ := exitOf(command)
	return code, "", nil
}

// Delete implements agent.Runtime.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	if err := cmp.Or(r.take("Delete"), ctx.Err()); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	if c := r.containers[id]; c != nil {
		r.end(c, 128+int32(syscall.SIGKILL), false)
		delete(r.containers, id)
	}
	return nil
}

// List implements agent.Runtime. The containers are sorted by id.
func (r *Runtime) List(context.Context) ([]agent.ContainerState, error) {
	if err := r.take("List"); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	all := make([]agent.ContainerState, 0, len(r.containers))
	for _, c := range r.containers {
		all = append(all, c.state)
	}
	slices.SortFunc(all, func(a, b agent.ContainerState) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Exits implements agent.Runtime.
func (r *Runtime) Exits() <-chan agent.ContainerState { return r.exits }

// Exit ends a container's process from outside, as if it had failed.
func (r *Runtime) Exit(id string, code int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		r.end(c, code, false)
	}
}

// Tell sends a state on the channel of exits, as a runtime does that tells of an exit late.
func (r *Runtime) Tell(s agent.ContainerState) { r.exits <- s }

// Vanish removes a container without a word, as a machine that restarts does.
func (r *Runtime) Vanish(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		for _, end := range c.talks {
			end()
		}
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	delete(r.containers, id)
}

// Silence lists a container as one whose shim does not answer, or does again.
func (r *Runtime) Silence(id string, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		c.state.Silent = silent
	}
}

// Rewind makes a container one that was created and never started, as a runtime sees it that lost its notes with the process.
func (r *Runtime) Rewind(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.state.Status, c.state.PID, c.state.ExitCode, c.state.FinishedAt = agent.ContainerCreated, 0, 0, time.Time{}
}

// Deaf makes the runtime miss exits (or stop missing them), as one that restarts does.
func (r *Runtime) Deaf(deaf bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = deaf
}

// Spec returns what a container was created from.
func (r *Runtime) Spec(id string) (agent.ContainerSpec, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c.spec, true
	}
	return agent.ContainerSpec{}, false
}

// Close ends every container and closes Exits.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	for _, c := range r.containers {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	close(r.exits)
	return nil
}
