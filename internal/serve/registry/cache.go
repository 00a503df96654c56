package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Upstream is a registry that this one is a cache of. A manifest or blob that it has not is an fs.ErrNotExist.
type Upstream interface {
	Manifest(ctx context.Context, repo, reference string, limit int64) (content []byte, mediaType string, err error)
	Blob(ctx context.Context, repo, digest string) (r io.ReadCloser, size int64, err error)
}

// upstreamLook is how often an upstream is asked what a tag means now (ECR user guide, "Pull through cache").
const upstreamLook = 24 * time.Hour

// upstream finds the rule with the longest prefix for a repository, and the repository's name there.
func (r *Registry) upstream(repo string) (u Upstream, name string, err error) {
	if r.Upstreams == nil {
		return nil, "", nil
	}
	var best *model.PullThroughRule
	r.Store.View(func(tx store.Reader) {
		for rule := range store.PullThroughRules.Scan(tx, "") {
			rest, ok := under(repo, rule.Key())
			if ok && (best == nil || best.Key() == root || rule.Key() != root && len(rule.Key()) > len(best.Key())) {
				best, name = rule, rest
			}
		}
	})
	if best == nil {
		return nil, "", nil
	}
	if p := best.Rule.UpstreamRepositoryPrefix; p != nil && *p != root && *p != "" {
		name = strings.TrimSuffix(*p, "/") + "/" + name
	}
	u, err = r.Upstreams(best)
	return u, name, err
}

// refresh has a manifest here that an upstream has: one that is missing, or a tag that was not asked for lately. An upstream that does
// not answer is no fault while there is something to serve.
func (r *Registry) refresh(ctx context.Context, repo, reference string) error {
	img, err := r.resolve(repo, reference)
	here := err == nil
	if here && (!img.Cached || strings.Contains(reference, ":") || r.Now().Sub(img.CheckedAt) < upstreamLook) {
		return nil
	}
	u, name, uerr := r.upstream(repo)
	if u == nil && uerr == nil {
		return nil
	}
	if r.exists(repo) != nil { // those who ask for the same at once share what the first of them gets
		if err := r.allow(ctx, "ecr:CreateRepository", repo); err != nil {
			return err
		}
	}
	if uerr == nil {
		_, uerr, _ = r.refreshes.Do(repo+" "+reference, func() (any, error) {
			return nil, r.take(context.WithoutCancel(ctx), u, name, repo, reference)
		})
	}
	switch {
	case uerr == nil, here:
		if uerr != nil {
			r.Log.Warn("an upstream registry does not answer; the cache serves what it has", "repository", repo, "reference", reference, "error", uerr)
		}
		return nil
	case errors.Is(uerr, fs.ErrNotExist):
		return nil // unknown here as it is there
	}
	return refuse(502, "UNAVAILABLE", "The upstream registry does not give "+name+" "+reference+": "+uerr.Error())
}

// take stores an upstream's manifest.
func (r *Registry) take(ctx context.Context, u Upstream, name, repo, reference string) error {
	content, mediaType, err := u.Manifest(ctx, name, reference, MaxManifest)
	if err != nil {
		return err
	}
	tag, dgst, err := identify(reference, content)
	if err != nil {
		return err
	}
	img, _, err := parseManifest(mediaType, content)
	if err != nil {
		return err
	}
	if err := r.ensure(ctx, repo, types.RCTAppliedForPullThroughCache); err != nil {
		return err
	}
	img.Repository, img.Digest, img.ManifestSize, img.Cached = repo, dgst, int64(len(content)), true
	if err := putBlob(ctx, r.blobsOf(repo), dgst, content); err != nil {
		return err
	}
	return r.Store.Update(ctx, func(tx store.Tx) error {
		row, err := r.repository(tx, repo)
		if err != nil {
			return err
		}
		next := *img
		next.PushedAt = r.Now()
		if old, ok := store.Images.Get(tx, img.Key()); ok {
			next = *old
		}
		next.CheckedAt = r.Now()
		if tag != "" {
			if err := r.retag(tx, row, &next, tag); err != nil {
				return err
			}
		}
		store.Images.Put(tx, &next)
		return nil
	})
}

// needs tells whether a cached image of the repository has the blob as a part.
func (r *Registry) needs(repo, dgst string) (found bool) {
	r.Store.View(func(tx store.Reader) {
		for img := range store.Images.By(tx, store.ByRepository, repo) {
			if found = img.Cached && slices.Contains(img.Blobs, dgst); found {
				return
			}
		}
	})
	return found
}

// passThrough answers with a blob of an upstream's while it is stored: whoever asks first waits no longer than there. It tells whether
// it answered.
func (r *Registry) passThrough(w http.ResponseWriter, req *http.Request, repo, dgst string) (bool, error) {
	if !r.needs(repo, dgst) {
		return false, nil
	}
	u, name, err := r.upstream(repo)
	if u == nil || err != nil {
		return false, err
	}
	body, size, err := u.Blob(req.Context(), name, dgst)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, refuse(502, "UNAVAILABLE", "The upstream registry does not give the layer: "+err.Error())
	}
	defer body.Close()
	if req.Method == http.MethodHead || req.Header.Get("Range") != "" {
		if req.Method == http.MethodHead && size >= 0 {
			blobHeader(w, dgst)
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			return true, nil
		}
		if err := r.keep(req.Context(), repo, dgst, body, io.Discard); err != nil {
			return true, err
		}
		return false, nil // it is here now
	}
	paced, done := gate.DefaultPace.Writer(w)
	defer done()
	out := &lateHeader{w: paced, before: func() {
		blobHeader(w, dgst)
		if size >= 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
	}}
	err = r.keep(req.Context(), repo, dgst, body, out)
	if err == nil && !out.begun {
		out.before()
	}
	if err == nil || !out.begun {
		return true, err
	}
	r.Log.Warn("an upstream's layer was not sent whole", "repository", repo, "digest", dgst, "error", err)
	panic(http.ErrAbortHandler) // the client must not take it for whole
}

func blobHeader(w http.ResponseWriter, dgst string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", dgst)
	w.Header().Set("Etag", `"`+dgst+`"`)
}

// keep stores what is read as the repository's blob, and writes it to w on the way. The last piece is written when all was checked.
func (r *Registry) keep(ctx context.Context, repo, dgst string, body io.Reader, w io.Writer) error {
	u, err := r.blobsOf(repo).Upload(ctx, "")
	if err != nil {
		return err
	}
	tail := &delayed{w: w}
	if _, err := u.Write(io.TeeReader(body, tail), 0); err != nil {
		return errors.Join(err, u.Cancel())
	}
	if _, err := r.close(ctx, repo, dgst, u); err != nil {
		return err
	}
	return tail.flush()
}

// delayed writes each piece when the next comes.
type delayed struct {
	w    io.Writer
	last []byte
}

// Write implements io.Writer.
func (d *delayed) Write(p []byte) (int, error) {
	if err := d.flush(); err != nil {
		return 0, err
	}
	d.last = append(d.last[:0], p...)
	return len(p), nil
}

func (d *delayed) flush() error {
	if len(d.last) == 0 {
		return nil
	}
	n, err := d.w.Write(d.last)
	if err == nil && n < len(d.last) {
		err = io.ErrShortWrite
	}
	d.last = d.last[:0]
	return err
}
