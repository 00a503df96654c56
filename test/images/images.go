// Package images makes the images of the tests with real containers: the program of test/e2e/web and nothing else.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Program builds the test program once. BERTH_E2E_WEB names one that is built, where there is no compiler.
var Program = sync.OnceValues(func() ([]byte, error) {
	if built := os.Getenv("BERTH_E2E_WEB"); built != "" {
		return os.ReadFile(built)
	}
	dir, err := os.MkdirTemp("", "berth-web-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "web")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "github.com/berthdev/berth/test/e2e/web")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build the test program: %w", err)
	}
	return os.ReadFile(bin)
})

// Web is an image of the test program; label makes its digest its own.
func Web(label string) (v1.Image, error) {
	program, err := Program()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "web", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	w.WriteHeader(&tar.Header{Name: "tmp", Mode: 0o1777, Typeflag: tar.TypeDir})
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	conf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", runtime.GOARCH
	conf.Config.Entrypoint = []string{"/web"}
	conf.Config.Labels = map[string]string{"label": label}
	return mutate.ConfigFile(img, conf)
}

// File writes the test program's image, named ref, for `berth image import`.
func File(file, ref string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	img, err := Web(ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, img)
}
