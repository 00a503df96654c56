package copies

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/berthdev/berth/internal/serve/registry/storagetest"
)

// BenchmarkPush is a push of 1 MiB and of 16 MiB that is acknowledged when it would outlast the loss of a server.
func BenchmarkPush(b *testing.B) {
	for _, size := range []int{1 << 20, 16 << 20} {
		for n := 1; n <= 2; n++ {
			b.Run(fmt.Sprintf("%d MiB, %d servers", size>>20, n), func(b *testing.B) {
				c, data := newCluster(b, n), make([]byte, size)
				b.SetBytes(int64(size))
				for b.Loop() {
					_, _ = rand.Read(data[:32])
					digest := storagetest.Push(b, c.servers[0].copies, data)
					if err := c.servers[0].copies.Secure(b.Context(), []string{digest}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkPull is a blob of 64 MiB over the cluster port, and over plain HTTP on loopback.
func BenchmarkPull(b *testing.B) {
	c, data := newCluster(b, 2), make([]byte, 64<<20)
	digest := storagetest.Push(b, c.servers[0].copies, data)
	plain := httptest.NewServer(c.servers[0].copies)
	b.Cleanup(plain.Close)
	for name, from := range map[string]struct {
		client *http.Client
		url    string
	}{"mTLS": {c.servers[1].Client(c.servers[0].Server), "http://server"}, "plain": {plain.Client(), plain.URL}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				answer, err := from.client.Get(from.url + Path + "blobs/" + digest)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, answer.Body)
				if err != nil || n != int64(len(data)) {
					b.Fatal(n, err)
				}
				answer.Body.Close()
			}
		})
	}
}
