package registrar

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// KeysConfig is what Keys work with.
type KeysConfig struct {
	Dir   string // the server's pki folder
	ID    string // the server's
	Store store.Store
	Now   func() time.Time // nil: time.Now
	// Offer gives another server the key of the next authority; nil: there are no others.
	Offer func(ctx context.Context, to *model.Server, next *pki.CA) error
	Log   *slog.Logger
}

// Keys are what a server signs with and who it is, on its disk and kept in line with the cluster's settings: while those name two
// authorities, the cluster is on its way from the first to the second (berth ca rotate).
//
//  1. The server makes the second, writes it into the settings and signs with it. All believe both.
//  2. Nodes see that there is another authority and renew. The registrar notes who signed their certificates.
//  3. When all nodes have one of the second, so that all believe it, the server gives itself one and takes the first out of the settings.
//
// Where there are several servers, each has the second's key before the settings name it, all say that their etcd believes it before one shows
// a certificate of it, and that they show one before the first is gone.
type Keys struct {
	c        KeysConfig
	mu       sync.Mutex // one change at a time
	ca       *atomic.Pointer[pki.CA]
	identity *atomic.Pointer[pki.Identity]
}

// NewKeys keeps the authority and the identity, which are on the disk, in line from now on. A certificate of this server that is to be
// renewed is, at once: it may have been off for long.
func NewKeys(c KeysConfig, ca *atomic.Pointer[pki.CA], identity *atomic.Pointer[pki.Identity]) (*Keys, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keys{c: c, ca: ca, identity: identity}
	if c.Now().After(identity.Load().RenewAt(0)) {
		return k, k.reissue()
	}
	return k, nil
}

// LoadCA reads the authority of a server, also when it ended in the middle of a change to the next one.
func LoadCA(dir string) (*pki.CA, error) {
	ca, err := pki.LoadCA(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	next, errNext := pki.LoadNextCA(dir)
	if errNext != nil {
		return nil, err
	}
	return next, next.Save(dir)
}

// Pin is that of new tokens: of the authority whose certificate this server shows.
func (k *Keys) Pin() [32]byte {
	id := k.identity.Load()
	return pki.Pin(id.Issuer())
}

func (k *Keys) settings() (s model.Settings) {
	k.c.Store.View(func(r store.Reader) {
		if row, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
			s = *row
		}
	})
	return s
}

// reissue signs a new certificate for this server's key.
func (k *Keys) reissue() error {
	id := k.identity.Load()
	request, err := pki.Request(id.Key)
	if err != nil {
		return err
	}
	der, err := k.ca.Load().Sign(request, id.Peer, k.c.Now())
	if err != nil {
		return fmt.Errorf("sign this server's certificate: %w", err)
	}
	roots := id.Roots
	if own := k.ca.Load().Cert; !slices.ContainsFunc(roots, own.Equal) {
		roots = append(slices.Clone(roots), own)
	}
	renewed, err := pki.NewIdentity(id.Key, der, roots)
	if err == nil {
		err = renewed.Save(k.c.Dir)
	}
	if err != nil {
		return fmt.Errorf("this server's new certificate: %w", err)
	}
	k.identity.Store(renewed)
	k.c.Log.Info("this server has a new certificate", "until", renewed.Cert.NotAfter)
	return nil
}

// Run keeps the keys in line until ctx is done.
func (k *Keys) Run(ctx context.Context) error {
	changes := k.c.Store.Watch(ctx, store.ClusterSettings.All(), store.Nodes.All(), store.Servers.All())
	tick := time.NewTicker(timeouts.KeysLevel)
	defer tick.Stop()
	for {
		if err := k.level(ctx); err != nil && ctx.Err() == nil {
			k.c.Log.Warn("the cluster's keys are not in line here", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case _, ok := <-changes.C():
			if !ok {
				return nil
			}
			changes.Take()
			if len(k.settings().CA) < 2 && k.inLine() { // nodes come and go
				continue
			}
		}
	}
}

// inLine tells whether this server believes and signs as the settings say.
func (k *Keys) inLine() bool {
	roots, err := decode(k.settings().CA)
	return err == nil && slices.EqualFunc(roots, k.identity.Load().Roots, (*x509.Certificate).Equal) && k.ca.Load().Cert.Equal(roots[len(roots)-1])
}

func decode(pems []string) ([]*x509.Certificate, error) {
	return pki.DecodeCerts([]byte(strings.Join(pems, "")))
}

// level does what is to be done now.
func (k *Keys) level(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.settings()
	if len(s.CA) == 0 {
		return nil
	}
	roots, err := decode(s.CA)
	if err != nil {
		return fmt.Errorf("the settings' authorities: %w", err)
	}
	newest := roots[len(roots)-1]
	if !k.ca.Load().Cert.Equal(newest) {
		if err := k.change(newest); err != nil {
			return err
		}
	}
	id := k.identity.Load()
	all := len(roots) == 1 || len(k.without(newest)) == 0 && len(k.servers(newest, trusts)) == 0
	own := id.Issuer().Equal(newest)
	due := k.c.Now().After(id.RenewAt(0))
	if !all && !own { // half of the nodes would not believe it
		due = k.c.Now().After(id.Cert.NotAfter)
	}
	if !own && all || due {
		if err := k.reissue(); err != nil {
			return err
		}
		id = k.identity.Load()
	}
	if !slices.EqualFunc(roots, id.Roots, (*x509.Certificate).Equal) && (len(roots) > 1 || id.Issuer().Equal(newest)) {
		id = id.With(roots)
		if err := id.Save(k.c.Dir); err != nil {
			return err
		}
		k.identity.Store(id)
	}
	if len(roots) > 1 && all && id.Issuer().Equal(newest) && len(k.servers(newest, signed)) == 0 {
		if err := k.drop(ctx, newest); !errors.Is(err, store.ErrNotLeader) {
			return err
		}
	}
	return nil
}

// change takes the key of the newest authority.
func (k *Keys) change(newest *x509.Certificate) error {
	ca, err := pki.LoadNextCA(k.c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !ca.Cert.Equal(newest) {
		return errors.New("this server has no key of the cluster's newest authority; bring ca-next.key and ca-next.pem back into its pki folder, or restore a backup")
	}
	if err := ca.Save(k.c.Dir); err != nil {
		return err
	}
	k.ca.Store(ca)
	k.c.Log.Info("certificates are signed by the cluster's new authority", "until", ca.Cert.NotAfter)
	return pki.DropNextCA(k.c.Dir)
}

// without are the nodes that have no certificate of the authority. Those of servers' machines have their servers'.
func (k *Keys) without(newest *x509.Certificate) (nodes []*model.Node) {
	want := AuthorityOf(newest)
	k.c.Store.View(func(r store.Reader) {
		for n := range store.Nodes.Scan(r, "") {
			if s, ok := store.Servers.Get(r, n.ID); ok && s.KeyHash == n.KeyHash {
				continue
			}
			if n.KeyHash != "" && n.Authority != want {
				nodes = append(nodes, n)
			}
		}
	})
	return nodes
}

// What servers say of an authority.
func trusts(s *model.Server) string { return s.Trusts }
func signed(s *model.Server) string { return s.Authority }

// servers are those that do not say so of the authority. One that is alone is asked nothing.
func (k *Keys) servers(newest *x509.Certificate, of func(*model.Server) string) (all []*model.Server) {
	if k.others() == 0 {
		return nil
	}
	want := AuthorityOf(newest)
	k.c.Store.View(func(r store.Reader) {
		for s := range store.Servers.Scan(r, "") {
			if of(s) != want {
				all = append(all, s)
			}
		}
	})
	return all
}

// AuthorityOf is how rows of nodes name an authority.
func AuthorityOf(cert *x509.Certificate) string {
	pin := pki.Pin(cert)
	return hex.EncodeToString(pin[:])
}

// drop leaves the newest authority alone in the settings, and the tokens that name it.
func (k *Keys) drop(ctx context.Context, newest *x509.Certificate) error {
	return k.c.Store.Update(ctx, func(tx store.Tx) error {
		row, ok := store.ClusterSettings.Get(tx, model.SettingsKey)
		if !ok || len(row.CA) < 2 || row.CA[len(row.CA)-1] != string(pki.EncodeCerts([]*x509.Certificate{newest})) {
			return nil
		}
		s := *row
		s.CA = s.CA[len(s.CA)-1:]
		store.ClusterSettings.Put(tx, &s)
		for _, t := range slices.Collect(store.Tokens.Scan(tx, "")) {
			if t.Pin != AuthorityOf(newest) {
				store.Tokens.Delete(tx, t.ID)
			}
		}
		return nil
	})
}
