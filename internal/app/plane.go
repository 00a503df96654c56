package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/serve/edge"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/serve/proxy/feed"
)

// plane is where the load balancers and the API's port are: in `berth proxy`, which outlives the server, or, with the fake runtime,
// in this process.
type plane struct {
	in   *Instance
	log  *slog.Logger
	feed *feed.Feed // nil until start

	keeper *edge.Keeper

	listener net.Listener // with the fake runtime, and so is
	proxy    *proxy.Proxy
}

// openPlane takes the API's port before anything is started, or finds the process that has it: an occupied one is the commonest
// mistake.
func openPlane(in *Instance, c Config, log *slog.Logger) (*plane, error) {
	p := &plane{in: in, log: log.With("component", "proxy")}
	var err error
	if in.Runtime == "fake" {
		p.listener, err = net.Listen("tcp", in.Listen)
	} else if err = needRoot(); err != nil {
		return nil, err
	} else {
		p.keeper, err = edge.OpenKeeper(edge.KeeperConfig{Config: in.edgeConfig(c), Log: p.log,
			OnHealth:  func(h model.TargetHealth) { p.feed.Health(h) },
			OnProblem: func(listener, problem string) { p.feed.Problem(listener, problem) }})
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose another with --listen", in.Listen, err)
	}
	if p.keeper != nil {
		in.names = p.keeper.AnswerNames
	}
	return p, nil
}

func needRoot() error {
	if os.Getuid() != 0 {
		return errors.New("running containers needs root; as another user, try: berth up --runtime fake")
	}
	return nil
}

func (in *Instance) edgeConfig(c Config) edge.Config {
	return edge.Config{Dir: in.RunDir(), Listen: in.Listen, Pace: in.Pace, LogFile: in.Path("proxy.log"), Cgroup: in.cgroup() + "-proxy",
		Version: c.Version, Verbose: c.Verbose}
}

// pathHealth is where a server tells the leader what its proxy sees of targets and ports.
const pathHealth = "/v1/targets/health"

func (s *server) noteHealth(ctx context.Context, _ string, r feed.Report) (nothing, error) {
	return nothing{}, feed.Receive(ctx, s.store, r)
}

// newFeed makes the joint of this server's store and its proxy: what is to be written, the leader writes.
func (s *server) newFeed(log *slog.Logger) *feed.Feed {
	f := feed.New(s.store, s.in.NodeID, log)
	f.Hand = s.handHealth
	return f
}

// handHealth has the leader write a report.
func (s *server) handHealth(ctx context.Context, r feed.Report) error {
	return s.call(ctx, pathHealth, r, &nothing{})
}

// start has the load balancers served, where the API is and at the bridge so that tasks reach them too.
func (p *plane) start(ctx context.Context, f *feed.Feed, gateway string) error {
	advertised := ""
	if p.in.Advertise != "" {
		advertised = hostOf(p.in.Advertise)
	}
	addresses := balancerAddresses(p.in.Listen, gateway, advertised)
	p.feed = f
	if p.keeper != nil {
		return p.keeper.Start(ctx, addresses)
	}
	p.proxy = proxy.New(proxy.Config{Addresses: addresses, OnHealth: f.Health, OnProblem: f.Problem, Pace: p.in.Pace, Now: time.Now, Log: p.log})
	return nil
}

// run serves the API at its port, and load balancers' names before it, until ctx is done.
func (p *plane) run(ctx context.Context, s *server) error {
	api := s.handler()
	g, ctx := errgroup.WithContext(ctx)
	if p.keeper == nil {
		g.Go(func() error { return p.feed.Run(ctx, s.casts(p.feed, p.proxy)) })
		g.Go(func() error {
			return serveHTTP(ctx, apiGate(p.log, 0).Listener(p.listener), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !p.proxy.ServeHost(w, r) {
					api.ServeHTTP(w, r)
				}
			}))
		})
		return g.Wait()
	}
	l, err := p.in.edgeConfig(Config{}).ListenAPI()
	if err != nil {
		return fmt.Errorf("listen for the API's requests: %w", err)
	}
	g.Go(func() error { return p.feed.Run(ctx, s.casts(p.feed, p.keeper)) })
	g.Go(func() error { return p.keeper.Run(ctx) })
	// Each request is a connection of its own, from one source: the proxy bounds those of clients.
	g.Go(func() error { return serveHTTP(ctx, edge.Behind(apiGate(p.log, apiConnections()).Listener(l)), api) })
	return g.Wait()
}

// apiConnections is how many connections the API has at once.
func apiConnections() int { return gate.Part(8192, 8) }

// apiGate bounds the API's connections: all programs of this machine are one source.
func apiGate(log *slog.Logger, perSource int) *gate.Gate {
	return gate.New(gate.Config{Name: "the API", Total: apiConnections(), PerSource: perSource, Log: log})
}

func (p *plane) close() {
	if p.keeper != nil {
		p.keeper.Close()
	}
	if p.proxy != nil {
		if err := p.proxy.Close(); err != nil {
			p.log.Warn("cannot close the load balancers", "error", err)
		}
	}
	if p.listener != nil {
		_ = p.listener.Close() // closed by its server, if there was one
	}
}

// Proxy is the process `berth proxy`. started: descriptor 3 is a socket of the `berth up` that started it.
func Proxy(ctx context.Context, file string, started bool) error {
	c, err := edge.ReadConfig(file)
	if err != nil {
		return err
	}
	out, err := edge.OpenLog(c)
	if err != nil {
		return err
	}
	log := loggerTo(out, c.Verbose)
	if c.Cgroup != "" {
		tree, err := cgroup.Detect()
		if err == nil {
			err = tree.Join(c.Cgroup, os.Getpid())
		}
		if err != nil {
			log.Warn("the proxy stays in the cgroup of its caller, and may end with it", "error", err)
		}
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(proxyOOMScore)), 0); err != nil {
		log.Warn("the proxy is not protected from the OOM killer (CAP_SYS_RESOURCE is missing)", "error", err)
	}
	if err := gate.RaiseFiles(); err != nil {
		log.Warn("few connections at once", "reason", err)
	}
	var parent *os.File
	if started {
		parent = os.NewFile(3, "berth up")
	}
	return edge.Run(ctx, c, parent, log)
}

// proxyOOMScore protects the proxy from the kernel's OOM killer as containerd is.
const proxyOOMScore = -500
