package registrar

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
)

// maxRequest bounds a request, bytes.
const maxRequest = 32 << 10

// refuse is a refusal with its cure.
func refuse(format string, args ...any) error {
	return &peer.Refusal{Status: http.StatusForbidden, Message: fmt.Sprintf(format, args...)}
}

// serveJoin answers a machine that wants to be one of the cluster.
func (r *Registrar) serveJoin(w http.ResponseWriter, req *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxRequest))
	if err == nil {
		var ask *join.Request
		if ask, err = readRequest(data); err == nil {
			var answer *join.Answer
			remote, _, _ := net.SplitHostPort(req.RemoteAddr)
			if answer, err = r.join(req.Context(), ask, remote); err == nil {
				reply(w, answer)
				return
			}
		} else {
			err = &peer.Refusal{Status: http.StatusBadRequest, Message: err.Error()}
		}
	}
	if r.warn.Allow() {
		r.Log.Warn("a machine was not taken in", "from", req.RemoteAddr, "reason", err)
	}
	r.fail(w, err)
}

// readRequest reads what a stranger says.
func readRequest(data []byte) (*join.Request, error) {
	ask := &join.Request{}
	if err := json.Unmarshal(data, ask); err != nil {
		return nil, fmt.Errorf("the request to join cannot be read: %w", err)
	}
	return ask, ask.Check()
}

func reply(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // who does not read it asks again
}

// fail answers with a sentence; those that are not refusals may be tried again.
func (r *Registrar) fail(w http.ResponseWriter, err error) {
	if refusal, ok := errors.AsType[*peer.Refusal](err); ok {
		peer.WriteError(w, refusal.Status, refusal)
		return
	}
	if elsewhere, ok := errors.AsType[*store.NotLeaderError](err); ok {
		if address := r.addressOf(elsewhere.Leader); address != "" {
			peer.WriteElsewhere(w, &peer.Elsewhere{Address: address, Message: "another server leads, at " + address})
			return
		}
	}
	peer.WriteError(w, http.StatusServiceUnavailable, err)
}

// addressOf is a server's cluster port; "" when it is not known.
func (r *Registrar) addressOf(server string) (address string) {
	r.Store.View(func(v store.Reader) {
		if s, ok := store.Servers.Get(v, server); ok {
			address = s.Address
		}
	})
	return address
}

// join takes a machine in, or refuses it and changes nothing.
func (r *Registrar) join(ctx context.Context, ask *join.Request, remote string) (*join.Answer, error) {
	csr, err := x509.ParseCertificateRequest(ask.CSR)
	if err != nil || csr.CheckSignature() != nil {
		return nil, refuse("the certificate request is none; are the versions of Berth the same?")
	}
	a := &applicant{r: r, ask: ask, secret: [16]byte(ask.Secret), keyHash: pki.KeyHash(csr.RawSubjectPublicKeyInfo)}
	// Before anybody is dialled; what is decided here is decided again when it is written down.
	r.Store.View(func(v store.Reader) { err = a.decide(v) })
	if err != nil {
		return nil, err
	}
	answer := &join.Answer{Site: r.Site(), Address: ask.Machine.Address, Ports: r.dialBack(ctx, ask, remote)}
	if answer.Cert, err = r.CA().Sign(ask.CSR, pki.Peer{Role: a.role, ID: a.id}, r.Now()); err != nil {
		return nil, refuse("%v; are the versions of Berth the same?", err)
	}
	if a.role == pki.RoleServer {
		if answer.Authority, answer.RootKey, err = r.secrets(); err != nil {
			return nil, fmt.Errorf("the server's own keys cannot be read: %w", err)
		}
	}
	err = r.Store.Update(ctx, func(tx store.Tx) error {
		id := a.id
		if err := a.decide(tx); err != nil {
			return err
		}
		if a.id != id { // what --replace names is another machine now
			return refuse("the machine that %q names has changed meanwhile; join again", ask.Machine.Replace)
		}
		a.write(tx)
		return nil
	})
	if err != nil {
		return nil, err
	}
	answer.ID, answer.Again, answer.Members, answer.Now = a.id, a.known, r.members(), r.Now()
	answer.BeatKey = pki.NodeBeatKey(r.BeatKey, a.id)
	r.Log.Info("a machine has joined", "role", a.role, "id", a.id, "host", ask.Machine.Hostname, "address", ask.Machine.Address, "again", a.known,
		"token", ask.TokenID)
	return answer, nil
}

func (r *Registrar) dialBack(ctx context.Context, ask *join.Request, remote string) []join.Port {
	host, err := netip.ParseAddr(ask.Machine.Address)
	if err != nil || len(ask.Ports) == 0 {
		return nil
	}
	// Loopback is this server's own, unless the machine is on it.
	if from, err := netip.ParseAddr(remote); host.IsLoopback() && (err != nil || !from.IsLoopback()) {
		return ask.Ports
	}
	return r.DialBack(ctx, host.String(), ask.Ports, ask.Nonce)
}

func (r *Registrar) secrets() (*join.Authority, []byte, error) {
	cert, key, err := r.CA().EncodeCA()
	if err != nil {
		return nil, nil, err
	}
	root, err := r.RootKey()
	return &join.Authority{Cert: cert, Key: key, BeatKey: r.BeatKey}, root, err
}

// applicant is a machine that wants to join.
type applicant struct {
	r       *Registrar
	ask     *join.Request
	secret  [16]byte
	keyHash string

	// What decide finds.
	token *model.Token
	role  pki.Role
	id    string
	known bool // its row has its key already
}

var machineID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// decide finds out as whom the machine may join, or why not.
func (a *applicant) decide(v store.Reader) (err error) {
	m := &a.ask.Machine
	a.id, a.known = m.ID, false
	if t, ok := store.Tokens.Get(v, a.ask.TokenID); ok {
		a.role = pki.Role(t.Role)
	}
	if a.role == pki.RoleClient {
		a.id = a.ask.TokenID + "-" + a.keyHash[:8]
	} else if !machineID.MatchString(a.id) {
		return refuse("%q is no id of a machine (32 hexadecimal digits)", a.id)
	}
	switch a.role {
	case pki.RoleNode:
		if n, ok := store.Nodes.Get(v, a.id); ok {
			a.known = n.KeyHash == a.keyHash
		}
	case pki.RoleServer:
		if s, ok := store.Servers.Get(v, a.id); ok {
			a.known = s.KeyHash == a.keyHash
		}
	}
	if a.token, err = a.r.good(v, a.ask.TokenID, a.secret, a.known); err != nil {
		return err
	}
	switch a.role {
	case pki.RoleNode:
		return errors.Join(a.version(), a.node(v))
	case pki.RoleServer:
		return a.server(v)
	}
	return nil
}

// version refuses a node that is newer than this server: it may use what no server knows yet.
func (a *applicant) version() error {
	theirs, ok := parseVersion(a.ask.Machine.Version)
	ours, okOurs := parseVersion(a.r.Version)
	if !ok || !okOurs { // somebody's own build
		return nil
	}
	switch {
	case slices.Compare(theirs[:], ours[:]) > 0:
		return refuse("this machine has Berth %s and the servers have %s: a node may be older than its servers but never newer; upgrade the servers first, or install %s here",
			a.ask.Machine.Version, a.r.Version, a.r.Version)
	case theirs[0] != ours[0] || ours[1]-theirs[1] > 2:
		return refuse("this machine has Berth %s and the servers have %s: a node may be two minor versions older at most; install %s here",
			a.ask.Machine.Version, a.r.Version, a.r.Version)
	}
	return nil
}

var versionPattern = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})`)

// parseVersion reads major, minor and patch.
func parseVersion(s string) (v [3]int, ok bool) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return v, false
	}
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1])
	}
	return v, true
}

// node finds the row that the machine gets.
func (a *applicant) node(v store.Reader) error {
	m := &a.ask.Machine
	if m.Replace != "" && !a.known {
		old, err := find(v, m.Replace)
		if err != nil {
			return err
		}
		if old.KeyHash == a.keyHash { // the answer to an earlier attempt was lost
			a.id, a.known = old.ID, true
			return nil
		}
		if old.Connected {
			return refuse("%s (%s) is connected: only a machine that is gone can be replaced; stop it first, or remove it with: berth node rm %s",
				old.ID[:8], old.Hostname, old.ID[:8])
		}
		a.id = old.ID
		return nil
	}
	old, ok := store.Nodes.Get(v, a.id)
	switch {
	case !ok:
		return nil
	case old.Connected && old.Boot != m.Boot:
		return refuse("another machine (%s) is connected as node %s: was this disk cloned from it? Run: berth node reset, and join again", old.Hostname, a.id[:8])
	case a.known:
		return nil
	}
	return refuse("node %s (%s) exists with another key; join as a new node after: berth node reset, or in its place with: --replace %s",
		a.id[:8], old.Hostname, a.id[:8])
}

// find is the node of an id, of a beginning of one, or of a hostname.
func find(v store.Reader, name string) (*model.Node, error) {
	var found []*model.Node
	for n := range store.Nodes.Scan(v, "") {
		if n.ID == name {
			return n, nil
		}
		if len(name) >= 4 && strings.HasPrefix(n.ID, name) || n.Hostname == name {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, refuse("there is no node %q to be replaced; berth node ls shows those that there are", name)
	case 1:
		return found[0], nil
	}
	return nil, refuse("%q is the name of %d nodes; say the id of the one to be replaced (berth node ls)", name, len(found))
}

// server looks whether the machine may vote.
func (a *applicant) server(v store.Reader) error {
	old, ok := store.Servers.Get(v, a.id)
	settings, okSettings := store.ClusterSettings.Get(v, model.SettingsKey)
	switch {
	case okSettings && a.ask.Machine.Level < settings.Level:
		return refuse("this machine's Berth %s cannot read what the cluster stores (feature level %d, it knows %d); install %s here",
			a.ask.Machine.Version, settings.Level, a.ask.Machine.Level, a.r.Version)
	case okSettings && len(settings.CA) > 1 && !ok:
		return refuse("the cluster's authority is being changed, which a server that joins would not follow; join when that is over (there: berth ca show)")
	case ok && !a.known:
		return refuse("server %s (%s) exists with another key; remove it first with: berth server rm %s, or run here: berth node reset", a.id[:8], old.Name, a.id[:8])
	}
	return nil
}

// write notes what decide found.
func (a *applicant) write(tx store.Tx) {
	m, now := &a.ask.Machine, a.r.Now()
	switch a.role {
	case pki.RoleNode:
		n := &model.Node{ID: a.id, RegisteredAt: now}
		if old, ok := store.Nodes.Get(tx, a.id); ok {
			copied := *old
			n = &copied
		}
		n.KeyHash, n.Authority = a.keyHash, a.r.authority()
		n.Hostname, n.Address, n.Version, n.Boot = m.Hostname, m.Address, m.Version, m.Boot
		store.Nodes.Put(tx, n)
	case pki.RoleServer:
		s := &model.Server{ID: a.id, JoinedAt: now}
		if old, ok := store.Servers.Get(tx, a.id); ok {
			copied := *old
			s = &copied
		}
		s.Name, s.Address, s.Version, s.Level, s.KeyHash = m.Hostname, net.JoinHostPort(m.Address, strconv.Itoa(peer.Port)), m.Version, m.Level, a.keyHash
		store.Servers.Put(tx, s)
	}
	if !a.known {
		t := *a.token
		t.Uses++
		store.Tokens.Put(tx, &t)
	}
}

// serveRenewal signs again for the key of who asks.
func (r *Registrar) serveRenewal(w http.ResponseWriter, req *http.Request) {
	p, _ := peer.From(req.Context())
	var ask join.Renewal
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxRequest)).Decode(&ask); err != nil {
		peer.WriteError(w, http.StatusBadRequest, fmt.Errorf("the request to renew cannot be read: %w", err))
		return
	}
	answer, err := r.renew(req.Context(), p, ask.CSR)
	if err != nil {
		r.fail(w, err)
		return
	}
	reply(w, answer)
}

func (r *Registrar) renew(ctx context.Context, p pki.Peer, request []byte) (*join.Renewed, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil || pki.KeyHash(csr.RawSubjectPublicKeyInfo) != p.KeyHash {
		return nil, refuse("a renewal is for the key that %s has; another key joins anew", p)
	}
	answer := &join.Renewed{Members: r.members()}
	if answer.Cert, err = r.CA().Sign(request, p, r.Now()); err != nil {
		return nil, refuse("%v", err)
	}
	return answer, r.noteAuthority(ctx, p)
}

// noteAuthority notes who signed a node's certificate last, if that has changed.
func (r *Registrar) noteAuthority(ctx context.Context, p pki.Peer) error {
	authority, same := r.authority(), true
	r.Store.View(func(v store.Reader) {
		n, ok := store.Nodes.Get(v, p.ID)
		same = p.Role != pki.RoleNode || !ok || n.Authority == authority
	})
	if same {
		return nil
	}
	return r.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.Nodes.Get(tx, p.ID)
		if !ok || old.KeyHash != p.KeyHash {
			return r.admit(tx, p)
		}
		n := *old
		n.Authority = authority
		store.Nodes.Put(tx, &n)
		return nil
	})
}

func (r *Registrar) serveMembers(w http.ResponseWriter, _ *http.Request) { reply(w, r.members()) }

// serveAuthority gives another server what it signs with.
func (r *Registrar) serveAuthority(w http.ResponseWriter, _ *http.Request) {
	authority, _, err := r.secrets()
	if err != nil {
		r.fail(w, err)
		return
	}
	reply(w, authority)
}
