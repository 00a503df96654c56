package registry_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// blob pushes content and returns its digest and its file.
func (f *fixture) blob(repo string, content []byte) (dgst, file string) {
	f.t.Helper()
	dgst = fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	f.want(f.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+dgst, content), 201, "")
	hex := strings.TrimPrefix(dgst, "sha256:")
	return dgst, filepath.Join(f.dir, "blobs/sha256", hex[:2], hex)
}

// flip changes one byte of a file in place.
func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	f.ReadAt(b, at)
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestCorruptBlobsAreNotServed: nobody gets, as the whole of a digest, bytes that do not have it; pushing them again mends it.
func TestCorruptBlobsAreNotServed(t *testing.T) {
	for name, size := range map[string]int{"small": 1000, "one piece": 256 << 10, "large": 3<<20 + 5} {
		for _, request := range []string{"GET", "GET part", "GET known"} {
			f := setup(t, "app")
			content := []byte(strings.Repeat("x", size))
			dgst, file := f.blob("app", content)
			url := "/v2/app/blobs/" + dgst
			read := func(header ...string) (status int, body []byte, err error) {
				res := f.do("GET", url, nil, header...)
				body, err = io.ReadAll(res.Body)
				return res.StatusCode, body, err
			}
			part := []string{"Range", "bytes=10-19"}
			if status, body, err := read(); status != 200 || err != nil || string(body) != string(content) {
				t.Fatalf("%s: %d %v, %d bytes", name, status, err, len(body))
			}
			if status, body, err := read(part...); status != 206 || err != nil || len(body) != 10 {
				t.Fatalf("%s, a part: %d %v, %d bytes", name, status, err, len(body))
			}
			flip(t, file, int64(size)-1)
			var header []string
			switch request {
			case "GET part":
				header = part
			case "GET known":
				header = []string{"If-None-Match", `"sha256:0"`}
			}
			status, body, err := read(header...)
			if status == 200 && err == nil || status == 206 || len(body) >= size {
				t.Errorf("%s, %s: a corrupt blob was served with %d, %d bytes, %v", name, request, status, len(body), err)
			}
			if size < 1<<20 && status != 404 {
				t.Errorf("%s, %s: %d, want 404 at once", name, request, status)
			}
			f.want(f.do("GET", url, nil), 404, "BLOB_UNKNOWN")
			f.want(f.do("HEAD", url, nil), 404, "")
			if again, _ := f.blob("app", content); again != dgst {
				t.Fatal(again)
			}
			if status, body, err := read(); status != 200 || err != nil || len(body) != size {
				t.Errorf("%s, pushed again: %d %v, %d bytes", name, status, err, len(body))
			}
			if kept, _ := filepath.Glob(filepath.Join(f.dir, "corrupt", "*")); len(kept) != 1 {
				t.Errorf("%s: what was set aside is %v", name, kept)
			}
		}
	}
}

func TestCorruptManifestsAreNotServed(t *testing.T) {
	f := setup(t, "app")
	img := push(t, f, "app:v1")
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(f.dir, "blobs/sha256", d.Hex[:2], d.Hex), 20)
	f.want(f.do("GET", "/v2/app/manifests/v1", nil), 404, "MANIFEST_UNKNOWN")
	if err := remote.Write(f.ref("app:v1"), img, login); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("GET", "/v2/app/manifests/v1", nil), 200, "")
}

// TestConfigurationsAreBounded: whoever runs an image has its configuration in memory many times over.
func TestConfigurationsAreBounded(t *testing.T) {
	f := setup(t, "app")
	layer, _ := f.blob("app", []byte("layer"))
	for size, want := range map[int]int{8 << 20: 201, 8<<20 + 1: 400} {
		config, _ := f.blob("app", make([]byte, size))
		descriptor := func(kind, dgst string, size int) map[string]any {
			return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": dgst, "size": size}
		}
		m, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
			"config": descriptor("config.v1+json", config, 2), // what it says of itself does not count
			"layers": []any{descriptor("layer.v1.tar", layer, 5)}})
		f.want(f.do("PUT", "/v2/app/manifests/v1", m, "Content-Type", "application/vnd.oci.image.manifest.v1+json"), want, "")
	}
}
