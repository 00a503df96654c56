package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/gate"
)

// openServer opens the instance of a server, takes its lock and joins the cluster that c.Join names, if it has not yet.
func openServer(ctx context.Context, c Config) (in *Instance, release func(), err error) {
	if in, err = openInstance(c); err != nil {
		return nil, nil, err
	}
	if release, err = in.lock(); err != nil {
		return nil, nil, err
	}
	if c.Join != "" {
		if err = in.joinServers(ctx, c); err != nil && !in.saved {
			in.unmake()
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return in, release, nil
}

// Server is `berth server`: the control plane of a cluster whose tasks run on other machines, until ctx is done.
func Server(ctx context.Context, c Config, out io.Writer) error {
	c.Alone = true
	in, release, err := openServer(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	log := newLogger(c.Verbose)
	if err := gate.RaiseFiles(); err != nil {
		log.Warn("few connections at once", "reason", err)
	}
	l, err := net.Listen("tcp", in.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another with --listen", in.Listen, err)
	}
	defer l.Close()
	s := newServer(in, c, log)
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, `Berth answers at http://%s (account %s, region %s)
  the console:   %s
  add a node:    berth token node
  add a server:  berth token server
`, in.Listen, in.Account, in.Region, s.consoleLink())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveHTTP(ctx, apiGate(log, 0).Listener(l), s.handler()) })
	g.Go(func() error { return s.run(ctx) })
	g.Go(func() error { f := s.newFeed(log); return f.Run(ctx, s.casts(f, nil)) })
	err = g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		log.Info("stopped; tasks go on on their nodes")
		return nil
	}
	return err
}
