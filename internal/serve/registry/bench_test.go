package registry_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/serve/registry"
)

// The benchmarks of `make bench-registry`: pushes and pulls over HTTP, plain and encrypted, beside what bounds them.

func benchFixture(b *testing.B) *fixture {
	t := &testing.T{}
	f := &fixture{t: t}
	b.Cleanup(func() {
		if f.srv != nil {
			f.srv.Close()
		}
	})
	keys := &ring{keys: map[string][]byte{}}
	f.dir = b.TempDir()
	f.serve(func(c *registry.Config) { c.Ring = keys })
	f.createSealed("sealed", ecrtypes.EncryptionTypeKms, "key")
	f.create("plain", ecrtypes.ImageTagMutabilityMutable)
	return f
}

func BenchmarkRegistry(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 20} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		for _, repo := range []string{"plain", "sealed"} {
			b.Run(fmt.Sprintf("push/%s/%dMiB", repo, size>>20), func(b *testing.B) {
				f := benchFixture(b)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
					f.pushBlob(b, repo, data)
				}
			})
			b.Run(fmt.Sprintf("pull/%s/%dMiB", repo, size>>20), func(b *testing.B) {
				f := benchFixture(b)
				digest := f.pushBlob(b, repo, data)
				b.SetBytes(int64(size))
				for b.Loop() {
					req, _ := http.NewRequest("GET", f.srv.URL+"/v2/"+repo+"/blobs/"+digest, nil)
					req.SetBasicAuth("AWS", "secret")
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, res.Body); err != nil || n != int64(size) {
						b.Fatal(n, err)
					}
					res.Body.Close()
				}
			})
		}
		b.Run(fmt.Sprintf("floor/write+fsync/%dMiB", size>>20), func(b *testing.B) {
			dir := b.TempDir()
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				file, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = file.Write(data)
				if err := file.Sync(); err != nil {
					b.Fatal(err)
				}
				file.Close()
				os.Remove(file.Name())
			}
		})
		b.Run(fmt.Sprintf("floor/sha256/%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				sha256.Sum256(data)
			}
		})
	}
}

func (f *fixture) pushBlob(b *testing.B, repo string, data []byte) string {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	req, _ := http.NewRequest("POST", f.srv.URL+"/v2/"+repo+"/blobs/uploads/?digest="+digest, bytes.NewReader(data))
	req.SetBasicAuth("AWS", "secret")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 201 {
		b.Fatal(res, err)
	}
	res.Body.Close()
	return digest
}
