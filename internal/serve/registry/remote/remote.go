// Package remote is a small client of other registries: it reads what is pulled through this one, and writes what is replicated. It
// streams: no blob is held in memory or on the disk.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Host is another registry. Credentials are given for each request, since tokens run out.
type Host struct {
	// URL is its scheme and host, such as "https://registry-1.docker.io".
	URL string
	// Login returns a user and a password; both "" for nobody.
	Login  func(ctx context.Context) (user, password string, err error)
	Client *http.Client

	mu     sync.Mutex
	tokens map[string]token // by scope
}

type token struct {
	header string
	until  time.Time
}

// Error is what another registry answered.
type Error struct {
	Status int
	Body   string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("the registry answered %d %s: %s", e.Status, http.StatusText(e.Status), e.Body)
}

// Is makes a 404 an fs.ErrNotExist.
func (e *Error) Is(target error) bool {
	return target == fs.ErrNotExist && e.Status == http.StatusNotFound
}

// Accept lists the media types of manifests.
const Accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

// maxToken bounds what a registry says of a token.
const maxToken = 1 << 20

// do makes a request, logging in when it is asked to. body may be read once only: it is asked for again.
func (h *Host) do(ctx context.Context, method, path, scope string, header http.Header, length int64, body func() (io.Reader, error)) (*http.Response, error) {
	for try := 0; ; try++ {
		var r io.Reader
		if body != nil {
			var err error
			if r, err = body(); err != nil {
				return nil, err
			}
		}
		target := path
		if !strings.Contains(path, "://") {
			target = h.URL + path
		}
		req, err := http.NewRequestWithContext(ctx, method, target, r)
		if err != nil {
			return nil, err
		}
		if body != nil {
			req.ContentLength = length
		}
		for k, v := range header {
			req.Header[k] = v
		}
		if t := h.token(scope); t != "" {
			req.Header.Set("Authorization", t)
		}
		res, err := h.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 300 {
			return res, nil
		}
		said, _ := io.ReadAll(io.LimitReader(res.Body, 2<<10))
		res.Body.Close()
		if res.StatusCode == http.StatusUnauthorized && try == 0 {
			if err := h.login(ctx, res.Header.Values("Www-Authenticate"), scope); err != nil {
				return nil, err
			}
			continue
		}
		return nil, &Error{res.StatusCode, strings.TrimSpace(string(said))}
	}
}

func (h *Host) token(scope string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tokens[scope]; time.Now().Before(t.until) {
		return t.header
	}
	return ""
}

var parameter = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)

// login answers a challenge: with a Bearer's token when the registry names where to get one, else with the password.
func (h *Host) login(ctx context.Context, challenges []string, scope string) error {
	user, password, err := h.Login(ctx)
	if err != nil {
		return err
	}
	for _, c := range challenges {
		scheme, rest, _ := strings.Cut(c, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		p := map[string]string{}
		for _, m := range parameter.FindAllStringSubmatch(rest, -1) {
			p[m[1]] = m[2]
		}
		return h.fetch(ctx, p, scope, user, password)
	}
	if user == "" {
		return &Error{http.StatusUnauthorized, "it asks for a user and a password"}
	}
	req := &http.Request{Header: http.Header{}}
	req.SetBasicAuth(user, password)
	h.keep(scope, req.Header.Get("Authorization"), time.Minute)
	return nil
}

func (h *Host) keep(scope, header string, life time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens == nil || len(h.tokens) > 1000 {
		h.tokens = map[string]token{}
	}
	h.tokens[scope] = token{header, time.Now().Add(life)}
}

// fetch gets a Bearer's token (distribution's token specification).
func (h *Host) fetch(ctx context.Context, p map[string]string, scope, user, password string) error {
	u, err := url.Parse(p["realm"])
	if err != nil || u.Host == "" {
		return fmt.Errorf("the registry names no place for tokens: %q", p["realm"])
	}
	q := u.Query()
	if p["service"] != "" {
		q.Set("service", p["service"])
	}
	if scope != "" {
		q.Set("scope", scope)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := h.Client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return &Error{res.StatusCode, "it gives no token"}
	}
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxToken)).Decode(&t); err != nil {
		return fmt.Errorf("the registry's token: %w", err)
	}
	if t.Token == "" {
		t.Token = t.AccessToken
	}
	life := time.Minute
	if t.ExpiresIn > 60 {
		life = time.Duration(t.ExpiresIn)*time.Second - 30*time.Second
	}
	h.keep(scope, "Bearer "+t.Token, life)
	return nil
}

func pull(repo string) string { return "repository:" + repo + ":pull" }
func push(repo string) string { return "repository:" + repo + ":pull,push" }

// Ping asks whether the registry lets us in.
func (h *Host) Ping(ctx context.Context) error {
	res, err := h.do(ctx, http.MethodGet, "/v2/", "", nil, 0, nil)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Manifest reads a manifest by tag or digest, of at most limit bytes.
func (h *Host) Manifest(ctx context.Context, repo, reference string, limit int64) (content []byte, mediaType string, err error) {
	res, err := h.do(ctx, http.MethodGet, "/v2/"+repo+"/manifests/"+reference, pull(repo), http.Header{"Accept": {Accept}}, 0, nil)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	content, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("the manifest is larger than %d bytes", limit)
	}
	mediaType, _, _ = strings.Cut(res.Header.Get("Content-Type"), ";")
	return content, mediaType, err
}

// Blob opens a blob for reading. The size is -1 when the registry does not say it.
func (h *Host) Blob(ctx context.Context, repo, digest string) (io.ReadCloser, int64, error) {
	res, err := h.do(ctx, http.MethodGet, "/v2/"+repo+"/blobs/"+digest, pull(repo), nil, 0, nil)
	if err != nil {
		return nil, 0, err
	}
	return res.Body, res.ContentLength, nil
}

// Has tells whether the repository there has a blob or manifest ("blobs", "manifests").
func (h *Host) Has(ctx context.Context, repo, what, digest string) (bool, error) {
	res, err := h.do(ctx, http.MethodHead, "/v2/"+repo+"/"+what+"/"+digest, push(repo), http.Header{"Accept": {Accept}}, 0, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, res.Body.Close()
}

// PutBlob writes a blob of size bytes, which open gives from its beginning.
func (h *Host) PutBlob(ctx context.Context, repo, digest string, size int64, open func() (io.Reader, error)) error {
	res, err := h.do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", push(repo), nil, 0, func() (io.Reader, error) { return http.NoBody, nil })
	if err != nil {
		return err
	}
	res.Body.Close()
	at, err := res.Request.URL.Parse(res.Header.Get("Location"))
	if err != nil {
		return fmt.Errorf("the registry's upload is nowhere: %w", err)
	}
	q := at.Query()
	q.Set("digest", digest)
	at.RawQuery = q.Encode()
	if res, err = h.do(ctx, http.MethodPut, at.String(), push(repo), http.Header{"Content-Type": {"application/octet-stream"}}, size, open); err != nil {
		return err
	}
	return res.Body.Close()
}

// PutManifest writes a manifest under a tag or digest.
func (h *Host) PutManifest(ctx context.Context, repo, reference, mediaType string, content []byte) error {
	res, err := h.do(ctx, http.MethodPut, "/v2/"+repo+"/manifests/"+reference, push(repo), http.Header{"Content-Type": {mediaType}}, int64(len(content)),
		func() (io.Reader, error) { return bytes.NewReader(content), nil })
	if err != nil {
		return err
	}
	return res.Body.Close()
}
