package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// webProgram builds the test program once. BERTH_E2E_WEB names one that is built, where there is no compiler.
var webProgram = sync.OnceValues(func() ([]byte, error) {
	if built := os.Getenv("BERTH_E2E_WEB"); built != "" {
		return os.ReadFile(built)
	}
	dir, err := os.MkdirTemp("", "berth-web-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "web")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "./web")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(bin)
})

// webImage is an image of the test program; label makes its digest its own.
func webImage(t testing.TB, label string) v1.Image {
	t.Helper()
	program, err := webProgram()
	if err != nil {
		t.Fatalf("build the test program: %v", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "web", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	w.WriteHeader(&tar.Header{Name: "tmp", Mode: 0o1777, Typeflag: tar.TypeDir})
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", runtime.GOARCH
	conf.Config.Entrypoint = []string{"/web"}
	conf.Config.Labels = map[string]string{"label": label}
	if img, err = mutate.ConfigFile(img, conf); err != nil {
		t.Fatal(err)
	}
	return img
}

// importImage preloads the node with the test program under ref.
func (b *berth) importImage(ref string) {
	b.t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.dir, "image-"+randomName()+".tar")
	if err := tarball.WriteToFile(file, tag, webImage(b.t, ref)); err != nil {
		b.t.Fatal(err)
	}
	b.mustCLI("image", "import", file)
	os.Remove(file)
}
