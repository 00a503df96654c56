package registry

import (
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/uuid"
)

// The refusals of an Upload.
var (
	ErrUploadUnknown = errors.New("upload unknown to this registry")
	ErrRange         = errors.New("the chunk does not start where the upload ends")
	ErrMismatch      = errors.New("the content does not have the digest that was given")
)

// uploads are the blobs being pushed. The bytes are in files, so an upload outlives the process; the running SHA-256 beside it is
// only a shortcut and is made again from the file when it is missing.
type uploads struct {
	root string
	mu   sync.Mutex
	live map[string]*upload
}

// upload is one session; its lock keeps chunks of one session in order.
type upload struct {
	id   string
	mu   sync.Mutex
	path string
	size int64
	sum  hash.Hash // SHA-256 of the first size bytes
	done bool
}

// upload1 is a session of Blobs.
type upload1 struct {
	*upload
	blobs *Blobs
}

// ID implements Upload.
func (u upload1) ID() string { return u.id }

// Size implements Upload.
func (u upload1) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

// Sum is the SHA-256 of what arrived.
func (u upload1) Sum() []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sum.Sum(nil)
}

// Write implements Upload.
func (u upload1) Write(r io.Reader, start int64) (int64, error) { return u.write(r, start) }

// Finish implements Upload.
func (u upload1) Finish(digest string) (int64, error) { return u.blobs.finish(u.upload, digest) }

// Cancel implements Upload.
func (u upload1) Cancel() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return ErrUploadUnknown
	}
	u.done = true
	u.blobs.uploads.forget(u.id)
	return os.Remove(u.path)
}

func (u *uploads) start() (*upload, error) {
	id := uuid.NewString()
	path := filepath.Join(u.root, "uploads", id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	s := &upload{id: id, path: path, sum: sha256.New()}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.live[id] = s
	return s, nil
}

// find returns a session by id, also one of an earlier process.
func (u *uploads) find(id string) (*upload, error) {
	if uuid.Validate(id) != nil {
		return nil, ErrUploadUnknown
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.live[id]; s != nil {
		return s, nil
	}
	path := filepath.Join(u.root, "uploads", id)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUploadUnknown
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &upload{id: id, path: path, sum: sha256.New()}
	if s.size, err = io.Copy(s.sum, f); err != nil {
		return nil, err
	}
	u.live[id] = s
	return s, nil
}

func (u *uploads) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.live, id)
}

// write appends a chunk that must start at offset start (-1: wherever the upload ends) and returns the size so far. Bytes that
// arrived before an error stay.
func (s *upload) write(r io.Reader, start int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return 0, ErrUploadUnknown
	}
	if start >= 0 && start != s.size {
		return s.size, ErrRange
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0o600)
	if err != nil {
		return s.size, err
	}
	defer f.Close()
	if _, err := f.Seek(s.size, io.SeekStart); err != nil {
		return s.size, err
	}
	// The sum is a second writer: a short write leaves it ahead of the file, so it is made again then.
	before, _ := s.sum.(encoding.BinaryMarshaler).MarshalBinary()
	n, err := copyBuffer(io.MultiWriter(f, s.sum), r)
	s.size += n
	if err != nil {
		s.rehash(before, n)
	}
	return s.size, err
}

// rehash brings the sum back in step with the file after a broken chunk of n stored bytes.
func (s *upload) rehash(before []byte, n int64) {
	s.sum = sha256.New()
	if s.sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(before) == nil {
		if f, err := os.Open(s.path); err == nil {
			defer f.Close()
			if _, err := io.Copy(s.sum, io.NewSectionReader(f, s.size-n, n)); err == nil {
				return
			}
		}
	}
	s.done = true
}

// finish verifies the whole against digest, syncs it and makes it a blob. On ErrMismatch the session is over.
func (b *Blobs) finish(s *upload, digest string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return 0, ErrUploadUnknown
	}
	want, err := newHash(digest)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := s.sum
	if want.Size() != sum.Size() {
		if _, err := copyBuffer(want, f); err != nil {
			return 0, err
		}
		sum = want
	}
	if format(digest, sum) != digest {
		s.done = true
		b.uploads.forget(s.id)
		return 0, errors.Join(ErrMismatch, os.Remove(s.path))
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("sync blob %s: %w", digest, err)
	}
	if err := b.adopt(s.path, digest); err != nil {
		return 0, err
	}
	s.done = true
	b.uploads.forget(s.id)
	return s.size, nil
}

var buffers = sync.Pool{New: func() any { return new(make([]byte, 256<<10)) }}

func copyBuffer(w io.Writer, r io.Reader) (int64, error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *b)
}
