package ecr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
)

// Layers is the part of the registry that takes and gives layers.
type Layers interface {
	StartUpload(ctx context.Context, repo string) (id string, err error)
	AppendUpload(ctx context.Context, repo, id string, r io.Reader, start int64) (size int64, err error)
	FinishUpload(ctx context.Context, repo, id, digest string) (size int64, err error)
	// CopyLayer makes a layer the repository's under another digest of its content too. Errors: registry.ErrMismatch.
	CopyLayer(ctx context.Context, repo, digest, other string) error
	// Layer tells the size of a layer that the repository holds; an fs.ErrNotExist when it does not.
	Layer(ctx context.Context, repo, digest string) (size int64, err error)
	// LayerURL is where a layer can be had without logging in, for a while.
	LayerURL(repo, digest string, life time.Duration) string
}

// The bounds of layer parts (ECR API reference).
const (
	minPart = 5 << 20
	maxPart = 20 << 20
	urlLife = time.Hour
)

// parts remembers of uploads in progress whether a part was too small: only the last one may be, which CompleteLayerUpload tells.
type parts struct {
	mu    sync.Mutex
	small map[string]int // how many parts were small
}

func (p *parts) note(id string, small bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.small == nil || len(p.small) > 1<<14 {
		p.small = map[string]int{}
	}
	if small || p.small[id] > 0 {
		p.small[id]++
	}
}

// tooSmall tells whether a part before the last was.
func (p *parts) tooSmall(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer delete(p.small, id)
	return p.small[id] > 1
}

func (a *api) handleLayers(s *wire.Service) {
	wire.Handle(s, a.batchCheckLayerAvailability)
	wire.Handle(s, a.initiateLayerUpload)
	wire.Handle(s, a.uploadLayerPart)
	wire.Handle(s, a.completeLayerUpload)
	wire.Handle(s, a.getDownloadUrlForLayer)
}

func (a *api) batchCheckLayerAvailability(ctx context.Context, in *ecr.BatchCheckLayerAvailabilityInput) (*ecr.BatchCheckLayerAvailabilityOutput, error) {
	if n := len(in.LayerDigests); n < 1 || n > 100 {
		return nil, invalid("layerDigests", "must have length from 1 to 100")
	}
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	out := &ecr.BatchCheckLayerAvailabilityOutput{Layers: []types.Layer{}, Failures: []types.LayerFailure{}}
	for _, digest := range in.LayerDigests {
		if !layerDigest.MatchString(digest) {
			out.Failures = append(out.Failures, types.LayerFailure{FailureCode: types.LayerFailureCodeInvalidLayerDigest, LayerDigest: &digest,
				FailureReason: new("Invalid request parameters: layer digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")})
			continue
		}
		l := types.Layer{LayerDigest: &digest, LayerAvailability: types.LayerAvailabilityUnavailable}
		if size, err := a.Layers.Layer(ctx, repo.Name, digest); err == nil {
			l.LayerAvailability, l.LayerSize, l.MediaType = types.LayerAvailabilityAvailable, &size, new("application/vnd.docker.image.rootfs.diff.tar.gzip")
		}
		out.Layers = append(out.Layers, l)
	}
	return out, nil
}

var layerDigest = regexp.MustCompile(`^[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+$`)

func (a *api) initiateLayerUpload(ctx context.Context, in *ecr.InitiateLayerUploadInput) (*ecr.InitiateLayerUploadOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	id, err := a.Layers.StartUpload(ctx, repo.Name)
	if err != nil {
		return nil, named(err)
	}
	return &ecr.InitiateLayerUploadOutput{UploadId: &id, PartSize: new(int64(maxPart))}, err
}

// upload turns a refusal of the registry into that of a layer's upload.
func (a *api) upload(err error, repo string, id *string) error {
	switch {
	case errors.Is(err, registry.ErrUploadUnknown):
		return model.Errorf("UploadNotFoundException", "The upload could not be found, or the specified upload ID is not valid for this repository.")
	case errors.Is(err, registry.ErrMismatch):
		return model.Errorf("InvalidLayerException", "The layer digest calculation performed by Amazon ECR upon receipt of the image layer "+
			"does not match the digest specified.")
	case errors.Is(err, registry.ErrDigest):
		return invalid("layerDigests", registry.ErrDigest.Error())
	}
	return named(err)
}

func (a *api) uploadLayerPart(ctx context.Context, in *ecr.UploadLayerPartInput) (*ecr.UploadLayerPartOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	switch n := int64(len(in.LayerPartBlob)); {
	case in.UploadId == nil || in.PartFirstByte == nil || in.PartLastByte == nil:
		return nil, model.Errorf("InvalidParameterException", "uploadId, partFirstByte and partLastByte must be given")
	case n == 0 || n > maxPart:
		return nil, invalid("layerPartBlob", "must have length from 1 to 20971520")
	case *in.PartFirstByte < 0 || *in.PartLastByte-*in.PartFirstByte+1 != n:
		return nil, model.Errorf("InvalidParameterException", "Invalid parameter at 'partLastByte': the part has %d bytes", n)
	}
	size, err := a.Layers.AppendUpload(ctx, repo.Name, *in.UploadId, bytes.NewReader(in.LayerPartBlob), *in.PartFirstByte)
	if errors.Is(err, registry.ErrRange) {
		return nil, &types.InvalidLayerPartException{LastValidByteReceived: new(size - 1), RegistryId: &a.Scope.Account, RepositoryName: &repo.Name,
			UploadId: in.UploadId, Message: new(fmt.Sprintf("The layer part size is not valid, or the first byte specified is not consecutive to "+
				"the last byte of a previous layer part upload: the upload has %d bytes.", size))}
	}
	if err != nil {
		return nil, a.upload(err, repo.Name, in.UploadId)
	}
	a.parts.note(*in.UploadId, len(in.LayerPartBlob) < minPart)
	return &ecr.UploadLayerPartOutput{LastByteReceived: in.PartLastByte, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name, UploadId: in.UploadId}, nil
}

// digestsOf are a layer's digests, each once: two of one algorithm cannot both be right.
func digestsOf(all []string) (first string, others []string, err error) {
	kinds := map[string]string{}
	for _, d := range all {
		kind, _, _ := strings.Cut(d, ":")
		if was, ok := kinds[kind]; ok && was != d {
			return "", nil, model.Errorf("InvalidLayerException", "The layer digest calculation performed by Amazon ECR upon receipt of the image layer "+
				"does not match the digest specified.")
		} else if !ok && len(kinds) > 0 {
			others = append(others, d)
		}
		kinds[kind] = d
	}
	return all[0], others, nil
}

func (a *api) completeLayerUpload(ctx context.Context, in *ecr.CompleteLayerUploadInput) (*ecr.CompleteLayerUploadOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	if n := len(in.LayerDigests); n < 1 || n > 100 || in.UploadId == nil {
		return nil, invalid("layerDigests", "must have length from 1 to 100")
	}
	digest, others, err := digestsOf(in.LayerDigests)
	if err != nil {
		return nil, err
	}
	if _, err := a.Layers.Layer(ctx, repo.Name, digest); err == nil {
		return nil, model.Errorf("LayerAlreadyExistsException", "The layer with digest '%s' already exists in the repository with name '%s' in "+
			"registry with id '%s'", digest, repo.Name, a.Scope.Account)
	}
	if size, err := a.Layers.AppendUpload(ctx, repo.Name, *in.UploadId, bytes.NewReader(nil), -1); err != nil {
		return nil, a.upload(err, repo.Name, in.UploadId)
	} else if size == 0 {
		return nil, model.Errorf("EmptyUploadException", "The specified layer upload does not contain any layer parts.")
	}
	if a.parts.tooSmall(*in.UploadId) {
		return nil, model.Errorf("LayerPartTooSmallException", "Layer parts must be at least 5 MiB in size.")
	}
	if _, err := a.Layers.FinishUpload(ctx, repo.Name, *in.UploadId, digest); err != nil {
		return nil, a.upload(err, repo.Name, in.UploadId)
	}
	for _, other := range others {
		if err := a.Layers.CopyLayer(ctx, repo.Name, digest, other); err != nil {
			return nil, a.upload(err, repo.Name, in.UploadId)
		}
	}
	return &ecr.CompleteLayerUploadOutput{LayerDigest: &digest, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name, UploadId: in.UploadId}, nil
}

func (a *api) getDownloadUrlForLayer(ctx context.Context, in *ecr.GetDownloadUrlForLayerInput) (*ecr.GetDownloadUrlForLayerOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	if in.LayerDigest == nil || !layerDigest.MatchString(*in.LayerDigest) {
		return nil, invalid("layerDigest", "must satisfy regular expression '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")
	}
	if _, err := a.Layers.Layer(ctx, repo.Name, *in.LayerDigest); err != nil {
		return nil, model.Errorf("LayersNotFoundException", "The layer with digest '%s' does not exist in the repository with name '%s' in the "+
			"registry with id '%s'", *in.LayerDigest, repo.Name, a.Scope.Account)
	}
	return &ecr.GetDownloadUrlForLayerOutput{LayerDigest: in.LayerDigest,
		DownloadUrl: new("http://" + a.Host + a.Layers.LayerURL(repo.Name, *in.LayerDigest, urlLife))}, nil
}
