// Package imagetest makes small real images for tests, in memory and without a network: busybox, from Debian's package
// busybox-static.
package imagetest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// busyboxPath is where Debian's busybox-static installs it.
const busyboxPath = "/bin/busybox"

var applets = []string{"sh", "cat", "echo", "sleep", "true", "false", "id", "env", "ls", "wget", "nc", "httpd", "ps", "kill",
	"df",
	"mount", "ip", "dd", "head", "tail", "hostname", "touch", "mkdir", "grep", "yes", "printf", "test", "stat", "tty", "ulimit"}

// File is a file of an image.
type File struct {
	Path, Content string
	Link          string // makes a symbolic link to here instead
	Mode          int64  // 0 means 0644
}

// Busybox makes an image with busybox, its applets in /bin, an /etc/passwd with root and "app" (1000:1000, home /home/app), and
// files. configure may change its config; nil leaves the command /bin/sh. The test is skipped without busybox.
func Busybox(t testing.TB, configure func(*v1.Config), files ...File) v1.Image {
	t.Helper()
	data, err := os.ReadFile(busyboxPath)
	if err != nil {
		t.Skipf("needs busybox-static: %v", err)
	}
	all := append([]File{{Path: "bin/busybox", Content: string(data), Mode: 0o755},
		{Path: "etc/passwd", Content: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"},
		{Path: "etc/group", Content: "root:x:0:\napp:x:1000:\nstaff:x:50:app\n"}}, files...)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		var buf bytes.Buffer
		err := write(tar.NewWriter(&buf), all)
		return io.NopCloser(&buf), err
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Cmd = []string{"/bin/sh"}
	config.Config.Env = []string{"PATH=/bin"}
	if configure != nil {
		configure(&config.Config)
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

func write(w *tar.Writer, files []File) error {
	for _, dir := range []string{"bin/", "etc/", "tmp/", "home/", "home/app/", "root/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, f := range files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if f.Link != "" {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: f.Path, Linkname: f.Link, Mode: 0o777}); err != nil {
				return err
			}
			continue
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: mode, Size: int64(len(f.Content))}); err != nil {
			return err
		}
		if _, err := io.WriteString(w, f.Content); err != nil {
			return err
		}
	}
	for _, a := range applets {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox",
			Mode: 0o777}); err != nil {
			return err
		}
	}
	return w.Close()
}

// Archive is a docker-archive of image under the given tags, as `docker save` writes it.
func Archive(t testing.TB, image v1.Image, tags ...string) []byte {
	t.Helper()
	refs := map[name.Tag]v1.Image{}
	for _, s := range tags {
		tag, err := name.NewTag(s)
		if err != nil {
			t.Fatal(fmt.Errorf("tag %s: %w", s, err))
		}
		refs[tag] = image
	}
	var buf bytes.Buffer
	if err := tarball.MultiWrite(refs, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
