// Package registrar decides who is of the cluster: it makes join tokens, takes machines in, renews their certificates and, asked at each
// handshake, says who is still known. A machine is the key whose hash is in its row; the row is all there is to revoke.
package registrar

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Config is what a Registrar works with. All but Now, Log and DialBack are required.
type Config struct {
	Store store.Store
	// CA signs; it is asked each time, as it may change.
	CA func() *pki.CA
	// Pin is that of new tokens: of the authority whose certificates the servers show; nil: of CA.
	Pin func() [32]byte
	// Roots are the authorities that machines are told to believe; the last one signs.
	Roots   func() []byte // PEM
	BeatKey []byte        // the cluster's
	// RootKey is the file with the root access key, which servers share.
	RootKey func() ([]byte, error)
	Site    func() join.Site
	// Address is this server's cluster port, for as long as no row of a server says one.
	Address func() string
	Version string
	Now     func() time.Time
	Log     *slog.Logger
	// DialBack tries a machine's ports; nil: join.DialBack.
	DialBack func(ctx context.Context, host string, ports []join.Port, nonce []byte) []join.Port
}

// Registrar is a server's.
type Registrar struct {
	Config
	warn *rate.Limiter // strangers must not fill the log
}

// New makes a Registrar.
func New(c Config) *Registrar {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DialBack == nil {
		c.DialBack = join.DialBack
	}
	if c.Pin == nil {
		c.Pin = func() [32]byte { return c.CA().Pin() }
	}
	return &Registrar{Config: c, warn: rate.NewLimiter(1, 10)}
}

// Register serves joins and renewals on the cluster port.
func (r *Registrar) Register(s *peer.Server) {
	s.Handle("POST "+join.PathJoin, peer.Anyone, http.HandlerFunc(r.serveJoin))
	s.Handle("POST "+join.PathRenew, peer.Machines|peer.Expired, http.HandlerFunc(r.serveRenewal))
	s.Handle("GET "+join.PathMembers, peer.Machines|peer.Clients, http.HandlerFunc(r.serveMembers))
	s.Handle("GET "+join.PathAuthority, peer.Servers, http.HandlerFunc(r.serveAuthority))
}

// Admit tells whether a certificate's machine is still known: peer.Config's Admit.
func (r *Registrar) Admit(p pki.Peer) (err error) {
	r.Store.View(func(v store.Reader) { err = r.admit(v, p) })
	return err
}

func (r *Registrar) admit(v store.Reader, p pki.Peer) error {
	hash := ""
	switch p.Role {
	case pki.RoleNode:
		if n, ok := store.Nodes.Get(v, p.ID); ok {
			hash = n.KeyHash
		}
	case pki.RoleServer:
		if s, ok := store.Servers.Get(v, p.ID); ok {
			hash = s.KeyHash
		}
	case pki.RoleClient:
		id, _, _ := strings.Cut(p.ID, "-")
		if t, ok := store.Tokens.Get(v, id); ok && t.Role == string(pki.RoleClient) && r.Now().Before(t.ExpiresAt) {
			return nil
		}
		return fmt.Errorf("the token %s, by which this laptop was let in, has expired or was removed; make another on a server with: berth token client", id)
	}
	switch {
	case hash == "":
		return fmt.Errorf("%s is not of this cluster, or not any more: it was removed, or forgotten after it was lost for long; "+
			"run berth node reset there and join again with a token (on a server: berth token %s)", p, p.Role)
	case hash != p.KeyHash:
		return fmt.Errorf("%s has another key now: another machine took its place; run berth node reset there and join again with a token (on a server: berth token %s)",
			p, p.Role)
	}
	return nil
}

// Run has connections of those who are no longer known closed, and forgets tokens that have expired, until ctx is done.
func (r *Registrar) Run(ctx context.Context, recheck func()) error {
	changes := r.Store.Watch(ctx, store.Nodes.All(), store.Servers.All(), store.Tokens.All())
	tick := time.NewTicker(timeouts.TokenSweep)
	defer tick.Stop()
	var soon <-chan time.Time // a row that came and went again between two batches is in neither
	for {
		select {
		case <-soon:
			soon = nil
			recheck()
		case <-tick.C:
			if err := r.sweep(ctx); err != nil && !errors.Is(err, store.ErrNotLeader) && ctx.Err() == nil {
				r.Log.Warn("cannot remove expired tokens", "error", err)
			}
			recheck() // laptops whose token has expired meanwhile
		case _, ok := <-changes.C():
			if !ok {
				return nil
			}
			if b := changes.Take(); b.All || slices.ContainsFunc(b.Changes, revokes) {
				recheck()
			} else if soon == nil {
				soon = time.After(timeouts.RecheckSoon)
			}
		}
	}
}

// revokes tells whether a change may have made somebody unknown.
func revokes(c store.Change) bool {
	switch old := c.Old.(type) {
	case *model.Node:
		now, ok := c.New.(*model.Node)
		return !ok || now.KeyHash != old.KeyHash
	case *model.Server:
		now, ok := c.New.(*model.Server)
		return !ok || now.KeyHash != old.KeyHash
	case *model.Token:
		_, ok := c.New.(*model.Token)
		return !ok
	}
	return false
}

// members is whom a machine is told of.
func (r *Registrar) members() join.Members {
	m := join.Members{Roots: string(r.Roots())}
	r.Store.View(func(v store.Reader) {
		for s := range store.Servers.Scan(v, "") {
			if s.Address != "" {
				m.Servers = append(m.Servers, s.Address)
			}
		}
	})
	if len(m.Servers) == 0 {
		m.Servers = []string{r.Address()}
	}
	return m
}

// Addresses are those of the servers' cluster ports.
func (r *Registrar) Addresses() []string { return r.members().Servers }

// authority is the hash of the signing authority's key.
func (r *Registrar) authority() string {
	pin := r.CA().Pin()
	return hex.EncodeToString(pin[:])
}
