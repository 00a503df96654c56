package records

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/storagetest"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

type anybody struct{}

func (anybody) CheckRegistryToken(string) (string, error)    { return "", nil }
func (anybody) AllowToken(_, _, _ string, _ ...string) error { return nil }

type world struct {
	*testing.T
	store *mem.Store
	blobs *registry.Blobs
	reg   *registry.Registry
}

// open makes a registry with an empty state over the blobs in dir.
func open(t *testing.T, dir string) *world {
	blobs, err := registry.OpenBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: mem.New(store.Schema()), blobs: blobs}
	w.reg = registry.New(registry.Config{Store: w.store, Blobs: blobs, Auth: anybody{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	return w
}

func (w *world) keeper() *Keeper {
	return &Keeper{Store: w.store, Where: w.blobs, Leads: func() bool { return true }, Log: slog.New(slog.DiscardHandler)}
}

func (w *world) create(name string) {
	w.Helper()
	err := w.store.Update(context.Background(), func(tx store.Tx) error {
		store.Repositories.Put(tx, &model.Repository{Name: name, Lifecycle: "policy", Repository: ecrtypes.Repository{RepositoryName: &name}})
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) push(repo, tag string, n int) string {
	w.Helper()
	layer := []byte(fmt.Sprintf("layer %d", n))
	digest := storagetest.Digest(layer)
	req := httptest.NewRequest("POST", "/v2/"+repo+"/blobs/uploads/?digest="+digest, bytes.NewReader(layer))
	req.SetBasicAuth("AWS", "x")
	rec := httptest.NewRecorder()
	if w.reg.ServeHTTP(rec, req); rec.Code != http.StatusCreated {
		w.Fatalf("%d %s", rec.Code, rec.Body)
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`, digest, len(layer))
	img, err := w.reg.PutManifest(context.Background(), repo, tag, "application/vnd.oci.image.manifest.v1+json", []byte(manifest))
	if err != nil {
		w.Fatal(err)
	}
	return img.Digest
}

func TestTheStateIsRebuiltFromTheBlobsAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := open(t, dir)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.keeper().Run(ctx) }()
		w.create("shop/web")
		w.create("gone")
		w.push("shop/web", "v1", 1)
		w.push("shop/web", "v1", 2)
		deleted := w.push("shop/web", "v3", 3)
		synctest.Wait()
		if err := w.reg.DeleteManifest(ctx, "shop/web", deleted); err != nil {
			t.Fatal(err)
		}
		err := w.store.Update(ctx, func(tx store.Tx) error { store.Repositories.Delete(tx, "gone"); return nil })
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.store.Close()

		w = open(t, dir) // the state is lost
		if err := w.keeper().writeAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := Rebuild(t.Context(), w.store, w.blobs, w.blobs)
		if err != nil || got.Repositories != 1 || got.Images != 2 || len(got.Lost) != 0 {
			t.Fatalf("rebuilt %+v, %v", got, err)
		}
		if tags, err := w.reg.Tags("shop/web"); err != nil || strings.Join(tags, " ") != "v1" {
			t.Errorf("tags %v %v", tags, err)
		}
		if r, err := w.reg.Check(t.Context()); err != nil || r.Images != 2 || r.Blobs != 4 || len(r.Missing)+len(r.Corrupt) > 0 {
			t.Errorf("check %+v %v", r, err)
		}
		again, err := Rebuild(t.Context(), w.store, w.blobs, w.blobs)
		if err != nil || again.Images+again.Repositories != 0 {
			t.Errorf("a second time: %+v %v", again, err)
		}
		w.store.Close()
	})
}

func TestCheckTellsWhatIsMissingAndCorrupt(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir)
	defer w.store.Close()
	w.create("app")
	w.push("app", "v1", 1)
	w.push("app", "v2", 2)
	file := func(n int) string {
		hex := strings.TrimPrefix(storagetest.Digest([]byte(fmt.Sprintf("layer %d", n))), "sha256:")
		return filepath.Join(dir, "blobs/sha256", hex[:2], hex)
	}
	if err := os.Remove(file(1)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file(2), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := w.reg.Check(t.Context())
	if err != nil || len(r.Missing) != 1 || len(r.Corrupt) != 1 || r.Blobs != 2 {
		t.Errorf("%+v %v", r, err)
	}
	w.push("app", "v2", 2) // mends it
	if r, err := w.reg.Check(t.Context()); err != nil || len(r.Corrupt) != 0 || len(r.Missing) != 1 {
		t.Errorf("after a new push %+v %v", r, err)
	}
	if got, size, err := w.reg.Garbage(t.Context()); err != nil || len(got) != 0 || size != 0 {
		t.Errorf("garbage %v %d %v", got, size, err)
	}
}
