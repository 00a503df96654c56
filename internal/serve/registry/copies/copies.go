// Package copies keeps blobs on the disks of two servers: what is secured outlasts the loss of either. A blob is first where it was
// pushed to; Secure sends it on. What a server has not it reads from one that has, and keeps. Which servers there are the store says;
// which of them live each call finds out.
package copies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/timeouts"
)

// Server is another server of the cluster.
type Server struct {
	ID     string
	Client *http.Client // to its cluster port, where Copies is served at Path
}

// Config is what Copies needs.
type Config struct {
	Self  string // this server's id; "": a server that has never been one of several
	Local *registry.Blobs
	// Others are the cluster's other servers, dead ones too.
	Others func() []Server
	Log    *slog.Logger
}

// Copies is a registry.Storage. Serve it to the other servers.
type Copies struct {
	c       Config
	mux     *http.ServeMux
	fetches singleflight.Group

	mu    sync.Mutex
	wants map[string]bool      // digests that are being sent on
	away  map[string]time.Time // servers that did not answer, and when
}

var _ registry.Storage = (*Copies)(nil)

// New makes Copies.
func New(c Config) *Copies {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Copies{c: c, wants: map[string]bool{}, away: map[string]time.Time{}}
	s.mux = s.routes()
	return s
}

// servers are the others in the order in which they are to have a blob, by rendezvous hashing; those that just did not answer are last.
func (s *Copies) servers(digest string) []Server {
	others := s.c.Others()
	type rank struct {
		away   bool
		weight uint64
	}
	ranks := map[string]rank{}
	s.mu.Lock()
	for _, o := range others {
		h := fnv.New64a()
		h.Write([]byte(o.ID + "/" + digest))
		ranks[o.ID] = rank{time.Since(s.away[o.ID]) < timeouts.BlobAway, h.Sum64()}
	}
	s.mu.Unlock()
	slices.SortFunc(others, func(a, b Server) int {
		x, y := ranks[a.ID], ranks[b.ID]
		if x.away != y.away && x.away {
			return 1
		} else if x.away != y.away {
			return -1
		}
		return cmp.Or(-cmp.Compare(x.weight, y.weight), cmp.Compare(a.ID, b.ID))
	})
	return others
}

// failed notes that a server did not do what it was asked.
func (s *Copies) failed(ctx context.Context, server Server, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.away[server.ID]) >= timeouts.BlobAway {
		s.c.Log.Warn("another server "+what, "server", server.ID, "error", err)
	}
	s.away[server.ID] = time.Now()
}

// Stat implements registry.Storage.
func (s *Copies) Stat(ctx context.Context, digest string) (int64, error) {
	size, err := s.c.Local.Stat(ctx, digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return size, err
	}
	_, size, err = s.find(ctx, digest)
	return size, err
}

// find looks for another server that has a blob. The error is a *LostError when all who answer have it not.
func (s *Copies) find(ctx context.Context, digest string) (from Server, size int64, err error) {
	for _, other := range s.servers(digest) {
		size, err := stat(ctx, other, digest)
		if err == nil {
			return other, size, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			s.failed(ctx, other, "does not say whether it has a blob", err)
		}
	}
	return from, 0, &registry.LostError{Digest: digest}
}

// Open implements registry.Storage. A blob that is elsewhere is read from there, and kept when it is read to its end.
func (s *Copies) Open(ctx context.Context, digest string) (registry.Content, error) {
	local, err := s.c.Local.Open(ctx, digest)
	if errors.Is(err, fs.ErrNotExist) {
		from, size, err := s.find(ctx, digest)
		if err != nil {
			return nil, err
		}
		return &content{ctx: ctx, copies: s, digest: digest, size: size, from: from}, nil
	}
	if err != nil {
		return nil, err
	}
	return &content{ctx: ctx, copies: s, digest: digest, size: local.Size(), local: local}, nil
}

// List implements registry.Lister with this server's blobs.
func (s *Copies) List(ctx context.Context, f func(digest string, size int64, at time.Time) error) error {
	return s.c.Local.List(ctx, f)
}

// Secure implements registry.Storage.
func (s *Copies) Secure(ctx context.Context, digests []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, digest := range slices.Compact(slices.Sorted(slices.Values(digests))) {
		g.Go(func() error { return s.secure(ctx, digest) })
	}
	return g.Wait()
}

// secure has a blob on two servers. Those who ask for one blob at once wait together.
func (s *Copies) secure(ctx context.Context, digest string) error {
	done := s.fetches.DoChan("secure "+digest, func() (any, error) {
		// Whoever began it may leave; the others still wait.
		return nil, s.spread(context.WithoutCancel(ctx), digest)
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r := <-done:
		return r.Err
	}
}

func (s *Copies) spread(ctx context.Context, digest string) error {
	_, err := s.c.Local.Stat(ctx, digest)
	here := err == nil
	if !here && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var have []Server
	others := s.servers(digest)
	for _, other := range others {
		_, err := stat(ctx, other, digest)
		if errors.Is(err, fs.ErrNotExist) && here {
			err = s.send(ctx, other, digest)
		}
		switch {
		case err == nil:
			if have = append(have, other); here || len(have) == 2 {
				return nil
			}
		case errors.Is(err, registry.ErrCorrupt):
			return err
		case !errors.Is(err, fs.ErrNotExist):
			s.failed(ctx, other, "does not take a copy of a blob", err)
		}
	}
	switch {
	case !here && len(have) == 0:
		return &registry.LostError{Digest: digest}
	case !here:
		return s.fetch(ctx, have[0], digest)
	case len(others) == 0:
		return nil
	}
	return fmt.Errorf("%w (blob %s)", registry.ErrAlone, digest)
}

// fetch copies a blob from another server to this one.
func (s *Copies) fetch(ctx context.Context, from Server, digest string) error {
	_, err, _ := s.fetches.Do("fetch "+digest, func() (any, error) {
		return nil, s.tee(context.WithoutCancel(ctx), from, digest, io.Discard)
	})
	return err
}

// tee reads a blob from another server, keeps it, and writes it to w on the way.
func (s *Copies) tee(ctx context.Context, from Server, digest string, w io.Writer) error {
	ctx, alive, cancel := stalling(ctx, timeouts.BlobStall)
	defer cancel()
	body, err := get(ctx, from, digest)
	if err != nil {
		return err
	}
	defer body.Close()
	u, err := s.c.Local.Upload(ctx, "")
	if err != nil {
		return err
	}
	if _, err := u.Write(io.TeeReader(alive(body), w), 0); err != nil {
		return errors.Join(fmt.Errorf("read blob %s from server %s: %w", digest, from.ID, err), u.Cancel())
	}
	if _, err := u.Finish(digest); err != nil {
		return fmt.Errorf("read blob %s from server %s: %w", digest, from.ID, err)
	}
	return nil
}

// forward sends a blob that has just arrived on, so that whoever asks for its safety soon waits less. It returns at once.
func (s *Copies) forward(digest string) {
	if len(s.c.Others()) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wants[digest] || len(s.wants) >= maxForward {
		return
	}
	s.wants[digest] = true
	go func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.wants, digest)
		}()
		_ = s.secure(context.Background(), digest) // the manifest's push tells of it
	}()
}

// maxForward is how many blobs are sent on before their manifests come.
const maxForward = 8

// Sweep implements registry.Storage: every server that answers removes what is not held. Those that do not are swept another time.
func (s *Copies) Sweep(ctx context.Context, before time.Time, held map[string]bool) (blobs int, bytes int64, err error) {
	blobs, bytes, err = s.c.Local.Sweep(ctx, before, held)
	for _, other := range s.c.Others() {
		n, size, serr := sweep(ctx, other, before, held)
		if serr != nil {
			s.c.Log.Info("unused blobs stay on a server that does not answer", "server", other.ID, "error", serr)
		}
		blobs, bytes = blobs+n, bytes+size
	}
	return blobs, bytes, err
}

// Scrub reads all that is on this server's disk, at most rate bytes a second, and mends from the other servers what has become corrupt.
func (s *Copies) Scrub(ctx context.Context, rate int64) (read, mended int, err error) {
	err = s.c.Local.Each(func(digest string) error {
		c, err := s.c.Local.Open(ctx, digest)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer c.Close()
		began := time.Now()
		read++
		if err = c.SendTo(io.Discard); errors.Is(err, registry.ErrCorrupt) {
			if err = s.heal(ctx, digest); err == nil {
				mended++
			}
		}
		if err != nil {
			s.c.Log.Error("a blob is corrupt and no other server has it whole: push its image again", "digest", digest, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(float64(c.Size())/float64(rate)*float64(time.Second)) - time.Since(began)):
			return nil
		}
	})
	return read, mended, err
}

// heal brings back a blob that was set aside.
func (s *Copies) heal(ctx context.Context, digest string) error {
	from, _, err := s.find(ctx, digest)
	if err != nil {
		return err
	}
	if err := s.fetch(ctx, from, digest); err != nil {
		return err
	}
	s.c.Log.Info("a corrupt blob was mended from another server", "digest", digest, "server", from.ID)
	return nil
}
