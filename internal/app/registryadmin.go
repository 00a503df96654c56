package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/records"
)

// garbage is what a collection frees, or would.
type garbage struct {
	Blobs   int      `json:"blobs"`
	Bytes   int64    `json:"bytes"`
	Digests []string `json:"digests,omitempty"` // of a dry run
}

// serveRegistryAdmin answers berth registry.
func (s *server) serveRegistryAdmin(mux *http.ServeMux) {
	s.serveScanAdmin(mux)
	s.runRules().serve(mux)
	serve := func(act func(ctx context.Context) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			v, err := act(r.Context())
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v) // who has gone asks again
		}
	}
	mux.HandleFunc("GET /registry/check", serve(func(ctx context.Context) (any, error) { return s.registry.Check(ctx) }))
	mux.HandleFunc("GET /registry/gc", serve(func(ctx context.Context) (any, error) {
		digests, bytes, err := s.registry.Garbage(ctx)
		return garbage{len(digests), bytes, digests}, err
	}))
	mux.HandleFunc("POST /registry/gc", serve(func(ctx context.Context) (any, error) {
		n, bytes, err := s.registry.Collect(ctx)
		return garbage{Blobs: n, Bytes: bytes}, err
	}))
	mux.HandleFunc("POST /registry/rebuild", serve(func(ctx context.Context) (any, error) {
		return records.Rebuild(ctx, s.store, s.images.storage, s.images.records)
	}))
}

// CheckRegistry reads all that images need, and says what is missing or corrupt. The error says that something is.
func CheckRegistry(ctx context.Context, dir string, out io.Writer) error {
	var r registry.Report
	if err := askAdmin(ctx, dir, http.MethodGet, "/registry/check", &r); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d images need %d blobs, %d bytes, which were read\n", r.Images, r.Blobs, r.Bytes)
	for _, m := range r.Missing {
		fmt.Fprintf(out, "missing: %s\n", m)
	}
	for _, c := range r.Corrupt {
		fmt.Fprintf(out, "corrupt: %s (set aside)\n", c)
	}
	if n := len(r.Missing) + len(r.Corrupt); n > 0 {
		return fmt.Errorf("%d parts of images are lost: push the images again", n)
	}
	return nil
}

// CollectRegistry frees what no image needs, or with dry lists it.
func CollectRegistry(ctx context.Context, dir string, dry bool, out io.Writer) error {
	method, verb := http.MethodPost, "freed"
	if dry {
		method, verb = http.MethodGet, "would be freed"
	}
	var g garbage
	if err := askAdmin(ctx, dir, method, "/registry/gc", &g); err != nil {
		return err
	}
	for _, d := range g.Digests {
		fmt.Fprintln(out, d)
	}
	_, err := fmt.Fprintf(out, "%d blobs, %d bytes %s; what was pushed or asked for within a day stays\n", g.Blobs, g.Bytes, verb)
	return err
}

// RebuildRegistry makes the registry's rows again from what is kept beside the blobs.
func RebuildRegistry(ctx context.Context, dir string, out io.Writer) error {
	var r records.Rebuilt
	if err := askAdmin(ctx, dir, http.MethodPost, "/registry/rebuild", &r); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d repositories, %d images and %d settings were missing and are back\n", r.Repositories, r.Images, r.Others)
	for _, lost := range r.Lost {
		fmt.Fprintf(out, "lost: %s, whose content is not all there\n", lost)
	}
	return nil
}
