package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
	"github.com/berthdev/berth/internal/timeouts"
)

// hub is a registry that can be broken.
type hub struct {
	*httptest.Server
	asked atomic.Int64 // requests for manifests
	fail  atomic.Int64 // status to answer with, 0 for none
	fails atomic.Int64 // how often; then it works again
	auth  string       // wanted Authorization, "" for none
}

func newHub(t *testing.T) *hub {
	h := &hub{}
	real := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			h.asked.Add(1)
		}
		if status := h.fail.Load(); status != 0 && h.fails.Add(-1) >= 0 {
			w.WriteHeader(int(status))
			return
		}
		if h.auth != "" && r.Header.Get("Authorization") != h.auth && r.Method != http.MethodPut && r.Method != http.MethodPost &&
			r.Method != http.MethodPatch {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hub) address() string { return strings.TrimPrefix(h.URL, "http://") }

// push stores an image that prints text and returns its digest.
func (h *hub) push(t *testing.T, repo, text string) string {
	t.Helper()
	image := imagetest.Busybox(t, func(c *v1.Config) { c.Cmd, c.StopSignal = []string{"/bin/echo", text}, "SIGQUIT" })
	ref, err := name.ParseReference(h.address()+"/"+repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	auth := h.auth
	h.auth = ""
	defer func() { h.auth = auth }()
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func pulls(t *testing.T, m *Images, ref string) agent.Image {
	t.Helper()
	image, err := m.Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestPullFromAnyRegistry(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	digest := h.push(t, "team/app:1", "one")
	ref := h.address() + "/team/app:1"
	image := pulls(t, n.store, ref)
	if image.Digest != digest || image.StopSignal != "SIGQUIT" || image.Ref != ref {
		t.Errorf("%+v, want digest %s", image, digest)
	}
	s := n.container(image, "")
	s.Definition.EntryPoint, s.Definition.Command = nil, nil
	if _, out, _ := n.runs(t, s); out != "one" {
		t.Errorf("it prints %q", out)
	}
	second := h.push(t, "team/app:1", "two")
	if image = pulls(t, n.store, ref); image.Digest != second {
		t.Error("a new image under the same tag was not pulled")
	}
	h.fail.Store(503)
	h.fails.Store(2)
	h.push(t, "team/app:2", "x")
	h.fail.Store(503)
	h.fails.Store(2)
	pulls(t, n.store, h.address()+"/team/app:2") // after two failures
	h.fail.Store(500)
	h.fails.Store(1 << 30)
	if image = pulls(t, n.store, ref); image.Digest != second { // what is here will do
		t.Errorf("%+v", image)
	}
	h.fail.Store(0)
	for _, c := range []struct{ ref, says string }{
		{h.address() + "/team/app:9", "no such image"},
		{"Upper", "not an image reference"},
		{"127.0.0.1:1/x/y", "check that this machine reaches"},
	} {
		begun := time.Now()
		_, err := n.store.Pull(t.Context(), c.ref)
		e, ok := errors.AsType[*agent.Error](err)
		if !ok || e.Name != "CannotPullContainerError" || !strings.Contains(e.Message, c.says) || strings.Contains(e.Message, "\n") {
			t.Errorf("%s: %v, want a CannotPullContainerError that says %q", c.ref, err, c.says)
		}
		if time.Since(begun) > 15*time.Second {
			t.Errorf("%s: %v passed", c.ref, time.Since(begun))
		}
	}
	pinnedRef := h.address() + "/team/app@" + digest
	pulls(t, n.store, pinnedRef)
	before := h.asked.Load()
	if pulls(t, n.store, pinnedRef); h.asked.Load() != before {
		t.Error("the registry was asked for what a digest names and this machine has")
	}
}

func TestPullBehaviors(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	ref := h.address() + "/app:1"
	for behavior, want := range map[PullBehavior]struct{ asks, survives bool }{
		PullDefault: {true, true}, PullAlways: {true, false}, PullOnce: {false, true}, PullPreferCached: {false, true},
	} {
		h.fail.Store(0)
		h.push(t, "app:1", string(behavior))
		store, err := NewImages(n.Runtime, ImagesConfig{Behavior: behavior})
		if err != nil {
			t.Fatal(err)
		}
		pulls(t, store, ref)
		before := h.asked.Load()
		pulls(t, store, ref)
		if asked := h.asked.Load() > before; asked != want.asks {
			t.Errorf("%s: the registry was asked: %v", behavior, asked)
		}
		h.fail.Store(500)
		h.fails.Store(1 << 30)
		if _, err := store.Pull(t.Context(), ref); (err == nil) != want.survives {
			t.Errorf("%s, registry broken: %v", behavior, err)
		}
	}
	if _, err := NewImages(n.Runtime, ImagesConfig{Behavior: "sometimes"}); err == nil {
		t.Error("an unknown behavior was taken")
	}
}

func TestPullFromBerthsRegistry(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	h.auth = "Basic QVdTOnRva2Vu" // AWS:token
	logins := 0
	store, err := NewImages(n.Runtime, ImagesConfig{Registry: h.address(), Login: func(context.Context) (string, string, error) {
		logins++
		return "AWS", "token", nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	digest := h.push(t, "shop/auth:1", "one")
	_, port, _ := net.SplitHostPort(h.address())
	for _, host := range []string{"localhost:" + port, "127.0.0.1:" + port, "000000000000.dkr.ecr.us-east-1.amazonaws.com",
		"000000000000.dkr.ecr.eu-west-1.localhost:" + port} {
		if image := pulls(t, store, host+"/shop/auth:1"); image.Digest != digest {
			t.Errorf("%s: %+v", host, image)
		}
	}
	if logins == 0 {
		t.Error("nobody logged in")
	}
	digest = h.push(t, "shop/auth:1", "two")
	if image := pulls(t, store, "localhost:"+port+"/shop/auth:1"); image.Digest != digest {
		t.Error("Berth's registry was not asked again")
	}
	_, err = store.Pull(t.Context(), "localhost:"+port+"/shop/auth:9")
	if err == nil || !strings.Contains(err.Error(), "Berth's registry has no such image") {
		t.Error(err)
	}
	h.Close()
	if image := pulls(t, store, "localhost:"+port+"/shop/auth:1"); image.Digest != digest {
		t.Errorf("while the registry restarts: %+v", image)
	}
}

func TestImportedImagesAskNobody(t *testing.T) {
	n := newNode(t)
	image := imagetest.Busybox(t, nil)
	archive := imagetest.Archive(t, image, "nginx", "example.com/a/b:2")
	refs, err := n.store.Import(t.Context(), bytes.NewReader(archive))
	if err != nil || fmt.Sprint(refs) != "[docker.io/library/nginx:latest example.com/a/b:2]" &&
		fmt.Sprint(refs) != "[example.com/a/b:2 docker.io/library/nginx:latest]" {
		t.Fatalf("%v %v", refs, err)
	}
	begun := time.Now()
	for _, ref := range []string{"nginx", "nginx:latest", "docker.io/nginx", "library/nginx", "example.com/a/b:2"} {
		pulls(t, n.store, ref)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("five pulls of imported images took %v", took)
	}
	all, err := n.store.ListImages(t.Context())
	if err != nil || len(all) != 2 || all[0].Origin != "import" || all[0].Size == 0 || all[0].Created.IsZero() {
		t.Errorf("%+v %v", all, err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "text": []byte(strings.Repeat("no archive ", 1000)),
		"cut off": archive[:len(archive)/2]} {
		if refs, err := n.store.Import(t.Context(), bytes.NewReader(data)); err == nil {
			t.Errorf("%s was imported as %v", name, refs)
		}
	}
}

// An image that was just pulled is there until its container can be made, also when it is an old one.
func TestAPulledImageHasALease(t *testing.T) {
	n := newNode(t)
	now := time.Now()
	n.store.c.Now = func() time.Time { return now }
	h := newHub(t)
	h.push(t, "app:1", "x")
	ref := h.address() + "/app:1"
	pulls(t, n.store, ref)
	for _, later := range []time.Duration{55 * time.Minute, 9 * time.Minute} {
		now = now.Add(later)
		pulls(t, n.store, ref)
	}
	now = now.Add(timeouts.PullLease)
	if removed, err := n.store.Collect(t.Context(), CollectConfig{Path: n.root, Threshold: 1e-9}); err != nil || len(removed) > 0 {
		t.Errorf("%v %v", removed, err)
	}
	now = now.Add(timeouts.ImageKeep)
	if removed, err := n.store.Collect(t.Context(), CollectConfig{Path: n.root, Threshold: 1e-9}); err != nil || len(removed) != 1 {
		t.Errorf("in the end: %v %v", removed, err)
	}
}

func TestCollect(t *testing.T) {
	n := newNode(t)
	now := time.Now()
	n.store.c.Now = func() time.Time { return now }
	h := newHub(t)
	for i := range 4 {
		h.push(t, fmt.Sprintf("app:%d", i), fmt.Sprint(i))
		pulls(t, n.store, fmt.Sprintf("%s/app:%d", h.address(), i))
		now = now.Add(2 * time.Hour)
	}
	imported := n.busybox(t, nil)
	app := func(i int) string { return fmt.Sprintf("%s/app:%d", h.address(), i) }
	used := n.container(agent.Image{Ref: app(0)}, "sleep 600")
	n.start(t, used)
	now = now.Add(30 * time.Minute)
	pulls(t, n.store, app(1)) // used again
	collect := func(c CollectConfig) string {
		t.Helper()
		c.Path = n.root
		removed, err := n.store.Collect(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(fmt.Sprint(removed), h.address(), "")
	}
	if got := collect(CollectConfig{Threshold: 0.9999999}); got != "[]" {
		t.Errorf("with room on the disk: %s", got)
	}
	if got := collect(CollectConfig{Threshold: 1e-9, Max: 1}); got != "[/app:2]" {
		t.Errorf("removed first: %s, want the one not used for longest", got)
	}
	if got := collect(CollectConfig{Threshold: 1e-9}); got != "[/app:3]" {
		t.Errorf("removed then: %s; the others were used within the hour or are in use", got)
	}
	now = now.Add(29 * time.Minute)
	pulls(t, n.store, app(1)) // for a task whose containers are not made yet
	if _, err := n.store.Pull(t.Context(), imported.Ref); err != nil {
		t.Fatal(err)
	}
	now = now.Add(32 * time.Minute)
	if got := collect(CollectConfig{Threshold: 1e-9}); got != "[]" {
		t.Errorf("removed %s half an hour after it was asked for", got)
	}
	now = now.Add(2 * time.Hour)
	if got := collect(CollectConfig{Threshold: 1e-9}); got != "[/app:1 "+imported.Ref+"]" {
		t.Errorf("removed at last: %s, want imported ones after others", got)
	}
	if err := n.Delete(t.Context(), used.ID); err != nil {
		t.Fatal(err)
	}
	collect(CollectConfig{Threshold: 1e-9})
	waitFor(t, "the space to be free", func() bool {
		entries, _ := os.ReadDir(n.root + "/io.containerd.content.v1.content/blobs/sha256")
		return len(entries) == 0
	})
}

func TestReferences(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "nginx:1": "docker.io/library/nginx:1", "a/b": "docker.io/a/b:latest",
		"localhost:5000/x": "localhost:5000/x:latest", "ghcr.io/a/b:c": "ghcr.io/a/b:c",
		"nginx:1@sha256:" + strings.Repeat("a", 64): "docker.io/library/nginx@sha256:" + strings.Repeat("a", 64),
		"": "", "Nginx": "", "a b": "", "http://x/y": "", "-x": "", "x:": "", strings.Repeat("a", 300): "",
	} {
		if got, _, err := normalize(ref); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v, want %q", ref, got, err, want)
		}
	}
	for host, want := range map[string]bool{
		"localhost:4566": true, "127.0.0.1:4566": true, "[::1]:4566": true, "localhost:4567": false, "localhost": false,
		"docker.io": false,
		"000000000000.dkr.ecr.us-east-1.amazonaws.com": true, "000000000000.dkr.ecr.us-east-1.localhost:4566": true,
		"000000000000.dkr.ecr.us-east-1.localhost:1": false, "000000000000.dkr.ecr.us-east-1.amazonaws.com.evil.org": false,
		"evil.org:4566": false, "1.dkr.ecr.us-east-1.amazonaws.com": false,
	} {
		if got := isOwn(host, "127.0.0.1:4566"); got != want {
			t.Errorf("%s is Berth's own: %v, want %v", host, got, want)
		}
	}
}

func TestPullMessages(t *testing.T) {
	dns := &net.DNSError{Err: "no such host", Name: "nope.example", IsNotFound: true}
	for _, c := range []struct {
		err   error
		own   bool
		retry bool
		says  string
	}{
		{fmt.Errorf("resolve: %w", errdefs.ErrNotFound), false, false, "has no such image"},
		{fmt.Errorf("resolve: %w", errdefs.ErrNotFound), true, false, "berth build"},
		{remoteerrors.ErrUnexpectedStatus{StatusCode: 401}, false, false, "refuses access"},
		{remoteerrors.ErrUnexpectedStatus{StatusCode: 429}, false, true, "limits the rate"},
		{remoteerrors.ErrUnexpectedStatus{StatusCode: 503, Status: "503"}, false, true, "failed"},
		{fmt.Errorf("login: %w", docker.ErrInvalidAuthorization), false, false, "refuses access"},
		{fmt.Errorf("dial: %w", dns), false, false, "cannot be resolved"},
		{fmt.Errorf("dial: %w", &net.DNSError{Err: "server misbehaving", IsTemporary: true}), false, true, "cannot be resolved"},
		{errors.New("connection refused"), false, true, "reaches the registry"},
	} {
		if got := pullMessage("x/y:1", "x", c.own, c.err); !strings.Contains(got, c.says) {
			t.Errorf("%v: %q, want it to say %q", c.err, got, c.says)
		}
		if got := worthRetrying(c.err); got != c.retry {
			t.Errorf("%v: worth retrying: %v", c.err, got)
		}
	}
}
