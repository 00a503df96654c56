package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// The media types of manifests besides OCI's own (Docker's image-spec v2.2).
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	ociArtifact    = "application/vnd.oci.artifact.manifest.v1+json" // of a release candidate of OCI 1.1, which some clients still write
)

// document is any manifest: an image's or an index's members are empty in the other.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Blobs         []ocispec.Descriptor `json:"blobs"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
}

// PutManifest stores a manifest and points the tag at it when reference is a tag, and so with more tags. Everything that it refers to
// must be in the repository already. Errors: *Error.
func (r *Registry) PutManifest(ctx context.Context, repo, reference, mediaType string, content []byte, more ...string) (*model.Image, error) {
	tag, dgst, err := identify(reference, content)
	if err != nil {
		return nil, err
	}
	tags := slices.Clone(more)
	if tag != "" {
		tags = append(tags, tag)
	}
	img, config, err := parseManifest(mediaType, content)
	if err != nil {
		return nil, err
	}
	img.Repository, img.Digest, img.ManifestSize = repo, dgst, int64(len(content))
	if err := r.secure(ctx, img, content); err != nil {
		return nil, err
	}
	err = r.Store.Update(ctx, func(tx store.Tx) error {
		next := *img
		if err := r.admit(tx, &next, tags, config); err != nil {
			return err
		}
		img = &next
		return nil
	})
	if err == nil && r.Pushed != nil {
		r.Pushed(ctx, img)
	}
	return img, err
}

// secure stores a manifest's content, and sees to it that all that it needs would outlast the loss of a server.
func (r *Registry) secure(ctx context.Context, img *model.Image, content []byte) error {
	if err := r.exists(img.Repository); err != nil {
		return err
	}
	if err := putBlob(ctx, r.blobsOf(img.Repository), img.Digest, content); err != nil {
		return err
	}
	err := r.blobsOf(img.Repository).Secure(ctx, append([]string{img.Digest}, img.Blobs...))
	if lost, ok := errors.AsType[*LostError](err); ok {
		return refuse(400, "MANIFEST_BLOB_UNKNOWN", "the repository does not hold blob "+lost.Digest)
	}
	if errors.Is(err, ErrAlone) {
		return refuse(503, "UNAVAILABLE", ErrAlone.Error())
	}
	return err
}

// identify tells the tag (or "") and the digest that a manifest gets.
func identify(reference string, content []byte) (tag, dgst string, err error) {
	if tagPattern.MatchString(reference) {
		return reference, digest.FromBytes(content).String(), nil
	}
	h, err := newHash(reference)
	if err != nil {
		return "", "", refuse(400, "MANIFEST_INVALID", "the reference is neither a tag nor a digest: "+err.Error())
	}
	h.Write(content)
	if format(reference, h) != reference {
		return "", "", refuse(400, "DIGEST_INVALID", "the manifest does not have the digest it was pushed by")
	}
	return "", reference, nil
}

// parseManifest returns what is stored of a manifest, and the digest of the configuration when it is that of an image.
func parseManifest(mediaType string, content []byte) (img *model.Image, config string, err error) {
	var doc document
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, "", refuse(400, "MANIFEST_INVALID", "the manifest is not JSON: "+err.Error())
	}
	if mediaType == "" {
		mediaType = doc.MediaType
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return nil, "", refuse(400, "MANIFEST_INVALID", fmt.Sprintf("the manifest says it is %s, the request %s", doc.MediaType, mediaType))
	}
	img = &model.Image{MediaType: mediaType, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
	switch mediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest:
		if doc.Config == nil {
			return nil, "", refuse(400, "MANIFEST_INVALID", "the manifest has no config")
		}
		if t := doc.Config.MediaType; t == ocispec.MediaTypeImageConfig || t == dockerConfig {
			config = doc.Config.Digest.String()
		}
		if img.ArtifactType == "" {
			img.ArtifactType = doc.Config.MediaType
		}
		if err := addBlobs(img, append([]ocispec.Descriptor{*doc.Config}, doc.Layers...)); err != nil {
			return nil, "", err
		}
	case ociArtifact:
		if err := addBlobs(img, doc.Blobs); err != nil {
			return nil, "", err
		}
	case ocispec.MediaTypeImageIndex, dockerList:
		for _, d := range doc.Manifests {
			if !digestPattern.MatchString(d.Digest.String()) || d.Size < 0 || d.Size > MaxManifest {
				return nil, "", refuse(400, "MANIFEST_INVALID", "a descriptor has no valid digest or size")
			}
			img.Children = append(img.Children, d.Digest.String())
			img.Size += d.Size
		}
	default:
		return nil, "", refuse(400, "MANIFEST_INVALID", fmt.Sprintf("manifests of media type %q are not supported", mediaType))
	}
	if doc.Subject != nil {
		if !digestPattern.MatchString(doc.Subject.Digest.String()) {
			return nil, "", refuse(400, "MANIFEST_INVALID", "the subject has no valid digest")
		}
		img.Subject = doc.Subject.Digest.String()
	}
	return img, config, nil
}

// addBlobs adds what a manifest needs in its repository.
func addBlobs(img *model.Image, all []ocispec.Descriptor) error {
	for _, d := range all {
		if !digestPattern.MatchString(d.Digest.String()) || d.Size < 0 {
			return refuse(400, "MANIFEST_INVALID", "a descriptor has no valid digest or size")
		}
		if img.Size += d.Size; img.Size < 0 {
			return refuse(400, "MANIFEST_INVALID", "the descriptors' sizes are too large")
		}
		if !foreign(d) {
			img.Blobs = append(img.Blobs, d.Digest.String())
		}
	}
	return nil
}

// foreign layers stay where their URLs say (OCI image-spec, non-distributable layers).
func foreign(d ocispec.Descriptor) bool {
	switch d.MediaType {
	case dockerForeign, ocispec.MediaTypeImageLayerNonDistributable, ocispec.MediaTypeImageLayerNonDistributableGzip,
		ocispec.MediaTypeImageLayerNonDistributableZstd:
		return true
	}
	return false
}

// admit checks img against the repository and stores it, moving the tags to it. config is the digest of an image's configuration.
func (r *Registry) admit(tx store.Tx, img *model.Image, tags []string, config string) error {
	repo, err := r.repository(tx, img.Repository)
	if err != nil {
		return err
	}
	for _, d := range img.Blobs {
		b, ok := store.RepositoryBlobs.Get(tx, img.Repository+"@"+d)
		if !ok {
			return refuse(400, "MANIFEST_BLOB_UNKNOWN", "the repository does not hold blob "+d)
		}
		if d == config && b.Size > MaxConfig {
			return refuse(400, "MANIFEST_INVALID", fmt.Sprintf("the image's configuration has %d bytes, more than %d MiB", b.Size, MaxConfig>>20))
		}
	}
	for _, d := range img.Children {
		if _, ok := store.Images.Get(tx, img.Repository+"@"+d); !ok {
			return refuse(400, "MANIFEST_BLOB_UNKNOWN", "the repository does not hold manifest "+d)
		}
	}
	img.PushedAt = r.Now()
	if old, ok := store.Images.Get(tx, img.Key()); ok {
		img.Tags, img.PushedAt, img.PulledAt = old.Tags, old.PushedAt, old.PulledAt
		img.Archived, img.ArchivedAt, img.ActivatedAt, img.Inventory = old.Archived, old.ArchivedAt, old.ActivatedAt, old.Inventory
	}
	for _, tag := range tags {
		if err := r.retag(tx, repo, img, tag); err != nil {
			return err
		}
	}
	store.Images.Put(tx, img)
	r.replicate(tx, img)
	return nil
}

// retag moves a tag to img, taking it from the image that had it.
func (r *Registry) retag(tx store.Tx, repo *model.Repository, img *model.Image, tag string) error {
	old, ok := store.ImageTags.Get(tx, img.Repository+":"+tag)
	if ok && old.Digest == img.Digest {
		return nil
	}
	if ok {
		if immutable(repo, tag) {
			return refuse(400, "TAG_INVALID", fmt.Sprintf("The image tag '%s' already exists in the '%s' repository and cannot be "+
				"overwritten because the repository is immutable.", tag, repo.Name))
		}
		if had, ok := store.Images.Get(tx, img.Repository+"@"+old.Digest); ok {
			next := *had
			next.Tags = slices.DeleteFunc(slices.Clone(had.Tags), func(t string) bool { return t == tag })
			store.Images.Put(tx, &next)
		}
	}
	img.Tags = append(slices.Clone(img.Tags), tag)
	slices.Sort(img.Tags)
	img.PushedAt = r.Now()
	store.ImageTags.Put(tx, &model.ImageTag{Repository: img.Repository, Tag: tag, Digest: img.Digest})
	return nil
}

// immutable tells whether a tag of the repository stays where it is.
func immutable(repo *model.Repository, tag string) bool {
	r := repo.Repository
	excluded := slices.ContainsFunc(r.ImageTagMutabilityExclusionFilters, func(f ecrtypes.ImageTagMutabilityExclusionFilter) bool {
		return f.Filter != nil && wildcard(*f.Filter, tag)
	})
	switch r.ImageTagMutability {
	case ecrtypes.ImageTagMutabilityImmutable:
		return true
	case ecrtypes.ImageTagMutabilityImmutableWithExclusion:
		return !excluded
	case ecrtypes.ImageTagMutabilityMutableWithExclusion:
		return excluded
	}
	return false
}

// wildcard tells whether s is what a pattern with * for anything says.
func wildcard(pattern, s string) bool {
	first, rest, some := strings.Cut(pattern, "*")
	if !some {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	for i := len(first); i <= len(s); i++ {
		if wildcard(rest, s[i:]) {
			return true
		}
	}
	return false
}

// RemoveImage removes an image and its tags from the tables; Collect frees what only it needed.
func RemoveImage(tx store.Tx, img *model.Image) {
	for _, tag := range img.Tags {
		store.ImageTags.Delete(tx, img.Repository+":"+tag)
	}
	store.Images.Delete(tx, img.Key())
}

// DeleteManifest removes a tag, or a manifest with all its tags. Errors: *Error.
func (r *Registry) DeleteManifest(ctx context.Context, repo, reference string) error {
	img, err := r.resolve(repo, reference)
	if err != nil {
		return err
	}
	return r.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.Images.Get(tx, img.Key())
		if !ok {
			return refuse(404, "MANIFEST_UNKNOWN", "Requested image not found")
		}
		if reference != img.Digest {
			store.ImageTags.Delete(tx, repo+":"+reference)
			next := *cur
			next.Tags = slices.DeleteFunc(slices.Clone(cur.Tags), func(t string) bool { return t == reference })
			store.Images.Put(tx, &next)
			return nil
		}
		RemoveImage(tx, cur)
		return nil
	})
}

// Referrers lists the manifests of a repository whose subject is dgst, as an OCI index. artifactType filters when not "".
func (r *Registry) Referrers(ctx context.Context, repo, dgst, artifactType string) (index ocispec.Index, err error) {
	index = ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	r.Store.View(func(tx store.Reader) {
		if _, err = r.repository(tx, repo); err != nil {
			return
		}
		for img := range store.Images.By(tx, store.BySubject, repo+"@"+dgst) {
			if artifactType != "" && img.ArtifactType != artifactType {
				continue
			}
			size := img.ManifestSize
			if size == 0 { // of a row that was stored before it said so
				size, _ = r.Blobs.Stat(ctx, img.Digest) // such rows are older than encryption
			}
			index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: img.MediaType, ArtifactType: img.ArtifactType,
				Digest: digest.Digest(img.Digest), Size: size, Annotations: img.Annotations})
		}
	})
	return index, err
}
