package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
)

func TestWhatMayNotBeRunIsPulledAllTheSame(t *testing.T) {
	f := setup(t, "app")
	push(t, f, "app:v1")
	f.configure = func(c *registry.Config) {
		c.MayRun = func(_ context.Context, img *model.Image) error { return errors.New("a rule refuses " + img.Repository) }
	}
	f.open()
	f.want(f.do("GET", "/v2/app/manifests/v1", nil), 200, "")
	f.want(f.do("GET", "/v2/app/manifests/v1", nil, model.HeaderRuns, "1"), 403, "a rule refuses app")
	if got := f.do("HEAD", "/v2/app/manifests/v1", nil, model.HeaderRuns, "1").Header.Get(model.HeaderRefused); got != "a rule refuses app" {
		t.Errorf("the reason is %q", got)
	}
	f.want(f.do("GET", "/v2/app/manifests/none", nil, model.HeaderRuns, "1"), 404, "MANIFEST_UNKNOWN")
}

func TestInventoriesStayWithTheirImages(t *testing.T) {
	f, _ := sealedSetup(t)
	f.createSealed("shop", ecrtypes.EncryptionTypeAes256, "")
	for _, repo := range []string{"plain", "one", "shop"} {
		pushed := push(t, f, repo+":v1")
		digest, _ := pushed.Digest()
		img, data := &model.Image{Repository: repo, Digest: digest.String()}, []byte(`{"packages":[],"of":"`+repo+`"}`)
		if _, err := f.reg.Inventory(context.Background(), img); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: before a scan: %v", repo, err)
		}
		if err := f.reg.KeepInventory(context.Background(), img, data); err != nil {
			t.Fatal(err)
		}
		if f.onDisk(data) != (repo == "plain") {
			t.Errorf("%s: in plain on the disk: %v", repo, f.onDisk(data))
		}
		manifest, _ := pushed.RawManifest()
		mediaType, _ := pushed.MediaType()
		f.want(f.do("PUT", "/v2/"+repo+"/manifests/v2", manifest, "Content-Type", string(mediaType)), 201, "") // the same once more
		f.now = f.now.Add(48 * time.Hour)
		if _, _, err := f.reg.Collect(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, err := f.reg.Inventory(context.Background(), img); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %q %v", repo, got, err)
		}
		if err := f.reg.DeleteManifest(context.Background(), repo, digest.String()); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(48 * time.Hour)
		if _, _, err := f.reg.Collect(context.Background()); err != nil || f.onDisk(data) {
			t.Errorf("%s: after its image: %v", repo, err)
		}
	}
}
