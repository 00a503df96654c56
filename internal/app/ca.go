package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/berthdev/berth/internal/registrar"
	"github.com/berthdev/berth/internal/timeouts"
)

// ShowCA prints which authorities the cluster's machines believe, and who is yet to renew.
func ShowCA(ctx context.Context, dir string, out io.Writer) error {
	return aboutCA(ctx, dir, http.MethodGet, "/ca", out)
}

// RotateCA begins to replace the cluster's authority, or goes on with it; finish ends it though nodes have not renewed.
func RotateCA(ctx context.Context, dir string, finish bool, out io.Writer) error {
	return aboutCA(ctx, dir, http.MethodPost, fmt.Sprintf("/ca/rotate?finish=%t", finish), out)
}

func aboutCA(ctx context.Context, dir, method, path string, out io.Writer) error {
	var a registrar.Authorities
	if err := askAdmin(ctx, dir, method, path, &a); err != nil {
		return err
	}
	fmt.Fprintf(out, "cluster %s\n", a.Cluster)
	for i, t := range a.Trusted {
		what := "signs"
		if i < len(a.Trusted)-1 {
			what = "is trusted until all nodes have renewed"
		}
		fmt.Fprintf(out, "  authority %s, good until %s: %s\n", t.Pin[:16], t.Until.Format(time.DateOnly), what)
	}
	if len(a.Trusted) == 1 {
		return nil
	}
	for _, name := range a.Servers {
		fmt.Fprintf(out, "  server %s follows within a minute, once all nodes have renewed\n", name)
	}
	for _, n := range a.Waiting {
		state := "renews within " + (2 * timeouts.NodeRoots).String()
		if !n.Connected {
			state = "is not connected; berth ca rotate --finish goes on without it, and it then joins again with a token"
		}
		fmt.Fprintf(out, "  node %s (%s) %s\n", n.ID[:min(4, len(n.ID))], n.Hostname, state)
	}
	return nil
}

// serveCA adds what is asked about the authority on the admin socket.
func (s *server) serveCA(mux *http.ServeMux) {
	serve := func(act func(context.Context, *http.Request, *registrar.Keys) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			err := errors.New("this Berth has no cluster yet: berth token node begins one")
			if s.port.registered() != nil {
				err = act(r.Context(), r, s.port.keys)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(s.port.keys.Authorities()) // who has gone asks again
		}
	}
	mux.HandleFunc("GET /ca", serve(func(context.Context, *http.Request, *registrar.Keys) error { return nil }))
	mux.HandleFunc("POST /ca/rotate", serve(func(ctx context.Context, r *http.Request, k *registrar.Keys) error {
		return k.Rotate(ctx, r.FormValue("finish") == "true")
	}))
}

// keepKeys has the server's keys follow the cluster's settings.
func (p *port) keepKeys() (err error) {
	s := p.s
	p.keys, err = registrar.NewKeys(registrar.KeysConfig{Dir: s.in.pkiDir(), ID: s.in.NodeID, Store: s.store, Offer: s.offerAuthority,
		Log: s.log.With("component", "pki")}, &p.ca, &p.identity)
	return err
}
