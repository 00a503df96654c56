package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/relay"
	"github.com/berthdev/berth/internal/serve/edge"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/cast"
	"github.com/berthdev/berth/internal/serve/proxy/feed"
	"github.com/berthdev/berth/internal/timeouts"
)

// newCaster makes what tells machines without a server of load balancers, and has what they see of targets written down.
func (s *server) newCaster() *cast.Caster {
	log := s.log.With("component", "table")
	return cast.New(cast.Config{Log: log,
		Node:  func(c net.Conn) string { return callerID(peer.ContextOf(context.Background(), c)) },
		Fresh: func() bool { return s.leaderAge() < timeouts.TableSilence },
		Open: func(ctx context.Context, node string) (cast.Sink, func()) {
			v := feed.NewViewer(s.store, node, log)
			v.Hand = s.handHealth
			var writing sync.WaitGroup
			writing.Go(func() { v.Write(ctx) })
			return v, writing.Wait
		}})
}

// casts has a feed tell the machines without a server what it tells p, which is nil where this machine serves no load balancers itself.
func (s *server) casts(f *feed.Feed, p feed.Applier) feed.Applier {
	f.OnMachines = s.caster.Serving
	if p == nil {
		return s.caster
	}
	return appliers{p, s.caster}
}

// appliers are told the same.
type appliers []feed.Applier

// Change implements feed.Applier.
func (a appliers) Change(d proxy.Delta) {
	for _, p := range a {
		p.Change(d)
	}
}

// balancerAddresses are those of this machine at which load balancers answer: where the API is, the bridge, so that tasks reach them, and
// where other machines reach this one.
func balancerAddresses(listen, gateway, advertised string) []string {
	host, _, _ := net.SplitHostPort(listen) // checked when the instance was opened
	all := []string{host}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return all
	}
	if gateway != "" {
		all = append(all, gateway)
	}
	if advertised != "" && isLocal(advertised) && !slices.Contains(all, advertised) {
		all = append(all, advertised)
	}
	return all
}

// isLocal tells whether the address is one of this machine's devices: behind a router it is not.
func isLocal(address string) bool {
	ip := net.ParseIP(address)
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// front is what people reach of a machine without a server: `berth proxy` with the load balancers, and the API's port before the relay to
// the servers.
type front struct {
	in       *Instance
	log      *slog.Logger
	keeper   *edge.Keeper
	receiver *cast.Receiver
}

// openFront takes the API's port, or finds the process that has it. nil: another program has it, or this machine is one of a test.
func openFront(in *Instance, c NodeConfig, r *remote, log *slog.Logger) *front {
	if in.Runtime == "fake" {
		return nil
	}
	f := &front{in: in, log: log.With("component", "proxy")}
	var err error
	f.keeper, err = edge.OpenKeeper(edge.KeeperConfig{Config: in.edgeConfig(Config{Version: c.Version, Verbose: c.Verbose}), Log: f.log,
		OnHealth:  func(h model.TargetHealth) { f.receiver.Health(h) },
		OnProblem: func(listener, problem string) { f.receiver.Problem(listener, problem) }})
	if err != nil {
		log.Warn("neither the cluster's API nor its load balancers answer on this machine; choose another address with --listen", "error", err)
		return nil
	}
	in.names = f.keeper.AnswerNames
	f.receiver = cast.NewReceiver(cast.ReceiverConfig{Servers: r.known, Dial: r.dialer.Dial, Apply: f.keeper, Log: f.log})
	return f
}

// run serves until ctx is done; the process goes on with the table it has.
func (f *front) run(ctx context.Context, r *remote, gateway string) error {
	if err := f.keeper.Start(ctx, balancerAddresses(f.in.Listen, gateway, r.address)); err != nil {
		return fmt.Errorf("start the load balancers: %w", err)
	}
	l, err := f.in.edgeConfig(Config{}).ListenAPI()
	if err != nil {
		return fmt.Errorf("listen for the API's requests: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.keeper.Run(ctx) })
	g.Go(func() error { return f.receiver.Run(ctx) })
	g.Go(func() error {
		return relay.New(relay.Config{Servers: r.known, Dial: r.dialer.Dial, Log: f.log}).
			Serve(ctx, edge.Behind(apiGate(f.log, apiConnections()).Listener(l)))
	})
	return g.Wait()
}

func (f *front) close() {
	if f != nil {
		f.keeper.Close()
	}
}
