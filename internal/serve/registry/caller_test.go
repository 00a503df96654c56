package registry_test

import (
	"encoding/base64"
	"testing"
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/storagetest"
	"github.com/berthdev/berth/internal/store"
)

func basicOf(password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("AWS:"+password))
}

func TestExcludedPrincipalsPullsAreNotNoted(t *testing.T) {
	for _, c := range []struct {
		principal string
		noted     bool
	}{
		{"arn:aws:iam::000000000000:role/reader", false},
		{"arn:aws:iam::000000000000:role/team/reader", false},
		{"arn:aws:iam::000000000000:role/read", true},
		{"arn:aws:iam::111111111111:role/reader", true},
		{"arn:aws:iam::000000000000:user/reader", true},
	} {
		f := setup(t, "app")
		img := push(t, f, "app:v1")
		digest, _ := img.Digest()
		f.put(func(tx store.Tx) {
			store.RegistrySettings.Put(tx, &model.RegistrySettings{Exclusions: map[string]time.Time{c.principal: f.now}})
		})
		noted := func() (at bool) {
			f.st.View(func(tx store.Reader) { i, _ := store.Images.Get(tx, "app@"+digest.String()); at = !i.PulledAt.IsZero() })
			return at
		}
		f.want(f.do("GET", "/v2/app/manifests/v1", nil, "Authorization", basicOf("role")), 200, "")
		if noted() != c.noted {
			t.Errorf("with %s excluded, the pull is noted: %v", c.principal, !c.noted)
		}
		f.want(f.do("GET", "/v2/app/manifests/v1", nil), 200, "")
		if !noted() {
			t.Error("the owner's pull is not noted")
		}
	}
}

func TestMountsAskForTheSource(t *testing.T) {
	f := setup(t, "mine", "theirs", "ours")
	data := []byte("a layer of theirs")
	digest := storagetest.Digest(data)
	for _, repo := range []string{"theirs", "ours"} {
		f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+digest, data), 201, "")
	}
	as := []string{"Authorization", basicOf("pusher")}
	f.want(f.do("POST", "/v2/mine/blobs/uploads/?mount="+digest+"&from=theirs", nil, as...), 202, "")
	f.want(f.do("GET", "/v2/mine/blobs/"+digest, nil), 404, "BLOB_UNKNOWN")
	f.put(func(tx store.Tx) {
		store.RegistrySettings.Put(tx, &model.RegistrySettings{Account: map[string]string{"BLOB_MOUNTING": "DISABLED"}})
	})
	f.want(f.do("POST", "/v2/mine/blobs/uploads/?mount="+digest+"&from=ours", nil, as...), 202, "")
	f.put(func(tx store.Tx) { store.RegistrySettings.Put(tx, &model.RegistrySettings{}) })
	f.want(f.do("POST", "/v2/mine/blobs/uploads/?mount="+digest+"&from=ours", nil, as...), 201, "")
}

func TestWhoMayNotCreateRepositoriesPushesAndPullsNone(t *testing.T) {
	f, far := setup(t), setup(t, "library/web")
	push(t, far, "library/web:v1")
	host, _, _ := far.host()
	f.configure = func(c *registry.Config) {
		c.Upstreams = func(*model.PullThroughRule) (registry.Upstream, error) { return host, nil }
	}
	f.open()
	all, prefix, up := "ROOT", "hub", "library"
	f.put(func(tx store.Tx) {
		store.CreationTemplates.Put(tx, &model.CreationTemplate{Template: ecrtypes.RepositoryCreationTemplate{Prefix: &all, AppliedFor: []ecrtypes.RCTAppliedFor{ecrtypes.RCTAppliedForCreateOnPush}}})
		store.PullThroughRules.Put(tx, &model.PullThroughRule{Rule: ecrtypes.PullThroughCacheRule{EcrRepositoryPrefix: &prefix, UpstreamRepositoryPrefix: &up}})
	})
	for _, c := range []struct {
		method, path  string
		denied, given int
	}{
		{"POST", "/v2/new/blobs/uploads/", 403, 202},
		{"GET", "/v2/hub/web/manifests/v1", 403, 200},
	} {
		f.want(f.do(c.method, c.path, nil, "Authorization", basicOf("pusher")), c.denied, "ecr:CreateRepository")
		f.want(f.do(c.method, c.path, nil), c.given, "")
		f.want(f.do(c.method, c.path, nil, "Authorization", basicOf("pusher")), c.given, "") // it is there now
	}
}
