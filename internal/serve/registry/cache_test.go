package registry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	other "github.com/berthdev/berth/internal/serve/registry/remote"
	"github.com/berthdev/berth/internal/store"
)

// put stores rows.
func (f *fixture) put(rows func(tx store.Tx)) {
	f.t.Helper()
	if err := f.st.Update(context.Background(), func(tx store.Tx) error { rows(tx); return nil }); err != nil {
		f.t.Fatal(err)
	}
}

// host is another fixture as a registry elsewhere. down has it answer nothing; asked counts what it was asked.
func (f *fixture) host() (h *other.Host, down *atomic.Bool, asked *atomic.Int64) {
	down, asked = new(atomic.Bool), new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		f.reg.ServeHTTP(w, r)
	}))
	f.t.Cleanup(srv.Close)
	return &other.Host{URL: srv.URL, Client: http.DefaultClient, Login: func(context.Context) (string, string, error) { return "AWS", "secret", nil }}, down, asked
}

func TestPullThrough(t *testing.T) {
	far, near := setup(t, "library/web"), setup(t)
	img := push(t, far, "library/web:v1")
	host, down, asked := far.host()
	near.configure = func(c *registry.Config) {
		c.Upstreams = func(*model.PullThroughRule) (registry.Upstream, error) { return host, nil }
	}
	near.open()
	prefix, up := "hub", "library"
	near.put(func(tx store.Tx) {
		store.PullThroughRules.Put(tx, &model.PullThroughRule{Rule: ecrtypes.PullThroughCacheRule{EcrRepositoryPrefix: &prefix, UpstreamRepositoryPrefix: &up}})
	})
	pull := func() error {
		got, err := remote.Image(near.ref("hub/web:v1"), login)
		if err != nil {
			return err
		}
		return validate.Image(got)
	}
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	down.Store(true)
	if err := pull(); err != nil {
		t.Errorf("the cache does not serve: %v", err)
	}
	if n := asked.Load(); n != before {
		t.Errorf("the upstream was asked %d times for what is here", n-before)
	}
	near.now = near.now.Add(25 * time.Hour)
	if err := pull(); err != nil {
		t.Errorf("while the upstream is down: %v", err)
	}
	if asked.Load() == before {
		t.Error("the upstream was not asked after a day")
	}
	near.want(near.do("GET", "/v2/hub/none/manifests/v1", nil), 502, "UNAVAILABLE")
	down.Store(false)
	near.want(near.do("GET", "/v2/hub/none/manifests/v1", nil), 404, "NAME_UNKNOWN")
	near.want(near.do("GET", "/v2/other/web/manifests/v1", nil), 404, "NAME_UNKNOWN")
	newer := push(t, far, "library/web:v1")
	near.now = near.now.Add(25 * time.Hour)
	got, err := remote.Image(near.ref("hub/web:v1"), login)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := newer.Digest()
	old, _ := img.Digest()
	if d, _ := got.Digest(); d != want || d == old {
		t.Errorf("after a day the tag is %s, want %s", d, want)
	}
}

func TestALyingUpstreamIsNotKept(t *testing.T) {
	far, near := setup(t, "web"), setup(t)
	img := push(t, far, "web:v1")
	host, _, _ := far.host()
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 5000))
			return
		}
		r.SetBasicAuth("AWS", "secret")
		far.reg.ServeHTTP(w, r)
	}))
	t.Cleanup(liar.Close)
	host.URL = liar.URL
	near.configure = func(c *registry.Config) {
		c.Upstreams = func(*model.PullThroughRule) (registry.Upstream, error) { return host, nil }
	}
	near.open()
	near.put(func(tx store.Tx) {
		store.PullThroughRules.Put(tx, &model.PullThroughRule{Rule: ecrtypes.PullThroughCacheRule{EcrRepositoryPrefix: new("ROOT")}})
	})
	if res := near.do("GET", "/v2/web/manifests/v1", nil); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	layers, _ := img.Layers()
	digest, _ := layers[0].Digest()
	req, _ := http.NewRequest("GET", near.srv.URL+"/v2/web/blobs/"+digest.String(), nil)
	req.SetBasicAuth("AWS", "secret")
	if res, err := http.DefaultClient.Do(req); err == nil {
		if _, err := io.ReadAll(res.Body); err == nil && res.StatusCode == 200 {
			t.Error("other bytes were taken for the layer")
		}
		res.Body.Close()
	}
	if _, err := near.reg.Layer(context.Background(), "web", digest.String()); err == nil {
		t.Error("other bytes were kept")
	}
}

func TestCreateOnPush(t *testing.T) {
	f := setup(t)
	f.want(f.do("POST", "/v2/team/app/blobs/uploads/", nil), 404, "NAME_UNKNOWN")
	f.put(func(tx store.Tx) {
		for prefix, m := range map[string]ecrtypes.ImageTagMutability{"ROOT": ecrtypes.ImageTagMutabilityMutable, "team": ecrtypes.ImageTagMutabilityImmutable, "team/x": ecrtypes.ImageTagMutabilityMutable} {
			store.CreationTemplates.Put(tx, &model.CreationTemplate{Template: ecrtypes.RepositoryCreationTemplate{Prefix: &prefix, ImageTagMutability: m,
				AppliedFor: []ecrtypes.RCTAppliedFor{ecrtypes.RCTAppliedForCreateOnPush}, LifecyclePolicy: new("policy of " + prefix)}})
		}
	})
	push(t, f, "team/app:v1")
	push(t, f, "teams:v1")
	f.st.View(func(tx store.Reader) {
		for name, want := range map[string]string{"team/app": "team", "teams": "ROOT"} {
			if repo, ok := store.Repositories.Get(tx, name); !ok || repo.Lifecycle != "policy of "+want {
				t.Errorf("%s is %+v, want that of %s", name, repo, want)
			}
		}
	})
	f.want(f.do("GET", "/v2/team/none/tags/list", nil), 404, "NAME_UNKNOWN")
}

func TestReplication(t *testing.T) {
	near, far := setup(t, "shop/web", "other"), setup(t, "shop/web")
	host, down, _ := far.host()
	near.configure = func(c *registry.Config) {
		c.Peers = func(region, id string) registry.Peer {
			if region != "eu-west-1" {
				return nil
			}
			return host
		}
	}
	near.open()
	near.put(func(tx store.Tx) {
		store.RegistrySettings.Put(tx, &model.RegistrySettings{Replication: ecrtypes.ReplicationConfiguration{Rules: []ecrtypes.ReplicationRule{{
			Destinations:      []ecrtypes.ReplicationDestination{{Region: new("eu-west-1"), RegistryId: new("000000000000")}},
			RepositoryFilters: []ecrtypes.RepositoryFilter{{Filter: new("shop/"), FilterType: ecrtypes.RepositoryFilterTypePrefixMatch}}}}}})
	})
	down.Store(true)
	img := push(t, near, "shop/web:v1")
	push(t, near, "other:v1")
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	if err := remote.WriteIndex(near.ref("shop/web:all"), index, login); err != nil {
		t.Fatal(err)
	}
	if err := near.reg.Replicate(context.Background()); err == nil {
		t.Error("a peer that is down is no fault")
	}
	down.Store(false)
	if err := near.reg.Replicate(context.Background()); err != nil { // not yet
		t.Error(err)
	}
	if _, err := remote.Image(far.ref("shop/web:v1"), login); err == nil {
		t.Error("it was tried again without a pause")
	}
	near.now = near.now.Add(time.Minute)
	if err := near.reg.Replicate(context.Background()); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(far.ref("shop/web:all"), login)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
	if _, err := remote.Image(far.ref("shop/web:v1"), login); err != nil {
		t.Error(err)
	}
	near.st.View(func(tx store.Reader) {
		n := 0
		for r := range store.Replications.Scan(tx, "") {
			if n++; r.Status != ecrtypes.ReplicationStatusComplete {
				t.Errorf("%s is %s", r.Key(), r.Status)
			}
		}
		if n != 2 {
			t.Errorf("%d replications", n)
		}
	})
}
