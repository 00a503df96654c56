package model

import (
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

// Repository is an ECR repository. Written by the API.
type Repository struct {
	Name       string
	Repository ecrtypes.Repository
	Tags       []ecrtypes.Tag
}

// Key is the name.
func (r *Repository) Key() string { return r.Name }

// Image is a manifest of a repository. Written by the registry.
type Image struct {
	Repository   string
	Digest       string // of the manifest, whose bytes are a blob
	MediaType    string
	ArtifactType string
	Size         int64    // of the manifest's config and layers together, bytes
	ManifestSize int64    // bytes; 0 in old rows
	Blobs        []string // digests of the config and layers
	Children     []string // digests of an index's manifests
	Subject      string   // digest that a referrer refers to
	Annotations  map[string]string
	Tags         []string
	PushedAt     time.Time
	PulledAt     time.Time
}

// Key is <repository>@<digest>.
func (i *Image) Key() string { return i.Repository + "@" + i.Digest }

// ImageTag points from a tag to a manifest. Written by the registry.
type ImageTag struct {
	Repository string
	Tag        string
	Digest     string
}

// Key is <repository>:<tag>.
func (t *ImageTag) Key() string { return t.Repository + ":" + t.Tag }

// RepositoryBlob says that a repository holds a blob (it was pushed or mounted there). Written by the registry.
type RepositoryBlob struct {
	Repository string
	Digest     string
	Size       int64
	At         time.Time
}

// Key is <repository>@<digest>.
func (b *RepositoryBlob) Key() string { return b.Repository + "@" + b.Digest }
