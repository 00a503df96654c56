package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/serve/proxy/link"
	"github.com/berthdev/berth/internal/timeouts"
)

// handSize is how many sockets one message carries.
const handSize = 64

// start runs a process with c, hands it the sockets, and waits until it serves. One that runs already is taken over from.
func (k *Keeper) start(ctx context.Context, c Config) error {
	if err := c.save(); err != nil {
		return fmt.Errorf("the proxy's config: %w", err)
	}
	out, err := openLog(c.LogFile)
	if err != nil {
		return fmt.Errorf("the proxy's log: %w", err)
	}
	defer out.Close()
	begin, _ := out.Seek(0, 2)
	conn, theirs, err := pair()
	if err != nil {
		return err
	}
	defer conn.Close()
	cmd := exec.Command(program, "proxy", "--config", c.file(), "--started")
	cmd.Args[0] = "berth"
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LANG=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{theirs} // becomes descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if err = errors.Join(err, theirs.Close()); err != nil {
		return fmt.Errorf("start the proxy: %w", err)
	}
	go func() { _ = cmd.Wait() }() // reaps the child for as long as it is ours
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := k.hand(conn); err == nil {
		var m *link.Message
		if m, _, err = conn.Receive(timeouts.ProxyStart); err == nil && m.Ready {
			k.log.Info("the proxy started", "pid", cmd.Process.Pid)
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() // it goes on starting, and whoever looks next finds it
	}
	_ = cmd.Process.Kill()
	return fmt.Errorf("the proxy ended before it served; its log %s ends with: %s", c.LogFile, tail(c.LogFile, begin))
}

// hand gives the other side of conn all sockets.
func (k *Keeper) hand(conn *link.Conn) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	var fds []int
	flush := func() error {
		err := conn.Send(&link.Message{Sockets: &link.Sockets{Names: names}}, fds...)
		names, fds = nil, nil
		return err
	}
	for name, fd := range k.sockets {
		names, fds = append(names, name), append(fds, fd)
		if len(fds) == handSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(fds) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	return conn.Send(&link.Message{Ready: true})
}

// pair makes a connection, one end of which is for a child.
func pair() (*link.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "proxy"), os.NewFile(uintptr(fds[1]), "berth up")
	c, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return link.NewConn(c.(*net.UnixConn)), theirs, nil
}

// tail is the last of the log after offset, at most 600 bytes.
func tail(path string, offset int64) string {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) <= offset {
		return "(nothing)"
	}
	data = data[offset:]
	return strings.TrimSpace(string(data[max(0, len(data)-600):]))
}
