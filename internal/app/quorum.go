package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/forward"
	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/timeouts"
)

// office says whom requests are for.
func (s *server) office() forward.Office {
	role, changed := s.store.Role()
	o := forward.Office{Here: role.Leading, Changed: changed}
	if !role.Leading && role.Leader != s.in.NodeID {
		o.Address = s.addressOf(role.Leader)
	}
	return o
}

// addressOf is a server's cluster port; "" when it is not known.
func (s *server) addressOf(id string) (address string) {
	s.store.View(func(r store.Reader) {
		if row, ok := store.Servers.Get(r, id); ok {
			address = row.Address
		}
	})
	return address
}

// asks are what servers have the leader do for them, by path of the cluster port.
type asks map[string]func(ctx context.Context, from string, body []byte) (any, error)

// typed makes an ask of a function. from is the id of the server that asks.
func typed[In, Out any](f func(ctx context.Context, from string, in In) (Out, error)) func(context.Context, string, []byte) (any, error) {
	return func(ctx context.Context, from string, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fmt.Errorf("the question of a server cannot be read: %w", err)
		}
		return f(ctx, from, in)
	}
}

// maxAsk bounds what a server asks another, bytes: a batch of reports is the largest.
const maxAsk = 16 << 20

// serveAsks answers the other servers on the cluster port.
func (s *server) serveAsks(p *peer.Server) {
	p.Handle("GET "+pathState, peer.Servers, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.state()) // who has gone asks again
	}))
	for path, do := range s.asks {
		p.Handle("POST "+path, peer.Servers, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAsk))
			if err != nil {
				peer.WriteError(w, http.StatusBadRequest, err)
				return
			}
			answer, err := do(r.Context(), callerID(r.Context()), body)
			switch {
			case errors.Is(err, store.ErrNotLeader):
				peer.WriteElsewhere(w, &peer.Elsewhere{Address: s.office().Address, Message: err.Error()})
			case errors.Is(err, store.ErrUnknown), errors.Is(err, errLater):
				peer.WriteError(w, http.StatusServiceUnavailable, err)
			case err != nil:
				peer.WriteError(w, http.StatusConflict, err)
			default:
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(answer) // who has gone asks again
			}
		}))
	}
}

// errLater is in the error of what may be tried again as it was.
var errLater = errors.New("try again")

// call has the leader do something, wherever it is; while there is none it waits. What it asks for may happen twice.
func (s *server) call(ctx context.Context, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeouts.ServerCall)
	defer cancel()
	for {
		o := s.office()
		err := error(&store.NotLeaderError{})
		if o.Here {
			err = s.callHere(ctx, path, in, out)
		} else if o.Address != "" && s.port.identity.Load() != nil {
			err = join.Post(ctx, s.port.client(o.Address), path, in, out)
		}
		var refused *peer.Refusal
		if err == nil || errors.As(err, &refused) || o.Here && !errors.Is(err, store.ErrNotLeader) && !errors.Is(err, errLater) {
			return err
		}
		pause := time.NewTimer(timeouts.ServerRetry)
		select {
		case <-o.Changed:
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
		pause.Stop()
	}
}

// callHere does what this server, which leads, would be asked for.
func (s *server) callHere(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := s.asks[path](ctx, s.in.NodeID, body)
	if err != nil {
		return err
	}
	if body, err = json.Marshal(answer); err != nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// clients are those of the other servers' cluster ports, by address.
type clients struct {
	mu  sync.Mutex
	all map[string]*http.Client
}

func (c *clients) of(d *peer.Dialer, address string) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]*http.Client{}
	}
	if c.all[address] == nil {
		c.all[address] = d.HTTP(address)
	}
	return c.all[address]
}

// peers is how etcd meets the other servers: at the port after the cluster port.
func (in *Instance) peers(ca *pki.CA, advertise string) (*etcd.Peers, error) {
	if !ca.SignedEtcd(in.pkiDir()) {
		if id, err := pki.Load(in.pkiDir()); err == nil && !id.Issuer().Equal(ca.Cert) && pki.HasEtcd(in.pkiDir()) {
			return in.peersAs(advertise, ca.Cluster) // the authority is being changed, and not all believe the next one yet
		}
	}
	if err := ca.EnsureEtcd(in.pkiDir(), time.Now()); err != nil {
		return nil, fmt.Errorf("the certificate for etcd's port: %w", err)
	}
	return in.peersAs(advertise, ca.Cluster)
}

// peersAs is how etcd meets the other servers with the certificate that is there.
func (in *Instance) peersAs(advertise, cluster string) (*etcd.Peers, error) {
	address, err := peersAddress(advertise)
	if err != nil {
		return nil, err
	}
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	listen := net.JoinHostPort("0.0.0.0", number)
	if ip := net.ParseIP(host); ip.IsLoopback() {
		listen = address
	} else if ip.To4() == nil {
		listen = net.JoinHostPort("::", number)
	}
	dir := func(name string) string { return in.Path("pki", name) }
	return &etcd.Peers{Name: in.NodeID, Listen: listen, Address: address, ElectionMs: in.ElectionMs, ServerName: pki.EtcdName(cluster), CertFile: dir(pki.EtcdCertFile),
		KeyFile: dir(pki.EtcdKeyFile), CAFile: in.rootsFile()}, nil
}

// peersAddress is where the other servers reach this one's etcd, whose cluster port is at advertise.
func peersAddress(advertise string) (string, error) {
	host, number, err := net.SplitHostPort(advertise)
	if err != nil {
		return "", fmt.Errorf("the other servers need an address of this one's: start it with --advertise: %w", err)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.FormatUint(port+1, 10)), nil
}
