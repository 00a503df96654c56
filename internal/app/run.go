package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/timeouts"
)

// Run is `berth up`: server and node in one process, until ctx is done. Tasks go on when it returns.
func Run(ctx context.Context, c Config, out io.Writer) error {
	in, release, err := openServer(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	log := newLogger(c.Verbose)
	if err := gate.RaiseFiles(); err != nil {
		log.Warn("few connections at once", "reason", err)
	}
	p, err := openPlane(in, c, log)
	if err != nil {
		return err
	}
	defer p.close()
	near := newInside(in.NodeID)
	n, err := openNode(ctx, in, near.uplink(), c.Version, log)
	if err != nil {
		return err
	}
	s := newServer(in, c, log)
	s.stats = p.stats
	s.gateway, s.near, near.end = n.machine.gateway, near, n.agent.End
	defer s.close()
	defer n.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.run(ctx) }) // what runs is looked after while the server is still opened
	g.Go(func() error {
		if err := s.open(ctx); err != nil {
			return err
		}
		if err := p.start(ctx, s.newFeed(p.log), n.machine.gateway); err != nil {
			return err
		}
		s.port.onOpen = near.again
		began := time.Now()
		near.open(s)
		g.Go(func() error { return s.run(ctx) })
		g.Go(func() error {
			s.awaitNode(ctx, began)
			return p.run(ctx, s)
		})
		welcome(out, in, s.consoleLink())
		return nil
	})
	err = g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		log.Info("stopped; tasks go on, and the next berth up manages them")
		return nil
	}
	return err
}

func newLogger(verbose bool) *slog.Logger { return loggerTo(os.Stderr, verbose) }

func loggerTo(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// welcome says where the API is and how to use it.
func welcome(out io.Writer, in *Instance, link string) {
	env := "berth env"
	if in.dir != DefaultDataDir {
		env = "berth --data-dir " + in.dir + " env"
	}
	fmt.Fprintf(out, `Berth answers at http://%s (account %s, region %s, runtime %s)
  the console:      %s
  a shell for it:   eval "$(%s)"
  then, say:        aws ecs list-clusters
  the registry:     aws ecr get-login-password | docker login -u AWS --password-stdin %s
`, in.Listen, in.Account, in.Region, in.Runtime, link, env, in.RegistryHost())
}

// serveHTTP serves until ctx is done, and then lets requests in flight end.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: timeouts.RequestHeader, IdleTimeout: timeouts.RequestIdle, MaxHeaderBytes: 64 << 10}
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), timeouts.RequestDrain)
		defer cancel()
		_ = srv.Shutdown(grace) // what is still open then is closed with the process
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}
