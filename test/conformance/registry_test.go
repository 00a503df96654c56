package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// open lets everybody in.
type open struct{}

func (open) CheckRegistryToken(string) (string, error)    { return "", nil }
func (open) AllowToken(_, _, _ string, _ ...string) error { return nil }

// host is a registry over HTTP with the repositories one and two.
type host struct {
	*testing.T
	url string
}

func serve(t *testing.T) *host {
	st := mem.New(store.Schema())
	t.Cleanup(func() { st.Close() })
	blobs, err := registry.OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = st.Update(context.Background(), func(tx store.Tx) error {
		store.Repositories.Put(tx, &model.Repository{Name: "one"})
		store.Repositories.Put(tx, &model.Repository{Name: "two/deep"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(registry.New(registry.Config{Store: st, Blobs: blobs, Auth: open{}, Scope: model.Scope{Account: "000000000000"},
		Now: time.Now, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(srv.Close)
	return &host{t, srv.URL}
}

// answer is a response whose body was read.
type answer struct {
	*http.Response
	body []byte
}

// do makes a request of a path, or of the location that an answer gave.
func (h *host) do(method, path string, body []byte, header ...string) answer {
	h.Helper()
	if !strings.Contains(path, "://") {
		path = h.url + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	req.SetBasicAuth("AWS", "secret")
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	if err != nil {
		h.Fatal(err)
	}
	return answer{res, read}
}

// want checks a status and, in pairs, headers.
func (h *host) want(a answer, status int, header ...string) answer {
	h.Helper()
	if a.StatusCode != status {
		h.Fatalf("%s %s: %s, want %d: %.300s", a.Request.Method, a.Request.URL, a.Status, status, a.body)
	}
	for i := 0; i < len(header); i += 2 {
		if got := a.Header.Get(header[i]); got != header[i+1] {
			h.Errorf("%s %s: %s is %q, want %q", a.Request.Method, a.Request.URL, header[i], got, header[i+1])
		}
	}
	if a.StatusCode >= 400 && a.Request.Method != http.MethodHead {
		var e struct {
			Errors []struct{ Code, Message string }
		}
		if json.Unmarshal(a.body, &e) != nil || len(e.Errors) != 1 || e.Errors[0].Code == "" || e.Errors[0].Message == "" {
			h.Errorf("%s %s: not an error of the specification's: %s", a.Request.Method, a.Request.URL, a.body)
		}
	}
	return a
}

// at is the location that an answer gave, with a query added.
func (a answer) at(query string) string {
	u, err := a.Request.URL.Parse(a.Header.Get("Location"))
	if err != nil || a.Header.Get("Location") == "" {
		return "no location"
	}
	if query != "" {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query, "&")
	}
	return u.String()
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// digest names content in an algorithm.
func digest(algorithm string, content []byte) string {
	if algorithm == "sha512" {
		return fmt.Sprintf("sha512:%x", sha512.Sum512(content))
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}

// stored checks that a blob is there whole, and deletes it.
func (h *host) stored(repo, name string, content []byte) {
	h.Helper()
	path := "/v2/" + repo + "/blobs/" + name
	size := fmt.Sprint(len(content))
	h.want(h.do("HEAD", path, nil), 200, "Content-Length", size, "Docker-Content-Digest", name)
	if got := h.want(h.do("GET", path, nil), 200, "Content-Length", size, "Docker-Content-Digest", name); !bytes.Equal(got.body, content) {
		h.Errorf("blob %s has another content", name)
	}
	h.want(h.do("DELETE", path, nil), 202)
	h.want(h.do("HEAD", path, nil), 404)
}
