package fake

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/berthdev/berth/internal/node/agent"
)

// Interact implements agent.Runtime. A command that is an exit (see ScriptOf) gives its code; cat copies; a shell without arguments is
// a toy that knows "exit <code>" and "stty size", and says what else it is told; any other command prints itself.
func (r *Runtime) Interact(ctx context.Context, id string, i agent.Interaction) (int, error) {
	if err := cmp.Or(r.take("Interact"), ctx.Err()); err != nil {
		return 0, err
	}
	ctx, leave, err := r.enter(ctx, id)
	if err != nil {
		return 0, err
	}
	defer leave()
	talk := &talk{Interaction: i, size: i.Size}
	ended := make(chan int, 1)
	go func() { ended <- talk.run() }()
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); err != errEnded {
				return 0, ctx.Err()
			}
			return 128 + int(syscall.SIGKILL), nil
		case size := <-i.Sizes:
			talk.resize(size)
		case sig := <-i.Signals:
			return 128 + int(sig), nil
		case code := <-ended:
			return code, nil
		}
	}
}

// errEnded says that the container's process has ended, and with it all others.
var errEnded = fmt.Errorf("the container has ended")

// enter returns a context that ends with the container's process.
func (r *Runtime) enter(ctx context.Context, id string) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.state.Status != agent.ContainerRunning {
		return nil, nil, agent.ErrNotRunning
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c.guests++
	key := c.guests
	if c.talks == nil {
		c.talks = map[int]func(){}
	}
	c.talks[key] = func() { cancel(errEnded) }
	return ctx, func() {
		cancel(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(c.talks, key)
	}, nil
}

// talk is one interaction.
type talk struct {
	agent.Interaction
	mu   sync.Mutex
	size agent.Size
}

func (t *talk) resize(s agent.Size) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = s
}

func (t *talk) run() int {
	if code, ok := exitOf(t.Command); ok {
		return code
	}
	switch name := path.Base(t.Command[0]); {
	case t.Stdin == nil:
	case name == "cat":
		_, _ = io.Copy(t.Stdout, t.Stdin)
		return 0
	case strings.HasSuffix(name, "sh") && len(t.Command) == 1:
		return t.shell()
	}
	fmt.Fprintln(t.Stdout, strings.Join(t.Command, " "))
	return 0
}

// shell is the toy. On a terminal the return key is a CR.
func (t *talk) shell() int {
	in := bufio.NewScanner(t.Stdin)
	in.Split(func(data []byte, end bool) (int, []byte, error) {
		if at := strings.IndexAny(string(data), "\r\n"); at >= 0 {
			return at + 1, data[:at], nil
		}
		return 0, nil, nil
	})
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if code, ok := exitOf(strings.Fields(line)); ok {
			return code
		}
		if line == "stty size" {
			t.mu.Lock()
			fmt.Fprintf(t.Stdout, "%d %d\r\n", t.size.Rows, t.size.Columns)
			t.mu.Unlock()
			continue
		}
		fmt.Fprintf(t.Stdout, "%s\r\n", strings.TrimPrefix(line, "echo "))
	}
	return 0
}
