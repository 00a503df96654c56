package app

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/node/agent/metadata"
	"github.com/berthdev/berth/internal/node/upstream"
	"github.com/berthdev/berth/internal/node/vitals"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/nodelink/grpc"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/timeouts"
)

// pkiDir is where a machine of a cluster keeps who it is.
func (in *Instance) pkiDir() string { return in.Path("pki") }

// remote is the uplink to servers on other machines.
type remote struct {
	dir      string // the machine's pki folder
	log      *slog.Logger
	identity atomic.Pointer[pki.Identity]
	clock    *pki.Clock
	dialer   *peer.Dialer
	router   *grpc.Router
	servers  *upstream.Servers
	address  string // of this machine
	pulse    *pulse

	mu        sync.Mutex
	addresses []string
}

// openRemote reads who the machine is and where the servers were.
func openRemote(in *Instance, clock *pki.Clock, log *slog.Logger) (*remote, error) {
	r := &remote{dir: in.pkiDir(), log: log, clock: clock, address: in.Node.Address}
	id, err := pki.Load(r.dir)
	if err != nil {
		return nil, err
	}
	r.identity.Store(id)
	if r.addresses, err = pki.LoadServers(r.dir); err != nil {
		return nil, err
	}
	key, err := pki.LoadBeatKey(r.dir)
	if err != nil {
		return nil, fmt.Errorf("the key of this node's beats: %w", err)
	}
	if r.pulse, err = newPulse(in, key, log.With("component", "beat")); err != nil {
		return nil, err
	}
	r.pulse.to(r.addresses)
	r.dialer = peer.NewDialer(peer.Config{Identity: r.identity.Load, Clock: r.clock, Log: log.With("component", "peer")})
	r.router = grpc.NewRouter(grpc.RouterConfig{Node: in.NodeID, Servers: r.addresses, Connect: r.dialer.GRPC, OnServers: r.setServers})
	r.servers = upstream.New(upstream.Config{Addresses: r.known, Client: r.dialer.HTTP})
	return r, nil
}

func (r *remote) uplink() uplink {
	return uplink{dial: r.router.Dial, beats: r.pulse.node.Passes, assigned: r.pulse.assigned, address: func() string { return r.address }, servers: r.router.SetServers, credentials: r, handout: r.handout, logs: r.servers.Logs(), memory: sessionMemory{filepath.Join(r.dir, "session.json")}, registry: r.servers, stream: r.stream, protect: r.protect,
		vitals: func(v *vitals.Vitals) { r.pulse.vitals.Store(v) }}
}

func (r *remote) close() { r.router.Close() }

// known are the servers' addresses.
func (r *remote) known() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addresses
}

func (r *remote) setServers(addresses []string) {
	r.mu.Lock()
	same := slices.Equal(r.addresses, addresses)
	r.addresses = addresses
	r.mu.Unlock()
	if same {
		return
	}
	r.pulse.to(addresses)
	if err := pki.SaveServers(r.dir, addresses); err != nil {
		r.log.Error("where the servers are now is not saved", "error", err)
	}
}

// Issue implements metadata.Credentials: a server makes them, for tasks of this machine only.
func (r *remote) Issue(ctx context.Context, roleARN, session string) (c metadata.RoleCredentials, err error) {
	err = join.Post(ctx, &http.Client{Transport: r.servers, Timeout: timeouts.UpstreamAnswer}, pathTaskRole, roleRequest{Role: roleARN, Task: session}, &c)
	if err != nil {
		err = fmt.Errorf("ask a server for the role's credentials: %w", err)
	}
	return c, err
}

// renew keeps the machine's certificate good until ctx is done: it asks for another when 50 to 80 % of its life are over or the cluster
// has another authority, and an expired one, which lets the machine do nothing else, at once.
func (r *remote) renew(ctx context.Context) error {
	id := r.identity.Load()
	at := id.RenewAt(rand.Float64())
	for wait := max(min(at.Sub(r.clock.Now()), timeouts.NodeRoots), 0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = timeouts.NodeRoots/2 + rand.N(timeouts.NodeRoots)
		if r.clock.Now().Before(at) && r.believe(ctx, id) {
			id = r.identity.Load()
			continue
		}
		if err := r.renewOnce(ctx, id); err == nil {
			id = r.identity.Load()
			at = id.RenewAt(rand.Float64())
		} else if ctx.Err() == nil {
			r.log.Warn("this machine's certificate is not renewed", "until", id.Cert.NotAfter, "error", err)
			wait = timeouts.RenewRetry/2 + rand.N(timeouts.RenewRetry)
		}
		wait = min(wait, max(at.Sub(r.clock.Now()), timeouts.RenewRetry/2))
	}
}

// believe asks whom the cluster's machines are to believe. It returns false when the one that signs has not signed this machine's
// certificate.
func (r *remote) believe(ctx context.Context, id *pki.Identity) bool {
	ctx, cancel := context.WithTimeout(ctx, timeouts.JoinCall)
	defer cancel()
	var m join.Members
	if err := join.Get(ctx, &http.Client{Transport: r.servers}, join.PathMembers, &m); err != nil {
		return true // the next time
	}
	roots, err := pki.DecodeCerts([]byte(m.Roots))
	if err != nil {
		return true
	}
	issuer := id.Issuer()
	switch {
	case issuer == nil || !roots[len(roots)-1].Equal(issuer):
		return false
	case slices.EqualFunc(roots, id.Roots, (*x509.Certificate).Equal):
		return true
	}
	now := id.With(roots)
	if err := now.Save(r.dir); err != nil {
		r.log.Error("whom this machine believes is not saved", "error", err)
		return true
	}
	r.identity.Store(now)
	r.log.Info("this machine believes other authorities", "authorities", len(roots))
	return true
}

func (r *remote) renewOnce(ctx context.Context, id *pki.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.JoinCall)
	defer cancel()
	renewed, servers, err := join.Renew(ctx, &http.Client{Transport: r.servers}, id)
	if err != nil {
		return err
	}
	if err := renewed.Save(r.dir); err != nil {
		return err
	}
	r.identity.Store(renewed)
	if len(servers) > 0 {
		r.setServers(servers)
	}
	r.log.Info("this machine's certificate was renewed", "until", renewed.Cert.NotAfter)
	return nil
}

// sessionMemory is what the node has seen of its servers' state, in a file.
type sessionMemory struct{ file string }

// remembered is the file's content.
type remembered struct {
	Now  nodelink.Seen
	Past []string `json:",omitempty"`
}

// Load implements nodelink.Memory.
func (m sessionMemory) Load() (nodelink.Seen, []string, error) {
	var r remembered
	err := readJSON(m.file, &r)
	return r.Now, r.Past, err
}

// Save implements nodelink.Memory.
func (m sessionMemory) Save(now nodelink.Seen, past []string) error {
	return writeJSON(m.file, remembered{now, past})
}
