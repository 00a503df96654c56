package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

type password string

func (p password) CheckRegistryToken(s string) (string, error) {
	switch s {
	case string(p):
		return "", nil
	case "session":
		return "a session", nil
	case "role":
		return "arn:aws:sts::000000000000:assumed-role/reader/one", nil
	case "pusher":
		return "arn:aws:iam::000000000000:user/pusher", nil
	}
	return "", errors.New("Your authorization token has expired. Reauthenticate and try again.")
}

func (p password) AllowToken(who, action, arn string, _ ...string) error {
	if who == "pusher" && (action == "ecr:CreateRepository" || action == "ecr:GetDownloadUrlForLayer" && strings.HasSuffix(arn, "/theirs")) {
		return model.Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s", who, action, arn)
	}
	if who != "session" || slices.Contains([]string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:GetAuthorizationToken"}, action) {
		return nil
	}
	return model.Errorf("AccessDeniedException", "%s is not authorized to perform: %s", "a session", action)
}

type fixture struct {
	t   *testing.T
	reg *registry.Registry
	srv *httptest.Server
	now time.Time
	st  store.Store
	dir string

	configure func(*registry.Config) // before it is opened; nil: as it is
}

func setup(t *testing.T, repos ...string) *fixture {
	f := &fixture{t: t, dir: t.TempDir()}
	f.serve(nil)
	t.Cleanup(f.srv.Close)
	for _, repo := range repos {
		f.create(repo, ecrtypes.ImageTagMutabilityMutable)
	}
	return f
}

// serve opens the fixture in its directory and serves it.
func (f *fixture) serve(configure func(*registry.Config)) {
	f.now, f.st, f.configure = time.Now(), mem.New(store.Schema()), configure
	f.open()
	f.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.reg.ServeHTTP(w, r) }))
}

// open makes the registry on the fixture's directory, as a restart of the process does.
func (f *fixture) open() {
	blobs, err := registry.OpenBlobs(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	c := registry.Config{Store: f.st, Blobs: blobs, Auth: password("secret"), Scope: model.Scope{Account: "000000000000"}, Host: "localhost:4566",
		Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler)}
	if f.configure != nil {
		f.configure(&c)
	}
	f.reg = registry.New(c)
}

func (f *fixture) create(repo string, m ecrtypes.ImageTagMutability) {
	err := f.st.Update(context.Background(), func(tx store.Tx) error {
		store.Repositories.Put(tx, &model.Repository{Name: repo, Repository: ecrtypes.Repository{ImageTagMutability: m}})
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) ref(s string) name.Reference {
	ref, err := name.ParseReference(strings.TrimPrefix(f.srv.URL, "http://") + "/" + s)
	if err != nil {
		f.t.Fatal(err)
	}
	return ref
}

var login = remote.WithAuth(&authn.Basic{Username: "AWS", Password: "secret"})

func (f *fixture) do(method, path string, body []byte, header ...string) *http.Response {
	f.t.Helper()
	req, _ := http.NewRequest(method, f.srv.URL+path, bytes.NewReader(body))
	req.SetBasicAuth("AWS", "secret")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (f *fixture) want(res *http.Response, status int, code string) {
	f.t.Helper()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != status || !strings.Contains(string(body), code) {
		f.t.Errorf("%s %s: got %d %s, want %d %s", res.Request.Method, res.Request.URL.Path, res.StatusCode, body, status, code)
	}
}

func push(t *testing.T, f *fixture, ref string) v1.Image {
	t.Helper()
	img, err := random.Image(4096, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(f.ref(ref), img, login); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPushedImageIsPulledUnchanged(t *testing.T) {
	f := setup(t, "shop/web")
	img := push(t, f, "shop/web:v1")
	f.open() // a restart
	got, err := remote.Image(f.ref("shop/web:v1"), login)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	want, _ := img.Digest()
	if d, _ := got.Digest(); d != want {
		t.Errorf("pulled %s, pushed %s", d, want)
	}
	tags, err := remote.List(f.ref("shop/web:v1").Context(), login)
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func TestIndexNeedsItsChildren(t *testing.T) {
	f := setup(t, "app")
	index, err := random.Index(512, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := index.RawManifest()
	mediaType, _ := index.MediaType()
	f.want(f.do("PUT", "/v2/app/manifests/multi", raw, "Content-Type", string(mediaType)), 400, "MANIFEST_BLOB_UNKNOWN")
	if err := remote.WriteIndex(f.ref("app:multi"), index, login); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(f.ref("app:multi"), login)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	f := setup(t, "app")
	for _, auth := range []authn.Authenticator{authn.Anonymous, &authn.Basic{Username: "AWS", Password: "old"}, &authn.Basic{Username: "me", Password: "secret"}} {
		if _, err := remote.List(f.ref("app:x").Context(), remote.WithAuth(auth)); err == nil {
			t.Errorf("%v was let in", auth)
		}
	}
	res, _ := http.Get(f.srv.URL + "/v2/")
	if res.StatusCode != 401 || !strings.HasPrefix(res.Header.Get("Www-Authenticate"), "Basic") {
		t.Errorf("GET /v2/ without credentials: %s %v", res.Status, res.Header)
	}
}

func TestBadRequestsAreNamed(t *testing.T) {
	f := setup(t, "app")
	missing := "sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v2/none/manifests/v1", "", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/app/manifests/v1", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/blobs/" + missing, "", 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/app/blobs/sha256:zz", "", 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/..%2f..%2fetc", "", 404, "UNSUPPORTED"},
		{"PUT", "/v2/app/manifests/v1", "{", 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/app/manifests/v1", `{"schemaVersion":2}`, 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/app/manifests/" + missing, `{"schemaVersion":2}`, 400, "DIGEST_INVALID"},
		{"PUT", "/v2/app/blobs/uploads/nope?digest=" + missing, "", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"POST", "/v2/app/blobs/uploads/?digest=" + missing, "not it", 400, "DIGEST_INVALID"},
		{"POST", "/v2/none/blobs/uploads/", "", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/App/tags/list", "", 400, "NAME_INVALID"},
		{"DELETE", "/v2/app/tags/list", "", 405, "UNSUPPORTED"},
		{"GET", "/v2/app/tags/list?n=x", "", 400, "PAGINATION_NUMBER_INVALID"},
	} {
		f.want(f.do(c.method, c.path, []byte(c.body), "Content-Type", string(types.OCIManifestSchema1)), c.status, c.code)
	}
	f.want(f.do("PUT", "/v2/app/manifests/v1", make([]byte, registry.MaxManifest+1)), 413, "MANIFEST_INVALID")
}

func TestUploadGoesOnAfterABrokenChunkAndARestart(t *testing.T) {
	f := setup(t, "app")
	content := bytes.Repeat([]byte("berth "), 100_000)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	res := f.do("POST", "/v2/app/blobs/uploads/", nil)
	f.want(res, 202, "")
	at := res.Header.Get("Location")
	f.want(f.do("PATCH", at, content[:1000], "Content-Range", "0-999"), 202, "")
	f.want(f.do("PATCH", at, content[:1000], "Content-Range", "0-999"), 416, "BLOB_UPLOAD_INVALID")
	f.open() // the process dies: the upload's bytes are still there
	res = f.do("GET", at, nil)
	f.want(res, 204, "")
	if got := res.Header.Get("Range"); got != "0-999" {
		t.Fatalf("Range %s after restart, want 0-999", got)
	}
	f.want(f.do("PATCH", at, content[1000:5000], "Content-Range", "1000-4999"), 202, "")
	f.want(f.do("PUT", at+"?digest="+digest, content[5000:]), 201, "")
	body, _ := io.ReadAll(f.do("GET", "/v2/app/blobs/"+digest, nil).Body)
	if !bytes.Equal(body, content) {
		t.Errorf("pulled %d bytes, pushed %d", len(body), len(content))
	}
	part := f.do("GET", "/v2/app/blobs/"+digest, nil, "Range", "bytes=6-11")
	if body, _ := io.ReadAll(part.Body); part.StatusCode != 206 || string(body) != "berth " {
		t.Errorf("range: %s %q", part.Status, body)
	}
	long := fmt.Sprintf("sha512:%x", sha512.Sum512(content))
	f.want(f.do("POST", "/v2/app/blobs/uploads/?digest="+long, content), 201, "")
	f.want(f.do("HEAD", "/v2/app/blobs/"+long, nil), 200, "")
}

func TestBlobsAreMountedOnlyFromWhereTheyAre(t *testing.T) {
	f := setup(t, "a", "b", "c")
	img := push(t, f, "a:1")
	layers, _ := img.Layers()
	d, _ := layers[0].Digest()
	f.want(f.do("GET", "/v2/b/blobs/"+d.String(), nil), 404, "BLOB_UNKNOWN")
	f.want(f.do("POST", "/v2/b/blobs/uploads/?from=c&mount="+d.String(), nil), 202, "")
	f.want(f.do("POST", "/v2/b/blobs/uploads/?from=a&mount="+d.String(), nil), 201, "")
	f.want(f.do("HEAD", "/v2/b/blobs/"+d.String(), nil), 200, "")
}

func TestImmutableTagStays(t *testing.T) {
	f := setup(t)
	f.create("app", ecrtypes.ImageTagMutabilityImmutable)
	img := push(t, f, "app:v1")
	if err := remote.Write(f.ref("app:v1"), img, login); err != nil {
		t.Errorf("the same image again: %v", err)
	}
	other, _ := random.Image(100, 1)
	if err := remote.Write(f.ref("app:v1"), other, login); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("another image: %v", err)
	}
}

func TestReferrers(t *testing.T) {
	f := setup(t, "app")
	img := push(t, f, "app:v1")
	size, _ := img.Size()
	digest, _ := img.Digest()
	mediaType, _ := img.MediaType()
	sig, _ := random.Image(64, 1)
	signature := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(sig, types.OCIManifestSchema1), "application/x.sig"),
		v1.Descriptor{Digest: digest, Size: size, MediaType: mediaType}).(v1.Image)
	if err := remote.Write(f.ref("app:sig"), signature, login); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"": 1, "?artifactType=application/x.sig": 1, "?artifactType=other/x": 0} {
		var index v1.IndexManifest
		res := f.do("GET", "/v2/app/referrers/"+digest.String()+query, nil)
		if err := json.NewDecoder(res.Body).Decode(&index); err != nil || len(index.Manifests) != want {
			t.Errorf("referrers%s: %d, %v; want %d", query, len(index.Manifests), err, want)
		}
	}
}

func TestCollectKeepsWhatIsUsedOrNew(t *testing.T) {
	f := setup(t, "app")
	keep, drop := push(t, f, "app:keep"), push(t, f, "app:drop")
	digest, _ := drop.Digest()
	if err := f.reg.DeleteManifest(context.Background(), "app", digest.String()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := f.reg.Collect(context.Background()); err != nil || n != 0 {
		t.Errorf("collected %d blobs at once (%v): a push in progress would lose them", n, err)
	}
	f.now = f.now.Add(25 * time.Hour)
	late := push(t, f, "app:late") // leased at the new time
	n, freed, err := f.reg.Collect(context.Background())
	if err != nil || n != 5 || freed == 0 { // three layers, the config and the manifest
		t.Errorf("collected %d blobs, %d bytes, %v; want 5 blobs", n, freed, err)
	}
	for _, tag := range []string{"keep", "late"} {
		img, err := remote.Image(f.ref("app:"+tag), login)
		if err == nil {
			err = validate.Image(img)
		}
		if err != nil {
			t.Errorf("%s after collection: %v", tag, err)
		}
	}
	_, _ = keep, late
}

func TestDeletingATagKeepsTheImage(t *testing.T) {
	f := setup(t, "app")
	img := push(t, f, "app:v1")
	if err := remote.Tag(f.ref("app:v2").(name.Tag), img, login); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("DELETE", "/v2/app/manifests/v1", nil), 202, "")
	f.want(f.do("GET", "/v2/app/manifests/v1", nil), 404, "MANIFEST_UNKNOWN")
	if _, err := remote.Image(f.ref("app:v2"), login); err != nil {
		t.Error(err)
	}
}

// TestSessionsOfRolesPullOnly: the token of a task's role opens images for reading.
func TestSessionsOfRolesPullOnly(t *testing.T) {
	f := setup(t, "app")
	for request, want := range map[string]int{"GET /v2/": 200, "GET /v2/app/manifests/v1": 404, "HEAD /v2/app/manifests/v1": 404,
		"PUT /v2/app/manifests/v1": 403, "DELETE /v2/app/manifests/v1": 403, "POST /v2/app/blobs/uploads/": 403, "GET /v2/_catalog": 403,
		"GET /v2/app/tags/list": 403} {
		method, path, _ := strings.Cut(request, " ")
		r, _ := http.NewRequest(method, f.srv.URL+path, nil)
		r.SetBasicAuth("AWS", "session")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %s, want %d", request, res.Status, want)
		}
	}
}

func TestTheRegistryClaimsWhatRegistriesAsk(t *testing.T) {
	for _, c := range []struct {
		url, authorization string
		want               bool
	}{
		{"/v2/", "", true}, {"/v2", "", true}, {"/v2/app/manifests/v1", "Basic QVdTOng=", true}, {"/v2/app/blobs/uploads/", "", true},
		{"/v2/apis", "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/apigateway/aws4_request", false},
		{"/v2/key?X-Amz-Algorithm=AWS4-HMAC-SHA256", "", false}, {"/v20/", "", false}, {"/", "", false},
	} {
		r := httptest.NewRequest("GET", c.url, nil)
		r.Header.Set("Authorization", c.authorization)
		if got := registry.Claims(r); got != c.want {
			t.Errorf("%s with %q: %t", c.url, c.authorization, got)
		}
	}
}
