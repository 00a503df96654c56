// Package console is the web console: its pages (web/, built into dist/), its login, and its two ways to the data. What is written, and
// single things that are read, go through the API's own handlers (wire.Endpoint.Invoke), so the console can do nothing that the CLI
// cannot; lists are views of the store, sent over one WebSocket a browser as a snapshot and then what changed (hub.go).
package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/metrics"
	"github.com/berthdev/berth/internal/store"
)

// Path is where the console is.
const Path = "/console/"

// API is what the console uses of the API: wire.Endpoint.
type API interface {
	Invoke(ctx context.Context, caller wire.Caller, service, op string, in []byte) ([]byte, error)
	Identify(r *http.Request) (wire.Caller, error)
}

// Config is what a Console works with. All are required but Access, Logs, Doctor, Hosts and Log.
type Config struct {
	Store    store.Store
	API      API
	Keys     wire.Keys
	Access   wire.Access // nil: everybody may see everything
	Logs     Logs        // nil: there are none
	Metrics  Metrics     // nil: there are none
	Scope    model.Scope
	Version  string
	Registry string // the host of image names, such as localhost:4566
	Hosts    []string
	Now      func() time.Time
	Log      *slog.Logger
}

// Console serves everything below Path.
type Console struct {
	c      Config
	mux    *http.ServeMux
	hub    *hub
	links  links
	limit  limiter
	assets *assets

	mu     sync.Mutex
	leaves map[*viewer]struct{}
}

// New makes a Console. Its loops end with ctx.
func New(ctx context.Context, c Config) *Console {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Console{c: c, mux: http.NewServeMux(), assets: openAssets(), leaves: map[*viewer]struct{}{}}
	s.links.now, s.limit.now = c.Now, c.Now
	s.hub = newHub(ctx, s)
	s.mux.HandleFunc("GET /console/{$}", s.page)
	s.mux.HandleFunc("GET /console/", s.page) // any page: the browser's code reads the path
	s.mux.HandleFunc("GET /console/assets/{name}", s.asset)
	s.mux.HandleFunc("POST /console/api/link", s.makeLink)
	s.mux.HandleFunc("POST /console/api/login", s.login)
	s.mux.HandleFunc("POST /console/api/logout", s.with(s.logout))
	s.mux.HandleFunc("POST /console/api/revoke", s.with(s.revoke))
	s.mux.HandleFunc("POST /console/api/aws/{service}/{op}", s.with(s.aws))
	s.mux.HandleFunc("POST /console/api/check/{service}/{op}", s.with(s.check))
	s.mux.HandleFunc("GET /console/api/live", s.live)
	return s
}

// Claims tells whether a request is the console's: what is below Path, and a browser that asks for the API's root.
func Claims(r *http.Request) bool {
	return r.URL.Path == "/console" || strings.HasPrefix(r.URL.Path, Path) || r.URL.Path == "/" && isBrowser(r)
}

// isBrowser tells whether a request seems to come from somebody who typed the address: no signature, and a page is wanted.
func isBrowser(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") && r.Header.Get("Authorization") == "" && r.URL.RawQuery == ""
}

// policy lets pages load nothing from elsewhere and run no script but the console's own.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
	"form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// crossOrigin refuses writes that another origin's page sends.
var crossOrigin = http.NewCrossOriginProtection()

// ServeHTTP implements http.Handler.
func (s *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !s.known(r.Host) {
		s.fail(w, http.StatusMisdirectedRequest, model.Errorf("UnknownHost", "The console is not served at the name %.80q. Open it by an IP address, or by localhost.", r.Host))
		return
	}
	if r.URL.Path == "/" || r.URL.Path == "/console" {
		http.Redirect(w, r, Path, http.StatusSeeOther)
		return
	}
	if err := crossOrigin.Check(r); err != nil {
		s.fail(w, http.StatusForbidden, model.Errorf("CrossOrigin", "Another site's page asked for this. Open the console itself."))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// known tells whether a Host may be the console's: an IP address, localhost, or a name that it was told. A page of another name that
// resolves to this machine (DNS rebinding) is not.
func (s *Console) known(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil {
		return true
	}
	for _, name := range s.c.Hosts {
		if strings.EqualFold(name, host) {
			return true
		}
	}
	return false
}

// refusal is an error as the browser reads it.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Cure    string `json:"cure,omitempty"`
}

func (s *Console) fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusalOf(err)) // who has gone asks again
}

func refusalOf(err error) refusal {
	known, ok := errors.AsType[*model.Error](err)
	if !ok {
		known = model.Errorf("InternalFailure", "Something went wrong inside Berth; its log says what")
	}
	out := refusal{Code: known.Code, Message: known.Message}
	if strings.HasPrefix(known.Code, "AccessDenied") {
		out.Cure = "Ask whoever manages this Berth's users for a policy that allows it."
	}
	return out
}

func (s *Console) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// Metrics is what the console reads of the series: metrics.Series.
type Metrics interface {
	Query(ctx context.Context, q metrics.Query) ([]metrics.Result, error)
}
