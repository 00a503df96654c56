package registry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/storagetest"
	"github.com/berthdev/berth/internal/store"
)

// ring wraps keys by naming them; off makes it refuse.
type ring struct {
	off  atomic.Bool
	mu   sync.Mutex
	keys map[string][]byte
}

func (r *ring) GenerateDataKey(_ context.Context, id string, _ map[string]string, n int) (plain, sealed []byte, arn string, err error) {
	if r.off.Load() {
		return nil, nil, "", model.Errorf("DisabledException", "%s is disabled.", id)
	}
	plain = make([]byte, n)
	_, _ = rand.Read(plain)
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fmt.Sprint(len(r.keys))
	r.keys[name] = plain
	return slices.Clone(plain), []byte(name), id, nil
}

func (r *ring) Decrypt(_ context.Context, sealed []byte, _ map[string]string) ([]byte, string, error) {
	if r.off.Load() {
		return nil, "", model.Errorf("DisabledException", "the key is disabled.")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys[string(sealed)]), "", nil
}

func (f *fixture) createSealed(name string, kind ecrtypes.EncryptionType, key string) {
	f.put(func(tx store.Tx) {
		store.Repositories.Put(tx, &model.Repository{Name: name, Repository: ecrtypes.Repository{EncryptionConfiguration: &ecrtypes.EncryptionConfiguration{EncryptionType: kind, KmsKey: &key}}})
	})
}

func sealedSetup(t *testing.T) (*fixture, *ring) {
	f, keys := setup(t), &ring{keys: map[string][]byte{}}
	f.configure = func(c *registry.Config) { c.Ring = keys }
	f.open()
	f.createSealed("one", ecrtypes.EncryptionTypeKms, "key-1")
	f.createSealed("two", ecrtypes.EncryptionTypeKms, "key-1")
	f.createSealed("other", ecrtypes.EncryptionTypeKms, "key-2")
	f.createSealed("dual", ecrtypes.EncryptionTypeKmsDsse, "key-1")
	f.create("plain", ecrtypes.ImageTagMutabilityMutable)
	return f, keys
}

func TestRepositoriesOfTypeAES256(t *testing.T) {
	f, keys := sealedSetup(t)
	f.create("shop", ecrtypes.ImageTagMutabilityMutable)
	old, secret := []byte("pushed before anything was encrypted"), []byte("pushed since then")
	f.want(f.do("POST", "/v2/shop/blobs/uploads/?digest="+storagetest.Digest(old), old), 201, "")
	f.createSealed("shop", ecrtypes.EncryptionTypeAes256, "")
	f.want(f.do("GET", "/v2/shop/blobs/"+storagetest.Digest(old), nil), 200, string(old))
	f.want(f.do("POST", "/v2/shop/blobs/uploads/?digest="+storagetest.Digest(secret), secret), 201, "")
	f.want(f.do("GET", "/v2/shop/blobs/"+storagetest.Digest(secret), nil), 200, string(secret))
	if f.onDisk(secret) || !f.onDisk(old) {
		t.Error("the disk has the new blob in plain, or not the old one")
	}
	push(t, f, "shop:v1")
	f.now = time.Now().Add(time.Hour)
	if _, _, err := f.reg.Collect(context.Background()); err != nil {
		t.Error(err)
	}
	if r, err := f.reg.Check(context.Background()); err != nil || r.Images != 1 || len(r.Missing)+len(r.Corrupt) > 0 {
		t.Errorf("check %+v %v", r, err)
	}
	f.want(f.do("GET", "/v2/shop/blobs/"+storagetest.Digest(old), nil), 200, string(old))
	if err := f.reg.Secure(context.Background()); err != nil {
		t.Error(err)
	}
	f.want(f.do("POST", "/v2/shop/blobs/uploads/?digest="+storagetest.Digest(old), old), 201, "")
	f.want(f.do("POST", "/v2/plain/blobs/uploads/?mount="+storagetest.Digest(secret)+"&from=shop", nil), 202, "")
	f.now = time.Now().Add(48 * time.Hour)
	if _, _, err := f.reg.Collect(context.Background()); err != nil || f.onDisk(old) {
		t.Errorf("the plain blob stays: %v", err)
	}
	f.want(f.do("GET", "/v2/shop/manifests/v1", nil), 200, "")
	keys.off.Store(true)
	f.want(f.do("GET", "/v2/shop/manifests/v1", nil), 403, "KmsException")
}

// onDisk tells whether a file below the fixture's directory has the bytes.
func (f *fixture) onDisk(secret []byte) (found bool) {
	_ = filepath.WalkDir(f.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(p)
			found = found || bytes.Contains(data, secret)
		}
		return nil
	})
	return found
}

func TestSealedImages(t *testing.T) {
	for _, repo := range []string{"one", "dual"} {
		t.Run(repo, func(t *testing.T) {
			f, keys := sealedSetup(t)
			push(t, f, repo+":v1")
			got, err := remote.Image(f.ref(repo+":v1"), login)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(got); err != nil {
				t.Error(err)
			}
			secret := bytes.Repeat([]byte("a secret of the shop "), 20_000)
			digest := storagetest.Digest(secret)
			begun := f.do("POST", "/v2/"+repo+"/blobs/uploads/", nil)
			at := begun.Header.Get("Location")
			f.want(f.do("PATCH", at, secret[:100_000], "Content-Range", "0-99999"), 202, "")
			f.want(f.do("PATCH", at, secret[:9], "Content-Range", "0-8"), 416, "BLOB_UPLOAD_INVALID")
			f.want(f.do("PUT", at+"?digest="+digest, secret[100_000:]), 201, "")
			if f.onDisk(secret[:40]) {
				t.Error("the plain bytes are on the disk")
			}
			part := f.do("GET", "/v2/"+repo+"/blobs/"+digest, nil, "Range", "bytes=200000-200099")
			var b bytes.Buffer
			if _, err := b.ReadFrom(part.Body); err != nil || part.StatusCode != 206 || !bytes.Equal(b.Bytes(), secret[200_000:200_100]) {
				t.Errorf("a range: %s %d bytes %v", part.Status, b.Len(), err)
			}
			long := fmt.Sprintf("sha512:%x", sha512.Sum512(secret))
			f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+long, secret), 201, "")
			f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/?digest=sha512:"+strings.Repeat("0", 128), secret), 400, "DIGEST_INVALID")
			f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), secret), 400, "DIGEST_INVALID")
			if r, err := f.reg.Check(context.Background()); err != nil || r.Images != 1 || r.Blobs != 5 || len(r.Missing)+len(r.Corrupt) > 0 {
				t.Errorf("check %+v %v", r, err)
			}
			keys.off.Store(true)
			f.want(f.do("GET", "/v2/"+repo+"/manifests/v1", nil), 403, "KmsException")
			f.want(f.do("GET", "/v2/"+repo+"/blobs/"+digest, nil), 403, "KmsException")
			f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/", nil), 403, "KmsException")
			keys.off.Store(false)
			f.want(f.do("GET", "/v2/"+repo+"/manifests/v1", nil), 200, "")
		})
	}
}

func TestSealedBlobsAreSharedWithinAScope(t *testing.T) {
	f, _ := sealedSetup(t)
	secret := []byte("a secret of the shop, shared by few")
	digest := storagetest.Digest(secret)
	f.want(f.do("POST", "/v2/one/blobs/uploads/?digest="+digest, secret), 201, "")
	for repo, want := range map[string]int{"two": 201, "other": 202, "dual": 202, "plain": 202} {
		f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/?mount="+digest+"&from=one", nil), want, "")
	}
	f.want(f.do("GET", "/v2/two/blobs/"+digest, nil), 200, string(secret))
	begun := f.do("POST", "/v2/one/blobs/uploads/", nil)
	id := begun.Header.Get("Docker-Upload-Uuid")
	f.want(f.do("PUT", "/v2/plain/blobs/uploads/"+id+"?digest="+digest, secret), 404, "BLOB_UPLOAD_UNKNOWN")
	f.want(f.do("PUT", "/v2/other/blobs/uploads/"+id+"?digest="+digest, secret), 404, "BLOB_UPLOAD_UNKNOWN")
	f.want(f.do("POST", "/v2/plain/blobs/uploads/?digest="+digest, secret), 201, "")
	if !f.onDisk(secret) {
		t.Error("a plain repository's blob is not on the disk")
	}
}

func TestSealedGarbageIsCollected(t *testing.T) {
	f, _ := sealedSetup(t)
	push(t, f, "one:v1")
	f.want(f.do("POST", "/v2/one/blobs/uploads/?digest="+storagetest.Digest([]byte("unused")), []byte("unused")), 201, "")
	f.now = time.Now().Add(48 * time.Hour)
	if digests, _, err := f.reg.Garbage(context.Background()); err != nil || len(digests) != 1 {
		t.Errorf("garbage %v %v", digests, err)
	}
	if n, _, err := f.reg.Collect(context.Background()); err != nil || n != 1 {
		t.Errorf("collected %d %v", n, err)
	}
	got, err := remote.Image(f.ref("one:v1"), login)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
}

func TestACorruptSealedBlobIsSetAsideAndMended(t *testing.T) {
	f, _ := sealedSetup(t)
	secret := bytes.Repeat([]byte("secret"), 50_000)
	digest := storagetest.Digest(secret)
	path := "/v2/one/blobs/uploads/?digest=" + digest
	f.want(f.do("POST", path, secret), 201, "")
	_ = filepath.WalkDir(filepath.Join(f.dir, "blobs"), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(p)
			data[len(data)/2] ^= 1
			return os.WriteFile(p, data, 0o600)
		}
		return nil
	})
	f.want(f.do("GET", "/v2/one/blobs/"+digest, nil, "Range", "bytes=0-9"), 404, "BLOB_UNKNOWN")
	f.want(f.do("HEAD", "/v2/one/blobs/"+digest, nil), 404, "")
	f.want(f.do("POST", path, secret), 201, "")
	f.want(f.do("GET", "/v2/one/blobs/"+digest, nil, "Range", "bytes=0-5"), 206, "secret")
}
