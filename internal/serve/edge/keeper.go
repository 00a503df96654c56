package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/link"
	"github.com/berthdev/berth/internal/timeouts"
)

// Keeper keeps the process: it finds or starts it, replaces it by one of another version, feeds it, and starts it again when it ends.
// It holds duplicates of its listening sockets, so that connections wait while there is none. The process outlives it.
type Keeper struct {
	c      Config
	log    *slog.Logger
	client *link.Client

	running *link.Hello // when the Keeper was opened; nil: none ran

	mu      sync.Mutex
	sockets map[string]int // duplicates of the process's listening sockets
}

// KeeperConfig is what a Keeper is told: the config of the process, and who takes its reports. Addresses may be missing; they are then
// Start's.
type KeeperConfig struct {
	Config
	OnHealth  func(model.TargetHealth)
	OnProblem func(listenerARN, problem string)
	Silence   time.Duration // link.ClientConfig's
	Log       *slog.Logger
}

// process is one that runs.
type process struct {
	hello link.Hello
	pidfd int
}

// OpenKeeper finds the process, or takes the API's port for the one that Start starts: a port that another program has is an error. A
// process that was killed while nobody kept it is started again at once, with the config that it had.
func OpenKeeper(c KeeperConfig) (*Keeper, error) {
	k := &Keeper{c: c.Config, log: c.Log, sockets: map[string]int{}}
	k.client = link.NewClient(link.ClientConfig{OnHealth: c.OnHealth, OnProblem: c.OnProblem, OnSockets: k.hold, Silence: c.Silence,
		Log: c.Log})
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := k.find(); err != nil {
		k.log.Warn("the proxy that runs does not answer; it is replaced", "error", err)
	}
	last, lastErr := ReadConfig(c.file())
	died := k.running == nil && lastErr == nil
	if _, ok := k.sockets[c.Listen]; !ok {
		if err := k.take(c.Listen, died); err != nil {
			k.Close()
			return nil, err
		}
	}
	if died && k.running == nil && last.Listen == c.Listen {
		if err := k.start(context.Background(), last); err != nil {
			k.log.Warn("the proxy cannot be started as it was", "error", err)
		}
	}
	return k, nil
}

// take opens the API's port. A process that died a moment ago may still be giving it back, and one that was being started when its keeper
// died may hold it and not be heard yet: it is found as soon as it serves.
func (k *Keeper) take(address string, died bool) error {
	l, err := listen(address)
	for deadline := time.Now().Add(timeouts.PortBack); died && errors.Is(err, unix.EADDRINUSE) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		if found := k.find(); found == nil && k.running != nil {
			if _, ok := k.sockets[address]; ok {
				return nil
			}
		}
		l, err = listen(address)
	}
	if err != nil {
		return err
	}
	fd, err := duplicate(l)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	k.sockets[address] = fd
	return nil
}

// find looks for a process that runs.
func (k *Keeper) find() error {
	conn, err := link.Dial(k.c.Socket())
	if err != nil {
		return nil //nolint:nilerr // none runs
	}
	defer conn.Close()
	p, err := k.meet(conn, link.Look)
	if err != nil {
		return err
	}
	k.running = &p.hello
	return unix.Close(p.pidfd)
}

// meet greets a process and takes duplicates of its sockets. One that does not answer is killed.
func (k *Keeper) meet(conn *link.Conn, role link.Role) (*process, error) {
	pid, err := conn.Peer()
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(pid, 0) // the number is its own still: it answers below
	if err != nil {
		return nil, fmt.Errorf("the proxy (process %d): %w", pid, err)
	}
	hello, open, err := link.Greet(conn, role)
	if err != nil {
		kill(pidfd)
		gone(pidfd, timeouts.ProxyExit)
		return nil, errors.Join(err, unix.Close(pidfd))
	}
	k.hold(true, open, nil)
	return &process{hello: hello, pidfd: pidfd}, nil
}

// hold takes duplicates of the process's sockets.
func (k *Keeper) hold(all bool, open map[string]int, closed []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	gone := slices.Concat(closed, slices.Collect(maps.Keys(open)))
	if all {
		gone = slices.Collect(maps.Keys(k.sockets))
	}
	for _, name := range gone {
		if fd, ok := k.sockets[name]; ok {
			_ = unix.Close(fd)
			delete(k.sockets, name)
		}
	}
	maps.Copy(k.sockets, open)
}

// AnswerNames has the process answer the DNS questions of this machine's tasks at an address such as 10.0.0.1:53. false: another program
// has the port, and is left to answer. Call it before Start.
func (k *Keeper) AnswerNames(address string) bool {
	k.mu.Lock()
	_, held := k.sockets[packetName(address)]
	k.mu.Unlock()
	if !held {
		at, err := net.ResolveUDPAddr("udp4", address)
		if err != nil {
			return false
		}
		c, err := net.ListenUDP("udp4", at)
		if err != nil {
			return false
		}
		_ = c.Close() // it was free
	}
	k.c.NameServer = address
	return true
}

// Start makes sure that a process with this Config serves: one of another program or config is replaced without a request's failing.
// Whoever uses a Keeper calls it once, before Run.
func (k *Keeper) Start(ctx context.Context, addresses []string) error {
	k.c.Addresses = addresses
	k.c.Fingerprint = k.c.fingerprint(program)
	if k.running != nil && k.running.Fingerprint == k.c.Fingerprint {
		k.log.Info("the proxy is running", "pid", k.running.PID)
		return nil
	}
	return k.start(ctx, k.c)
}

// Change implements feed.Applier.
func (k *Keeper) Change(d proxy.Delta) { k.client.Change(d) }

// Stats are the process's counters.
func (k *Keeper) Stats(ctx context.Context) (proxy.Snapshot, error) { return k.client.Stats(ctx) }

// minPause is the pause before a process that ended at its start is started again; it grows. One that ran for a while is started at once.
const minPause = 50 * time.Millisecond

// lookPause is the pause before a process whose connection ended is looked for.
const lookPause = time.Millisecond

// Run feeds the process and starts it again whenever it ends, or does not answer, until ctx is done; it then goes on without a Keeper.
func (k *Keeper) Run(ctx context.Context) error {
	var pause time.Duration
	var started time.Time
	for ctx.Err() == nil {
		found, err := k.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if found { // whether it ended, or a successor is there, says the next look
			k.log.Info("the connection to the proxy ended", "reason", err)
			wait(ctx, lookPause)
			continue
		}
		if time.Since(started) > timeouts.ProxySteady {
			pause = 0
		}
		k.log.Warn("the proxy ended; starting it again", "in", pause)
		if wait(ctx, pause); ctx.Err() != nil {
			return nil
		}
		pause = min(max(minPause, 2*pause), timeouts.ProxyLongestPause)
		if err := k.start(ctx, k.c); err != nil && ctx.Err() == nil {
			k.log.Error("the proxy cannot be started; trying again", "error", err)
		}
		started = time.Now() // what it took to start is no steadiness
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// serve feeds the process that listens until it ends, or the connection does. found is false when none listens. One that is hung is
// killed.
func (k *Keeper) serve(ctx context.Context) (found bool, err error) {
	conn, err := link.Dial(k.c.Socket())
	if err != nil {
		return false, err
	}
	defer conn.Close()
	p, err := k.meet(conn, link.Feed)
	if err != nil {
		return true, err
	}
	defer unix.Close(p.pidfd)
	if err = k.client.Serve(ctx, conn, p.hello); errors.Is(err, link.ErrSilent) {
		kill(p.pidfd)
		gone(p.pidfd, timeouts.ProxyExit)
	}
	return true, err
}

func kill(pidfd int) { _ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) } // one that is gone needs none

// gone waits for a process's end.
func gone(pidfd int, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(max(0, time.Until(deadline).Milliseconds())))
		if err == nil || !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// Close gives up the duplicates; the process goes on.
func (k *Keeper) Close() {
	k.hold(true, nil, nil)
}

// Stop ends the process of a Config, and with it those that it took over from, once what is in flight has ended. That none runs is no
// error.
func Stop(ctx context.Context, c Config) error {
	conn, err := link.Dial(c.Socket())
	if err != nil {
		return nil //nolint:nilerr // none runs
	}
	defer conn.Close()
	pid, err := conn.Peer()
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil //nolint:nilerr // it has just ended
	}
	defer unix.Close(pidfd)
	hello, open, err := link.Greet(conn, link.Look)
	for _, fd := range open {
		_ = unix.Close(fd)
	}
	if err == nil && hello.PID == pid {
		err = conn.Send(&link.Message{Quit: true})
	}
	if err == nil && gone(pidfd, timeouts.ProxyStop) || ctx.Err() != nil {
		return ctx.Err()
	}
	kill(pidfd)
	if !gone(pidfd, timeouts.ProxyStop) {
		return fmt.Errorf("the proxy (process %d) does not end", pid)
	}
	return nil
}
