package containerd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageConfig is what a container takes from its image.
type imageConfig struct {
	ocispec.ImageConfig
	chainID string // of the snapshot that holds the image's files
}

// imageConfigOf reads the config of target for this machine's platform. Content never changes, so it is cached by digest.
func imageConfigOf(ctx context.Context, store content.Store, cached *cache[imageConfig],
	target ocispec.Descriptor) (imageConfig, error) {
	if c, ok := cached.get(target.Digest.String()); ok {
		return c, nil
	}
	desc, err := images.Config(ctx, store, target, platforms.Default())
	if err != nil {
		return imageConfig{}, fmt.Errorf("find the image's config: %w", err)
	}
	if _, err := boundDocument(ctx, desc); err != nil {
		return imageConfig{}, err
	}
	data, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return imageConfig{}, fmt.Errorf("read the image's config: %w", err)
	}
	var image ocispec.Image
	if err := json.Unmarshal(data, &image); err != nil {
		return imageConfig{}, fmt.Errorf("read the image's config: %w", err)
	}
	c := imageConfig{ImageConfig: image.Config, chainID: identity.ChainID(image.RootFS.DiffIDs).String()}
	cached.put(target.Digest.String(), c)
	return c, nil
}
