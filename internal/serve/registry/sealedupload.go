package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry/seal"
	"github.com/berthdev/berth/internal/store"
)

// sealing are the uploads that are being encrypted. Their state is in memory: they end with the process, and clients begin again.
type sealing struct {
	mu   sync.Mutex
	live map[string]*sealedUpload
}

func (s *sealing) find(id string, of scope) *sealedUpload {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.live[id]; u != nil && u.s.scope == of {
		return u
	}
	return nil
}

func (s *sealing) add(u *sealedUpload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = map[string]*sealedUpload{}
	}
	s.live[u.id] = u
}

func (s *sealing) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, id)
}

// forget ends those that nothing was written to since a time; what they wrote is swept as any upload.
func (s *sealing) forget(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, u := range s.live {
		if u.mu.TryLock() {
			if u.wrote.Before(before) {
				delete(s.live, id)
			}
			u.mu.Unlock()
		}
	}
}

// sealedUpload is a blob that is encrypted while it arrives.
type sealedUpload struct {
	s  *sealedBlobs
	id string

	mu      sync.Mutex
	below   Upload
	size    int64
	wrote   time.Time
	plain   hash.Hash
	out     *bufio.Writer // of sealed bytes, to below and sum
	sum     hash.Hash     // of sealed bytes; nil: below keeps it
	writers []io.WriteCloser
	keys    [][]byte // wrapped, in the order of writers: the first encrypts the plain bytes
	done    bool
}

// Upload implements Storage.
func (s *sealedBlobs) Upload(ctx context.Context, id string) (Upload, error) {
	if id != "" {
		if u := s.r.sealing.find(id, s.scope); u != nil {
			return u, nil
		}
		return nil, ErrUploadUnknown
	}
	if s.r.Ring == nil {
		return nil, &KMSError{"NotFoundException", "this Berth has no keys"}
	}
	below, err := s.r.Blobs.Upload(context.WithoutCancel(ctx), "") // it goes on with other requests
	if err != nil {
		return nil, err
	}
	u := &sealedUpload{s: s, id: uuid.NewString(), below: below, wrote: s.r.Now(), plain: sha256.New()}
	if sumOf(below) == nil {
		u.sum = sha256.New()
	}
	u.out = bufio.NewWriterSize(appender{u}, 1<<20)
	var to io.Writer = u.out
	for range s.scope.layers() {
		key, wrapped, _, err := s.r.Ring.GenerateDataKey(ctx, s.scope.key, s.about(), seal.KeySize)
		if err != nil {
			return nil, errors.Join(kms(err), below.Cancel())
		}
		w, err := seal.NewWriter(to, key, []byte(s.scope.String()))
		if err != nil {
			return nil, errors.Join(err, below.Cancel())
		}
		u.keys, u.writers, to = append([][]byte{wrapped}, u.keys...), append([]io.WriteCloser{w}, u.writers...), w
	}
	s.r.sealing.add(u)
	return u, nil
}

// sumOf is how to ask an Upload, or the one that it is a part of, for the SHA-256 of what arrived, which then nobody else needs to make;
// nil: it has none.
func sumOf(u Upload) func() []byte {
	for {
		switch v := u.(type) {
		case interface{ Sum() []byte }:
			return v.Sum
		case interface{ Below() Upload }:
			u = v.Below()
		default:
			return nil
		}
	}
}

// appender writes sealed bytes to the upload below.
type appender struct{ u *sealedUpload }

// Write implements io.Writer.
func (a appender) Write(p []byte) (int, error) {
	if a.u.sum != nil {
		a.u.sum.Write(p)
	}
	_, err := a.u.below.Write(bytes.NewReader(p), -1)
	return len(p), err
}

// ID implements Upload.
func (u *sealedUpload) ID() string { return u.id }

// Size implements Upload.
func (u *sealedUpload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

// reading tells errors of what is read from those of what is written.
type reading struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.err = err
	return n, err
}

// Write implements Upload.
func (u *sealedUpload) Write(r io.Reader, start int64) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return 0, ErrUploadUnknown
	}
	if start >= 0 && start != u.size {
		return u.size, ErrRange
	}
	u.wrote = u.s.r.Now()
	from := &reading{Reader: r}
	n, err := copyBuffer(io.MultiWriter(u.writers[0], u.plain), from)
	u.size += n
	if err != nil && (from.err == nil || errors.Is(from.err, io.EOF)) { // the sealed bytes are not whole
		u.end()
		return u.size, errors.Join(err, u.below.Cancel())
	}
	return u.size, err
}

// end needs mu.
func (u *sealedUpload) end() {
	u.done = true
	u.s.r.sealing.remove(u.id)
}

// Finish implements Upload.
func (u *sealedUpload) Finish(digest string) (int64, error) {
	return u.finish(digest, func(store.Tx, int64) error { return nil })
}

// finish is Finish that stores something else together with the row.
func (u *sealedUpload) finish(digest string, also func(tx store.Tx, size int64) error) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return 0, ErrUploadUnknown
	}
	want, err := newHash(digest)
	if err != nil {
		return 0, err
	}
	same := want.Size() != u.plain.Size() || format(digest, u.plain) == digest
	u.end()
	if !same {
		return 0, errors.Join(ErrMismatch, u.below.Cancel())
	}
	for _, w := range u.writers {
		if err := w.Close(); err != nil {
			return 0, errors.Join(err, u.below.Cancel())
		}
	}
	if err := u.out.Flush(); err != nil {
		return 0, errors.Join(err, u.below.Cancel())
	}
	var sum []byte
	if u.sum != nil {
		sum = u.sum.Sum(nil)
	} else {
		sum = sumOf(u.below)()
	}
	sealed := fmt.Sprintf("sha256:%x", sum)
	if _, err := u.below.Finish(sealed); err != nil {
		return 0, err
	}
	row := &model.SealedBlob{Scope: u.s.scope.String(), Digest: digest, Sealed: sealed, Size: u.size, Keys: u.keys, At: u.s.r.Now()}
	ctx := context.Background() // the blob is there: what is left is quick
	if want.Size() != u.plain.Size() {
		if err := u.read(ctx, row, digest); err != nil {
			return 0, err
		}
	}
	return u.size, u.s.r.Store.Update(ctx, func(tx store.Tx) error {
		store.SealedBlobs.Put(tx, row)
		return also(tx, u.size)
	})
}

// read checks a blob against a digest of another algorithm than the one that was kept up.
func (u *sealedUpload) read(ctx context.Context, row *model.SealedBlob, digest string) error {
	c, err := u.s.openRow(ctx, row)
	if err != nil {
		return err
	}
	defer c.Close()
	return CopyChecked(io.Discard, digest, struct{ io.Reader }{c.Reader})
}

// Cancel implements Upload.
func (u *sealedUpload) Cancel() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return ErrUploadUnknown
	}
	u.end()
	return u.below.Cancel()
}
