package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newTestCA(t *testing.T, cluster string) *CA {
	t.Helper()
	ca, err := NewCA(cluster, day)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *CA, p Peer) *Identity {
	t.Helper()
	id, err := ca.Issue(p, day)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestACertificateSaysWhoAMachineIs(t *testing.T) {
	ca := newTestCA(t, "c7f2")
	server := issue(t, ca, Peer{Role: RoleServer, ID: "s1"})
	node := issue(t, ca, Peer{Role: RoleNode, Cluster: "another", ID: "3fa9"}) // the authority's own cluster counts
	got, err := server.Verify(node.Cert, day)
	if err != nil || got.Role != RoleNode || got.Cluster != "c7f2" || got.ID != "3fa9" || got != node.Peer {
		t.Errorf("got %+v, %v", got, err)
	}
	if want := KeyHash(node.Cert.RawSubjectPublicKeyInfo); got.KeyHash != want || len(want) != 64 {
		t.Errorf("key hash %q, want %q", got.KeyHash, want)
	}
	if n := len(server.TLS().Certificate); n != 2 {
		t.Errorf("a server shows %d certificates, want its own and the authority's", n)
	}
	if n := len(node.TLS().Certificate); n != 1 {
		t.Errorf("a node shows %d certificates, want 1", n)
	}
	if life := node.Cert.NotAfter.Sub(day); life != LeafLife || day.Sub(node.Cert.NotBefore) != Backdate {
		t.Errorf("valid from %v to %v", node.Cert.NotBefore, node.Cert.NotAfter)
	}
}

func TestWhoIsRefused(t *testing.T) {
	ours, same := newTestCA(t, "c7f2"), newTestCA(t, "c7f2")
	me := issue(t, ours, Peer{Role: RoleServer, ID: "s1"})
	foreign := issue(t, same, Peer{Role: RoleNode, ID: "n1"})
	if _, err := me.Verify(foreign.Cert, day); !errors.Is(err, ErrForeign) {
		t.Errorf("a foreign authority of the same name: %v", err)
	}
	other := issue(t, newTestCA(t, "beef"), Peer{Role: RoleNode, ID: "n1"})
	if _, err := me.With(append(other.Roots, me.Roots...)).Verify(other.Cert, day); !errors.Is(err, ErrForeign) {
		t.Errorf("another cluster: %v", err)
	}
	node := issue(t, ours, Peer{Role: RoleNode, ID: "n1"})
	if p, err := me.Verify(node.Cert, day.Add(LeafLife+time.Second)); !errors.Is(err, ErrExpired) || p != node.Peer {
		t.Errorf("expired: %+v, %v", p, err)
	}
	_, err := me.Verify(node.Cert, day.Add(-30*time.Hour))
	if _, ok := errors.AsType[*DateError](err); !ok || !strings.Contains(err.Error(), "timedatectl") {
		t.Errorf("too early: %v", err)
	}
	if _, err := me.Verify(ours.Cert, day); err == nil {
		t.Error("the authority itself is no machine")
	}
}

func TestWhatIsSigned(t *testing.T) {
	ca := newTestCA(t, "c7f2")
	key, _ := NewKey()
	request, _ := Request(key)
	broken := append([]byte(nil), request...)
	broken[len(broken)-1] ^= 1
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	large, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	for name, c := range map[string]struct {
		request []byte
		peer    Peer
	}{
		"no request":   {[]byte("x"), Peer{Role: RoleNode, ID: "n1"}},
		"not its key":  {broken, Peer{Role: RoleNode, ID: "n1"}},
		"another kind": {large, Peer{Role: RoleNode, ID: "n1"}},
		"no role":      {request, Peer{Role: "root", ID: "n1"}},
		"odd id":       {request, Peer{Role: RoleNode, ID: "n1/../s1"}},
		"no id":        {request, Peer{Role: RoleNode}},
	} {
		if _, err := ca.Sign(c.request, c.peer, day); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	late, err := ca.Sign(request, Peer{Role: RoleNode, ID: "n1"}, day.Add(CALife-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if cert, _ := x509.ParseCertificate(late); !cert.NotAfter.Equal(ca.Cert.NotAfter) {
		t.Errorf("a leaf lives until %v, its authority until %v", cert.NotAfter, ca.Cert.NotAfter)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no identity: %v", err)
	}
	ca := newTestCA(t, "c7f2")
	id, beat := issue(t, ca, Peer{Role: RoleServer, ID: "s1"}), NewBeatKey()
	if err := errors.Join(ca.Save(dir), id.Save(dir), SaveBeatKey(dir, beat)); err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil || again.Peer != id.Peer || !again.Key.Equal(id.Key) || len(again.Roots) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	same, err := LoadCA(dir)
	if err != nil || same.Cluster != "c7f2" || same.Pin() != ca.Pin() || !same.Key.Equal(ca.Key) {
		t.Errorf("%+v, %v", same, err)
	}
	if key, err := LoadBeatKey(dir); err != nil || string(key) != string(beat) {
		t.Errorf("%x, %v", key, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 6 {
		t.Errorf("files: %v", entries)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v", info.Mode())
	}
	other := issue(t, ca, Peer{Role: RoleServer, ID: "s1"})
	if err := other.Save(dir); err != nil {
		t.Fatal(err)
	}
	if again, err := Load(dir); err != nil || again.Peer.KeyHash != other.Peer.KeyHash {
		t.Errorf("%+v, %v", again, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "key.pem") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestRenewal(t *testing.T) {
	id := issue(t, newTestCA(t, "c7f2"), Peer{Role: RoleNode, ID: "n1"})
	for roll, days := range map[float64]int{0: 45, 0.5: 58, 1: 72} {
		if got := int(id.RenewAt(roll).Sub(day).Hours() / 24); got != days {
			t.Errorf("roll %v: after %d days, want %d", roll, got, days)
		}
	}
}

func TestClock(t *testing.T) {
	now := day
	c := &Clock{Base: func() time.Time { return now }}
	learn := func(server time.Duration) (time.Duration, bool) {
		asked := c.Now()
		now = now.Add(2 * time.Second) // for the question and the answer
		return c.Learn(now.Add(server-time.Second), asked)
	}
	if offset, apart := learn(3 * time.Second); offset != 3*time.Second || apart || !c.Now().Equal(now) {
		t.Errorf("a small difference counts: %v, %v", offset, apart)
	}
	for range 2 {
		if offset, apart := learn(-5 * time.Hour); offset != -5*time.Hour || !apart || !c.Now().Equal(now.Add(-5*time.Hour)) {
			t.Errorf("a large difference does not count: %v, %v", offset, apart)
		}
	}
	if offset, apart := learn(0); offset != 0 || apart || !c.Now().Equal(now) {
		t.Errorf("a clock that was set right still has the difference: %v, %v", offset, apart)
	}
	if offset, apart := (*Clock)(nil).Learn(day, day); offset != 0 || apart || (*Clock)(nil).Now().IsZero() {
		t.Error("no clock")
	}
}

func TestBeatKeys(t *testing.T) {
	key := NewBeatKey()
	if a, b := NodeBeatKey(key, "a"), NodeBeatKey(key, "b"); len(a) != BeatKeySize || string(a) == string(b) || string(a) != string(NodeBeatKey(key, "a")) {
		t.Error("nodes' keys are theirs, and always the same")
	}
}
