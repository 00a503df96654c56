package seal

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
	"pgregory.net/rapid"
)

var key = bytes.Repeat([]byte("k"), KeySize)

func sealed(t interface{ Fatal(...any) }, plain []byte) []byte {
	var out bytes.Buffer
	w, err := NewWriter(&out, key, []byte("about"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

func TestAnyPlaceIsRead(t *testing.T) {
	first, next := segment-header-tag, segment-tag
	for _, n := range []int{0, 1, first - 1, first, first + 1, first + next, first + next + 1, 300_000} {
		plain := pattern(n)
		box := sealed(t, plain)
		r, err := NewReader(bytes.NewReader(box), int64(len(box)), key, []byte("about"))
		if err != nil || r.Size() != int64(n) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		a, err := subtle.NewAESGCMHKDF(key, "SHA256", KeySize, segment, 0)
		if err != nil {
			t.Fatal(err)
		}
		tink, err := a.NewDecryptingReader(bytes.NewReader(box), []byte("about"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(tink); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Tink reads another content of %d bytes: %v", n, err)
		}
	}
	plain := pattern(250_000)
	box := sealed(t, plain)
	rapid.Check(t, func(t *rapid.T) {
		r, err := NewReader(bytes.NewReader(box), int64(len(box)), key, []byte("about"))
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			at, n := rapid.IntRange(0, len(plain)).Draw(t, "at"), rapid.IntRange(0, 70_000).Draw(t, "n")
			if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(io.LimitReader(r, int64(n)))
			if err != nil || !bytes.Equal(got, plain[at:min(at+n, len(plain))]) {
				t.Fatalf("at %d: %v", at, err)
			}
		}
	})
}

func TestWhatWasChangedIsNotRead(t *testing.T) {
	box := sealed(t, pattern(200_000))
	read := func(b []byte, key, about []byte) error {
		r, err := NewReader(bytes.NewReader(b), int64(len(b)), key, about)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(r)
		return err
	}
	for name, err := range map[string]error{"another key": read(box, bytes.Repeat([]byte("x"), KeySize), []byte("about")), "about another": read(box, key, []byte("x")),
		"cut at a segment": read(box[:2*segment], key, []byte("about")), "cut": read(box[:len(box)-1], key, []byte("about")), "empty": read(nil, key, nil)} {
		if !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, at := range []int{0, 5, 35, 50, segment, len(box) - 1} {
		bad := bytes.Clone(box)
		bad[at] ^= 1
		if err := read(bad, key, []byte("about")); !errors.Is(err, ErrForged) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}
