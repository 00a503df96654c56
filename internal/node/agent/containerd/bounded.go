package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument is the largest manifest, index or config of an image that is read: what registries take. They are read whole, here and
// in containerd, and take many times their size then.
const maxDocument = 4 << 20

// errTooLarge is of an image that asks for more memory than it deserves.
var errTooLarge = errors.New("the image is not used")

// boundDocument refuses what would be read whole and is too large. It is a handler of images.Walk, and of pulls, where it comes
// before the download; content of another size than its descriptor says is refused by containerd.
func boundDocument(_ context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if images.IsLayerType(desc.MediaType) || desc.Size <= maxDocument {
		return nil, nil
	}
	kind := ""
	switch {
	case images.IsManifestType(desc.MediaType) || images.IsIndexType(desc.MediaType):
		kind = "manifest"
	case images.IsConfigType(desc.MediaType):
		kind = "config"
	default:
		return nil, nil
	}
	return nil, fmt.Errorf("its %s has %d bytes, and at most %d are read: %w", kind, desc.Size, maxDocument, errTooLarge)
}

// checkDocuments refuses an image that is here and whose documents are too large.
func checkDocuments(ctx context.Context, store content.Store, target ocispec.Descriptor) error {
	handler := images.Handlers(images.HandlerFunc(boundDocument), images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default()))
	err := images.Walk(ctx, handler, target)
	if errdefs.IsNotFound(err) {
		return nil // some content is missing; whoever needs it says so
	}
	return err
}
