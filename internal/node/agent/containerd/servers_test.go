package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/upstream"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/peer/peertest"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

type anybody struct{}

func (anybody) CheckRegistryToken(string) (string, error)    { return "", nil }
func (anybody) AllowToken(_, _, _ string, _ ...string) error { return nil }

// A node pulls from any server by its certificate, and without a password; it pushes nothing.
func TestPullsByCertificate(t *testing.T) {
	state := mem.New(store.Schema())
	t.Cleanup(func() { state.Close() })
	if err := state.Update(t.Context(), func(tx store.Tx) error {
		store.Repositories.Put(tx, &model.Repository{Name: "app", Repository: ecrtypes.Repository{}})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	blobs, err := registry.OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var rule error
	reg := registry.New(registry.Config{Store: state, Blobs: blobs, Auth: anybody{}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		MayRun: func(context.Context, *model.Image) error { return rule }})
	img, err := random.Image(100_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	web := &inside{reg}
	tag, err := name.NewTag("localhost:4566/app:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithTransport(web)); err != nil {
		t.Fatal(err)
	}
	cluster := peertest.New(t)
	var servers []*peertest.Server
	for _, id := range []string{"s0", "s1"} {
		servers = append(servers, cluster.Server(id, func(p *peer.Server) { p.Handle("/v2/", peer.Nodes, reg.Pulls()) }))
	}
	node := cluster.Node("n1")
	up := upstream.New(upstream.Config{Addresses: func() []string { return []string{servers[0].Address, servers[1].Address} },
		Client: func(address string) *http.Client {
			c := node.HTTP(address)
			t.Cleanup(c.CloseIdleConnections)
			return c
		}})
	m := &Images{c: ImagesConfig{Registry: "localhost:4566", Servers: up, Login: func(context.Context) (string, string, error) {
		return "", "", errors.New("nobody logs in")
	}}}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	rule = errors.New("the rule refuses it:\nCVE-2099-1")
	_, _, refused := docker.NewResolver(docker.ResolverOptions{Hosts: m.hosts(true, nil)}).Resolve(t.Context(), "localhost:4566/app:v1")
	if says := pullMessage("app:v1", "localhost:4566", true, refused); says != "pull app:v1: the rule refuses it: CVE-2099-1" || worthRetrying(refused) ||
		m.fallsBack(images.Image{}, true, refused) {
		t.Errorf("an image that may not be run: %v, %s", refused, says)
	}
	rule = nil
	for range 2 {
		pullFrom(t, docker.NewResolver(docker.ResolverOptions{Hosts: m.hosts(true, nil)}), want.String())
		servers[0].Kill() // the second time from the other
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: m.hosts(true, nil)})
	if _, _, err := resolver.Resolve(t.Context(), "localhost:4566/app:none"); !errdefs.IsNotFound(err) {
		t.Errorf("an image that is not there: %v", err)
	}
	answer, err := (&http.Client{Transport: up}).Post("http://server/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body.Close(); answer.StatusCode != http.StatusForbidden {
		t.Errorf("a node that pushes: %s", answer.Status)
	}
}

func pullFrom(t *testing.T, resolver remotes.Resolver, want string) {
	t.Helper()
	const ref = "localhost:4566/app:v1"
	_, desc, err := resolver.Resolve(t.Context(), ref)
	if err != nil || desc.Digest.String() != want {
		t.Fatalf("resolved to %v (%v), want %s", desc.Digest, err, want)
	}
	fetcher, err := resolver.Fetcher(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(desc ocispec.Descriptor) []byte {
		r, err := fetcher.Fetch(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil || digest.FromBytes(data) != desc.Digest {
			t.Fatalf("%s: %d bytes (%v)", desc.Digest, len(data), err)
		}
		return data
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(fetch(desc), &manifest); err != nil || len(manifest.Layers) != 2 {
		t.Fatalf("%+v (%v)", manifest, err)
	}
	for _, layer := range append(manifest.Layers, manifest.Config) {
		fetch(layer)
	}
}

// inside sends requests to a handler of this process.
type inside struct{ h http.Handler }

// RoundTrip implements http.RoundTripper.
func (i *inside) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorded{header: http.Header{}, status: http.StatusOK}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r = r.Clone(r.Context())
	r.SetBasicAuth("AWS", "x")
	i.h.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), Request: r, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(w.body.Len())}, nil
}

type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }
