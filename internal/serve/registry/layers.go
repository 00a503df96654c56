package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// StartUpload begins an upload into a repository.
func (r *Registry) StartUpload(ctx context.Context, repo string) (id string, err error) {
	if err := r.exists(repo); err != nil {
		return "", err
	}
	u, err := r.blobsOf(repo).Upload(ctx, "")
	if err != nil {
		return "", err
	}
	return u.ID(), nil
}

// AppendUpload appends a chunk that must start at an offset (-1: wherever the upload ends) and returns the size then.
func (r *Registry) AppendUpload(ctx context.Context, repo, id string, data io.Reader, start int64) (int64, error) {
	u, err := r.blobsOf(repo).Upload(ctx, id)
	if err != nil {
		return 0, err
	}
	return u.Write(data, start)
}

// FinishUpload makes an upload the repository's blob of that digest.
func (r *Registry) FinishUpload(ctx context.Context, repo, id, digest string) (int64, error) {
	u, err := r.blobsOf(repo).Upload(ctx, id)
	if err != nil {
		return 0, err
	}
	return r.close(ctx, repo, digest, u)
}

// Layer tells the size of a blob that the repository holds.
func (r *Registry) Layer(ctx context.Context, repo, digest string) (int64, error) {
	if !digestPattern.MatchString(digest) {
		return 0, ErrDigest
	}
	if err := r.holds(repo, digest); err != nil {
		return 0, errors.Join(fs.ErrNotExist, err)
	}
	return r.blobsOf(repo).Stat(ctx, digest)
}

// OpenLayer opens a blob that the repository holds.
func (r *Registry) OpenLayer(ctx context.Context, repo, digest string) (io.ReadCloser, error) {
	if err := r.holds(repo, digest); err != nil {
		return nil, err
	}
	return r.blobsOf(repo).Open(ctx, digest)
}

// CopyLayer makes a repository's blob its blob under another digest of the same content too. Errors: ErrMismatch.
func (r *Registry) CopyLayer(ctx context.Context, repo, digest, other string) error {
	from, err := r.OpenLayer(ctx, repo, digest)
	if err != nil {
		return err
	}
	defer from.Close()
	u, err := r.blobsOf(repo).Upload(ctx, "")
	if err != nil {
		return err
	}
	if _, err := u.Write(from, 0); err != nil {
		return errors.Join(err, u.Cancel())
	}
	_, err = r.close(ctx, repo, other, u)
	return err
}

// LayerURL is the path of a blob that may be read without logging in, until life has passed or this process ends.
func (r *Registry) LayerURL(repo, digest string, life time.Duration) string {
	until := strconv.FormatInt(r.Now().Add(life).Unix(), 10)
	path := "/v2/" + repo + "/blobs/" + digest
	return fmt.Sprintf("%s?until=%s&signature=%s", path, until, r.sign(path, until))
}

func (r *Registry) sign(path, until string) string {
	h := hmac.New(sha256.New, r.urlKey)
	h.Write([]byte(path + "\n" + until))
	return hex.EncodeToString(h.Sum(nil))
}

// signed tells whether a request is for a URL of LayerURL's.
func (r *Registry) signed(req *http.Request) bool {
	q := req.URL.Query()
	until, err := strconv.ParseInt(q.Get("until"), 10, 64)
	return err == nil && (req.Method == http.MethodGet || req.Method == http.MethodHead) && strings.Contains(req.URL.Path, "/blobs/") &&
		r.Now().Unix() < until && hmac.Equal([]byte(r.sign(req.URL.Path, q.Get("until"))), []byte(q.Get("signature")))
}

func newURLKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return key
}
