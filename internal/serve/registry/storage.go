package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Storage keeps blobs by their digests: Blobs on the disk of one machine, registry/copies on two servers' disks. registry/storagetest is
// what each must do. A digest that is malformed is an ErrDigest, one that is not there an fs.ErrNotExist.
type Storage interface {
	// Stat returns a blob's size in bytes.
	Stat(ctx context.Context, digest string) (int64, error)
	// Open opens a blob for reading.
	Open(ctx context.Context, digest string) (Content, error)
	// Upload goes on with an upload of this or an earlier process, or begins one when id is "". Errors: ErrUploadUnknown.
	Upload(ctx context.Context, id string) (Upload, error)
	// Secure returns when each of the blobs would outlast the loss of a server, if there is more than one. Errors: a *LostError for a
	// blob that is nowhere.
	Secure(ctx context.Context, digests []string) error
	// Sweep removes the blobs last written before a time that are not held, and uploads as old. It returns how many blobs and bytes.
	Sweep(ctx context.Context, before time.Time, held map[string]bool) (blobs int, bytes int64, err error)
}

// Content is an opened blob. What Read gives is not checked; Check and SendTo compare it with the digest, and end with ErrCorrupt when it
// has another.
type Content interface {
	io.ReadSeekCloser
	Size() int64
	// Check reads the whole, unless that was done since the blob was last written.
	Check() error
	// SendTo writes the whole to w. The last piece is written only when all has its digest.
	SendTo(w io.Writer) error
}

// Upload is a blob that is being pushed. It outlives the process; its calls follow one another.
type Upload interface {
	ID() string
	Size() int64 // bytes that arrived
	// Write appends a chunk that must start at an offset (-1: wherever the upload ends) and returns the size then. Bytes that arrived
	// before an error stay. Errors: ErrRange, ErrUploadUnknown.
	Write(r io.Reader, start int64) (int64, error)
	// Finish makes it the blob of that digest, synced, and returns its size. Errors: ErrMismatch, which ends it, ErrUploadUnknown.
	Finish(digest string) (int64, error)
	Cancel() error
}

// Lister is a Storage that can say what it has.
type Lister interface {
	// List calls f with each blob that this server has or all servers share, until f returns an error.
	List(ctx context.Context, f func(digest string, size int64, at time.Time) error) error
}

// Records keeps small documents beside the blobs, by names such as "ecr-images/0a1b.json".
type Records interface {
	PutRecord(ctx context.Context, name string, data []byte) error
	DeleteRecord(ctx context.Context, name string) error // a missing one is no error
	EachRecord(ctx context.Context, f func(name string, data []byte) error) error
}

// CopyChecked writes to w what r has, all but the last piece before it is known whether the whole has the digest. The error is
// ErrMismatch when it has not.
func CopyChecked(w io.Writer, digest string, r io.Reader) error {
	h, err := newHash(digest)
	if err != nil {
		return err
	}
	p, q := buffers.Get().(*[]byte), buffers.Get().(*[]byte)
	defer func() { buffers.Put(p); buffers.Put(q) }()
	var held []byte
	for {
		n, err := io.ReadFull(r, *p)
		if n > 0 {
			if _, err := w.Write(held); err != nil {
				return err
			}
			held = (*p)[:n]
			h.Write(held)
			p, q = q, p
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read blob %s: %w", digest, err)
		}
	}
	if format(digest, h) != digest {
		return ErrMismatch
	}
	_, err = w.Write(held)
	return err
}

// LostError says which blob is nowhere. It is an fs.ErrNotExist.
type LostError struct{ Digest string }

// Error implements error.
func (e *LostError) Error() string { return "no server has blob " + e.Digest }

// Unwrap makes it an fs.ErrNotExist.
func (e *LostError) Unwrap() error { return fs.ErrNotExist }

// ErrAlone says that a blob cannot be made to outlast the loss of a server, as no other one takes it.
var ErrAlone = errors.New("no second server takes the image; see berth status, and push again when another server is there")

// readBlob returns a blob of at most limit bytes, checked.
func readBlob(ctx context.Context, s Storage, digest string, limit int64) ([]byte, error) {
	c, err := s.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if c.Size() > limit {
		return nil, fmt.Errorf("blob %s is larger than %d bytes", digest, limit)
	}
	var b bytes.Buffer
	err = c.SendTo(&b)
	return b.Bytes(), err
}

// putBlob stores data under its digest.
func putBlob(ctx context.Context, s Storage, digest string, data []byte) error {
	u, err := s.Upload(ctx, "")
	if err != nil {
		return err
	}
	if _, err := u.Write(bytes.NewReader(data), 0); err != nil {
		return errors.Join(err, u.Cancel())
	}
	_, err = u.Finish(digest)
	return err
}
