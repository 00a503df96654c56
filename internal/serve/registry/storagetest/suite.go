// Package storagetest is what every registry.Storage must do.
package storagetest

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/serve/registry"
)

// Digest is the SHA-256 digest of data.
func Digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// Push uploads data in one piece.
func Push(t testing.TB, s registry.Storage, data []byte) string {
	t.Helper()
	u, err := s.Upload(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(bytes.NewReader(data), -1); err != nil {
		t.Fatal(err)
	}
	if size, err := u.Finish(Digest(data)); err != nil || size != int64(len(data)) {
		t.Fatalf("finish: %d bytes, %v", size, err)
	}
	return Digest(data)
}

// Read returns a blob's content in each way that there is, which must be the same.
func Read(t testing.TB, s registry.Storage, digest string) ([]byte, error) {
	t.Helper()
	c, err := s.Open(t.Context(), digest)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var whole bytes.Buffer
	if err := c.SendTo(&whole); err != nil {
		return nil, err
	}
	if int64(whole.Len()) != c.Size() {
		t.Errorf("%d bytes of %d", whole.Len(), c.Size())
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	half := c.Size() / 2
	if at, err := c.Seek(half, io.SeekStart); err != nil || at != half {
		t.Errorf("seek to %d: %d, %v", half, at, err)
	}
	rest, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(rest, whole.Bytes()[half:]) {
		t.Errorf("the second half: %d bytes, %v", len(rest), err)
	}
	return whole.Bytes(), nil
}

// Run runs the suite; open makes an empty storage.
func Run(t *testing.T, open func(t *testing.T) registry.Storage) {
	t.Run("blobs", func(t *testing.T) { blobs(t, open(t)) })
	t.Run("uploads", func(t *testing.T) { uploads(t, open(t)) })
	t.Run("refusals", func(t *testing.T) { refusals(t, open(t)) })
	t.Run("sweep", func(t *testing.T) { sweep(t, open(t)) })
}

func blobs(t *testing.T, s registry.Storage) {
	for _, data := range [][]byte{{}, []byte("hello"), bytes.Repeat([]byte("0123456789abcdef"), 100_000)} {
		for range 2 { // again is no error
			digest := Push(t, s, data)
			if size, err := s.Stat(t.Context(), digest); err != nil || size != int64(len(data)) {
				t.Errorf("stat: %d, %v", size, err)
			}
			if got, err := Read(t, s, digest); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read: %d bytes of %d, %v", len(got), len(data), err)
			}
			if err := s.Secure(t.Context(), []string{digest, digest}); err != nil {
				t.Error(err)
			}
		}
	}
	long := []byte("sha512")
	digest := fmt.Sprintf("sha512:%x", sha512.Sum512(long))
	u, err := s.Upload(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(bytes.NewReader(long), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(digest); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(t, s, digest); err != nil || !bytes.Equal(got, long) {
		t.Errorf("sha512: %q, %v", got, err)
	}
}

func uploads(t *testing.T, s registry.Storage) {
	u, err := s.Upload(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if size, err := u.Write(strings.NewReader("one "), 0); err != nil || size != 4 {
		t.Fatalf("%d, %v", size, err)
	}
	if _, err := u.Write(strings.NewReader("late"), 9); !errors.Is(err, registry.ErrRange) {
		t.Errorf("a gap: %v", err)
	}
	again, err := s.Upload(t.Context(), u.ID())
	if err != nil || again.Size() != 4 || again.ID() != u.ID() {
		t.Fatalf("%v, %v", again, err)
	}
	if _, err := again.Write(io.MultiReader(strings.NewReader("two "), broken{}), 4); !errors.Is(err, errBroken) {
		t.Errorf("a client that breaks off: %v", err)
	}
	if size, err := again.Write(strings.NewReader("three"), 8); err != nil || size != 13 {
		t.Fatalf("what arrived before a break stays: %d, %v", size, err)
	}
	digest := Digest([]byte("one two three"))
	if size, err := again.Finish(digest); err != nil || size != 13 {
		t.Fatalf("%d, %v", size, err)
	}
	if got, err := Read(t, s, digest); err != nil || string(got) != "one two three" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Upload(t.Context(), u.ID()); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("a finished upload: %v", err)
	}
	for _, end := range []func(registry.Upload) error{registry.Upload.Cancel, func(u registry.Upload) error {
		_, err := u.Finish(Digest([]byte("another")))
		if !errors.Is(err, registry.ErrMismatch) {
			t.Errorf("another content: %v", err)
		}
		return nil
	}} {
		u, err := s.Upload(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(strings.NewReader("x"), 0); err != nil {
			t.Fatal(err)
		}
		if err := end(u); err != nil {
			t.Error(err)
		}
		if _, err := s.Upload(t.Context(), u.ID()); !errors.Is(err, registry.ErrUploadUnknown) {
			t.Errorf("an upload that has ended: %v", err)
		}
	}
}

var errBroken = errors.New("broken off")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

func refusals(t *testing.T, s registry.Storage) {
	missing := Digest([]byte("missing"))
	_, stat := s.Stat(t.Context(), missing)
	_, read := s.Open(t.Context(), missing)
	secure := s.Secure(t.Context(), []string{Push(t, s, []byte("here")), missing})
	for name, err := range map[string]error{"stat": stat, "open": read, "secure": secure} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a blob that is not there: %v", name, err)
		}
	}
	if lost, ok := errors.AsType[*registry.LostError](secure); !ok || lost.Digest != missing {
		t.Errorf("secure: %v", secure)
	}
	for _, bad := range []string{"", "sha256:", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", strings.ToUpper(missing)} {
		if _, err := s.Stat(t.Context(), bad); !errors.Is(err, registry.ErrDigest) {
			t.Errorf("stat of %q: %v", bad, err)
		}
		if _, err := s.Open(t.Context(), bad); !errors.Is(err, registry.ErrDigest) {
			t.Errorf("open of %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"nope", "../x", "s9.0b5b6a5e-0000-4000-8000-000000000000", "0b5b6a5e-0000-4000-8000-000000000000"} {
		if _, err := s.Upload(t.Context(), bad); !errors.Is(err, registry.ErrUploadUnknown) {
			t.Errorf("upload %q: %v", bad, err)
		}
	}
}

func sweep(t *testing.T, s registry.Storage) {
	kept, gone := Push(t, s, []byte("kept")), Push(t, s, []byte("gone"))
	if err := s.Secure(t.Context(), []string{kept, gone}); err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.Sweep(t.Context(), time.Now().Add(-24*time.Hour), map[string]bool{}); n != 0 || err != nil {
		t.Errorf("%d blobs younger than a day were removed (%v)", n, err)
	}
	for _, digest := range []string{kept, gone} {
		if _, err := s.Stat(t.Context(), digest); err != nil {
			t.Error(err)
		}
	}
}
