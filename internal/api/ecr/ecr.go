// Package ecr is the Elastic Container Registry API over the platform's own registry: repositories, tokens and images. The
// bytes of layers go through the OCI API (package registry).
package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
)

// Manifests is the part of the registry that the API works on.
type Manifests interface {
	GetManifest(ctx context.Context, repo, reference string) (*registry.Manifest, error)
	PutManifest(ctx context.Context, repo, reference, mediaType string, content []byte, tags ...string) (*model.Image, error)
	DeleteManifest(ctx context.Context, repo, reference string) error
}

// Tokens issues passwords for the user AWS.
type Tokens interface {
	IssueRegistryToken(c wire.Caller, ttl time.Duration) (token string, expires time.Time)
}

// Keys finds the key that a repository is to be encrypted with.
type Keys interface {
	// UsableKey returns the ARN of a key that is enabled, by any of its names. Errors: *model.Error, as KMS has them.
	UsableKey(ctx context.Context, name string) (arn string, err error)
}

// Config is what the API needs.
type Config struct {
	Store     store.Store
	Scope     model.Scope
	Manifests Manifests
	Layers    Layers
	Upstreams Upstreams
	Peers     Peers
	Scanner   Scanner // nil: images are not scanned
	Keys      Keys    // nil: there are none to encrypt repositories with
	Tokens    Tokens
	// Encrypt has repositories be of type AES256 that nobody asked another type for; else they are not encrypted, and have none.
	Encrypt bool
	// Host is the host:port under which docker reaches the registry, such as "localhost:4566".
	Host string
	Now  func() time.Time
	Log  *slog.Logger
}

type api struct {
	Config
	parts parts
}

// tokenLife is how long a password of GetAuthorizationToken is good for (ECR API reference).
const tokenLife = 12 * time.Hour

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{Config: c}
	if a.Upstreams == nil {
		a.Upstreams = nobody{}
	}
	if a.Peers == nil {
		a.Peers = nobody{}
	}
	s := &wire.Service{Name: "ecr", Protocol: wire.JSON11, Target: "AmazonEC2ContainerRegistry_V20150921",
		Types: ecr.TypeRegistry, Asks: a.asks}
	wire.Handle(s, a.getAuthorizationToken)
	wire.Handle(s, a.createRepository)
	wire.Handle(s, a.describeRepositories)
	wire.Handle(s, a.deleteRepository)
	wire.Handle(s, a.putImageTagMutability)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	wire.Handle(s, a.describeImages)
	wire.Handle(s, a.listImages)
	wire.Handle(s, a.batchGetImage)
	wire.Handle(s, a.batchDeleteImage)
	wire.Handle(s, a.putImage)
	a.handleLayers(s)
	a.handleLifecycle(s)
	a.handlePolicies(s)
	a.handleSettings(s)
	a.handleTemplates(s)
	a.handleUpstreams(s)
	a.handleReplication(s)
	a.handleScanning(s)
	return s
}

// nobody is there to be reached.
type nobody struct{}

// Ping implements Upstreams.
func (nobody) Ping(context.Context, *model.PullThroughRule) error {
	return errors.New("this Berth reaches no upstream registry")
}

// Knows implements Peers.
func (nobody) Knows(string, string) bool { return false }

func (a *api) getAuthorizationToken(ctx context.Context, in *ecr.GetAuthorizationTokenInput) (*ecr.GetAuthorizationTokenOutput, error) {
	token, expires := a.Tokens.IssueRegistryToken(wire.CallerFrom(ctx), tokenLife)
	auth := base64.StdEncoding.EncodeToString([]byte("AWS:" + token))
	endpoint := "http://" + a.Host
	return &ecr.GetAuthorizationTokenOutput{AuthorizationData: []types.AuthorizationData{
		{AuthorizationToken: &auth, ExpiresAt: &expires, ProxyEndpoint: &endpoint}}}, nil
}

// namePattern is ECR's own (registry.md, "Error texts").
const namePattern = `(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*`

var nameRegexp = regexp.MustCompile(`^` + namePattern + `$`)

func invalid(parameter, constraint string) error {
	return model.Errorf("InvalidParameterException", "Invalid parameter at '%s' failed to satisfy constraint: '%s'", parameter, constraint)
}

func checkName(name *string) error {
	switch {
	case name == nil || len(*name) < 2:
		return invalid("repositoryName", "must have length greater than or equal to 2")
	case len(*name) > 256:
		return invalid("repositoryName", "must have length less than or equal to 256")
	case !nameRegexp.MatchString(*name):
		return invalid("repositoryName", "must satisfy regular expression '"+namePattern+"'")
	}
	return nil
}

// checkRegistry refuses another account's registry.
func (a *api) checkRegistry(id *string) error {
	if id != nil && *id != "" && *id != a.Scope.Account {
		return model.Errorf("AccessDeniedException", "Berth serves the registry with id '%s' only, not '%s'", a.Scope.Account, *id)
	}
	return nil
}

// repository returns the repository of that name after checking both parameters.
func (a *api) repository(tx store.Reader, registryID, name *string) (*model.Repository, error) {
	if err := a.checkRegistry(registryID); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if repo, ok := store.Repositories.Get(tx, *name); ok {
		return repo, nil
	}
	return nil, a.noRepository(*name)
}

func (a *api) noRepository(name string) error {
	return model.Errorf("RepositoryNotFoundException", "The repository with name '%s' does not exist in the registry with id '%s'",
		name, a.Scope.Account)
}

func (a *api) uri(name string) string { return fmt.Sprintf("%s/%s", a.Host, name) }
