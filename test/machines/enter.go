package machines

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// apart runs f on a thread of its own, which may change its namespaces and ends with f. It is never the main thread: that one's
// namespaces are what /proc/self shows.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- apart(f)
			return
		}
		done <- f() // not unlocked: the thread ends
	}()
	return <-done
}

// join changes the namespaces of the calling thread to those of a process.
func join(pid int, kinds ...string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a thread that shares its root may not change its mounts
		return err
	}
	for _, kind := range kinds {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("namespace %s of process %d: %w", kind, pid, err)
		}
		err = unix.Setns(fd, 0)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter namespace %s of process %d: %w", kind, pid, err)
		}
	}
	return nil
}

// Command is a command on the machine, in the environment of its services. Use Start or Run of the result, and not those of its Cmd.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *Command {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = m.environ()
	c.Dir = "/"
	return &Command{Cmd: c, m: m}
}

// Command is an exec.Cmd that starts on a machine. It ends with the machine.
type Command struct {
	*exec.Cmd
	m *Machine
}

// Start starts the command on its machine.
func (c *Command) Start() error {
	first, err := c.m.first()
	if err != nil {
		return err
	}
	return apart(func() error {
		// /proc is that of this process until the mounts are entered, which comes last.
		if err := join(first.PID, "pid", "net", "uts", "mnt"); err != nil {
			return err
		}
		return c.Cmd.Start()
	})
}

// Run starts the command and waits for its end.
func (c *Command) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns what it wrote. The error holds what it wrote to the standard error.
func (c *Command) Output() (string, error) {
	var out, errs tail
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("on %s: %v: %w\n%s%s", c.m.Name, c.Args, err, out.String(), errs.String())
	}
	return out.String(), nil
}

// tail keeps what was written, of much the end.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	if t.data = append(t.data, p...); len(t.data) > 2<<20 {
		t.data = append(t.data[:0], t.data[len(t.data)-1<<20:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.data) }

// Dial connects as a program on the machine does: 127.0.0.1 is the machine's own, and cuts hold for it. The address must be numeric.
func (m *Machine) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	first, err := m.first()
	if err != nil {
		return nil, err
	}
	err = apart(func() error {
		if err := join(first.PID, "net"); err != nil {
			return err
		}
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
