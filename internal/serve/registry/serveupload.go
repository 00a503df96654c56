package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

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

// mounts tells whether the caller may have the repository's blobs mounted. Who may not, pushes them.
func (r *Registry) mounts(ctx context.Context, from string) bool {
	return r.settings().Account["BLOB_MOUNTING"] != "DISABLED" && r.allow(ctx, "ecr:GetDownloadUrlForLayer", from) == nil
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
		if err == nil && r.holds(from, dgst) == nil && r.sameScope(repo, from) && r.mounts(req.Context(), from) {
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
