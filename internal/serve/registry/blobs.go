package registry

import (
	"cmp"
	"context"
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
	uploads  uploads
}

var (
	_ Storage = (*Blobs)(nil)
	_ Lister  = (*Blobs)(nil)
	_ Records = (*Blobs)(nil)
)

// OpenBlobs opens the blob store in dir, making it when it is missing. Unfinished uploads of an earlier process are kept for a
// day, so that a client may continue them.
func OpenBlobs(dir string) (*Blobs, error) {
	for _, d := range []string{"blobs/sha256", "blobs/sha512", "uploads", "corrupt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	return &Blobs{root: dir, verified: map[string]stamp{}, uploads: uploads{root: dir, live: map[string]*upload{}}}, nil
}

// digests that the store can verify (OCI image-spec, "Registered Algorithms").
var digestPattern = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)

// ErrDigest says that a digest is malformed or of an algorithm that is not registered.
var ErrDigest = errors.New("digest must be sha256:<64 hexadecimal digits> or sha512:<128 hexadecimal digits>")

func (b *Blobs) path(digest string) (string, error) {
	if !digestPattern.MatchString(digest) {
		return "", ErrDigest
	}
	algorithm, hex, _ := strings.Cut(digest, ":")
	return filepath.Join(b.root, "blobs", algorithm, hex[:2], hex), nil
}

// Stat implements Storage.
func (b *Blobs) Stat(_ context.Context, digest string) (int64, error) {
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

// Open implements Storage.
func (b *Blobs) Open(_ context.Context, digest string) (Content, error) {
	p, err := b.path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &blobFile{f, b, digest, info.Size()}, nil
}

// blobFile is an opened blob.
type blobFile struct {
	*os.File
	blobs  *Blobs
	digest string
	size   int64
}

// Size implements Content.
func (f *blobFile) Size() int64 { return f.size }

// Check implements Content.
func (f *blobFile) Check() error { return f.blobs.verify(f.digest, f.File) }

// SendTo implements Content.
func (f *blobFile) SendTo(w io.Writer) error { return f.blobs.copy(w, f.digest, f.File) }

// Upload implements Storage.
func (b *Blobs) Upload(_ context.Context, id string) (Upload, error) {
	find := func() (*upload, error) { return b.uploads.find(id) }
	if id == "" {
		find = b.uploads.start
	}
	u, err := find()
	if err != nil {
		return nil, err
	}
	return upload1{u, b}, nil
}

// Secure implements Storage: a blob that is here is synced.
func (b *Blobs) Secure(ctx context.Context, digests []string) error {
	for _, digest := range digests {
		if _, err := b.Stat(ctx, digest); errors.Is(err, fs.ErrNotExist) {
			return &LostError{digest}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Renew has a blob outlast the next Sweeps as if it had just been written.
func (b *Blobs) Renew(digest string) error {
	p, err := b.path(digest)
	if err != nil {
		return err
	}
	info, err := os.Stat(p)
	if now := time.Now(); err == nil && now.Sub(info.ModTime()) > lease/4 {
		err = os.Chtimes(p, time.Time{}, now)
	}
	return err
}

// Each calls f with every blob's digest, until f returns an error.
func (b *Blobs) Each(f func(digest string) error) error {
	return filepath.WalkDir(filepath.Join(b.root, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		return f(filepath.Base(filepath.Dir(filepath.Dir(p))) + ":" + d.Name())
	})
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

// Sweep implements Storage.
func (b *Blobs) Sweep(_ context.Context, before time.Time, held map[string]bool) (n int, bytes int64, err error) {
	err = filepath.WalkDir(filepath.Join(b.root, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		digest := filepath.Base(filepath.Dir(filepath.Dir(p))) + ":" + d.Name()
		st, err := d.Info()
		if err != nil || !st.ModTime().Before(before) || held[digest] {
			return nil
		}
		gone, err := b.removeOld(p, before)
		if gone {
			n, bytes = n+1, bytes+st.Size()
		}
		return err
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

// removeOld removes a blob's file unless somebody has pushed it again.
func (b *Blobs) removeOld(p string, before time.Time) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st, err := os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.ModTime().Before(before) {
		return false, nil
	}
	if err == nil {
		err = os.Remove(p)
	}
	return err == nil, err
}

// Remove removes a blob.
func (b *Blobs) Remove(digest string) error {
	p, err := b.path(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(p); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List implements Lister.
func (b *Blobs) List(ctx context.Context, f func(digest string, size int64, at time.Time) error) error {
	return b.Each(func(digest string) error {
		p, err := b.path(digest)
		if err != nil {
			return nil // no blob's file
		}
		st, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		return cmp.Or(ctx.Err(), f(digest, st.Size(), st.ModTime()))
	})
}

// PutRecord implements Records.
func (b *Blobs) PutRecord(_ context.Context, name string, data []byte) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("record %q: no such name", name)
	}
	p := filepath.Join(b.root, "records", name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(p), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(os.Rename(f.Name(), p), syncDir(filepath.Dir(p)))
}

// DeleteRecord implements Records.
func (b *Blobs) DeleteRecord(_ context.Context, name string) error {
	if err := os.Remove(filepath.Join(b.root, "records", name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// EachRecord implements Records.
func (b *Blobs) EachRecord(ctx context.Context, f func(name string, data []byte) error) error {
	root := filepath.Join(b.root, "records")
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || strings.HasPrefix(d.Name(), ".new-")) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		return cmp.Or(err, ctx.Err(), f(name, data))
	})
}

func newHash(digest string) (hash.Hash, error) {
	switch {
	case !digestPattern.MatchString(digest):
		return nil, ErrDigest
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
