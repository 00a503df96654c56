package registrar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
)

// Authorities is how the cluster stands with its authorities.
type Authorities struct {
	Cluster string
	Trusted []Authority // the last one signs; more than one: the cluster is on its way from the first to the last
	Waiting []Waiting   // nodes without a certificate of the last one
	Servers []string    // names of servers that do not believe the last one yet, or show no certificate of it
}

// Authority is one of them.
type Authority struct {
	Pin   string // hexadecimal SHA-256 of its key
	Until time.Time
}

// Waiting is a node that is yet to renew.
type Waiting struct {
	ID, Hostname string
	Connected    bool
}

// Authorities looks at them.
func (k *Keys) Authorities() Authorities {
	a := Authorities{Cluster: k.ca.Load().Cluster}
	roots, err := decode(k.settings().CA)
	if err != nil {
		roots = k.identity.Load().Roots
	}
	for _, r := range roots {
		a.Trusted = append(a.Trusted, Authority{AuthorityOf(r), r.NotAfter})
	}
	for _, n := range k.without(roots[len(roots)-1]) {
		a.Waiting = append(a.Waiting, Waiting{n.ID, n.Hostname, n.Connected})
	}
	for _, s := range k.servers(roots[len(roots)-1], signed) {
		a.Servers = append(a.Servers, s.Name)
	}
	return a
}

// Rotate begins to replace the cluster's authority. One that is under way goes on; finish ends it though nodes are left,
// which then need a token to come back.
func (k *Keys) Rotate(ctx context.Context, finish bool) error {
	roots, err := decode(k.settings().CA)
	if err != nil {
		return err
	}
	newest := roots[len(roots)-1]
	switch {
	case finish && len(roots) == 1:
		return errors.New("no change of the authority is under way; begin one with: berth ca rotate")
	case finish:
		return k.finish(ctx, newest)
	case len(roots) > 1:
		return nil
	}
	if k.others() > 0 && k.settings().Level < model.LevelAuthorities {
		return errors.New("not all servers are of a version that can change the authority of several; see: berth server ls")
	}
	ca, err := pki.NewCA(k.ca.Load().Cluster, k.c.Now())
	if err != nil {
		return err
	}
	if err := ca.SaveNext(k.c.Dir); err != nil { // first: an authority without a key would be nobody's
		return err
	}
	if err := k.offer(ctx, ca); err != nil {
		return err
	}
	err = k.c.Store.Update(ctx, func(tx store.Tx) error {
		row, ok := store.ClusterSettings.Get(tx, model.SettingsKey)
		if !ok || len(row.CA) != 1 {
			return errors.New("another change of the authority has begun; see: berth ca show")
		}
		s := *row
		s.CA = append(slices.Clone(s.CA), string(pki.EncodeCerts([]*x509.Certificate{ca.Cert})))
		store.ClusterSettings.Put(tx, &s)
		return nil
	})
	if err != nil {
		return err
	}
	return k.level(ctx)
}

// offer gives all other servers the key of the next authority: one that had none could not sign any more.
func (k *Keys) offer(ctx context.Context, next *pki.CA) error {
	for _, s := range k.servers(next.Cert, trusts) {
		if s.ID == k.c.ID {
			continue
		}
		if k.c.Offer == nil {
			return errors.New("this server does not reach the others")
		}
		if err := k.c.Offer(ctx, s, next); err != nil {
			return fmt.Errorf("server %s does not take the key of the next authority; start it, or remove it first (berth server rm %s): %w", s.Name, s.Name, err)
		}
	}
	return nil
}

// others is how many other servers there are.
func (k *Keys) others() (n int) {
	k.c.Store.View(func(r store.Reader) {
		for s := range store.Servers.Scan(r, "") {
			if s.ID != k.c.ID {
				n++
			}
		}
	})
	return n
}

// finish drops the old authority for all that nodes have not renewed.
func (k *Keys) finish(ctx context.Context, newest *x509.Certificate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ca.Load().Cert.Equal(newest) {
		return errors.New("this server does not sign with the new authority yet; try again, and see its log if that goes on")
	}
	if k.others() > 0 {
		return errors.New("with several servers the change ends when all machines have renewed: forget the nodes that do not (berth node rm), and the servers (berth server rm)")
	}
	if err := k.reissue(); err != nil {
		return err
	}
	return k.drop(ctx, newest)
}
