package model

import (
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

// Repository is an ECR repository. Written by the API, and by the registry where one is made by a push or a pull.
type Repository struct {
	Name        string
	Repository  ecrtypes.Repository
	Tags        []ecrtypes.Tag
	Policy      string // document; "": none
	Lifecycle   string // policy text; "": none
	Preview     string // policy text of the last preview; "": none
	PreviewedAt time.Time
	EvaluatedAt time.Time // when the lifecycle policy was last applied. Written by the registry
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
	Archived     bool // Written by the API and the lifecycle
	ArchivedAt   time.Time
	ActivatedAt  time.Time // from the archive, last
	Cached       bool      // from an upstream registry: its parts are there once they were pulled
	CheckedAt    time.Time // when the upstream was last asked for its tags
	Inventory    string    // digest of the blob that says what packages it has; "": it was not scanned
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

// SealedBlob says which stored blob holds a blob of repositories that are encrypted with one key. Written by the registry.
type SealedBlob struct {
	Scope  string   // <type>/<key's ARN>
	Digest string   // of the plain content
	Size   int64    // of the plain content
	Sealed string   // digest of the stored, encrypted content
	Keys   [][]byte // wrapped data keys, the innermost layer's first
	At     time.Time
}

// Key is the scope and the digest.
func (b *SealedBlob) Key() string { return b.Scope + " " + b.Digest }

// RegistrySettings is what is set for the whole registry. Written by the API.
type RegistrySettings struct {
	Policy      string // document; "": none
	Replication ecrtypes.ReplicationConfiguration
	Scanning    *ecrtypes.RegistryScanningConfiguration // nil: basic, without rules
	Signing     *ecrtypes.SigningConfiguration
	Account     map[string]string    // account settings by name
	Exclusions  map[string]time.Time // principals whose pulls are not noted, and since when
	Rule        *RunRule             // nil: all images may be run. Written by berth registry rule
	State       string               // names this state beside the blobs' records. Written by the registry
}

// RunRule is what the registry's images must be like to be run: scanned, and without findings above a severity.
type RunRule struct {
	MaxSeverity string // such as HIGH; "": any
}

// Headers by which a node says that it is going to run what it pulls, and is told why it may not.
const (
	HeaderRuns    = "Berth-Runs"
	HeaderRefused = "Berth-Refused"
)

// RegistryKey is the key of the one row of RegistrySettings.
const RegistryKey = "registry"

// Key is RegistryKey.
func (*RegistrySettings) Key() string { return RegistryKey }

// PullThroughRule says which upstream registry a prefix of names is a cache of. Written by the API.
type PullThroughRule struct {
	Rule ecrtypes.PullThroughCacheRule
}

// Key is the prefix, "ROOT" for all names.
func (r *PullThroughRule) Key() string { return *r.Rule.EcrRepositoryPrefix }

// CreationTemplate is what repositories get that are made by a push, a pull or a replication. Written by the API.
type CreationTemplate struct {
	Template ecrtypes.RepositoryCreationTemplate
}

// Key is the prefix, "ROOT" for all names.
func (t *CreationTemplate) Key() string { return *t.Template.Prefix }

// Replication is an image on its way to another registry. Written by the registry, and by the API for a backfill.
type Replication struct {
	Repository string
	Digest     string
	Region     string
	RegistryID string
	Tags       []string
	Backfill   string // id of the backfill that asked for it; ""
	Status     ecrtypes.ReplicationStatus
	Failure    string // code
	Tries      int
	At         time.Time // of the last change
}

// Key is <repository>@<digest>#<region>/<registry>.
func (r *Replication) Key() string {
	return r.Repository + "@" + r.Digest + "#" + r.Region + "/" + r.RegistryID
}

// Backfill is the replication of what was there before its rule. Written by the API; its end follows from its Replications.
type Backfill struct {
	ID         string
	Region     string
	RegistryID string
	StartedAt  time.Time
	StoppedAt  time.Time
}

// Key is the id.
func (b *Backfill) Key() string { return b.ID }
