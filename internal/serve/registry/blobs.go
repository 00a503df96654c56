package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Blobs keeps blobs as files named by their digest: <root>/blobs/<algorithm>/<first two digits>/<digits>. A blob appears whole
// or not at all: it is written beside, synced, and then renamed.
//
// What is read is checked against the digest, since a disk may give back other bytes than it was given: what fails is set aside
// (verify.go), and from then on there is no such blob until somebody pushes it again.
type Blobs struct {
	root string

	mu       sync.Mutex // orders adopt and setAside, and guards what follows
	verified map[string]stamp
	checks   singleflight.Group
}

// OpenBlobs opens the blob store in dir, making it when it is missing. Unfinished uploads of an earlier process are kept for a
// day, so that a client may continue them.
func OpenBlobs(dir string) (*Blobs, error) {
	for _, d := range []string{"blobs/sha256", "blobs/sha512", "uploads", "corrupt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	return &Blobs{root: dir, verified: map[string]stamp{}}, nil
}

// digests that the store can verify (OCI image-spec, "Registered Algorithms").
var digestPattern = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)

// errDigest says that a digest is malformed or of an algorithm that is not registered.
var errDigest = errors.New("digest must be sha256:<64 hexadecimal digits> or sha512:<128 hexadecimal digits>")

func (b *Blobs) path(digest string) (string, error) {
	if !digestPattern.MatchString(digest) {
		return "", errDigest
	}
	algorithm, hex, _ := strings.Cut(digest, ":")
	return filepath.Join(b.root, "blobs", algorithm, hex[:2], hex), nil
}

// Stat returns the size of a blob in bytes, or an error that is fs.ErrNotExist.
func (b *Blobs) Stat(digest string) (int64, error) {
	p, err := b.path(digest)
	if err != nil {
		return 0, err
	}
	st, err := os.Stat(p)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Open opens a blob for reading; the error is fs.ErrNotExist when there is none.
func (b *Blobs) Open(digest string) (*os.File, error) {
	p, err := b.path(digest)
	if err != nil {
		return nil, err
	}
	return os.Open(p)
}

// Read returns a blob of at most limit bytes. The error is fs.ErrNotExist when there is none, or when its content was not that of the
// digest, and it was set aside.
func (b *Blobs) Read(digest string, limit int64) ([]byte, error) {
	f, err := b.Open(digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("blob %s is larger than %d bytes", digest, limit)
	}
	if err != nil {
		return nil, err
	}
	h, err := newHash(digest)
	if err != nil {
		return nil, err
	}
	h.Write(data)
	if format(digest, h) != digest {
		return nil, b.setAside(digest, f)
	}
	return data, nil
}

// Put stores data under digest, which it must have.
func (b *Blobs) Put(digest string, data []byte) error {
	h, err := newHash(digest)
	if err != nil {
		return err
	}
	h.Write(data)
	if got := format(digest, h); got != digest {
		return fmt.Errorf("content has digest %s, not %s", got, digest)
	}
	f, err := os.CreateTemp(filepath.Join(b.root, "uploads"), "put-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write blob %s: %w", digest, err)
	}
	return b.adopt(f.Name(), digest)
}

// adopt makes a synced file the blob of that digest. The digest must have been verified.
func (b *Blobs) adopt(file, digest string) error {
	p, err := b.path(digest)
	if err != nil {
		return err
	}
	dir := filepath.Dir(p)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b.mu.Lock()
	err = os.Rename(file, p)
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("store blob %s: %w", digest, err)
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// Delete removes a blob; a missing one is no error.
func (b *Blobs) Delete(digest string) error {
	p, err := b.path(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep removes the blobs last written before the given time that keep does not want, and uploads as old. It returns how many
// blobs and bytes it removed.
func (b *Blobs) sweep(before time.Time, keep func(digest string) bool) (n int, bytes int64, err error) {
	err = filepath.WalkDir(filepath.Join(b.root, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		digest := filepath.Base(filepath.Dir(filepath.Dir(p))) + ":" + d.Name()
		st, err := d.Info()
		if err != nil || !st.ModTime().Before(before) || keep(digest) {
			return nil
		}
		if err := os.Remove(p); err != nil {
			return err
		}
		n, bytes = n+1, bytes+st.Size()
		return nil
	})
	for _, dir := range []string{"uploads", "corrupt"} {
		old, _ := os.ReadDir(filepath.Join(b.root, dir))
		for _, u := range old {
			if st, e := u.Info(); e == nil && st.ModTime().Before(before) {
				err = errors.Join(err, os.Remove(filepath.Join(b.root, dir, u.Name())))
			}
		}
	}
	return n, bytes, err
}

func newHash(digest string) (hash.Hash, error) {
	switch {
	case !digestPattern.MatchString(digest):
		return nil, errDigest
	case strings.HasPrefix(digest, "sha512:"):
		return sha512.New(), nil
	}
	return sha256.New(), nil
}

// format renders h's sum in the algorithm of like.
func format(like string, h hash.Hash) string {
	algorithm, _, _ := strings.Cut(like, ":")
	return fmt.Sprintf("%s:%x", algorithm, h.Sum(nil))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
