package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"

	"github.com/berthdev/berth/internal/node/agent"
)

// PullBehavior says when Pull asks a registry for an image that this machine has already. The names and meanings are those of
// the Amazon ECS agent's ECS_IMAGE_PULL_BEHAVIOR. Berth's own registry is always asked: that costs a millisecond.
type PullBehavior string

// The behaviours.
const (
	PullDefault      PullBehavior = "default"       // ask; when that fails, use what the machine has
	PullAlways       PullBehavior = "always"        // ask; when that fails, fail
	PullOnce         PullBehavior = "once"          // do not ask again for what was pulled once
	PullPreferCached PullBehavior = "prefer-cached" // do not ask for what the machine has
)

// ImagesConfig is what Images needs besides a Runtime.
type ImagesConfig struct {
	// Registry is the host:port of Berth's own registry, reached without TLS on this machine; "" means there is none.
	Registry string
	// Login returns the user and password for Berth's own registry. nil: none are sent.
	Login func(ctx context.Context) (user, password string, err error)
	// Servers reaches Berth's own registry wherever it is, by this machine's certificate: then Registry is no more than its name here,
	// and nobody logs in. nil: it is reached at Registry.
	Servers  http.RoundTripper
	Behavior PullBehavior // "" means PullDefault
	// Now is the clock by which images grow old; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Images is the machine's image store. Its methods may be called from many goroutines.
type Images struct {
	r   *Runtime
	c   ImagesConfig
	log *slog.Logger

	mu     sync.Mutex
	recent map[string]time.Time // when images were last asked for, since this process began; Collect forgets old ones
}

var _ agent.Images = (*Images)(nil)

const (
	// labelOrigin marks images that were imported or built here: no registry is asked for them.
	labelOrigin = "berth.dev/origin"
	// labelUsed is when an image was last asked for: RFC 3339. It may be noted timeouts.ImageUsed late; this process knows it exactly.
	labelUsed = "berth.dev/used"
)

// NewImages makes the image store of r's containerd.
func NewImages(r *Runtime, c ImagesConfig) (*Images, error) {
	switch c.Behavior {
	case "":
		c.Behavior = PullDefault
	case PullDefault, PullAlways, PullOnce, PullPreferCached:
	default:
		return nil, fmt.Errorf("pull behavior %q: want %s, %s, %s or %s", c.Behavior, PullDefault, PullAlways, PullOnce,
			PullPreferCached)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Images{r: r, c: c, log: c.Log, recent: map[string]time.Time{}}, nil
}

// LocalImage is an image of the machine's store.
type LocalImage struct {
	Ref     string
	Digest  string
	Size    int64 // bytes of its compressed content for this machine's platform
	Origin  string
	Created time.Time // when it came to this machine
}

// ListImages returns the images of this instance by reference, sorted.
func (m *Images) ListImages(ctx context.Context) ([]LocalImage, error) {
	ctx = m.r.context(ctx)
	all, err := m.r.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	list := make([]LocalImage, 0, len(all))
	for _, image := range all {
		size, err := ctd.NewImage(m.r.client, image).Size(ctx)
		if err != nil {
			size = 0 // some of its content is missing
		}
		list = append(list, LocalImage{Ref: image.Name, Digest: image.Target.Digest.String(), Size: size,
			Origin: image.Labels[labelOrigin], Created: image.CreatedAt})
	}
	return list, nil // containerd lists by name
}

const maxImport = 64 << 30 // bytes of an archive, uncompressed

// Import adds the images of a tar file, plain or compressed: an OCI layout, or what `docker save` writes. It returns their
// references. They are unpacked, and later pulls of those references ask no registry.
func (m *Images) Import(ctx context.Context, from io.Reader) ([]string, error) {
	ctx = m.r.context(ctx)
	ctx, release, err := m.r.client.WithLease(ctx) // keeps the images from being collected before they are unpacked
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer func() { _ = release(context.WithoutCancel(ctx)) }() // it ends by itself after a day
	plain, err := compression.DecompressStream(from)
	if err != nil {
		return nil, fmt.Errorf("import images: read the archive: %w", err)
	}
	defer plain.Close()
	bounded := &io.LimitedReader{R: plain, N: maxImport}
	imported, err := m.r.client.Import(ctx, bounded, ctd.WithImageRefTranslator(translate),
		ctd.WithImageLabels(map[string]string{labelOrigin: "import", labelUsed: m.c.Now().UTC().Format(time.RFC3339)}),
		ctd.WithImportPlatform(platforms.Default()))
	switch {
	case bounded.N <= 0:
		return nil, fmt.Errorf("import images: the archive is larger than %d GiB", maxImport>>30)
	case err != nil:
		return nil, fmt.Errorf("import images: %w; the file must be an OCI layout or what docker save writes", err)
	case len(imported) == 0:
		return nil, errors.New("import images: the archive names no image; save it with its name and tag, as in: docker save NAME:TAG")
	}
	var refs []string
	for _, image := range imported {
		if err := m.unpack(ctx, image); err != nil {
			return refs, fmt.Errorf("unpack %s: %w", image.Name, err)
		}
		refs = append(refs, image.Name)
	}
	return refs, nil
}

// translate makes a full reference out of an OCI layout's ref.name, "" when that is only a tag.
func translate(refName string) string {
	if !strings.ContainsAny(refName, "/:") {
		return ""
	}
	name, _, err := normalize(refName)
	if err != nil {
		return ""
	}
	return name
}

func (m *Images) unpack(ctx context.Context, image images.Image) error {
	i := ctd.NewImage(m.r.client, image)
	if unpacked, err := i.IsUnpacked(ctx, m.r.c.Snapshotter); err == nil && unpacked {
		return nil
	}
	if err := checkDocuments(ctx, m.r.client.ContentStore(), image.Target); err != nil {
		return err
	}
	return i.Unpack(ctx, m.r.c.Snapshotter)
}

// MarkBuilt notes that the image ref was built on this machine, so that a pull of it asks no registry but Berth's own.
func (m *Images) MarkBuilt(ctx context.Context, ref string) error {
	ctx = m.r.context(ctx)
	name, _, err := normalize(ref)
	if err != nil {
		return err
	}
	image, err := m.r.client.ImageService().Get(ctx, name)
	if err == nil {
		err = m.label(ctx, image, map[string]string{labelOrigin: "build"})
	}
	if err != nil {
		return fmt.Errorf("mark %s as built here: %w", ref, err)
	}
	return nil
}

func (m *Images) label(ctx context.Context, image images.Image, add map[string]string) error {
	var paths []string
	if image.Labels == nil {
		image.Labels = map[string]string{}
	}
	for k, v := range add {
		image.Labels[k] = v
		paths = append(paths, "labels."+k)
	}
	_, err := m.r.client.ImageService().Update(ctx, image, paths...)
	return err
}

// noteUse has Collect leave the image alone from now on, and waits while it is being removed.
func (m *Images) noteUse(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent[name] = m.c.Now()
}

// local returns the image of a normalized name, and whether the machine has all of it for its platform.
func (m *Images) local(ctx context.Context, name string) (images.Image, bool, error) {
	image, err := m.r.client.ImageService().Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return images.Image{}, false, nil
	}
	if err != nil {
		return images.Image{}, false, err
	}
	available, _, _, missing, err := images.Check(ctx, m.r.client.ContentStore(), image.Target, platforms.Default())
	if err != nil && passing(err) { // containerd is away: nobody knows
		return images.Image{}, false, err
	}
	return image, err == nil && available && len(missing) == 0, nil
}
