package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	ctd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/timeouts"
)

// Daemon is the containerd of one State. Only one Daemon should Start or Supervise it at a time.
type Daemon struct {
	c     Config
	log   *slog.Logger
	heard atomic.Pointer[time.Time] // when containerd last answered
}

// New makes a Daemon. It starts nothing.
func New(c Config, log *slog.Logger) (*Daemon, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Daemon{c: c, log: log}, nil
}

// Start makes sure that containerd runs and answers: it adopts one that runs already, replaces one of another config or of an
// older berth, and else starts one, which outlives this process, also when ctx ends before it answers. Containers are not touched.
func (d *Daemon) Start(ctx context.Context) error {
	if r, ok := load(d.c); ok {
		if r.Fingerprint == d.c.fingerprint() && d.ready(ctx, timeouts.ContainerdStart, r.Alive) == nil {
			d.log.Info("containerd is running", "pid", r.PID)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.log.Info("replacing containerd: its program or config changed, or it does not answer", "pid", r.PID)
		if err := d.Stop(ctx); err != nil {
			return err
		}
	}
	err := d.launch(ctx)
	if errors.Is(err, errSilent) && ctx.Err() == nil {
		// A shim may have begun to hang after it was asked: the next start sets it aside.
		d.log.Warn("containerd did not serve in time; starting it once more", "error", err)
		err = d.launch(ctx)
	}
	if err != nil && ctx.Err() == nil && d.other(ctx) {
		return nil
	}
	return err
}

// other tells whether another one serves by now: a `berth up` that was killed may have begun to start it, and its record comes only with its
// lock.
func (d *Daemon) other(ctx context.Context) bool {
	r, ok := load(d.c)
	if !ok || r.Fingerprint != d.c.fingerprint() || d.ready(ctx, timeouts.ContainerdStart, r.Alive) != nil {
		return false
	}
	d.log.Info("containerd is running: somebody else started it meanwhile", "pid", r.PID)
	return true
}

var errSilent = errors.New("containerd does not answer")

// launch starts the process in a session of its own and waits until it answers.
func (d *Daemon) launch(ctx context.Context) error {
	for _, dir := range []string{d.c.Root, filepath.Dir(d.c.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("containerd: %w", err)
		}
	}
	if err := os.MkdirAll(d.c.State, 0o711); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	if err := d.c.save(); err != nil {
		return fmt.Errorf("containerd's config: %w", err)
	}
	out, err := d.openLog()
	if err != nil {
		return fmt.Errorf("containerd's log: %w", err)
	}
	defer out.Close()
	logged, _ := out.Seek(0, 2)
	cmd := exec.Command(d.c.Exe, append(append([]string{}, d.c.Args...), "--config", d.c.file())...)
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	ended := make(chan struct{})
	go func() { // reaps the child for as long as it is ours
		_ = cmd.Wait()
		close(ended)
	}()
	err = d.ready(ctx, timeouts.ContainerdStart, func() bool {
		select {
		case <-ended:
			return false
		default:
			return true
		}
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // it goes on starting, and whoever starts it next finds it
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("%w; its log %s ends with: %s", err, d.c.LogFile, d.tail(logged))
	}
	d.log.Info("containerd started", "pid", cmd.Process.Pid)
	return nil
}

// environment is what containerd and through it every shim see: nothing secret of ours.
func environment() []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return []string{"PATH=" + path, "HOME=/root", "LANG=C.UTF-8"}
}

func (d *Daemon) openLog() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(d.c.LogFile), 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Stat(d.c.LogFile); err == nil && info.Size() > 8<<20 {
		if err := os.Rename(d.c.LogFile, d.c.LogFile+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(d.c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// tail is the last of the log after offset, at most 600 bytes.
func (d *Daemon) tail(offset int64) string {
	data, err := os.ReadFile(d.c.LogFile)
	if err != nil || int64(len(data)) <= offset {
		return "(nothing)"
	}
	data = data[offset:]
	return strings.TrimSpace(string(data[max(0, len(data)-600):]))
}

// ready waits until containerd answers on its socket, while running says that its process is there.
func (d *Daemon) ready(ctx context.Context, timeout time.Duration, running func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		if d.answers(ctx, timeouts.ContainerdProbe) {
			return nil
		}
		if !running() {
			return errors.New("containerd ended before it answered")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w on %s after %v", errSilent, d.c.Socket, timeout)
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// answers asks containerd for its health.
func (d *Daemon) answers(ctx context.Context, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	probe, err := new(net.Dialer).DialContext(ctx, "unix", d.c.Socket)
	if err != nil {
		return false // the client would wait for someone to listen
	}
	probe.Close()
	client, err := ctd.New(d.c.Socket, ctd.WithTimeout(timeout))
	if err != nil {
		return false
	}
	defer client.Close()
	serving, err := client.IsServing(ctx)
	if err != nil || !serving {
		return false
	}
	now := time.Now()
	d.heard.Store(&now)
	return true
}

// Heard is when containerd last answered; Supervise asks it again and again.
func (d *Daemon) Heard() time.Time {
	if at := d.heard.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// PID is containerd's process, 0 when it does not run.
func (d *Daemon) PID() int {
	if r, ok := load(d.c); ok {
		return r.PID
	}
	return 0
}

// Supervise starts containerd again whenever it ends or stops answering, until ctx is done; it then leaves it running.
// The pauses before it does grow while starts fail or containerd ends at once.
func (d *Daemon) Supervise(ctx context.Context) error {
	pause := timeouts.ContainerdFirstPause
	for {
		since := time.Now()
		if r, ok := load(d.c); ok {
			d.watch(ctx, r)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(since) > timeouts.ContainerdSteady {
			pause = timeouts.ContainerdFirstPause
		}
		d.log.Warn("containerd ended; starting it again", "in", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, timeouts.ContainerdLastPause)
		if err := d.Start(ctx); err != nil {
			d.log.Error("containerd cannot be started; trying again", "error", err)
		}
	}
}

// watch returns when the process has ended. One that no longer answers is killed.
func (d *Daemon) watch(ctx context.Context, r record) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		tick := time.NewTicker(timeouts.ContainerdHealth)
		defer tick.Stop()
		for misses := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if d.answers(ctx, timeouts.ContainerdAnswer) {
				misses = 0
			} else if misses++; misses >= timeouts.ContainerdMisses && ctx.Err() == nil {
				d.log.Error("containerd does not answer; killing it", "pid", r.PID)
				r.Signal(unix.SIGKILL)
			}
		}
	}()
	_ = r.Wait(ctx)
}

// Stop ends containerd: SIGTERM, and SIGKILL after timeouts.ContainerdStop. Its containers keep running until they are deleted. One that does not
// run is no error.
func (d *Daemon) Stop(ctx context.Context) error {
	r, ok := load(d.c)
	if ok {
		r.Signal(unix.SIGTERM)
		soft, cancel := context.WithTimeout(ctx, timeouts.ContainerdStop)
		defer cancel()
		if r.Wait(soft) != nil {
			r.Signal(unix.SIGKILL)
			hard, cancel := context.WithTimeout(ctx, timeouts.ContainerdStop)
			defer cancel()
			if err := r.Wait(hard); err != nil {
				return fmt.Errorf("stop containerd (process %d): %w", r.PID, err)
			}
		}
	}
	for _, f := range []string{d.c.Socket, d.c.Socket + ".ttrpc", recordFile(d.c)} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
