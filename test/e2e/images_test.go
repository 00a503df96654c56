package e2e

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthdev/berth/test/images"
)

// webImage is an image of the test program; label makes its digest its own.
func webImage(t testing.TB, label string) v1.Image {
	t.Helper()
	img, err := images.Web(label)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// importImage preloads the node with the test program under ref.
func (b *berth) importImage(ref string) {
	b.t.Helper()
	file := filepath.Join(b.dir, "image-"+randomName()+".tar")
	if err := images.File(file, ref); err != nil {
		b.t.Fatal(err)
	}
	b.mustCLI("image", "import", file)
	os.Remove(file)
}
