package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (r *Registry) serveBase(w http.ResponseWriter, req *http.Request, _ []string) error {
	return writeJSON(w, "application/json", struct{}{})
}

func (r *Registry) serveCatalog(w http.ResponseWriter, req *http.Request, _ []string) error {
	names := []string{}
	r.Store.View(func(tx store.Reader) {
		for repo := range store.Repositories.Scan(tx, "") {
			names = append(names, repo.Name)
		}
	})
	names, err := page(w, req, names)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", map[string]any{"repositories": names})
}

func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, m []string) error {
	tags, err := r.Tags(m[1])
	if err != nil {
		return err
	}
	if tags, err = page(w, req, tags); err != nil {
		return err
	}
	return writeJSON(w, "application/json", map[string]any{"name": m[1], "tags": tags})
}

// page cuts a sorted list by the n and last parameters and links to the next page.
func page(w http.ResponseWriter, req *http.Request, all []string) ([]string, error) {
	q := req.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	if s := q.Get("n"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, refuse(400, "PAGINATION_NUMBER_INVALID", "n must be a number")
		}
		if n < len(all) {
			all = all[:n]
			if n > 0 {
				next := url.Values{"n": {s}, "last": {all[n-1]}}
				w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", req.URL.Path, next.Encode()))
			}
		}
	}
	return slices.Concat([]string{}, all), nil
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, m []string) error {
	repo, reference := m[1], m[2]
	switch req.Method {
	case http.MethodPut:
		return r.putManifest(w, req, repo, reference)
	case http.MethodDelete:
		if err := r.DeleteManifest(req.Context(), repo, reference); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if err := r.refresh(req.Context(), repo, reference); err != nil {
		return err
	}
	manifest, err := r.GetManifest(req.Context(), repo, reference)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", manifest.MediaType)
	h.Set("Docker-Content-Digest", manifest.Digest)
	h.Set("Etag", `"`+manifest.Digest+`"`)
	h.Set("Content-Length", strconv.Itoa(len(manifest.Content)))
	if req.Method == http.MethodGet {
		w.Write(manifest.Content)
		r.pulled(req.Context(), repo, reference)
	}
	return nil
}

func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, repo, reference string) error {
	if req.ContentLength > MaxManifest {
		return refuse(413, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
	}
	give, err := r.manifests.Take(req.Context(), gate.Source(req), MaxManifest)
	if err != nil {
		return refuse(429, "TOOMANYREQUESTS", "too many manifests are pushed at once; try again")
	}
	defer give()
	content, err := io.ReadAll(http.MaxBytesReader(w, gate.DefaultPace.Body(w, req), MaxManifest))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return refuse(413, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
		}
		return refuse(400, "MANIFEST_INVALID", "the manifest did not arrive whole")
	}
	mediaType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	tags, err := tagParameters(req, reference)
	if err != nil {
		return err
	}
	if err := r.ensure(req.Context(), repo, types.RCTAppliedForCreateOnPush); err != nil {
		return err
	}
	img, err := r.PutManifest(req.Context(), repo, reference, strings.TrimSpace(mediaType), content, tags...)
	if err != nil {
		return err
	}
	h := w.Header()
	for _, tag := range tags {
		h.Add("OCI-Tag", tag)
	}
	h.Set("Location", "/v2/"+repo+"/manifests/"+img.Digest)
	h.Set("Docker-Content-Digest", img.Digest)
	if img.Subject != "" {
		h.Set("OCI-Subject", img.Subject)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// maxTagParameters is how many tags one push may give (the specification asks for 10 at least).
const maxTagParameters = 64

// tagParameters are the tags that a push by digest gives beside (OCI distribution-spec after 1.1, "Pushing Manifests").
func tagParameters(req *http.Request, reference string) ([]string, error) {
	tags := req.URL.Query()["tag"]
	if len(tags) == 0 || !strings.Contains(reference, ":") {
		return nil, nil
	}
	if len(tags) > maxTagParameters {
		return nil, refuse(414, "TAG_INVALID", fmt.Sprintf("a push gives at most %d tags", maxTagParameters))
	}
	for _, tag := range tags {
		if !tagPattern.MatchString(tag) {
			return nil, refuse(400, "TAG_INVALID", "invalid tag")
		}
	}
	return tags, nil
}

func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, m []string) error {
	if !digestPattern.MatchString(m[2]) {
		return refuse(400, "DIGEST_INVALID", ErrDigest.Error())
	}
	artifactType := req.URL.Query().Get("artifactType")
	index, err := r.Referrers(req.Context(), m[1], m[2], artifactType)
	if err != nil {
		return err
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeJSON(w, index.MediaType, index)
}

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

// holds tells whether the repository has the blob, as a layer or as a manifest.
func (r *Registry) holds(repo, dgst string) (err error) {
	r.Store.View(func(tx store.Reader) {
		if _, err = r.repository(tx, repo); err != nil {
			return
		}
		if _, ok := store.RepositoryBlobs.Get(tx, repo+"@"+dgst); ok {
			return
		}
		if _, ok := store.Images.Get(tx, repo+"@"+dgst); !ok {
			err = refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
		}
	})
	return err
}

// renew keeps a blob that a client has seen and may refer to soon.
func (r *Registry) renew(req *http.Request, repo, dgst string) {
	var at time.Time
	r.Store.View(func(tx store.Reader) {
		if b, ok := store.RepositoryBlobs.Get(tx, repo+"@"+dgst); ok {
			at = b.At
		}
	})
	if size, err := r.blobsOf(repo).Stat(req.Context(), dgst); err == nil && !at.IsZero() && r.Now().Sub(at) > lease/2 {
		if err := r.link(req.Context(), repo, dgst, size); err != nil {
			r.Log.Warn("cannot renew a blob", "repository", repo, "digest", dgst, "error", err)
		}
	}
}

// link says that the repository holds the blob.
func (r *Registry) link(ctx context.Context, repo, dgst string, size int64) error {
	return r.Store.Update(ctx, func(tx store.Tx) error { return r.linkIn(tx, repo, dgst, size) })
}

func (r *Registry) linkIn(tx store.Tx, repo, dgst string, size int64) error {
	if _, err := r.repository(tx, repo); err != nil {
		return err
	}
	store.RepositoryBlobs.Put(tx, &model.RepositoryBlob{Repository: repo, Digest: dgst, Size: size, At: r.Now()})
	return nil
}

// close finishes an upload into the repository; what says where a sealed blob is and whose it is is stored at once.
func (r *Registry) close(ctx context.Context, repo, dgst string, u Upload) (int64, error) {
	if sealed, ok := u.(*sealedUpload); ok {
		return sealed.finish(dgst, func(tx store.Tx, size int64) error { return r.linkIn(tx, repo, dgst, size) })
	}
	size, err := u.Finish(dgst)
	if err != nil {
		return 0, err
	}
	return size, r.link(ctx, repo, dgst, size)
}

// serveStart begins an upload, or mounts a blob of another repository, or takes a whole blob in one request.
func (r *Registry) serveStart(w http.ResponseWriter, req *http.Request, m []string) error {
	repo, q := m[1], req.URL.Query()
	if err := r.ensure(req.Context(), repo, types.RCTAppliedForCreateOnPush); err != nil {
		return err
	}
	if err := r.exists(repo); err != nil {
		return err
	}
	if dgst, from := q.Get("mount"), q.Get("from"); dgst != "" && from != "" && digestPattern.MatchString(dgst) {
		size, err := r.blobsOf(repo).Stat(req.Context(), dgst)
		if err == nil && r.holds(from, dgst) == nil && r.sameScope(repo, from) {
			if err := r.link(req.Context(), repo, dgst, size); err != nil {
				return err
			}
			return created(w, repo, dgst)
		}
	}
	if algorithm := q.Get("digest-algorithm"); algorithm != "" && algorithm != "sha256" && algorithm != "sha512" {
		return refuse(400, "DIGEST_INVALID", ErrDigest.Error())
	}
	if dgst := q.Get("digest"); dgst != "" && !digestPattern.MatchString(dgst) {
		return refuse(400, "DIGEST_INVALID", ErrDigest.Error())
	}
	u, err := r.blobsOf(repo).Upload(req.Context(), "")
	if err != nil {
		return err
	}
	if dgst := q.Get("digest"); dgst != "" {
		return r.finish(w, req, repo, u, dgst)
	}
	return progress(w, repo, u.ID(), 0, http.StatusAccepted)
}

func (r *Registry) exists(repo string) (err error) {
	r.Store.View(func(tx store.Reader) { _, err = r.repository(tx, repo) })
	return err
}

func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, m []string) error {
	repo, id := m[1], m[2]
	if err := r.exists(repo); err != nil {
		return err
	}
	s, err := r.blobsOf(repo).Upload(req.Context(), id)
	if err != nil {
		return uploadError(err)
	}
	switch req.Method {
	case http.MethodGet:
		return progress(w, repo, id, s.Size(), http.StatusNoContent)
	case http.MethodDelete:
		if err := s.Cancel(); err != nil {
			return uploadError(err)
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		start, err := chunkStart(req)
		if err != nil {
			return err
		}
		size, err := s.Write(gate.DefaultPace.Body(w, req), start)
		if err != nil {
			return r.stopped(w, repo, s, err)
		}
		return progress(w, repo, id, size, http.StatusAccepted)
	}
	return r.finish(w, req, repo, s, req.URL.Query().Get("digest"))
}

// finish takes the last bytes, if any, and closes the upload.
func (r *Registry) finish(w http.ResponseWriter, req *http.Request, repo string, s Upload, dgst string) error {
	if !digestPattern.MatchString(dgst) {
		return refuse(400, "DIGEST_INVALID", ErrDigest.Error())
	}
	start, err := chunkStart(req)
	if err != nil {
		return err
	}
	if _, err := s.Write(gate.DefaultPace.Body(w, req), start); err != nil {
		return r.stopped(w, repo, s, err)
	}
	if _, err := r.close(req.Context(), repo, dgst, s); err != nil {
		return uploadError(err)
	}
	return created(w, repo, dgst)
}

var contentRange = regexp.MustCompile(`^(?:bytes[ =])?(\d+)-(\d+)$`)

// chunkStart reads where the chunk starts, -1 when the request does not say.
func chunkStart(req *http.Request) (int64, error) {
	header := req.Header.Get("Content-Range")
	if header == "" {
		return -1, nil
	}
	m := contentRange.FindStringSubmatch(header)
	if m == nil {
		return 0, refuse(400, "BLOB_UPLOAD_INVALID", "Content-Range must be <start>-<end>")
	}
	start, err1 := strconv.ParseInt(m[1], 10, 64)
	end, err2 := strconv.ParseInt(m[2], 10, 64)
	if cmp.Or(err1, err2) != nil || end < start || req.ContentLength >= 0 && req.ContentLength != end-start+1 {
		return 0, refuse(416, "BLOB_UPLOAD_INVALID", "Content-Range does not fit the content")
	}
	return start, nil
}

// stopped tells a client whose chunk was not taken where its upload stands.
func (r *Registry) stopped(w http.ResponseWriter, repo string, u Upload, err error) error {
	if errors.Is(err, ErrRange) {
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+u.ID())
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.Size()-1, 0)))
	}
	return uploadError(err)
}

func progress(w http.ResponseWriter, repo, id string, size int64, status int) error {
	h := w.Header()
	h.Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-Uuid", id)
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	w.WriteHeader(status)
	return nil
}

func created(w http.ResponseWriter, repo, dgst string) error {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+dgst)
	w.Header().Set("Docker-Content-Digest", dgst)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func uploadError(err error) error {
	if k, ok := errors.AsType[*KMSError](err); ok {
		return refuse(403, "DENIED", "KmsException: "+k.Error())
	}
	switch {
	case errors.Is(err, ErrUploadUnknown), errors.Is(err, os.ErrNotExist):
		return refuse(404, "BLOB_UPLOAD_UNKNOWN", ErrUploadUnknown.Error())
	case errors.Is(err, ErrRange):
		return refuse(416, "BLOB_UPLOAD_INVALID", ErrRange.Error())
	case errors.Is(err, ErrMismatch):
		return refuse(400, "DIGEST_INVALID", ErrMismatch.Error())
	case errors.Is(err, ErrDigest):
		return refuse(400, "DIGEST_INVALID", ErrDigest.Error())
	case errors.Is(err, gate.ErrSlow):
		return refuse(408, "BLOB_UPLOAD_INVALID", gate.ErrSlow.Error())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return refuse(507, "BLOB_UPLOAD_INVALID", "the registry's disk is full; what arrived is kept for a day")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(400, "BLOB_UPLOAD_INVALID", "the content did not arrive whole")
	}
	return err
}
