package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

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
	if err := r.mayRun(w, req, repo, reference); err != nil {
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

// mayRun asks whether an image may be run where a node is going to. What the registry does not know is answered elsewhere.
func (r *Registry) mayRun(w http.ResponseWriter, req *http.Request, repo, reference string) error {
	if r.MayRun == nil || req.Header.Get(model.HeaderRuns) == "" {
		return nil
	}
	img, err := r.resolve(repo, reference)
	if err != nil {
		return nil
	}
	if err := r.MayRun(req.Context(), img); err != nil {
		why := strings.Join(strings.Fields(err.Error()), " ")
		w.Header().Set(model.HeaderRefused, why) // an answer to HEAD has no body
		return refuse(403, "DENIED", why)
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
