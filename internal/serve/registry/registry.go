package registry

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Limits of what a client may send.
const (
	MaxManifest = 4 << 20 // bytes (ECR's own limit)
	MaxConfig   = 8 << 20 // bytes of an image's configuration: whoever runs the image has it in memory many times over
)

// Auth decides who may speak to the registry.
type Auth interface {
	// CheckRegistryToken returns whose password is a token of this instance that has not expired: the ARN of a role's session, or
	// "" for the owner. The error's text is shown to the client.
	CheckRegistryToken(password string) (session string, err error)
	// AllowToken returns nil when whoever has a password that was checked may do an action such as "ecr:PutImage" to what an ARN names
	// ("": to nothing in particular), which has these policies of its own. The error's text is shown to the client.
	AllowToken(password, action, resource string, policies ...string) error
}

// Config is what a Registry needs.
type Config struct {
	Store store.Store
	Blobs Storage
	Auth  Auth
	Scope model.Scope
	Host  string // under which clients reach the registry, such as "localhost:4566"
	Now   func() time.Time
	Log   *slog.Logger
	// Pushed is told of each image that was pushed; nil: nobody wants to know. It must not block.
	Pushed func(ctx context.Context, img *model.Image)
	// MayRun refuses to give an image, with the reason, to a node that is going to run it; nil: all may be run.
	MayRun func(ctx context.Context, img *model.Image) error
	// Ring wraps the data keys of repositories that are encrypted with KMS; nil: there are none.
	Ring Ring
	// Encrypt has repositories be of type AES256 that a push or a pull makes.
	Encrypt bool
	// Upstreams opens the registry of a pull-through rule; nil: there are none.
	Upstreams func(rule *model.PullThroughRule) (Upstream, error)
	// Peers finds a registry to replicate to, nil when it is not known; nil: none is.
	Peers func(region, registryID string) Peer
}

// Registry is an OCI registry whose repositories are those of ECR.
type Registry struct {
	Config
	manifests *gate.Budget // of those that are in memory while they are pushed
	urlKey    []byte       // of LayerURL
	refreshes singleflight.Group
	sealing   sealing
}

// New makes a Registry.
func New(c Config) *Registry {
	return &Registry{Config: c, manifests: gate.NewBudget(16*MaxManifest, 8*MaxManifest, 5*time.Second), urlKey: newURLKey()}
}

var (
	namePattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Error is a refusal in the words of the OCI distribution-spec.
type Error struct {
	Status  int    // HTTP
	Code    string // such as MANIFEST_UNKNOWN
	Message string
}

// Error implements error.
func (e *Error) Error() string { return strings.ToLower(e.Code) + ": " + e.Message }

func refuse(status int, code, message string) *Error { return &Error{status, code, message} }

// repository returns the repository of that name or NAME_UNKNOWN.
func (r *Registry) repository(tx store.Reader, name string) (*model.Repository, error) {
	if repo, ok := store.Repositories.Get(tx, name); ok {
		return repo, nil
	}
	return nil, refuse(404, "NAME_UNKNOWN", "The repository with name '"+name+
		"' does not exist in the registry with id '"+r.Scope.Account+"'")
}

// Manifest is a manifest as it was pushed.
type Manifest struct {
	Digest    string
	MediaType string
	Content   []byte
}

// GetManifest returns a manifest by tag or digest. Errors: *Error NAME_UNKNOWN or MANIFEST_UNKNOWN.
func (r *Registry) GetManifest(ctx context.Context, repo, reference string) (*Manifest, error) {
	img, err := r.resolve(repo, reference)
	if err != nil {
		return nil, err
	}
	if img.Archived {
		return nil, refuse(403, "DENIED", "The image "+repo+"@"+img.Digest+" is archived: move it to the storage class STANDARD to pull it")
	}
	content, err := readBlob(ctx, r.blobsOf(repo), img.Digest, MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		r.Log.Error("a manifest's content is missing or corrupt: push its image again", "repository", repo, "digest", img.Digest, "error", err)
		return nil, refuse(404, "MANIFEST_UNKNOWN", "manifest unknown: its content is lost, push it again")
	}
	if err != nil {
		return nil, err
	}
	return &Manifest{img.Digest, img.MediaType, content}, nil
}

// resolve finds the image that a tag or digest names.
func (r *Registry) resolve(repo, reference string) (img *model.Image, err error) {
	r.Store.View(func(tx store.Reader) {
		if _, err = r.repository(tx, repo); err != nil {
			return
		}
		digest := reference
		if !strings.Contains(reference, ":") {
			tag, ok := store.ImageTags.Get(tx, repo+":"+reference)
			if !ok {
				err = refuse(404, "MANIFEST_UNKNOWN", "Requested image not found: "+repo+":"+reference)
				return
			}
			digest = tag.Digest
		}
		var ok bool
		if img, ok = store.Images.Get(tx, repo+"@"+digest); !ok {
			err = refuse(404, "MANIFEST_UNKNOWN", "Requested image not found: "+repo+"@"+digest)
		}
	})
	return img, err
}

// Tags lists the tags of a repository in lexical order.
func (r *Registry) Tags(repo string) (tags []string, err error) {
	r.Store.View(func(tx store.Reader) {
		if _, err = r.repository(tx, repo); err != nil {
			return
		}
		for t := range store.ImageTags.By(tx, store.ByRepository, repo) {
			tags = append(tags, t.Tag)
		}
	})
	slices.Sort(tags)
	return tags, err
}

// pulled notes that an image was pulled, at most once a minute, and not by those whose pulls are not to be noted.
func (r *Registry) pulled(ctx context.Context, repo, reference string) {
	img, err := r.resolve(repo, reference)
	if err != nil || r.Now().Sub(img.PulledAt) < time.Minute || r.excluded(ctx) {
		return
	}
	err = r.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.Images.Get(tx, img.Key())
		if !ok {
			return nil
		}
		next := *cur
		next.PulledAt = r.Now()
		store.Images.Put(tx, &next)
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrNotLeader) { // a follower's pulls are not noted
		r.Log.Warn("cannot note a pull", "repository", repo, "error", err)
	}
}

// Secure has everything that images need outlast the loss of a server, where there is more than one. Errors are joined, one a blob.
func (r *Registry) Secure(ctx context.Context) error {
	needed := map[need][]string{}
	r.Store.View(func(tx store.Reader) { needed = needs(tx) })
	var failed []error
	for n := range needed {
		if err := r.in(n.scope).Secure(ctx, []string{n.digest}); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}
