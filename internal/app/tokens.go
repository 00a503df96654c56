package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/registrar"
)

// TokenConfig is what `berth token node`, `server` and `client` were told.
type TokenConfig struct {
	DataDir   string
	Role      string
	Advertise string        // opens the cluster port at this address, if it is closed; "": at the machine's only one
	Life      time.Duration // 0: the role's usual one
	Uses      int           // 0: the role's usual; -1: any number
}

// Joining is a new token.
type Joining struct {
	URL     string // berth://…
	Expires time.Time
	Uses    int // 0: any number
}

// NewToken has the server that runs on the data directory make a token. It opens the server's cluster port if that is closed.
func NewToken(ctx context.Context, c TokenConfig) (j Joining, err error) {
	q := url.Values{"role": {c.Role}, "advertise": {c.Advertise}, "life": {c.Life.String()}, "uses": {strconv.Itoa(c.Uses)}}
	return j, askAdmin(ctx, c.DataDir, http.MethodPost, "/tokens?"+q.Encode(), &j)
}

// Tokens lists what is kept of the tokens.
func Tokens(ctx context.Context, dir string) (all []*model.Token, err error) {
	return all, askAdmin(ctx, dir, http.MethodGet, "/tokens", &all)
}

// RemoveToken makes a token useless.
func RemoveToken(ctx context.Context, dir, id string) error {
	return askAdmin(ctx, dir, http.MethodDelete, "/tokens/"+url.PathEscape(id), nil)
}

// askAdmin asks the server that runs on the data directory, and reads its answer into v unless that is nil.
func askAdmin(ctx context.Context, dir, method, path string, v any) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	if in.Node != nil {
		return fmt.Errorf("%s is that of a node: ask on a server", dir)
	}
	if !in.Running() {
		return fmt.Errorf("no server runs here; start it with: berth up --data-dir %s", dir)
	}
	body, err := in.admin(ctx, method, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if v == nil {
		_, err = io.Copy(io.Discard, body)
		return err
	}
	return json.NewDecoder(body).Decode(v)
}

// serveTokens adds what is asked about tokens on the admin socket.
func (s *server) serveTokens(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // who has gone asks again
	}
	mux.HandleFunc("POST /tokens", func(w http.ResponseWriter, r *http.Request) {
		j, err := s.newToken(r)
		answer(w, j, err)
	})
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, r *http.Request) {
		all := []*model.Token{}
		if reg := s.port.registered(); reg != nil {
			all = reg.Tokens()
		}
		answer(w, all, nil)
	})
	mux.HandleFunc("DELETE /tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		err := errors.New("there are no tokens here")
		if reg := s.port.registered(); reg != nil {
			err = reg.RemoveToken(r.Context(), r.PathValue("id"))
		}
		answer(w, struct{}{}, err)
	})
}

func (s *server) newToken(r *http.Request) (j Joining, err error) {
	life, errLife := time.ParseDuration(r.FormValue("life"))
	uses, errUses := strconv.Atoi(r.FormValue("uses"))
	if err := errors.Join(errLife, errUses); err != nil {
		return j, err
	}
	advertise := r.FormValue("advertise")
	if advertise == "" && s.port.address() == "" {
		if advertise, err = onlyAddress(); err != nil {
			return j, err
		}
	}
	reg, err := s.port.open(r.Context(), advertise)
	if err != nil {
		return j, err
	}
	u, row, err := reg.NewToken(r.Context(), pki.Role(r.FormValue("role")), registrar.Terms{Life: life, Uses: uses})
	if err != nil {
		return j, err
	}
	return Joining{URL: u.String(), Expires: row.ExpiresAt, Uses: row.MaxUses}, nil
}

// onlyAddress is the machine's address, if it has one only that others may reach.
func onlyAddress() (string, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	var all []net.Addr
	for _, d := range devices {
		if strings.HasPrefix(d.Name, network.BridgeName("")) { // of tasks
			continue
		}
		addrs, err := d.Addrs()
		if err != nil {
			return "", err
		}
		all = append(all, addrs...)
	}
	var found []string
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() && !p.IsSingleIP() {
			found = append(found, p.Addr().String())
		}
	}
	if slices.Sort(found); len(found) == 1 {
		return found[0], nil
	}
	return "", fmt.Errorf("which address do the other machines reach this one at? Say it with --advertise; its own are %v", found)
}
