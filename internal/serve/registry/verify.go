package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// stamp tells whether a file is still the one that was checked: it changes with every write.
type stamp struct {
	inode          uint64
	size           int64
	changed, wrote syscall.Timespec
}

func stampOf(f *os.File) (stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return stamp{st.Ino, st.Size, st.Ctim, st.Mtim}, nil
}

// maxStamps is how many checked blobs are remembered; more are checked again.
const maxStamps = 1 << 16

// verify reads an opened blob and compares it with its digest, unless this process did so since the file was last written. The error
// is fs.ErrNotExist when the content is another: then the blob was set aside.
func (b *Blobs) verify(digest string, f *os.File) error {
	_, err, _ := b.checks.Do(digest, func() (any, error) {
		now, err := stampOf(f)
		if err != nil || b.isVerified(digest, now) {
			return nil, err
		}
		return nil, b.copy(io.Discard, digest, f)
	})
	return err
}

func (b *Blobs) isVerified(digest string, now stamp) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verified[digest] == now
}

// copy writes a blob to w and checks it on the way. The last piece is written only when the whole has its digest, so that nobody takes
// what is corrupt for complete. The error is fs.ErrNotExist when it is corrupt.
func (b *Blobs) copy(w io.Writer, digest string, f *os.File) error {
	before, err := stampOf(f)
	if err != nil {
		return err
	}
	err = CopyChecked(w, digest, io.NewSectionReader(f, 0, before.size)) // the offset is ours: others may read the same file
	if errors.Is(err, ErrMismatch) {
		return b.setAside(digest, f)
	}
	if err == nil {
		b.remember(digest, before, f)
	}
	return err
}

// remember notes that the file was checked, if it did not change meanwhile.
func (b *Blobs) remember(digest string, before stamp, f *os.File) {
	after, err := stampOf(f)
	if err != nil || after != before {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.verified) >= maxStamps {
		clear(b.verified)
	}
	b.verified[digest] = after
}

// ErrCorrupt says that a blob did not have its digest and was set aside. It is an fs.ErrNotExist.
var ErrCorrupt = fmt.Errorf("the blob does not have its digest and was set aside: %w", fs.ErrNotExist)

// setAside moves the corrupt file f, which was opened as the blob, out of the way of a new push. Somebody may have pushed the blob
// again already: that file stays.
func (b *Blobs) setAside(digest string, f *os.File) error {
	p, err := b.path(digest)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.verified, digest)
	bad, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(p); err != nil || !os.SameFile(now, bad) {
		return ErrCorrupt
	}
	if err := os.Rename(p, filepath.Join(b.root, "corrupt", strings.ReplaceAll(digest, ":", "-"))); err != nil {
		return fmt.Errorf("blob %s is corrupt and cannot be set aside: %w", digest, err)
	}
	return ErrCorrupt
}
