package app

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	logcopies "github.com/berthdev/berth/internal/serve/logstore/copies"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/copies"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// shared is what a server has together with the others.
type shared struct {
	others     *others
	blobs      *copies.Copies
	local      *registry.Blobs // those on this machine
	images     images
	homeRegion *region
}

// share makes of this server's blobs and logs those of all servers.
func (s *server) share(blobs *registry.Blobs) {
	s.others, s.local = &others{s: s}, blobs
	s.homeRegion = &region{scope: s.in.Scope(), logs: s.logs}
	s.shareLogs(s.homeRegion)
	s.blobs = copies.New(copies.Config{Self: s.in.NodeID, Local: blobs, Others: s.others.ofBlobs, Log: s.log.With("component", "registry")})
}

// others are the cluster's other servers, with which this one shares blobs and logs.
type others struct {
	s *server

	mu      sync.Mutex
	clients map[string]*http.Client // by address
}

// each calls f with every other server and a client of its cluster port, also with those that are dead.
func (o *others) each(f func(id string, client *http.Client)) {
	var rows []*model.Server
	o.s.store.View(func(r store.Reader) {
		for row := range store.Servers.Scan(r, "") {
			if row.ID != o.s.in.NodeID {
				rows = append(rows, row)
			}
		}
	})
	if len(rows) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, row := range rows {
		client := o.clients[row.Address]
		if client == nil {
			client = o.client(row.Address)
		}
		f(row.ID, client)
	}
}

// client needs mu.
func (o *others) client(address string) *http.Client {
	p := o.s.port
	if p.identity.Load() == nil {
		return &http.Client{Transport: closed{}}
	}
	if o.clients == nil {
		o.clients = map[string]*http.Client{}
	}
	o.clients[address] = peer.NewDialer(peer.Config{Identity: p.identity.Load, Log: o.s.log.With("component", "peer")}).HTTP(address)
	return o.clients[address]
}

// closed is the way to other servers while this one's cluster port is not open.
type closed struct{}

// RoundTrip implements http.RoundTripper.
func (closed) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("this server's cluster port is not open yet")
}

func (o *others) ofBlobs() (all []copies.Server) {
	o.each(func(id string, client *http.Client) { all = append(all, copies.Server{ID: id, Client: client}) })
	return all
}

func (o *others) ofLogs() (all []logcopies.Server) {
	o.each(func(id string, client *http.Client) { all = append(all, logcopies.Server{ID: id, Client: client}) })
	return all
}

// logPath is where servers give each other events; the region's name follows.
const logPath = "/logcopies/"

// shareLogs makes of a region's log store one with the other servers'.
func (s *server) shareLogs(r *region) {
	r.lines = logcopies.New(logcopies.Config{Self: s.in.NodeID, Local: r.logs, Others: s.others.ofLogs, Path: logPath + r.scope.Region + "/",
		Log: s.log.With("component", "logs", "region", r.scope.Region)})
}

// serveCopies has the cluster port serve this server's blobs and logs to the others.
func (s *server) serveCopies(p *peer.Server) {
	p.Handle(copies.Path, peer.Servers, s.blobs)
	p.Handle(logPath, peer.Servers, http.HandlerFunc(s.serveLogCopies))
}

// serveLogCopies serves the log stores of all regions to the other servers.
func (s *server) serveLogCopies(w http.ResponseWriter, r *http.Request) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, logPath), "/")
	if name == s.in.Region {
		s.homeRegion.lines.ServeHTTP(w, r)
		return
	}
	other, err := s.region(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	other.lines.ServeHTTP(w, r)
}

// mend gives a second copy to what has one only, and repairs what has become corrupt, until ctx is done.
func (s *server) mend(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return every(ctx, timeouts.LogMend, func() {
			all := []*region{s.homeRegion}
			s.regions.each(func(r *region) { all = append(all, r) })
			for _, r := range all {
				r.lines.Mend(ctx)
			}
		})
	})
	g.Go(func() error {
		return every(ctx, timeouts.Housekeeping, func() {
			if err := s.registry.Secure(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("not every image would outlast the loss of a server", "error", err)
			}
		})
	})
	g.Go(func() error {
		return every(ctx, timeouts.BlobScrub, func() {
			if read, mended, err := s.blobs.Scrub(ctx, scrubRate); err != nil && ctx.Err() == nil {
				s.log.Error("not all blobs were read again", "error", err)
			} else if mended > 0 {
				s.log.Info("blobs were read again", "blobs", read, "mended", mended)
			}
		})
	})
	g.Go(func() error { return s.spread(ctx) })
	return g.Wait()
}

// spread gives second copies to log streams that had theirs on a server which was removed, until ctx is done.
func (s *server) spread(ctx context.Context) error {
	w := s.store.Watch(ctx, store.Servers.All())
	for range w.C() {
		gone := slices.ContainsFunc(w.Take().Changes, func(c store.Change) bool { return c.New == nil && c.Key != s.in.NodeID })
		if !gone {
			continue
		}
		all := []*region{s.homeRegion}
		s.regions.each(func(r *region) { all = append(all, r) })
		for _, r := range all {
			streams, err := r.lines.Spread(ctx)
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil && !errors.Is(err, logcopies.ErrAlone):
				s.log.Warn("not all log streams have a second copy since a server was removed; they are tried again", "region", r.scope.Region, "error", err)
			default:
				s.log.Info("log streams were looked at for second copies, as a server was removed", "region", r.scope.Region, "streams", streams)
			}
		}
	}
	return nil
}

// scrubRate is how many bytes a second are read to find what has become corrupt.
const scrubRate = 16 << 20
