package agenttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

// conversation is an interaction from its user's side.
type conversation struct {
	r       *rig
	in      *io.PipeWriter
	sizes   chan agent.Size
	signals chan syscall.Signal
	cancel  context.CancelFunc
	ended   chan struct{}
	code    int
	err     error

	mu   sync.Mutex
	out  bytes.Buffer
	more chan struct{}
}

// Write implements io.Writer for the command's output.
func (c *conversation) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Write(p)
	close(c.more)
	c.more = make(chan struct{})
	return len(p), nil
}

func (r *rig) talk(id, container string, terminal bool, command ...string) *conversation {
	stdin, in := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	c := &conversation{r: r, in: in, sizes: make(chan agent.Size, 1), signals: make(chan syscall.Signal, 1), cancel: cancel,
		ended: make(chan struct{}), more: make(chan struct{})}
	go func() {
		defer close(c.ended)
		defer stdin.Close()
		c.code, c.err = r.agent.Interact(ctx, id, container, agent.Interaction{Command: command, Terminal: terminal,
			Size: agent.Size{Columns: 101, Rows: 33}, Stdin: stdin, Stdout: c, Stderr: c, Sizes: c.sizes, Signals: c.signals})
	}()
	return c
}

func (c *conversation) say(line string) {
	c.r.Helper()
	if _, err := io.WriteString(c.in, line); err != nil {
		c.r.Fatalf("say %q: %v", line, err)
	}
}

// hears waits for the output to hold text.
func (c *conversation) hears(text string) {
	c.r.Helper()
	deadline := time.After(c.r.env.Patience)
	for {
		c.mu.Lock()
		out, more := c.out.String(), c.more
		c.mu.Unlock()
		if strings.Contains(out, text) {
			return
		}
		select {
		case <-more:
		case <-c.ended:
			c.mu.Lock()
			out = c.out.String()
			c.mu.Unlock()
			if !strings.Contains(out, text) {
				c.r.Fatalf("ended with %d %v and without %q: %q", c.code, c.err, text, out)
			}
			return
		case <-deadline:
			c.r.Fatalf("did not hear %q but %q", text, out)
		}
	}
}

func (c *conversation) ends() (int, error) {
	c.r.Helper()
	select {
	case <-c.ended:
	case <-time.After(c.r.env.Patience):
		c.r.Fatalf("the command does not end; it said %q", c.out.String())
	}
	return c.code, c.err
}

func interact(r *rig) {
	id := r.add(define(types.NetworkModeNone, r.program("web", Serve)))
	r.reach(id, model.Running)

	if code, err := r.talk(id, "web", false, "/bin/sh", "-c", "exit 3").ends(); code != 3 || err != nil {
		r.Errorf("exit 3: %d %v", code, err)
	}
	c := r.talk(id, "web", false, "cat")
	c.say("one\ntwo")
	c.in.Close()
	if code, err := c.ends(); code != 0 || err != nil || c.out.String() != "one\ntwo" {
		r.Errorf("cat: %d %v %q", code, err, c.out.String())
	}

	c = r.talk(id, "web", true, "/bin/sh")
	c.say("stty size\r")
	c.hears("33 101")
	c.sizes <- agent.Size{Columns: 77, Rows: 22}
	for range 100 { // the size is set beside the input
		c.say("stty size\r")
		if <-time.After(20 * time.Millisecond); strings.Contains(c.said(), "22 77") {
			break
		}
	}
	c.hears("22 77")
	c.say("exit 7\r")
	if code, err := c.ends(); code != 7 || err != nil {
		r.Errorf("a terminal: %d %v", code, err)
	}

	c = r.talk(id, "web", true, "/bin/sh")
	c.say("echo here\r")
	c.hears("here")
	c.cancel()
	if _, err := c.ends(); !errors.Is(err, context.Canceled) {
		r.Errorf("given up: %v", err)
	}
	if r.env.Shell {
		c = r.talk(id, "web", false, "/bin/sh", "-c", `trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done`)
		c.hears("ready")
		c.signals <- syscall.SIGINT
		if code, err := c.ends(); code != 9 || err != nil {
			r.Errorf("SIGINT: %d %v", code, err)
		}
		if _, err := r.talk(id, "web", true, "/no/such/program").ends(); err == nil || !strings.Contains(err.Error(), "no such file") {
			r.Errorf("no such program: %v", err)
		}
	}
	if _, err := r.talk(id, "nobody", false, "true").ends(); !errors.Is(err, agent.ErrNotRunning) {
		r.Errorf("no such container: %v", err)
	}
	var all []*conversation
	for range 8 {
		all = append(all, r.talk(id, "web", false, "cat"))
		all[len(all)-1].say("x")
		all[len(all)-1].hears("x")
	}
	if _, err := r.talk(id, "web", false, "cat").ends(); err == nil || !strings.Contains(err.Error(), "as many as may be") {
		r.Errorf("the ninth session: %v", err)
	}
	for _, c := range all {
		c.in.Close()
		if code, err := c.ends(); code != 0 || err != nil {
			r.Errorf("one of many: %d %v", code, err)
		}
	}
}

func (c *conversation) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func interactEnds(r *rig) {
	id := r.add(define(types.NetworkModeNone, r.program("web", Serve)))
	r.reach(id, model.Running)
	r.listens(id)
	c := r.talk(id, "web", true, "/bin/sh")
	c.say("echo here\r")
	c.hears("here")
	r.stop(id)
	r.reach(id, model.Stopped)
	if code, err := c.ends(); err == nil && code != 137 {
		r.Errorf("the session ended with %d %v", code, err)
	}
	if _, err := r.talk(id, "web", false, "true").ends(); !errors.Is(err, agent.ErrNotRunning) {
		r.Errorf("after the end: %v", err)
	}
}
