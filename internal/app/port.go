package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/forward"
	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink/grpc"
	sessions "github.com/berthdev/berth/internal/nodelink/ledger"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/registrar"
	"github.com/berthdev/berth/internal/relay"
	"github.com/berthdev/berth/internal/serve/logstore/intake"
	"github.com/berthdev/berth/internal/serve/proxy/cast"
	"github.com/berthdev/berth/internal/store"
)

// port is a server's cluster port: what other machines reach of it. It is closed until somebody wants machines to join: a laptop's Berth
// listens nowhere but at its API.
type port struct {
	s        *server
	ca       atomic.Pointer[pki.CA]
	identity atomic.Pointer[pki.Identity]

	mu        sync.Mutex
	advertise string               // where other machines reach this one (host:port); "" while nobody has said it
	beatKey   []byte               // the cluster's
	registrar *registrar.Registrar // nil while the port is closed
	opened    chan net.Listener    // one, once
	peer      *peer.Server
	sessions  *grpc.Service
	onOpen    func()       // nil: nobody cares
	forwarded net.Listener // of what other servers hand on
	relayed   net.Listener // of relays, to the API
	tables    net.Listener // of machines that serve load balancers
	streams   net.Listener // of sessions in containers
	clients   clients
	keys      *registrar.Keys
}

// dial connects to another server.
func (p *port) dial(ctx context.Context, address, protocol string) (net.Conn, error) {
	return p.dialer().Dial(ctx, address, protocol)
}

// client asks another server.
func (p *port) client(address string) *http.Client { return p.clients.of(p.dialer(), address) }

func (p *port) dialer() *peer.Dialer {
	return peer.NewDialer(peer.Config{Identity: p.identity.Load, Log: p.s.log})
}

func newPort(s *server) *port {
	return &port{s: s, advertise: s.in.Advertise, opened: make(chan net.Listener, 1)}
}

// open opens the port, if it is closed, for machines that reach this one at the address (an IP address, with a port or not; "": that of
// the last time). A server that has no cluster yet founds one.
func (p *port) open(ctx context.Context, advertise string) (*registrar.Registrar, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	address, err := advertised(cmp.Or(advertise, p.advertise))
	if err != nil {
		return nil, err
	}
	if p.registrar != nil && address != p.advertise {
		return nil, fmt.Errorf("the cluster port is open at %s already; to change that, start with: --advertise %s", p.advertise, advertise)
	}
	if p.registrar != nil {
		return p.registrar, nil
	}
	l, err := listenCluster(address)
	if err != nil {
		return nil, fmt.Errorf("open the cluster port: %w", err)
	}
	r, err := p.found(ctx, address)
	if err == nil {
		kept := *p.s.in
		kept.Advertise = address
		err = kept.save()
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.serveOn(r)
	p.registrar, p.advertise = r, address
	p.opened <- l
	if p.onOpen != nil {
		p.onOpen()
	}
	p.s.log.Info("machines can join", "address", address)
	return r, nil
}

// registered is the registrar, nil while the port is closed.
func (p *port) registered() *registrar.Registrar {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.registrar
}

// address is where other machines reach the port; "" while nobody has said it.
func (p *port) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.advertise
}

// advertised is the host:port at which other machines reach this one.
func advertised(advertise string) (string, error) {
	if advertise == "" {
		return "", &SettingError{"advertise", "", "the IP address at which the other machines reach this one"}
	}
	address, err := pki.WithPort(advertise)
	if err != nil {
		return "", &SettingError{"advertise", advertise, err.Error()}
	}
	host, _, err := net.SplitHostPort(address)
	if at, perr := netip.ParseAddr(host); err != nil || perr != nil || at.IsUnspecified() {
		return "", &SettingError{"advertise", advertise, "the IP address at which the other machines reach this one"}
	}
	return address, nil
}

// listenCluster listens at all of the machine's addresses, as the advertised one may be that of a router before it; one of loopback is
// for this machine only.
func listenCluster(address string) (net.Listener, error) {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if at, err := netip.ParseAddr(host); err == nil && !at.IsLoopback() {
		host = ""
	}
	return net.Listen("tcp", net.JoinHostPort(host, number))
}

// found reads the cluster's keys, or makes them, and this server's row.
func (p *port) found(ctx context.Context, address string) (*registrar.Registrar, error) {
	s, dir := p.s, p.s.in.pkiDir()
	ca, err := registrar.LoadCA(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if ca, err = pki.NewCA(s.in.ID, time.Now()); err == nil {
			err = errors.Join(pki.SaveBeatKey(dir, pki.NewBeatKey()), ca.Save(dir))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the cluster's authority: %w", err)
	}
	p.ca.Store(ca)
	beat, err := pki.LoadBeatKey(dir)
	if err != nil {
		return nil, fmt.Errorf("the key of beats: %w", err)
	}
	p.beatKey = beat
	if err := p.identify(ca); err != nil {
		return nil, err
	}
	if err := p.keepKeys(); err != nil {
		return nil, err
	}
	if err := p.write(ctx, address); err != nil {
		return nil, err
	}
	return registrar.New(registrar.Config{Store: s.store, CA: p.ca.Load, Pin: p.keys.Pin, Roots: p.roots, BeatKey: beat,
		RootKey: func() ([]byte, error) { return os.ReadFile(s.in.RootKey()) }, Site: p.site, Address: func() string { return address },
		Version: s.version, Now: time.Now, Log: s.log.With("component", "registrar")}), nil
}

// identify loads this server's certificate, or signs one.
func (p *port) identify(ca *pki.CA) error {
	dir := p.s.in.pkiDir()
	id, err := pki.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if id, err = ca.Issue(pki.Peer{Role: pki.RoleServer, ID: p.s.in.NodeID}, time.Now()); err == nil {
			err = id.Save(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("this server's certificate: %w", err)
	}
	p.identity.Store(id)
	return nil
}

// write notes the cluster and this server in the store.
func (p *port) write(ctx context.Context, address string) error {
	in, id, host := p.s.in, p.identity.Load(), hostname()
	if in.Peers {
		return nil // the leader does, when it is asked
	}
	election := 0
	if p.s.election != nil {
		election = *p.s.election
	}
	return p.s.store.Update(ctx, func(tx store.Tx) error {
		if old, ok := store.ClusterSettings.Get(tx, model.SettingsKey); ok && old.ClusterID != "" && in.Encrypt && !old.Encrypt {
			settings := *old
			settings.Encrypt = true
			store.ClusterSettings.Put(tx, &settings)
		} else if !ok || old.ClusterID == "" {
			settings := model.Settings{Incarnation: randomHex(4)}
			if ok { // since a backup was put back
				settings = *old
			}
			settings.Encrypt, settings.ClusterID, settings.CA = in.Encrypt, id.Peer.Cluster, []string{string(pki.EncodeCerts(id.Roots))}
			settings.ElectionMs, settings.VPC, settings.Level = election, p.s.vpcRanges(), model.Level
			store.ClusterSettings.Put(tx, &settings)
		}
		row := model.Server{ID: in.NodeID, JoinedAt: time.Now()}
		if old, ok := store.Servers.Get(tx, in.NodeID); ok {
			row = *old
		}
		row.Name, row.Address, row.Version, row.Level, row.KeyHash = host, address, p.s.version, model.Level, id.Peer.KeyHash
		store.Servers.Put(tx, &row)
		return nil
	})
}

// roots are the authorities that machines believe.
func (p *port) roots() []byte {
	var all []byte
	p.s.store.View(func(r store.Reader) {
		if row, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
			for _, pem := range row.CA {
				all = append(all, pem...)
			}
		}
	})
	return all
}

func (p *port) site() join.Site {
	in := p.s.in
	return join.Site{Account: in.Account, Region: in.Region, Pace: string(in.Pace), VPC: []string{in.vpc()}}
}

// serveOn puts together what the port serves.
func (p *port) serveOn(r *registrar.Registrar) {
	s := p.s
	p.peer = peer.NewServer(peer.Config{Identity: p.identity.Load, Admit: r.Admit, Log: s.log.With("component", "peer")})
	s.serveCopies(p.peer)
	r.Register(p.peer)
	p.relayed = p.relays()
	p.tables = p.peer.Listen(cast.Protocol, peer.Nodes)
	p.sessions = grpc.NewService(s.links.Serve, s.log.With("component", "nodelink"))
	p.sessions.Register(p.peer.GRPC())
	p.peer.Handle(intake.Path, peer.Nodes, intake.New(intake.Config{Sink: s.homeRegion.lines, From: callerID, Log: s.log.With("component", "logs")}))
	p.peer.Handle("/v2/", peer.Nodes, s.registry.Pulls())
	s.serveAsks(p.peer)
	s.serveAdminFor(p.peer)
	p.peer.Handle("POST "+pathHear, peer.Servers, http.HandlerFunc(s.serveHear))
	sessions.Register(p.peer, s.book(), func() bool { return s.office().Here })
	p.forwarded = p.peer.Listen(forward.Protocol, peer.Servers)
	p.streams = p.peer.Listen(protocolExec, peer.Machines)
	p.peer.Handle("POST "+pathHandout, peer.Nodes, http.HandlerFunc(s.serveHandout))
	p.peer.Handle("POST "+pathNodeProtect, peer.Machines, http.HandlerFunc(s.serveProtect))
	p.peer.Handle("POST "+pathTaskRole, peer.Nodes, http.HandlerFunc(s.serveTaskRole))
}

// callerID is the id of the machine that asks.
func callerID(ctx context.Context) string {
	p, _ := peer.From(ctx)
	return p.ID
}

// run serves the port, once it is open, until ctx is done.
func (p *port) run(ctx context.Context) error {
	if p.address() != "" {
		if _, err := p.open(ctx, ""); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case l := <-p.opened:
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return p.peer.Serve(ctx, l) })
		g.Go(func() error { return relay.ToAPI(ctx, p.relayed, p.s.in.localAPI(), p.s.log) })
		g.Go(func() error { return p.s.caster.Serve(ctx, p.tables) })
		g.Go(func() error { return p.keys.Run(ctx) })
		g.Go(func() error { return p.sessions.Run(ctx) })
		g.Go(func() error { return p.s.hearBeats(ctx, p.address(), p.beatKey) })
		g.Go(func() error { return p.s.forward.Serve(ctx, p.forwarded) })
		g.Go(func() error { return p.s.serveStreams(ctx, p.streams) })
		g.Go(func() error { return p.registrar.Run(ctx, p.peer.Recheck) })
		return g.Wait()
	}
}

// pathTaskRole is where a node asks for the credentials of a task's role.
const pathTaskRole = "/v1/task-role"

// roleRequest asks for a role's credentials for a task.
type roleRequest struct{ Role, Task string }

// serveTaskRole issues the credentials of a task's role to the node that has the task, and to no other.
func (s *server) serveTaskRole(w http.ResponseWriter, r *http.Request) {
	var ask roleRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&ask); err != nil {
		peer.WriteError(w, http.StatusBadRequest, fmt.Errorf("the request for a role's credentials cannot be read: %w", err))
		return
	}
	if !s.hasRole(callerID(r.Context()), ask) {
		peer.WriteError(w, http.StatusForbidden, fmt.Errorf("task %s does not run on this node with the role %s", ask.Task, ask.Role))
		return
	}
	role, err := issueRole(s.keys, ask.Role, ask.Task)
	if err != nil {
		peer.WriteError(w, http.StatusForbidden, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(role) // who has gone asks again
}

// hasRole tells whether a task that has not ended is on the node and has the role.
func (s *server) hasRole(node string, ask roleRequest) (has bool) {
	s.store.View(func(r store.Reader) {
		t, ok := store.Tasks.Get(r, ask.Task)
		if !ok || t.NodeID != node || t.Ended() {
			return
		}
		roles := []*string{t.Overrides.TaskRoleArn, t.Overrides.ExecutionRoleArn}
		if def, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision)); ok {
			roles = append(roles, def.Definition.TaskRoleArn, def.Definition.ExecutionRoleArn)
		}
		for _, role := range roles {
			has = has || role != nil && *role != "" && *role == ask.Role
		}
	})
	return has
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}
