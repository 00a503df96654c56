package registrar

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
)

// keysWorld is a world whose server keeps its keys.
type keysWorld struct {
	*world
	keys     *Keys
	dir      string
	ca       atomic.Pointer[pki.CA]
	identity atomic.Pointer[pki.Identity]
}

func newKeysWorld(t *testing.T) *keysWorld {
	w := &keysWorld{world: newWorld(t), dir: filepath.Join(t.TempDir(), "pki")}
	w.ca.Store(w.world.ca)
	w.identity.Store(w.world.identity())
	if err := errors.Join(w.world.ca.Save(w.dir), w.identity.Load().Save(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.put(func(tx store.Tx) {
		store.ClusterSettings.Put(tx, &model.Settings{CA: []string{string(pki.EncodeCerts([]*x509.Certificate{w.world.ca.Cert}))}})
		store.Servers.Put(tx, &model.Server{ID: serverID, KeyHash: w.identity.Load().Peer.KeyHash})
	})
	var err error
	if w.keys, err = NewKeys(KeysConfig{Dir: w.dir, ID: serverID, Store: w.store, Now: w.now}, &w.ca, &w.identity); err != nil {
		t.Fatal(err)
	}
	w.follow()
	return w
}

// follow has the rest of the world use the keys.
func (w *keysWorld) follow() {
	w.r.CA, w.r.Pin = w.ca.Load, w.keys.Pin
	w.r.Roots = func() []byte { return []byte(strings.Join(w.keys.settings().CA, "")) }
	w.as.Store(&w.identity)
}

func (w *keysWorld) level() {
	w.t.Helper()
	if err := w.keys.level(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *keysWorld) renew(id *pki.Identity) *pki.Identity {
	w.t.Helper()
	client := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return id }, Clock: &pki.Clock{Base: w.now}}).HTTP(w.address)
	defer client.CloseIdleConnections()
	renewed, _, err := join.Renew(context.Background(), client, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return renewed
}

func TestTheAuthorityIsReplacedOnline(t *testing.T) {
	w := newKeysWorld(t)
	one := w.mustJoin(w.machine(nodeID), w.token(pki.RoleNode, Terms{})).Identity
	two := w.mustJoin(w.machine(otherID), w.token(pki.RoleNode, Terms{})).Identity
	old := w.ca.Load()
	if err := w.keys.Rotate(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	w.level()
	if w.ca.Load().Pin() == old.Pin() || !w.identity.Load().Issuer().Equal(old.Cert) || len(w.keys.Authorities().Trusted) != 2 || len(w.keys.Authorities().Waiting) != 2 {
		t.Fatalf("%+v", w.keys.Authorities())
	}
	// Who joins now believes both, and everybody goes on.
	late := w.mustJoin(w.machine("aaaa0000000000000000000000000003"), w.token(pki.RoleNode, Terms{})).Identity
	for _, id := range []*pki.Identity{one, two, late} {
		if err := w.members(id); err != nil {
			t.Error(err)
		}
	}
	one = w.renew(one)
	w.level()
	if got := w.keys.Authorities(); len(got.Waiting) != 1 || got.Waiting[0].ID != otherID || !w.identity.Load().Issuer().Equal(old.Cert) {
		t.Errorf("%+v", got)
	}
	two = w.renew(two)
	if err := w.keys.Rotate(context.Background(), false); err != nil { // it is under way
		t.Error(err)
	}
	w.level()
	if got := w.keys.Authorities(); len(got.Trusted) != 1 || !w.identity.Load().Issuer().Equal(w.ca.Load().Cert) || len(w.r.Tokens()) != 0 {
		t.Errorf("%+v, %d tokens", got, len(w.r.Tokens()))
	}
	w.level()
	if roots := w.identity.Load().Roots; len(roots) != 1 || !roots[0].Equal(w.ca.Load().Cert) {
		t.Errorf("the server believes %d authorities", len(roots))
	}
	for _, id := range []*pki.Identity{one, two, late} {
		if err := w.members(id); err != nil {
			t.Error(err)
		}
	}
	saved, err := pki.Load(w.dir)
	if ca, errCA := LoadCA(w.dir); err != nil || errCA != nil || ca.Pin() != w.ca.Load().Pin() || saved.Peer != w.identity.Load().Peer {
		t.Errorf("%v, %v", err, errCA)
	}
	if entries, _ := os.ReadDir(w.dir); len(entries) != 5 {
		t.Errorf("files: %v", entries)
	}
}

func TestANodeThatIsAwayHoldsTheChange(t *testing.T) {
	w := newKeysWorld(t)
	away := w.mustJoin(w.machine(nodeID), w.token(pki.RoleNode, Terms{})).Identity
	if err := w.keys.Rotate(context.Background(), true); err == nil || !strings.Contains(err.Error(), "berth ca rotate") {
		t.Errorf("nothing to finish: %v", err)
	}
	if err := w.keys.Rotate(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	w.level()
	w.level()
	if err := w.members(away); err != nil {
		t.Error(err)
	}
	if err := w.keys.Rotate(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	w.level()
	if err := w.members(away); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("the node that was left: %v", err)
	}
	w.refused("a token of before", w.machine(otherID), pki.JoinURL{Addresses: []string{w.address}, Token: pki.NewToken(pki.RoleNode, pki.Pin(away.Roots[0]))}, "berth ca rotate")
}

func TestACrashInTheMiddleOfTheChange(t *testing.T) {
	w := newKeysWorld(t)
	ca, err := pki.NewCA("c7f2", w.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.SaveNext(w.dir); err != nil {
		t.Fatal(err)
	}
	w.put(func(tx store.Tx) {
		row, _ := store.ClusterSettings.Get(tx, model.SettingsKey)
		store.ClusterSettings.Put(tx, &model.Settings{CA: append(slices.Clone(row.CA), string(pki.EncodeCerts([]*x509.Certificate{ca.Cert})))})
	})
	// It ended between the authority's certificate and its key.
	next, err := os.ReadFile(filepath.Join(w.dir, "ca-next.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "ca.pem"), next, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.LoadCA(w.dir); err == nil {
		t.Error("the files fit")
	}
	if ca, err = LoadCA(w.dir); err != nil {
		t.Fatal(err)
	}
	w.ca.Store(ca)
	w.level()
	w.level()
	if got := w.keys.Authorities(); len(got.Trusted) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestTheServersOwnCertificateIsRenewed(t *testing.T) {
	w := newKeysWorld(t)
	before := w.identity.Load()
	w.ahead.Store(int64(60 * 24 * time.Hour))
	w.level()
	if id := w.identity.Load(); id.Peer != before.Peer || !id.Cert.NotAfter.After(before.Cert.NotAfter) {
		t.Errorf("%+v", id.Peer)
	}
	w.ahead.Store(int64(400 * 24 * time.Hour)) // it was off for a year
	if _, err := NewKeys(KeysConfig{Dir: w.dir, ID: serverID, Store: w.store, Now: w.now}, &w.ca, &w.identity); err != nil {
		t.Fatal(err)
	}
	if id := w.identity.Load(); id.Peer != before.Peer || id.Cert.NotAfter.Before(w.now()) {
		t.Errorf("%+v", id.Peer)
	}
}

// TestSeveralServersChangeTheirAuthority: each has the key of the next one before the settings name it, no server shows a certificate of it before
// all believe it, and the last is not gone before all show one.
func TestSeveralServersChangeTheirAuthority(t *testing.T) {
	w := newKeysWorld(t)
	w.put(func(tx store.Tx) { store.Servers.Put(tx, &model.Server{ID: otherID, Name: "two"}) })
	if err := w.keys.Rotate(context.Background(), false); err == nil || !strings.Contains(err.Error(), "of a version") {
		t.Errorf("before all can: %v", err)
	}
	w.put(func(tx store.Tx) {
		row, _ := store.ClusterSettings.Get(tx, model.SettingsKey)
		settings := *row
		settings.Level = model.LevelAuthorities
		store.ClusterSettings.Put(tx, &settings)
	})
	var offered *pki.CA
	w.keys.c.Offer = func(context.Context, *model.Server, *pki.CA) error { return errors.New("it is off") }
	if err := w.keys.Rotate(context.Background(), false); err == nil || !strings.Contains(err.Error(), "server two does not take") || len(w.keys.Authorities().Trusted) != 1 {
		t.Errorf("with a server that is off: %v, %+v", err, w.keys.Authorities())
	}
	w.keys.c.Offer = func(_ context.Context, to *model.Server, next *pki.CA) error {
		if to.ID != otherID || len(w.keys.Authorities().Trusted) != 1 {
			t.Errorf("offered to %s, %+v", to.ID, w.keys.Authorities())
		}
		offered = next
		return nil
	}
	if err := w.keys.Rotate(context.Background(), false); err != nil || offered == nil {
		t.Fatal(err)
	}
	say := func(trusts, shows bool, ids ...string) {
		w.put(func(tx store.Tx) {
			for _, id := range ids {
				row, ok := store.Servers.Get(tx, id)
				if !ok {
					row = &model.Server{ID: id}
				}
				next := *row
				if trusts {
					next.Trusts = AuthorityOf(offered.Cert)
				}
				if shows {
					next.Authority = AuthorityOf(offered.Cert)
				}
				store.Servers.Put(tx, &next)
			}
		})
		w.level()
	}
	is := func(what string, shows bool, trusted int) {
		t.Helper()
		if got := w.identity.Load().Issuer().Equal(offered.Cert); got != shows || len(w.keys.Authorities().Trusted) != trusted {
			t.Errorf("%s: shows the new one: %t, %+v", what, got, w.keys.Authorities())
		}
	}
	w.level()
	is("at first", false, 2)
	say(true, false, serverID)
	is("one believes it", false, 2)
	if err := w.keys.Rotate(context.Background(), true); err == nil || !strings.Contains(err.Error(), "berth node rm") {
		t.Errorf("to finish: %v", err)
	}
	say(true, false, otherID)
	is("both believe it", true, 2)
	say(false, true, serverID)
	is("one shows it", true, 2)
	say(false, true, otherID)
	is("both show it", true, 1)
}
