package edge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/dns"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/link"
	"github.com/berthdev/berth/internal/timeouts"
)

// edge is the process's one object.
type edge struct {
	c       Config
	log     *slog.Logger
	sockets *sockets
	proxy   *proxy.Proxy
	names   *dns.Resolver
	api     *api
	http    *http.Server // of the API's port
	journal *journal
	link    *link.Server
	before  *predecessor // nil: none
	epoch   string       // of what before is told
	end     chan ending
}

// ending is how the process ends.
type ending int

const (
	quit      ending = iota // told to: ports are given back
	terminate               // a signal: ports are left to whoever has duplicates
	succeeded               // a successor serves
)

// Run is the process: it takes over from the one that runs, or goes on where one that was killed ended, and serves until ctx is done,
// it is told to quit, or a successor has taken over and nothing is in flight any more. parent, nil when there is none, is a socket of
// the Keeper that started it, which hands listening sockets over and waits for the word that this process serves.
func Run(ctx context.Context, c Config, parent *os.File, log *slog.Logger) error {
	e := &edge{c: c, log: log, sockets: newSockets(), epoch: rand.Text(), end: make(chan ending, 4)}
	starting, err := lockStart(c)
	if err != nil {
		return err
	}
	ready, err := e.inherit(parent)
	if err != nil {
		return errors.Join(err, starting.Close())
	}
	e.succeed()
	if err := e.open(); err != nil {
		return errors.Join(err, starting.Close())
	}
	local, err := listenPrivate(c.Socket())
	if err != nil {
		return errors.Join(err, starting.Close())
	}
	go func() { _ = e.link.Serve(local) }() // ends when local is closed
	if e.before != nil {
		go e.before.follow()
		if err := e.before.conn.Send(&link.Message{Ready: true}); err != nil {
			log.Warn("the process that runs did not hear that this one takes over", "error", err)
		}
	}
	ready()
	if err := starting.Close(); err != nil {
		return err
	}
	log.Info("serving", "version", c.Version, "pid", os.Getpid())
	done := make(chan struct{})
	go e.journal.run(done)
	defer close(done)
	select {
	case <-ctx.Done():
		e.finish(ctx, local, terminate)
	case how := <-e.end:
		e.finish(ctx, local, how)
	}
	return nil
}

// lockStart lets one process start at a time, so that each finds the one before it.
func lockStart(c Config) (*os.File, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.Dir, "proxy.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(timeouts.ProxyStart); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("another proxy starts in %s: %w", c.Dir, err), f.Close())
		}
	}
}

// inherit takes what the Keeper hands over.
func (e *edge) inherit(parent *os.File) (ready func(), err error) {
	if parent == nil {
		return func() {}, nil
	}
	c, err := net.FileConn(parent)
	if err = errors.Join(err, parent.Close()); err != nil {
		return nil, fmt.Errorf("the socket of berth up: %w", err)
	}
	conn := link.NewConn(c.(*net.UnixConn))
	for {
		m, got, err := conn.Receive(timeouts.ProxyHand)
		if err != nil { // it is gone; what it held ended with it
			return readiness(conn), nil
		}
		if m.Sockets != nil {
			e.adopt(m.Sockets.Names, got)
		}
		if m.Ready {
			return readiness(conn), nil
		}
	}
}

func readiness(conn *link.Conn) func() {
	return func() {
		_ = conn.Send(&link.Message{Ready: true}) // nobody waits for it if that fails
		conn.Close()
	}
}

func (e *edge) adopt(names []string, descriptors []int) {
	for i, name := range names {
		if err := e.sockets.adopt(name, descriptors[i]); err != nil {
			e.log.Warn("a socket is opened anew", "error", err)
		}
	}
}

// succeed takes the sockets of the process that runs, if one does.
func (e *edge) succeed() {
	conn, err := link.Dial(e.c.Socket())
	if err != nil {
		return
	}
	hello, open, err := link.Greet(conn, link.Succeed)
	if err != nil {
		conn.Close()
		e.log.Error("the process that runs does not hand over; what it serves breaks off when it ends", "error", err)
		return
	}
	for name, fd := range open {
		e.adopt([]string{name}, []int{fd})
	}
	e.log.Info("taking over", "from", hello.PID, "version", hello.Version)
	e.before = &predecessor{conn: conn, log: e.log, done: make(chan struct{}), settle: func() { e.proxy.Settle() }}
}

// open makes everything and serves what was served last.
func (e *edge) open() error {
	table, known, err := readJournal(e.c.table())
	if err != nil {
		e.log.Error("what was served last cannot be read; the server says it again", "error", err)
	}
	e.proxy = proxy.New(proxy.Config{Addresses: e.c.Addresses, Pace: e.c.Pace, Now: time.Now, Log: e.log, Listen: e.sockets.Listen, Known: known,
		Elsewhere: func(target string) bool { return e.before.elsewhere(target) },
		OnHealth: func(h model.TargetHealth) {
			e.journal.health(h)
			e.link.Health(h)
		},
		OnProblem: func(listener, problem string) { e.link.Problem(listener, problem) }})
	e.names = dns.New(dns.Config{ResolvConf: "/etc/resolv.conf", Log: e.log.With("component", "resolver")})
	e.journal = newJournal(e.c.table(), func() (proxy.Table, []model.TargetHealth) {
		t := e.proxy.Table()
		t.Names = e.names.Names()
		return t, e.proxy.Health()
	}, e.log)
	e.link = link.NewServer(link.ServerConfig{Hello: link.Hello{Fingerprint: e.c.Fingerprint, Version: e.c.Version, PID: os.Getpid()},
		Change: e.change, Health: e.proxy.Health, Problems: e.proxy.Problems, Busy: e.proxy.Busy, Count: e.proxy.Snapshot, Sockets: e.sockets.list,
		Succeeded: func() { e.end <- succeeded }, Quit: func() { e.end <- quit }, Log: e.log})
	e.sockets.changed = e.link.SocketsChanged
	l, err := e.sockets.Listen(e.c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", e.c.Listen, err)
	}
	e.proxy.Apply(table)
	e.names.Change(table.Whole())
	e.answerNames()
	if err := e.journal.begin(); err != nil {
		e.log.Error("what is served cannot be kept on disk", "error", err)
	}
	e.api = newAPI(e.proxy, e.c.APISocket(), e.log)
	e.http = e.api.newServer()
	// All programs of this machine are one source.
	apiGate := gate.New(gate.Config{Name: "the API", Total: gate.Part(8192, 8), Log: e.log})
	go func() {
		if err := e.http.Serve(apiGate.Listener(l)); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			e.log.Error("the API's port is not served any more", "error", err)
		}
	}()
	return nil
}

// answerNames answers tasks' DNS questions for as long as the process lives; a predecessor that still runs answers some of them. Where another
// program has the port, that answers.
func (e *edge) answerNames() {
	if e.c.NameServer == "" {
		return
	}
	packets, err := e.sockets.ListenPackets(e.c.NameServer)
	if err != nil {
		e.log.Warn("tasks are not given a name server, unless the program that has the port is one", "address", e.c.NameServer, "reason", err)
		return
	}
	go func() { _ = e.names.ServePackets(context.Background(), packets) }()
	streams, err := e.sockets.Listen(e.c.NameServer)
	if err != nil {
		e.log.Warn("tasks are given a name server over UDP only", "address", e.c.NameServer, "reason", err)
		return
	}
	bounded := gate.New(gate.Config{Name: "the tasks' name server", Total: gate.Part(1024, 32), PerSource: 64, Log: e.log}).Listener(streams)
	go func() { _ = e.names.ServeStreams(context.Background(), bounded) }()
}

// change makes a change of the table.
func (e *edge) change(d proxy.Delta) {
	e.before.announce(e.epoch, d)
	e.proxy.Change(d)
	e.names.Change(d)
	e.journal.change(d)
	if d.All {
		e.sockets.seal()
	}
}

// finish ends the process as it is told to. What quits meanwhile ends at once.
func (e *edge) finish(ctx context.Context, local *net.UnixListener, how ending) {
	e.log.Info("ending", "how", [...]string{"told to quit", "terminated", "a successor serves"}[how])
	_ = local.Close() // the path is a successor's, or nobody's
	if how != quit {
		e.sockets.hand()
	}
	e.journal.end()
	if how == succeeded {
		e.api.leaving.Store(true)
		ctx, cancel := context.WithTimeout(ctx, timeouts.ProxyDrain)
		defer cancel()
		go func() {
			if <-e.end == quit {
				cancel()
			}
		}()
		var all sync.WaitGroup
		all.Go(func() { e.proxy.Leave(ctx, timeouts.ProxyIdle) })
		all.Go(func() { e.leaveAPI(ctx) })
		all.Wait()
	} else {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeouts.ProxyShut)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { _ = e.proxy.Close() })
		all.Go(func() { shutHTTP(ctx, e.http) })
		all.Wait()
		e.before.quit()
		e.before.await(ctx)
	}
	e.link.Close()
}

// leaveAPI ends the API's port of a process that has a successor.
func (e *edge) leaveAPI(ctx context.Context) {
	e.sockets.close(e.c.Listen)
	select {
	case <-ctx.Done():
	case <-time.After(timeouts.ProxyIdle):
	}
	shutHTTP(ctx, e.http)
}

func shutHTTP(ctx context.Context, s *http.Server) {
	if s.Shutdown(ctx) != nil {
		_ = s.Close() // its error is that of a listener that was closed before
	}
}
