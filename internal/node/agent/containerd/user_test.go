package containerd

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An image's maker decides what its /etc/passwd is.
func TestWhatAnImagesPasswdMayBe(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		make  func(path string) error
		want  string
		wrong string // what the error says; "" for none
	}{
		{"a file", func(p string) error { return os.WriteFile(p, []byte("root"), 0o600) }, "root", ""},
		{"missing", func(string) error { return nil }, "", ""},
		{"a pipe", func(p string) error { return unix.Mkfifo(p, 0o600) }, "", "not a file"},
		{"a folder", func(p string) error { return os.Mkdir(p, 0o700) }, "", "not a file"},
		{"a socket", func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) }, "", "not a file"},
		{"a link to a file", func(p string) error {
			if err := os.WriteFile(filepath.Join(filepath.Dir(p), "other"), []byte("linked"), 0o600); err != nil {
				return err
			}
			return os.Symlink("/etc/other", p)
		}, "linked", ""},
		{"a link out", func(p string) error { return os.Symlink(outside, p) }, "", ""},
		{"a link upwards", func(p string) error { return os.Symlink("../../../../../.."+outside, p) }, "", ""},
		{"a link to itself", func(p string) error { return os.Symlink("passwd", p) }, "", "find"},
		{"a link to the reader's memory", func(p string) error { return os.Symlink("/proc/self/environ", p) }, "", ""},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.make(filepath.Join(root, "etc/passwd")); err != nil {
			t.Fatal(err)
		}
		type answer struct {
			data []byte
			err  error
		}
		done := make(chan answer, 1)
		go func() {
			f, err := openIn(root, "/etc/passwd")
			if err != nil {
				done <- answer{nil, err}
				return
			}
			defer f.Close()
			data, err := io.ReadAll(f)
			done <- answer{data, err}
		}()
		select {
		case a := <-done:
			if string(a.data) != c.want || (a.err != nil) != (c.wrong != "") || a.err != nil && !strings.Contains(a.err.Error(), c.wrong) {
				t.Errorf("%s: %q %v, want %q and an error about %q", c.name, a.data, a.err, c.want, c.wrong)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: reading it hangs", c.name)
		}
	}
}
