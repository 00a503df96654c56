package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/peer/peertest"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/storagetest"
)

// cluster is servers that keep copies for each other, over TLS on loopback.
type cluster struct {
	servers []*server
}

type server struct {
	*peertest.Server
	dir    string
	blobs  *registry.Blobs
	copies *Copies
}

func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c, machines := &cluster{}, peertest.New(t)
	for i := range n {
		s := &server{dir: t.TempDir()}
		var err error
		if s.blobs, err = registry.OpenBlobs(s.dir); err != nil {
			t.Fatal(err)
		}
		clients := map[string]*http.Client{}
		id := fmt.Sprint("s", i)
		var mu sync.Mutex
		s.copies = New(Config{Self: id, Local: s.blobs, Others: func() (others []Server) {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range c.servers {
				if o == s {
					continue
				}
				if clients[o.ID] == nil {
					clients[o.ID] = s.Client(o.Server)
				}
				others = append(others, Server{o.ID, clients[o.ID]})
			}
			return others
		}})
		s.Server = machines.Server(id, func(p *peer.Server) { p.Handle(Path, peer.Servers, s.copies) })
		c.servers = append(c.servers, s)
	}
	return c
}

// holders are the servers on whose disks a blob is.
func (c *cluster) holders(t testing.TB, digest string) (ids []string) {
	for _, s := range c.servers {
		if _, err := s.blobs.Stat(t.Context(), digest); err == nil {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (s *server) file(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(s.dir, "blobs/sha256", hex[:2], hex)
}

func TestStorage(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) registry.Storage {
			b, err := registry.OpenBlobs(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
	})
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint(n, " servers"), func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) registry.Storage { return newCluster(t, n).servers[0].copies })
		})
	}
	t.Run("pushed to one server, asked of another", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) registry.Storage {
			c := newCluster(t, 3)
			return elsewhere{c.servers[0].copies, c.servers[1].copies}
		})
	})
}

// elsewhere begins uploads at one server, and does the rest at another.
type elsewhere struct {
	begins *Copies
	*Copies
}

// Upload implements registry.Storage.
func (e elsewhere) Upload(ctx context.Context, id string) (registry.Upload, error) {
	if id != "" {
		return e.Copies.Upload(ctx, id)
	}
	u, err := e.begins.Upload(ctx, "")
	if err != nil {
		return nil, err
	}
	return e.Copies.Upload(ctx, u.ID())
}

func TestWhatIsSecuredOutlivesAnyServer(t *testing.T) {
	for dead := range 3 {
		c := newCluster(t, 3)
		var digests []string
		for i := range 12 {
			digests = append(digests, storagetest.Push(t, c.servers[i%3].copies, fmt.Appendf(nil, "blob %d", i)))
		}
		if err := c.servers[0].copies.Secure(t.Context(), digests); err != nil {
			t.Fatal(err)
		}
		for _, d := range digests {
			if n := len(c.holders(t, d)); n < 2 {
				t.Errorf("%d servers have %s", n, d)
			}
		}
		c.servers[dead].Kill()
		for i, s := range c.servers {
			if i == dead {
				continue
			}
			for j, d := range digests {
				if got, err := storagetest.Read(t, s.copies, d); err != nil || string(got) != fmt.Sprintf("blob %d", j) {
					t.Errorf("without %d, %s reads %q (%v)", dead, s.ID, got, err)
				}
			}
		}
		if err := c.servers[(dead+1)%3].copies.Secure(t.Context(), digests); err != nil {
			t.Errorf("two servers of three suffice: %v", err)
		}
	}
}

// With two servers nothing is safe while one is away, and nothing is called so.
func TestNothingIsSafeAlone(t *testing.T) {
	c := newCluster(t, 2)
	c.servers[1].Kill()
	one := c.servers[0].copies
	digest := storagetest.Push(t, one, []byte("alone"))
	if err := one.Secure(t.Context(), []string{digest}); !errors.Is(err, registry.ErrAlone) {
		t.Errorf("secure without a second server: %v", err)
	}
	if got, err := storagetest.Read(t, one, digest); err != nil || string(got) != "alone" {
		t.Errorf("%q, %v", got, err)
	}
	c.servers[1].Start()
	if err := one.Secure(t.Context(), []string{digest}); err != nil {
		t.Error(err)
	}
	if got := c.holders(t, digest); len(got) != 2 {
		t.Errorf("only %v have it", got)
	}
}

func TestACorruptBlobHealsFromAnotherServer(t *testing.T) {
	for name, size := range map[string]int{"small": 1000, "large": 3 << 20} {
		for _, how := range []string{"read", "check", "scrub"} {
			c := newCluster(t, 2)
			data := bytes.Repeat([]byte("x"), size)
			one := c.servers[0]
			digest := storagetest.Push(t, one.copies, data)
			if err := one.copies.Secure(t.Context(), []string{digest}); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(one.file(digest), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("y"), int64(size-1)); err != nil {
				t.Fatal(err)
			}
			f.Close()
			switch how {
			case "read":
				got, err := storagetest.Read(t, one.copies, digest)
				if err == nil && !bytes.Equal(got, data) || err != nil && size < 256<<10 {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			case "check":
				content, err := one.copies.Open(t.Context(), digest)
				if err != nil {
					t.Fatal(err)
				}
				if err := content.Check(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				content.Close()
			case "scrub":
				if read, mended, err := one.copies.Scrub(t.Context(), 1<<40); read != 1 || mended != 1 || err != nil {
					t.Errorf("%s: %d read, %d mended, %v", name, read, mended, err)
				}
			}
			if got, err := os.ReadFile(one.file(digest)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: the file is not mended (%v)", name, how, err)
			}
		}
	}
}

// Garbage goes on every server that answers; what is held, and what is young, stays.
func TestSweepReachesAllServers(t *testing.T) {
	c := newCluster(t, 3)
	s := c.servers[0].copies
	var digests []string
	for _, text := range []string{"kept", "young", "gone"} {
		digests = append(digests, storagetest.Push(t, s, []byte(text)))
	}
	if err := s.Secure(t.Context(), digests); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, server := range c.servers {
		for _, d := range []string{digests[0], digests[2]} {
			if err := os.Chtimes(server.file(d), old, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	n, size, err := s.Sweep(t.Context(), time.Now().Add(-24*time.Hour), map[string]bool{digests[0]: true})
	if n != 2 || size != 8 || err != nil {
		t.Errorf("%d blobs, %d bytes were removed (%v)", n, size, err)
	}
	for i, want := range []int{2, 2, 0} {
		if got := c.holders(t, digests[i]); len(got) != want {
			t.Errorf("blob %d is on %v", i, got)
		}
	}
	r, err := http.NewRequest("POST", "http://server"+Path+fmt.Sprint("sweep?before=", time.Now().UnixMilli()), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.servers[0].Client(c.servers[1].Server).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 500 {
		t.Errorf("a sweep of what was just pushed: %s", answer.Status)
	}
}
