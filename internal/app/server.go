package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/s3"
	"github.com/berthdev/berth/internal/api/sns"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/beat"
	"github.com/berthdev/berth/internal/console"
	"github.com/berthdev/berth/internal/forward"
	"github.com/berthdev/berth/internal/life"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/serve/build"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/serve/objects"
	"github.com/berthdev/berth/internal/serve/proxy/cast"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/session"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/timeouts"
)

// server is the control plane: the store, the APIs, the control loop and the server's half of the node link.
type server struct {
	shared
	measures
	in       *Instance
	log      *slog.Logger
	version  string
	store    *etcd.Store
	logs     *logstore.Store
	keys     *iam.Authority
	master   *keys.Master
	registry *registry.Registry
	files    *objects.Objects // of the small S3
	s3       *s3.Service
	endpoint *wire.Endpoint
	console  *console.Console
	links    *nodelink.Server
	port     *port
	life     *life.Life
	fabric   *fabric
	near     *inside // the node of this process; nil without one
	gateway  string  // of this machine's tasks, "" without any
	places   *places.Keeper
	caster   *cast.Caster
	asks     asks
	admin    *http.ServeMux // what is asked on the admin socket
	forward  *forward.Forwarder
	sessions *session.Manager // in containers
	audit    *auditor
	calls    calls
	regions  regions
	backedUp uint64 // the revision of the last of its own backups

	began    atomic.Pointer[footing] // of etcd
	election *int                    // what --election-ms said; nil: nothing

	contact   contact
	several   atomic.Bool // there are other servers, or were
	growing   sync.Mutex
	announced chan struct{} // closed once the leader knows that this server has begun anew
}

func newServer(in *Instance, c Config, log *slog.Logger) *server {
	s := &server{in: in, log: log, version: c.Version, election: c.ElectionMs, announced: make(chan struct{})}
	s.several.Store(in.Peers)
	s.metricsListen = c.MetricsListen
	return s
}

// open opens the data directory. What is open, after an error too, close closes.
func (s *server) open(ctx context.Context) (err error) {
	in, log := s.in, s.log
	if s.keys, err = iam.Open(in.RootKey(), in.Scope(), time.Now); err != nil {
		return err
	}
	conf, err := in.etcdConfig(ctx, etcd.Config{Dir: in.Path("etcd"), Kinds: store.Schema(), Log: log}, func(words string) { log.Info(words) })
	if err != nil {
		return err
	}
	began := footing{election: in.ElectionMs}
	if began.roots, err = os.ReadFile(in.rootsFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.began.Store(&began)
	if s.store, err = etcd.Open(ctx, conf); err != nil {
		return err
	}
	s.keys.Store, s.keys.Off, s.keys.Log = s.store, in.IAM == "off", log.With("component", "iam")
	source, err := in.masterKey()
	if err != nil {
		return err
	}
	s.master = keys.NewMaster(s.store, source)
	if s.logs, err = logstore.Open(in.Path("logs"), logstore.Config{Log: log.With("component", "logstore"), Now: time.Now}); err != nil {
		return fmt.Errorf("open logs: %w", err)
	}
	if err := s.openMetrics(); err != nil {
		return err
	}
	blobs, err := registry.OpenBlobs(in.Path("registry"))
	if err != nil {
		return err
	}
	s.share(blobs)
	if err := s.openRegistry(ctx, blobs); err != nil {
		return err
	}
	if role, _ := s.store.Role(); role.Leading { // a lone server's is there with its first answer
		if err := s.defaultCluster(ctx); err != nil {
			return err
		}
	}
	s.life = life.New(life.Config{Store: s.store, Local: in.localNode(), Health: s.localHealth, Name: in.NodeID, Leads: s.leads, Log: log.With("component", "life")})
	s.caster = s.newCaster()
	s.audit = newAuditor(s)
	s.sessions = session.New(session.Config{Context: context.WithoutCancel(ctx), Open: s.reach, Note: s.audit.note, Said: s.audit.said,
		Log: log.With("component", "exec")})
	s.asks, s.admin = s.memberAsks(), s.adminMux()
	s.port = newPort(s)
	if in.Peers { // who this server is must be known before others are asked
		ca, err := pki.LoadCA(in.pkiDir())
		if err != nil {
			return fmt.Errorf("the cluster's authority: %w", err)
		}
		if err := s.port.identify(ca); err != nil {
			return err
		}
	}
	s.links = nodelink.NewServer(nodelink.ServerConfig{OnHeard: s.life.Session, OnUsage: s.gather.Usage, ID: in.NodeID, Store: s.store, Ledger: s.ledger(), Now: time.Now, Log: log.With("component", "nodelink")})
	s.fabric = s.newFabric(log.With("component", "vpc"))
	s.links.Fabric = s.fabric
	s.places = places.New(s.store)
	if s.files, err = objects.Open(in.Path("s3"), s.store, time.Now); err != nil {
		return err
	}
	s.s3 = s3.New(s3.Config{Objects: s.files, Keys: s.keys, Access: s.keys, Now: time.Now, Log: log.With("component", "s3"), Refuse: s.noS3})
	s.forward = forward.New(forward.Config{Office: s.office, Confirm: s.store.Confirm, Dial: s.port.dial, Local: http.HandlerFunc(s.serveLocal),
		Log: log.With("component", "forward")})
	s.endpoint = wire.NewEndpoint(wire.Config{Keys: s.keys, Access: s.keys, Now: time.Now, Log: log.With("component", "wire"),
		Services: s.servicesOf(s.home()), Regional: s.regional, Context: freeing, Unavailable: passes})
	s.openConsole(ctx)
	return nil
}

// leads tells whether this server does.
func (s *server) leads() bool {
	role, _ := s.store.Role()
	return role.Leading
}

// localNode is the id of the node in this process; "" where there is none.
func (in *Instance) localNode() string {
	if in.Alone {
		return ""
	}
	return in.NodeID
}

// localHealth is what is wrong with this machine, as its node sees it.
func (s *server) localHealth() beat.Health {
	if s.near == nil || s.near.vitals == nil {
		return 0
	}
	return s.near.vitals.Health()
}

func newID() string { return randomHex(16) }

// freeing marks the operations that free something by their names: they go on when the disk is full.
func freeing(ctx context.Context, operation string) context.Context {
	for _, verb := range []string{"Stop", "Delete", "BatchDelete", "Deregister"} {
		if strings.HasPrefix(operation, verb) {
			return store.Freeing(ctx)
		}
	}
	return ctx
}

// defaultCluster makes the cluster that an omitted cluster parameter means.
func (s *server) defaultCluster(ctx context.Context) error {
	return s.store.Update(ctx, func(tx store.Tx) error {
		if c, ok := store.Clusters.Get(tx, model.DefaultCluster); ok && c.Status == "ACTIVE" {
			return nil
		}
		store.Clusters.Put(tx, &model.Cluster{Name: model.DefaultCluster, ARN: s.in.Scope().ClusterARN(model.DefaultCluster), Status: "ACTIVE",
			Settings:  []types.ClusterSetting{{Name: types.ClusterSettingNameContainerInsights, Value: new("disabled")}},
			CreatedAt: time.Now()})
		return nil
	})
}

// handler is what the API's address has beside load balancers: builds on this machine, and all else where the leader is.
func (s *server) handler() http.Handler {
	builder := &build.Remote{Admit: s.mayBuild, Dial: s.in.dialBuilder, Log: s.log}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == build.Path {
			builder.ServeHTTP(w, r)
			return
		}
		s.forward.ServeHTTP(w, r)
	})
}

// serveLocal is what the leader answers: the registry by its requests under /v2, the APIs at the rest.
func (s *server) serveLocal(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == sns.ConfirmPath:
		s.confirmSubscription(w, r)
	case s3.Claims(r):
		s.s3.ServeHTTP(w, withOrigin(r))
	case registry.Claims(r):
		s.registry.ServeHTTP(w, r)
	case isSession(r):
		s.sessions.ServeHTTP(w, r)
	case console.Claims(r):
		s.console.ServeHTTP(w, r)
	default:
		s.endpoint.ServeHTTP(w, withOrigin(r))
	}
}

// mayBuild tells whether the registry's password is that of somebody who may run commands on this machine.
func (s *server) mayBuild(password string) error {
	if _, err := s.keys.CheckRegistryToken(password); err != nil {
		return err
	}
	return s.keys.AllowToken(password, "berth:Build", "")
}

// run runs the loops until ctx is done.
func (s *server) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.lead(ctx) })
	g.Go(func() error { return s.follow(ctx) })
	g.Go(func() error { return s.announce(ctx) })
	g.Go(func() error { return s.life.Run(ctx) })
	g.Go(func() error { return s.contact.run(ctx, s.store.Contact) })
	g.Go(func() error { return s.fabric.peers.Run(ctx) })
	g.Go(func() error { return s.fabric.groups.Run(ctx) })
	g.Go(func() error { return s.housekeeping(ctx) })
	g.Go(func() error { return s.planned(ctx) })
	g.Go(func() error { return s.keepMaster(ctx) })
	g.Go(func() error { return s.serveAdmin(ctx) })
	g.Go(func() error { return s.port.run(ctx) })
	g.Go(func() error { return s.mend(ctx) })
	g.Go(func() error { return s.runRegistry(ctx) })
	g.Go(func() error { return s.measure(ctx) })
	g.Go(func() error { return s.serveMetrics(ctx) })
	g.Go(func() error { return s.audit.run(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		s.sessions.Close() // with words
		return nil
	})
	return g.Wait()
}

// housekeeping frees, once an hour, what nobody refers to any more.
func (s *server) housekeeping(ctx context.Context) error {
	return every(ctx, timeouts.Housekeeping, func() {
		s.tidyRegistry(ctx)
		if err := s.files.Sweep(time.Now().Add(-timeouts.Housekeeping)); err != nil {
			s.log.Error("cannot remove what is left of S3's objects", "error", err)
		}
		s.sweepLogs(s.logs)
		if err := s.series.Sweep(); err != nil {
			s.log.Error("cannot remove old metrics", "error", err)
		}
		s.regions.each(func(r *region) { s.sweepLogs(r.logs) })
		if err := s.backUp(ctx); err != nil {
			s.log.Error("cannot back the state up", "error", err)
		}
	})
}

func (s *server) sweepLogs(l *logstore.Store) {
	if _, err := l.Sweep(time.Now()); err != nil {
		s.log.Error("cannot remove expired log events", "error", err)
	}
}

func (s *server) close() {
	s.closeScanner()
	if s.logs != nil {
		if err := s.logs.Close(); err != nil {
			s.log.Error("cannot close the logs", "error", err)
		}
	}
	s.regions.each(func(r *region) {
		if err := r.logs.Close(); err != nil {
			s.log.Error("cannot close the logs", "region", r.scope.Region, "error", err)
		}
	})
	if s.series != nil {
		if err := s.series.Close(); err != nil {
			s.log.Error("cannot close the metrics", "error", err)
		}
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("cannot close the store", "error", err)
		}
	}
}
