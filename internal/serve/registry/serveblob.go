package registry

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/store"
)

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, m []string) error {
	repo, dgst := m[1], m[2]
	if !digestPattern.MatchString(dgst) {
		return refuse(400, "DIGEST_INVALID", ErrDigest.Error())
	}
	if err := r.holds(repo, dgst); err != nil {
		if req.Method == http.MethodDelete {
			return err
		}
		if answered, perr := r.passThrough(w, req, repo, dgst); answered || perr != nil {
			return perr
		}
		if err := r.holds(repo, dgst); err != nil {
			return err
		}
	}
	if req.Method == http.MethodDelete {
		err := r.Store.Update(req.Context(), func(tx store.Tx) error {
			store.RepositoryBlobs.Delete(tx, repo+"@"+dgst)
			return nil
		})
		if err == nil {
			w.WriteHeader(http.StatusAccepted)
		}
		return err
	}
	f, err := r.blobsOf(repo).Open(req.Context(), dgst)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(404, "BLOB_UNKNOWN", "blob unknown to registry: its content is lost, push it again")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if req.Method == http.MethodHead {
		r.renew(req, repo, dgst)
	}
	return r.sendBlob(w, req, dgst, f)
}

// sendBlob answers with a blob. The whole of it is checked while it is sent, and a connection on which it turns out to be corrupt is
// broken off before the last bytes; parts of it are sent only of a blob that was checked.
func (r *Registry) sendBlob(w http.ResponseWriter, req *http.Request, dgst string, f Content) error {
	header := func() { blobHeader(w, dgst) }
	paced, done := gate.DefaultPace.Writer(w)
	defer done()
	if req.Method == http.MethodHead || req.Header.Get("Range") != "" || req.Header.Get("If-None-Match") != "" {
		if req.Method != http.MethodHead {
			if err := f.Check(); err != nil {
				return r.corrupt(dgst, err)
			}
		}
		header()
		http.ServeContent(pacedResponse{w, paced}, req, "", time.Time{}, f)
		return nil
	}
	out := &lateHeader{w: paced, before: func() {
		header()
		w.Header().Set("Content-Length", strconv.FormatInt(f.Size(), 10))
	}}
	err := f.SendTo(out)
	if err == nil && !out.begun {
		out.before() // of an empty blob
	}
	if err == nil || !out.begun {
		return r.corrupt(dgst, err)
	}
	if r.corrupt(dgst, err); req.Context().Err() == nil {
		r.Log.Warn("a blob was not sent whole", "digest", dgst, "error", err)
	}
	panic(http.ErrAbortHandler) // the client must not take it for whole
}

// corrupt logs a blob that was set aside and returns what the client is told of it; other errors stay.
func (r *Registry) corrupt(dgst string, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	r.Log.Error("a blob on the disk is corrupt and was set aside: push its image again", "digest", dgst)
	return refuse(404, "BLOB_UNKNOWN", "blob unknown to registry: its content was corrupt, push it again")
}

// pacedResponse is a ResponseWriter with writes under a pace.
type pacedResponse struct {
	http.ResponseWriter
	w io.Writer
}

// Write implements io.Writer.
func (p pacedResponse) Write(b []byte) (int, error) { return p.w.Write(b) }

// lateHeader writes the header when there is something to write below it: until then the answer may be another.
type lateHeader struct {
	w      io.Writer
	before func()
	begun  bool
}

// Write implements io.Writer.
func (l *lateHeader) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !l.begun {
		l.begun = true
		l.before()
	}
	return l.w.Write(b)
}
