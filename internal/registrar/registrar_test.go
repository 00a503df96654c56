package registrar

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

const (
	serverID = "5e000000000000000000000000000001"
	nodeID   = "3fa90000000000000000000000000001"
	otherID  = "77c00000000000000000000000000002"
)

// world is a cluster with one server on loopback and an empty store.
type world struct {
	t       *testing.T
	store   *mem.Store
	ca      *pki.CA
	r       *Registrar
	server  *peer.Server
	address string
	ahead   atomic.Int64 // of the cluster's clock before the machines'
	tried   []join.Port
	as      atomic.Pointer[atomic.Pointer[pki.Identity]] // the server's identity; nil: always a fresh one
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(store.Schema())}
	var err error
	if w.ca, err = pki.NewCA("c7f2", w.now()); err != nil {
		t.Fatal(err)
	}
	w.r = New(Config{Store: w.store, CA: func() *pki.CA { return w.ca }, BeatKey: pki.NewBeatKey(), Version: "v1.4.0", Now: w.now,
		Roots:   func() []byte { return pki.EncodeCerts(w.roots()) },
		RootKey: func() ([]byte, error) { return []byte("root"), nil },
		Site:    func() join.Site { return join.Site{Account: "000000000000", Region: "us-east-1"} },
		Address: func() string { return w.address },
		DialBack: func(ctx context.Context, host string, ports []join.Port, nonce []byte) []join.Port {
			w.tried = join.DialBack(ctx, host, ports, nonce)
			return w.tried
		}})
	w.server = peer.NewServer(peer.Config{Identity: w.identity, Admit: w.r.Admit, Clock: &pki.Clock{Base: w.now}})
	w.r.Register(w.server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- w.server.Serve(ctx, l) }()
	go func() { done <- w.r.Run(ctx, w.server.Recheck) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) roots() []*x509.Certificate { return []*x509.Certificate{w.ca.Cert} }

// identity is the server's, always fresh.
func (w *world) identity() *pki.Identity {
	if as := w.as.Load(); as != nil {
		return as.Load()
	}
	id, err := w.ca.Issue(pki.Peer{Role: pki.RoleServer, ID: serverID}, w.now())
	if err != nil {
		w.t.Error(err)
	}
	return id
}

func (w *world) token(role pki.Role, terms Terms) pki.JoinURL {
	w.t.Helper()
	u, _, err := w.r.NewToken(context.Background(), role, terms)
	if err != nil {
		w.t.Fatal(err)
	}
	u.Addresses = []string{w.address} // and not those of servers that were only made up
	return u
}

// machine is one that may join.
func (w *world) machine(id string) join.Config {
	return join.Config{Dir: filepath.Join(w.t.TempDir(), "pki"), Clock: &pki.Clock{},
		Machine: join.Machine{ID: id, Hostname: "host-" + id[:4], Version: "v1.4.0", Boot: "boot-" + id, Level: model.Level}}
}

func (w *world) join(c join.Config, u pki.JoinURL) (*join.Result, error) {
	c.URL = u
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return join.Join(ctx, c)
}

func (w *world) mustJoin(c join.Config, u pki.JoinURL) *join.Result {
	w.t.Helper()
	res, err := w.join(c, u)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func (w *world) put(f func(store.Tx)) {
	w.t.Helper()
	if err := w.store.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// state is all that is stored of machines and tokens.
func (w *world) state() string {
	var all []any
	w.store.View(func(r store.Reader) {
		for n := range store.Nodes.Scan(r, "") {
			all = append(all, n)
		}
		for s := range store.Servers.Scan(r, "") {
			all = append(all, s)
		}
		for t := range store.Tokens.Scan(r, "") {
			all = append(all, t)
		}
	})
	data, err := json.Marshal(all)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// refused tells that a join ends with a sentence that has the words, and that it changes nothing anywhere.
func (w *world) refused(name string, c join.Config, u pki.JoinURL, words ...string) {
	w.t.Helper()
	before, files := w.state(), listing(c.Dir)
	_, err := w.join(c, u)
	for _, s := range words {
		if err == nil || !strings.Contains(err.Error(), s) {
			w.t.Errorf("%s: %v; want %q in it", name, err, s)
		}
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		w.t.Errorf("%s: more than one sentence: %q", name, err)
	}
	if after := w.state(); after != before {
		w.t.Errorf("%s: the cluster has changed:\n%s\n%s", name, before, after)
	}
	if after := listing(c.Dir); after != files {
		w.t.Errorf("%s: the machine has changed:\n%s\n%s", name, files, after)
	}
}

func listing(dir string) string {
	var all strings.Builder
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(path)
			fmt.Fprintf(&all, "%s %x\n", path, data)
		}
		return nil
	})
	return all.String()
}

func (w *world) node(id string) (n *model.Node) {
	w.store.View(func(r store.Reader) { n, _ = store.Nodes.Get(r, id) })
	return n
}

// connected notes a session of a node, as nodelink does.
func (w *world) connected(id string, on bool) {
	w.put(func(tx store.Tx) {
		old, _ := store.Nodes.Get(tx, id)
		n := *old
		n.Connected = on
		store.Nodes.Put(tx, &n)
	})
}

// members asks the server as somebody.
func (w *world) members(id *pki.Identity) error {
	client := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return id }, Clock: &pki.Clock{Base: w.now}}).HTTP(w.address)
	defer client.CloseIdleConnections()
	var m join.Members
	return join.Get(context.Background(), client, join.PathMembers, &m)
}

func TestANodeJoins(t *testing.T) {
	w := newWorld(t)
	u, c := w.token(pki.RoleNode, Terms{}), w.machine(nodeID)
	c.Ports = []join.Port{{Network: "udp", Number: freePort(t, "udp")}, {Network: "tcp", Number: freePort(t, "tcp")}}
	res := w.mustJoin(c, u)
	if p := res.Identity.Peer; p.Role != pki.RoleNode || p.ID != nodeID || p.Cluster != "c7f2" || res.Again || res.Apart || res.CA != nil || res.RootKey != nil {
		t.Errorf("%+v", res)
	}
	if res.Servers[0] != w.address || res.Site.Region != "us-east-1" || res.Address != "127.0.0.1" || len(res.Ports) != 2 || len(res.Closed()) != 0 {
		t.Errorf("%+v", res)
	}
	n := w.node(nodeID)
	if n == nil || n.KeyHash != res.Identity.Peer.KeyHash || n.Hostname != "host-3fa9" || n.Authority != w.r.authority() {
		t.Errorf("%+v", n)
	}
	if string(res.BeatKey) != string(pki.NodeBeatKey(w.r.BeatKey, nodeID)) {
		t.Error("the key of its beats is not its own")
	}
	saved, err := pki.Load(c.Dir)
	if err != nil || saved.Peer != res.Identity.Peer {
		t.Errorf("%+v, %v", saved, err)
	}
	if servers, err := pki.LoadServers(c.Dir); err != nil || servers[0] != w.address {
		t.Errorf("%v, %v", servers, err)
	}
	if err := w.members(saved); err != nil { // as after a reboot: no token
		t.Error(err)
	}
	if again := w.mustJoin(c, u); !again.Again || w.r.Tokens()[0].Uses != 1 {
		t.Errorf("a second join of the same machine: %+v, %d uses", again, w.r.Tokens()[0].Uses)
	}
	second := w.mustJoin(w.machine(otherID), u)
	if second.Again || w.r.Tokens()[0].Uses != 2 {
		t.Errorf("%+v, %d uses", second, w.r.Tokens()[0].Uses)
	}
}

func freePort(t *testing.T, network string) uint16 {
	t.Helper()
	if network == "tcp" {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return uint16(l.Addr().(*net.TCPAddr).Port)
	}
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

func TestAServerJoins(t *testing.T) {
	w := newWorld(t)
	u, c := w.token(pki.RoleServer, Terms{}), w.machine(otherID)
	res := w.mustJoin(c, u)
	if res.CA == nil || res.CA.Pin() != w.ca.Pin() || string(res.BeatKey) != string(w.r.BeatKey) || string(res.RootKey) != "root" {
		t.Errorf("%+v", res)
	}
	if ca, err := pki.LoadCA(c.Dir); err != nil || ca.Cluster != "c7f2" {
		t.Errorf("%+v, %v", ca, err)
	}
	var row *model.Server
	w.store.View(func(r store.Reader) { row, _ = store.Servers.Get(r, otherID) })
	if row == nil || row.KeyHash != res.Identity.Peer.KeyHash || row.Address != "127.0.0.1:4567" {
		t.Errorf("%+v", row)
	}
	if again := w.mustJoin(c, u); !again.Again { // its answer may have been lost
		t.Errorf("%+v", again)
	}
	w.refused("a used up token", w.machine(nodeID), u, "used up", "berth token server")
	older := w.machine(nodeID)
	older.Machine.Level = model.Level - 1
	w.put(func(tx store.Tx) { store.ClusterSettings.Put(tx, &model.Settings{Level: model.Level}) })
	w.refused("an old server", older, w.token(pki.RoleServer, Terms{}), "feature level")
	if err := w.members(res.Identity); err != nil {
		t.Error(err)
	}
}

// TestWhoIsNotTakenIn is the bad input of issue 8: each refusal is one sentence with its cure, and changes nothing.
func TestWhoIsNotTakenIn(t *testing.T) {
	w := newWorld(t)
	u := w.token(pki.RoleNode, Terms{})
	good := u.Token

	wrong := u
	wrong.Token.Secret[0] ^= 1
	w.refused("a wrong secret", w.machine(nodeID), wrong, "secret", "berth token node")

	unknown := u
	unknown.Token.ID = "00000000"
	w.refused("an unknown token", w.machine(nodeID), unknown, "does not know the token", "berth token node")

	w.refused("an id that is none", w.machine("host-of-mine"), u, "no id of a machine")

	foreign := newWorld(t)
	elsewhere := u
	elsewhere.Addresses = []string{foreign.address}
	w.refused("another cluster's server", w.machine(nodeID), elsewhere, "not of the cluster that made the token", "berth token node")

	nobody := u
	nobody.Addresses = []string{net.JoinHostPort("127.0.0.1", fmt.Sprint(freePort(t, "tcp")))}
	c := w.machine(nodeID)
	if _, err := w.join(c, nobody); err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "4567/tcp") {
		t.Errorf("nobody there: %v", err)
	}
	nobody.Addresses = append(nobody.Addresses, w.address)
	w.mustJoin(c, nobody) // the second address is good

	newer := w.machine(otherID)
	newer.Machine.Version = "v1.4.1"
	w.refused("a newer node", newer, u, "never newer", "upgrade the servers first")
	newer.Machine.Version = "v1.1.9"
	w.refused("a node that is too old", newer, u, "two minor versions", "install v1.4.0")
	newer.Machine.Version = "v1.2.0-7-gabcdef"
	w.mustJoin(newer, u)

	w.ahead.Store(int64(25 * time.Hour))
	w.refused("an expired token", w.machine("aaaa0000000000000000000000000003"), u, "expired 1h", "berth token node")
	w.ahead.Store(0)
	if err := w.r.RemoveToken(context.Background(), good.ID); err != nil {
		t.Fatal(err)
	}
	w.refused("a removed token", w.machine("aaaa0000000000000000000000000003"), u, "does not know the token")
	if err := w.r.RemoveToken(context.Background(), good.ID); err == nil || !strings.Contains(err.Error(), "berth token ls") {
		t.Errorf("removed twice: %v", err)
	}
}

func TestClonedAndReinstalled(t *testing.T) {
	w := newWorld(t)
	u, c := w.token(pki.RoleNode, Terms{}), w.machine(nodeID)
	first := w.mustJoin(c, u)
	w.connected(nodeID, true)

	clone := c // the same disk
	clone.Machine.Boot = "another boot"
	w.refused("a cloned disk", clone, u, "cloned", "berth node reset")
	reinstalled := w.machine(nodeID) // the same id, another key
	w.refused("the same id with another key, connected", reinstalled, u, "berth node reset")
	w.connected(nodeID, false)
	w.refused("the same id with another key", reinstalled, u, "another key", "--replace 3fa90000")
	if res := w.mustJoin(c, u); !res.Again {
		t.Errorf("%+v", res)
	}

	fresh := w.machine(otherID)
	fresh.Machine.Replace = "nowhere"
	w.refused("in the place of nobody", fresh, u, "no node \"nowhere\"", "berth node ls")
	fresh.Machine.Replace = "3fa9"
	w.connected(nodeID, true)
	w.refused("in the place of one that is connected", fresh, u, "is connected", "berth node rm")
	w.connected(nodeID, false)
	res := w.mustJoin(fresh, u)
	if res.Identity.Peer.ID != nodeID || w.node(otherID) != nil || w.node(nodeID).KeyHash != res.Identity.Peer.KeyHash {
		t.Errorf("%+v", res)
	}
	err := w.members(first.Identity)
	if err == nil || !strings.Contains(err.Error(), "another machine took its place") {
		t.Errorf("the machine that was replaced: %v", err)
	}
	if err := w.members(res.Identity); err != nil {
		t.Error(err)
	}
	fresh.Machine.ID = nodeID // the machine has written it down
	if again := w.mustJoin(fresh, u); !again.Again {
		t.Errorf("%+v", again)
	}
}

func TestAMachineIsOneAtATime(t *testing.T) {
	w, foreign := newWorld(t), newWorld(t)
	c := w.machine(nodeID)
	w.mustJoin(c, w.token(pki.RoleNode, Terms{}))
	foreign.refused("another cluster's node", c, foreign.token(pki.RoleNode, Terms{}), "of another cluster (c7f2)", "berth node reset")
	w.refused("a node that would be a server", c, w.token(pki.RoleServer, Terms{}), "already node", "berth node reset")
	c.Machine.ID = otherID
	w.refused("an instance.json of another machine", c, w.token(pki.RoleNode, Terms{}), "copied", "berth node reset")
}

func TestClocksApart(t *testing.T) {
	for _, ahead := range []time.Duration{-7 * time.Hour, 50 * time.Hour, 400 * 24 * time.Hour} {
		w := newWorld(t)
		w.ahead.Store(int64(ahead))
		var err error
		if w.ca, err = pki.NewCA("c7f2", w.now()); err != nil { // made by the cluster's clock
			t.Fatal(err)
		}
		c := w.machine(nodeID)
		res := w.mustJoin(c, w.token(pki.RoleNode, Terms{}))
		if !res.Apart || (res.Ahead-ahead).Abs() > time.Minute || (c.Clock.Now().Sub(w.now())).Abs() > time.Minute {
			t.Errorf("%v apart: %+v", ahead, res)
		}
		w.refused("a server's clock", w.machine(otherID), w.token(pki.RoleServer, Terms{}), "clock", "timedatectl")
	}
}

func TestRevoked(t *testing.T) {
	w := newWorld(t)
	res := w.mustJoin(w.machine(nodeID), w.token(pki.RoleNode, Terms{}))
	d := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return res.Identity }})
	hold, err := d.Dial(context.Background(), w.address, peer.ProtocolHTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	// The server has done its part of the handshake when it has answered.
	_, _ = hold.Write([]byte("GET /v1/clock HTTP/1.1\r\nHost: server\r\n\r\n"))
	if res, err := http.ReadResponse(bufio.NewReaderSize(hold, 16), nil); err != nil || res.Close {
		t.Fatalf("%v, %v", res, err)
	}
	w.put(func(tx store.Tx) { store.Nodes.Delete(tx, nodeID) })
	_ = hold.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, hold); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("its connection is open: %v", err)
	}
	if err := w.members(res.Identity); err == nil || !strings.Contains(err.Error(), "berth node reset") {
		t.Errorf("%v", err)
	}
}

func TestLaptops(t *testing.T) {
	w := newWorld(t)
	u := w.token(pki.RoleClient, Terms{Life: time.Hour})
	res := w.mustJoin(join.Config{}, u)
	if p := res.Identity.Peer; p.Role != pki.RoleClient || !strings.HasPrefix(p.ID, u.Token.ID+"-") {
		t.Errorf("%+v", p)
	}
	if err := w.members(res.Identity); err != nil {
		t.Error(err)
	}
	w.ahead.Store(int64(2 * time.Hour))
	if err := w.members(res.Identity); err == nil || !strings.Contains(err.Error(), "berth token client") {
		t.Errorf("after its token's end: %v", err)
	}
	w.ahead.Store(0)
	if err := w.r.RemoveToken(context.Background(), u.Token.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.members(res.Identity); err == nil {
		t.Error("its token was removed and it is served")
	}
}

func TestRenewal(t *testing.T) {
	w := newWorld(t)
	res := w.mustJoin(w.machine(nodeID), w.token(pki.RoleNode, Terms{}))
	id := res.Identity
	client := func() (*pki.Identity, error) {
		h := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return id }, Clock: &pki.Clock{Base: w.now}}).HTTP(w.address)
		defer h.CloseIdleConnections()
		renewed, servers, err := join.Renew(context.Background(), h, id)
		if err == nil && servers[0] != w.address {
			t.Errorf("servers %v", servers)
		}
		return renewed, err
	}
	w.ahead.Store(int64(100 * 24 * time.Hour)) // it was off for long
	if err := w.members(id); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
	renewed, err := client()
	if err != nil || renewed.Peer != id.Peer || !renewed.Cert.NotAfter.After(id.Cert.NotAfter) {
		t.Fatalf("%+v, %v", renewed, err)
	}
	if err := w.members(renewed); err != nil {
		t.Error(err)
	}
	w.put(func(tx store.Tx) { store.Nodes.Delete(tx, nodeID) })
	if _, err := client(); err == nil || !strings.Contains(err.Error(), "join again") {
		t.Errorf("a node that was removed renews: %v", err)
	}
}

func TestTokensLive(t *testing.T) {
	w := newWorld(t)
	for _, terms := range []Terms{{Life: time.Second}, {Life: 1000 * 24 * time.Hour}} {
		if _, _, err := w.r.NewToken(context.Background(), pki.RoleNode, terms); err == nil {
			t.Errorf("%+v", terms)
		}
	}
	if _, _, err := w.r.NewToken(context.Background(), "root", Terms{}); err == nil {
		t.Error("a token for the role root")
	}
	u := w.token(pki.RoleNode, Terms{Uses: 1})
	if strings.Contains(w.state(), u.Token.String()[14:40]) {
		t.Error("the secret is stored")
	}
	w.ahead.Store(int64(7 * 24 * time.Hour))
	if err := w.r.sweep(context.Background()); err != nil || len(w.r.Tokens()) != 1 {
		t.Errorf("%v, %d tokens", err, len(w.r.Tokens()))
	}
	w.ahead.Store(int64(9 * 24 * time.Hour))
	if err := w.r.sweep(context.Background()); err != nil || len(w.r.Tokens()) != 0 {
		t.Errorf("%v, %d tokens", err, len(w.r.Tokens()))
	}
}

func TestClosedPorts(t *testing.T) {
	p := join.Port{Network: "udp", Number: 4569}
	if got := p.Cure(); !strings.Contains(got, "ufw allow 4569/udp") || !strings.Contains(got, "--add-port=4569/udp") {
		t.Error(got)
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	tried := join.DialBack(context.Background(), "127.0.0.1", []join.Port{{Network: "tcp", Number: freePort(t, "tcp")},
		{Network: "udp", Number: uint16(silent.LocalAddr().(*net.UDPAddr).Port)}}, make([]byte, 16))
	if tried[0].Open || tried[1].Open {
		t.Errorf("%+v", tried)
	}
}

// FuzzJoin: whatever a stranger sends is refused, and nothing is stored of it.
func FuzzJoin(f *testing.F) {
	ca, err := pki.NewCA("c7f2", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	s := mem.New(store.Schema())
	r := New(Config{Store: s, CA: func() *pki.CA { return ca }, Roots: func() []byte { return nil }, Version: "v1.4.0",
		RootKey: func() ([]byte, error) { return nil, nil }, Site: func() join.Site { return join.Site{} }, Address: func() string { return "a:1" },
		DialBack: func(context.Context, string, []join.Port, []byte) []join.Port {
			panic("somebody was dialled for a stranger")
		}})
	u, _, err := r.NewToken(context.Background(), pki.RoleNode, Terms{})
	if err != nil {
		f.Fatal(err)
	}
	key, _ := pki.NewKey()
	csr, _ := pki.Request(key)
	almost, err := json.Marshal(join.Request{TokenID: u.Token.ID, Secret: make([]byte, 16), CSR: csr, Machine: join.Machine{ID: nodeID, Address: "127.0.0.1"},
		Ports: []join.Port{{Network: "udp", Number: 4567}}, Nonce: make([]byte, 16)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(almost)
	f.Add([]byte(`{"TokenID":null,"Secret":"","CSR":[],"Ports":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ask, err := readRequest(data)
		if err != nil {
			return
		}
		if a, err := r.join(context.Background(), ask, "10.0.0.1"); err == nil {
			t.Fatalf("taken in: %+v", a)
		} else if _, ok := errors.AsType[*peer.Refusal](err); !ok || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("no refusal: %q", err)
		}
		s.View(func(v store.Reader) {
			for n := range store.Nodes.Scan(v, "") {
				t.Errorf("stored: %+v", n)
			}
		})
	})
}
