package registrar

import (
	"context"
	"crypto/x509"
	"errors"
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
		a.Trusted = append(a.Trusted, Authority{authorityOf(r), r.NotAfter})
	}
	for _, n := range k.without(roots[len(roots)-1]) {
		a.Waiting = append(a.Waiting, Waiting{n.ID, n.Hostname, n.Connected})
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
	if k.others() > 0 {
		return errors.New("the authority of a cluster with more than one server cannot be changed yet: etcd's port would not follow; leave one server, change it, and let the others join again")
	}
	ca, err := pki.NewCA(k.ca.Load().Cluster, k.c.Now())
	if err != nil {
		return err
	}
	if err := ca.SaveNext(k.c.Dir); err != nil { // first: an authority without a key would be nobody's
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
	if err := k.reissue(); err != nil {
		return err
	}
	return k.drop(ctx, newest)
}
