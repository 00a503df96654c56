package copies

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/berthdev/berth/internal/serve/registry"
)

// Path is what the other servers' requests begin with.
const Path = "/registry/"

// sizeHeader says how many bytes of an upload have arrived.
const sizeHeader = "Berth-Upload-Size"

// ServeHTTP serves the other servers, and nobody else: whoever may call it may write blobs.
func (s *Copies) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Copies) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				http.Error(w, err.Error(), statusOf(err))
			}
		})
	}
	handle("GET "+Path+"blobs/{digest}", s.serveBlob) // and HEAD
	handle("PUT "+Path+"blobs/{digest}", s.takeBlob)
	handle("POST "+Path+"sweep", s.serveSweep)
	handle("GET "+Path+"uploads/{id}", s.serveUpload)
	handle("PATCH "+Path+"uploads/{id}", s.serveUpload)
	handle("PUT "+Path+"uploads/{id}", s.serveUpload)
	handle("DELETE "+Path+"uploads/{id}", s.serveUpload)
	return mux
}

func (s *Copies) serveBlob(w http.ResponseWriter, r *http.Request) error {
	c, err := s.c.Local.Open(r.Context(), r.PathValue("digest"))
	if err != nil {
		return err
	}
	defer c.Close()
	w.Header().Set("Content-Length", strconv.FormatInt(c.Size(), 10))
	if r.Method == http.MethodHead { // who asks is about to rely on it
		return s.c.Local.Renew(r.PathValue("digest"))
	}
	out := &counted{Writer: w}
	err = c.SendTo(out)
	if err != nil && out.n == 0 {
		w.Header().Del("Content-Length")
		return err
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the other side must not take it for whole
	}
	return nil
}

func (s *Copies) takeBlob(w http.ResponseWriter, r *http.Request) error {
	digest := r.PathValue("digest")
	if _, err := s.c.Local.Stat(r.Context(), digest); err == nil {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	u, err := s.c.Local.Upload(r.Context(), "")
	if err != nil {
		return err
	}
	if _, err := u.Write(r.Body, 0); err != nil {
		return errors.Join(err, u.Cancel())
	}
	if _, err := u.Finish(digest); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Copies) serveUpload(w http.ResponseWriter, r *http.Request) error {
	u, err := s.c.Local.Upload(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	size := u.Size()
	switch r.Method {
	case http.MethodPatch:
		start, perr := strconv.ParseInt(r.URL.Query().Get("start"), 10, 64)
		if perr != nil {
			return registry.ErrRange
		}
		size, err = u.Write(r.Body, start)
	case http.MethodPut:
		digest := r.URL.Query().Get("digest")
		if size, err = u.Finish(digest); err == nil {
			s.forward(digest)
		}
	case http.MethodDelete:
		err = u.Cancel()
	}
	if err != nil {
		return err
	}
	w.Header().Set(sizeHeader, strconv.FormatInt(size, 10))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// leastGrace is the shortest time for which a blob stays whoever asks for what: a push in progress must not lose its layers.
const leastGrace = time.Hour

func (s *Copies) serveSweep(w http.ResponseWriter, r *http.Request) error {
	ms, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	before := time.UnixMilli(ms)
	if err != nil || time.Since(before) < leastGrace {
		return fmt.Errorf("a sweep of blobs must leave those of the last %s", leastGrace)
	}
	held := map[string]bool{}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		held[lines.Text()] = true
	}
	if err := lines.Err(); err != nil { // half a list would remove what is needed
		return err
	}
	var done swept
	if done.Blobs, done.Bytes, err = s.c.Local.Sweep(r.Context(), before, held); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(done)
}
