package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/registrar"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// The paths by which servers give each other the key of the next authority, and settings to the leader.
const (
	pathAuthority = "/v1/servers/authority"
	pathElection  = "/v1/servers/election"
)

type nextAuthority struct{ Cert, Key string }

// offerAuthority gives another server the key of the next authority.
func (s *server) offerAuthority(ctx context.Context, to *model.Server, next *pki.CA) error {
	var offer nextAuthority
	var err error
	if offer.Cert, offer.Key, err = next.EncodeCA(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.ServerCall)
	defer cancel()
	return join.Post(ctx, s.port.client(to.Address), pathAuthority, offer, &nothing{})
}

// takeAuthority keeps the key of the next authority until the settings name it.
func (s *server) takeAuthority(_ context.Context, _ string, in nextAuthority) (nothing, error) {
	ca, err := pki.DecodeCA(in.Cert, in.Key)
	if err != nil {
		return nothing{}, err
	}
	if own := s.port.ca.Load(); own == nil || ca.Cluster != own.Cluster {
		return nothing{}, errors.New("it is another cluster's")
	}
	return nothing{}, ca.SaveNext(s.in.pkiDir())
}

// footing is how this server's etcd meets the others: what it was started with.
type footing struct {
	election int
	roots    []byte // whom it believes, PEM; etcd reads that at its start only
}

func (s *server) footing() (f footing, err error) {
	s.store.View(func(r store.Reader) {
		if row, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
			f.election = row.ElectionMs
		}
	})
	f.roots, err = os.ReadFile(s.in.rootsFile())
	return f, err
}

func (in *Instance) rootsFile() string { return in.Path("pki", "roots.pem") }

// follow keeps this server's etcd in line with the cluster's settings, until ctx is done: how long it waits for a silent leader, whom it believes,
// and which certificate it shows. The first two need a start of etcd within this process, which the servers do one after the other.
func (s *server) follow(ctx context.Context) error {
	w := s.store.Watch(ctx, store.ClusterSettings.All(), store.Servers.All())
	tick := time.NewTicker(timeouts.KeysLevel)
	defer tick.Stop()
	for {
		if err := s.levelEtcd(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("this server's etcd is not in line with the cluster's settings; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case _, ok := <-w.C():
			if !ok {
				return nil
			}
			w.Take()
		}
	}
}

func (s *server) levelEtcd(ctx context.Context) error {
	s.growing.Lock()
	defer s.growing.Unlock()
	running := s.began.Load()
	if running == nil || !s.several.Load() || s.port.identity.Load() == nil || s.port.ca.Load() == nil {
		return nil
	}
	want, err := s.footing()
	if err != nil {
		return err
	}
	ca := s.port.ca.Load()
	if want.election != running.election || !bytes.Equal(want.roots, running.roots) {
		if err := s.waitTurn(ctx); err != nil {
			return err
		}
		kept := *s.in
		kept.Advertise, kept.Peers, kept.ElectionMs = s.port.address(), true, want.election
		p, err := kept.peersAs(kept.Advertise, ca.Cluster)
		if err != nil {
			return err
		}
		if err := kept.save(); err != nil {
			return err
		}
		if err := s.store.Reconfigure(ctx, p); err != nil {
			return fmt.Errorf("start etcd anew: %w", err)
		}
		running = &want
		s.began.Store(running)
		s.log.Info("etcd was started anew, as the cluster's settings changed", "election", cmp.Or(want.election, 1000))
	}
	id := s.port.identity.Load()
	if id.Issuer().Equal(ca.Cert) { // else half of the others would not believe it; it is renewed long before its end
		if err := ca.EnsureEtcd(s.in.pkiDir(), time.Now()); err != nil {
			return err
		}
	}
	return s.sayRow(ctx, running.roots)
}

// waitTurn waits for this server's turn to be without etcd for a moment.
func (s *server) waitTurn(ctx context.Context) error {
	turn := 0
	s.store.View(func(r store.Reader) {
		for row := range store.Servers.Scan(r, "") {
			if row.ID < s.in.NodeID {
				turn++
			}
		}
	})
	select {
	case <-time.After(time.Duration(turn) * timeouts.ServerTurn):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// row is what this server says of itself; roots are those that its etcd believes.
func (s *server) row(roots []byte) model.Server {
	row := model.Server{Name: hostname(), Address: s.port.address(), Version: s.version, Level: model.Level}
	id := s.port.identity.Load()
	certs, err := pki.DecodeCerts(roots)
	if id == nil || err != nil {
		return row
	}
	row.Trusts = registrar.AuthorityOf(certs[len(certs)-1])
	ca := s.port.ca.Load()
	if ca != nil && id.Issuer().Equal(ca.Cert) && ca.SignedEtcd(s.in.pkiDir()) {
		row.Authority = registrar.AuthorityOf(ca.Cert)
	}
	return row
}

// sayRow has the leader write what this server says of itself, if that is not what is stored.
func (s *server) sayRow(ctx context.Context, roots []byte) error {
	now, same, level := s.row(roots), false, 0
	s.store.View(func(r store.Reader) {
		if old, ok := store.Servers.Get(r, s.in.NodeID); ok {
			same = old.Trusts == now.Trusts && old.Authority == now.Authority
		}
		if row, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
			level = row.Level
		}
	})
	if same || level < model.LevelAuthorities {
		return nil
	}
	return s.call(ctx, pathRow, now, &nothing{})
}

// The bounds of --election-ms: a shorter wait than a slow disk's sync makes leaders come and go, a longer one leaves tasks of a dead leader's
// machine where they are.
const leastElection, mostElection = 300, 10_000

// checkElection tells whether the wait can be used.
func checkElection(ms int) error {
	if ms != 0 && (ms < leastElection || ms > mostElection) {
		return &SettingError{"election-ms", fmt.Sprint(ms), fmt.Sprintf("milliseconds between %d and %d", leastElection, mostElection)}
	}
	return nil
}

// setElection writes how long servers wait for a silent leader.
func (s *server) setElection(ctx context.Context, _ string, ms int) (nothing, error) {
	if err := checkElection(ms); err != nil {
		return nothing{}, err
	}
	return nothing{}, s.store.Update(ctx, func(tx store.Tx) error {
		row, ok := store.ClusterSettings.Get(tx, model.SettingsKey)
		if !ok {
			return errors.New("there is no cluster yet")
		}
		if row.ElectionMs != ms {
			settings := *row
			settings.ElectionMs = ms
			store.ClusterSettings.Put(tx, &settings)
		}
		return nil
	})
}
