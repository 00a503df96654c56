package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) describeImages(ctx context.Context, in *ecr.DescribeImagesInput) (*ecr.DescribeImagesOutput, error) {
	details := []types.ImageDetail{}
	var err error
	a.Store.View(func(tx store.Reader) {
		var repo *model.Repository
		if repo, err = a.repository(tx, in.RegistryId, in.RepositoryName); err != nil {
			return
		}
		if len(in.ImageIds) > 0 {
			for _, id := range in.ImageIds {
				img, failure := a.find(tx, repo.Name, id)
				if failure != nil {
					err = a.imageNotFound(repo.Name, id)
					return
				}
				details = append(details, a.detail(img))
			}
			return
		}
		for img := range store.Images.By(tx, store.ByRepository, repo.Name) {
			if in.Filter == nil || tagged(in.Filter.TagStatus, len(img.Tags) > 0) && hasStatus(in.Filter.ImageStatus, img) {
				details = append(details, a.detail(img))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	details, next, err := page(details, in.MaxResults, in.NextToken, func(d types.ImageDetail) string { return *d.ImageDigest })
	return &ecr.DescribeImagesOutput{ImageDetails: details, NextToken: next}, err
}

func (a *api) detail(img *model.Image) types.ImageDetail {
	d := types.ImageDetail{ImageDigest: &img.Digest, ImageManifestMediaType: &img.MediaType, ImagePushedAt: &img.PushedAt,
		ImageSizeInBytes: &img.Size, ImageTags: img.Tags, RegistryId: &a.Scope.Account, RepositoryName: &img.Repository,
		ImageStatus: types.ImageStatusActive}
	if len(img.Tags) == 0 {
		d.ImageTags = nil
	}
	if img.ArtifactType != "" {
		d.ArtifactMediaType = &img.ArtifactType
	}
	if img.Subject != "" {
		d.SubjectManifestDigest = &img.Subject
	}
	if img.Archived {
		d.ImageStatus, d.LastArchivedAt = types.ImageStatusArchived, &img.ArchivedAt
	}
	if !img.ActivatedAt.IsZero() {
		d.LastActivatedAt = &img.ActivatedAt
	}
	if !img.PulledAt.IsZero() {
		d.LastRecordedPullTime = &img.PulledAt
	}
	return d
}

func tagged(want types.TagStatus, has bool) bool {
	switch want {
	case types.TagStatusTagged:
		return has
	case types.TagStatusUntagged:
		return !has
	}
	return true
}

// hasStatus tells whether an image is in the storage that a filter asks for; without one, in any.
func hasStatus(want types.ImageStatusFilter, img *model.Image) bool {
	switch want {
	case types.ImageStatusFilterActive:
		return !img.Archived
	case types.ImageStatusFilterArchived:
		return img.Archived
	}
	return want == "" || want == types.ImageStatusFilterAny
}

func (a *api) listImages(ctx context.Context, in *ecr.ListImagesInput) (*ecr.ListImagesOutput, error) {
	ids := []types.ImageIdentifier{}
	var err error
	a.Store.View(func(tx store.Reader) {
		var repo *model.Repository
		if repo, err = a.repository(tx, in.RegistryId, in.RepositoryName); err != nil {
			return
		}
		for img := range store.Images.By(tx, store.ByRepository, repo.Name) {
			if in.Filter != nil && !(tagged(in.Filter.TagStatus, len(img.Tags) > 0) && hasStatus(in.Filter.ImageStatus, img)) {
				continue
			}
			for _, tag := range img.Tags {
				ids = append(ids, types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: &tag})
			}
			if len(img.Tags) == 0 {
				ids = append(ids, types.ImageIdentifier{ImageDigest: &img.Digest})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := page(ids, in.MaxResults, in.NextToken, func(id types.ImageIdentifier) string {
		if id.ImageTag != nil {
			return *id.ImageDigest + ":" + *id.ImageTag
		}
		return *id.ImageDigest
	})
	return &ecr.ListImagesOutput{ImageIds: ids, NextToken: next}, err
}

var digestShape = regexp.MustCompile(`^[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+$`)

const notFound = "Requested image not found"

func failed(id types.ImageIdentifier, code types.ImageFailureCode, reason string) *types.ImageFailure {
	return &types.ImageFailure{FailureCode: code, FailureReason: &reason, ImageId: &id}
}

// find returns the image that an identifier names, or why there is none.
func (a *api) find(tx store.Reader, repo string, id types.ImageIdentifier) (*model.Image, *types.ImageFailure) {
	if id.ImageDigest == nil && id.ImageTag == nil {
		return nil, failed(id, types.ImageFailureCodeMissingDigestAndTag, "Invalid request parameters: both tag and digest cannot be null")
	}
	if id.ImageDigest != nil && !digestShape.MatchString(*id.ImageDigest) {
		return nil, failed(id, types.ImageFailureCodeInvalidImageDigest,
			"Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")
	}
	digest := ""
	if id.ImageDigest != nil {
		digest = *id.ImageDigest
	}
	if id.ImageTag != nil {
		tag, ok := store.ImageTags.Get(tx, repo+":"+*id.ImageTag)
		if !ok {
			return nil, failed(id, types.ImageFailureCodeImageNotFound, notFound)
		}
		if digest != "" && digest != tag.Digest {
			return nil, failed(id, types.ImageFailureCodeImageTagDoesNotMatchDigest, "Image tag does not match digest")
		}
		digest = tag.Digest
	}
	if img, ok := store.Images.Get(tx, repo+"@"+digest); ok {
		return img, nil
	}
	return nil, failed(id, types.ImageFailureCodeImageNotFound, notFound)
}

func (a *api) imageNotFound(repo string, id types.ImageIdentifier) error {
	quote := func(s *string) string {
		if s == nil {
			return "'null'"
		}
		return "'" + *s + "'"
	}
	return model.Errorf("ImageNotFoundException", "The image with imageId {imageDigest:%s, imageTag:%s} does not exist within the "+
		"repository with name '%s' in the registry with id '%s'", quote(id.ImageDigest), quote(id.ImageTag), repo, a.Scope.Account)
}

func (a *api) batchGetImage(ctx context.Context, in *ecr.BatchGetImageInput) (*ecr.BatchGetImageOutput, error) {
	out := &ecr.BatchGetImageOutput{Images: []types.Image{}, Failures: []types.ImageFailure{}}
	found, failures, err := a.findAll(in.RegistryId, in.RepositoryName, in.ImageIds)
	if err != nil {
		return nil, err
	}
	out.Failures = append(out.Failures, failures...)
	for _, f := range found {
		m, err := a.Manifests.GetManifest(ctx, *in.RepositoryName, f.image.Digest)
		if k, ok := errors.AsType[*registry.KMSError](err); ok {
			out.Failures = append(out.Failures, *failed(f.id, types.ImageFailureCodeKmsError, k.Error()))
			continue
		}
		if err != nil {
			return nil, named(err)
		}
		if len(in.AcceptedMediaTypes) > 0 && !slices.Contains(in.AcceptedMediaTypes, m.MediaType) {
			out.Failures = append(out.Failures, types.ImageFailure{FailureCode: types.ImageFailureCodeImageNotFound,
				FailureReason: new("The image is a " + m.MediaType + ", which acceptedMediaTypes does not list"), ImageId: &f.id})
			continue
		}
		out.Images = append(out.Images, a.image(f.image, f.id.ImageTag, m))
	}
	return out, nil
}

func (a *api) image(img *model.Image, tag *string, m *registry.Manifest) types.Image {
	return types.Image{ImageId: &types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: tag},
		ImageManifest: new(string(m.Content)), ImageManifestMediaType: &m.MediaType,
		RegistryId: &a.Scope.Account, RepositoryName: &img.Repository}
}

type match struct {
	id    types.ImageIdentifier
	image *model.Image
}

// findAll resolves up to 100 identifiers (ECR API reference).
func (a *api) findAll(registryID, name *string, ids []types.ImageIdentifier) (found []match, failures []types.ImageFailure, err error) {
	if len(ids) == 0 || len(ids) > 100 {
		return nil, nil, invalid("imageIds", "must have length from 1 to 100")
	}
	a.Store.View(func(tx store.Reader) {
		var repo *model.Repository
		if repo, err = a.repository(tx, registryID, name); err != nil {
			return
		}
		for _, id := range ids {
			if img, failure := a.find(tx, repo.Name, id); failure != nil {
				failures = append(failures, *failure)
			} else {
				found = append(found, match{id, img})
			}
		}
	})
	return found, failures, err
}

func (a *api) batchDeleteImage(ctx context.Context, in *ecr.BatchDeleteImageInput) (*ecr.BatchDeleteImageOutput, error) {
	out := &ecr.BatchDeleteImageOutput{ImageIds: []types.ImageIdentifier{}, Failures: []types.ImageFailure{}}
	found, failures, err := a.findAll(in.RegistryId, in.RepositoryName, in.ImageIds)
	if err != nil {
		return nil, err
	}
	out.Failures = append(out.Failures, failures...)
	for _, f := range found {
		img, failure, err := a.deleteImage(ctx, f)
		if err != nil {
			return nil, err
		}
		if failure != nil {
			out.Failures = append(out.Failures, *failure)
			continue
		}
		if f.id.ImageTag != nil && f.id.ImageDigest == nil {
			out.ImageIds = append(out.ImageIds, types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: f.id.ImageTag})
			continue
		}
		for _, tag := range img.Tags {
			out.ImageIds = append(out.ImageIds, types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: &tag})
		}
		if len(img.Tags) == 0 {
			out.ImageIds = append(out.ImageIds, types.ImageIdentifier{ImageDigest: &img.Digest})
		}
	}
	return out, nil
}

// deleteImage removes a tag (and the image with its last tag) or, by digest, the whole image, which no index may refer to. It looks
// again at what there is: an identifier before this one may have meant the same image.
func (a *api) deleteImage(ctx context.Context, m match) (img *model.Image, failure *types.ImageFailure, err error) {
	var parent string
	a.Store.View(func(tx store.Reader) {
		if img, failure = a.find(tx, m.image.Repository, m.id); failure != nil {
			return
		}
		for other := range store.Images.By(tx, store.ByRepository, img.Repository) {
			if slices.Contains(other.Children, img.Digest) {
				parent = other.Digest
			}
		}
	})
	if failure != nil {
		return nil, failure, nil
	}
	reference := img.Digest
	if m.id.ImageDigest == nil && len(img.Tags) > 1 {
		reference, parent = *m.id.ImageTag, ""
	}
	if parent != "" {
		return nil, failed(m.id, types.ImageFailureCodeImageReferencedByManifestList,
			"Requested image referenced by manifest list: ["+parent+"]"), nil
	}
	err = a.Manifests.DeleteManifest(ctx, img.Repository, reference)
	if gone, ok := errors.AsType[*registry.Error](err); ok && gone.Status == http.StatusNotFound { // between the look and now
		return nil, failed(m.id, types.ImageFailureCodeImageNotFound, notFound), nil
	}
	return img, nil, err
}

func (a *api) putImage(ctx context.Context, in *ecr.PutImageInput) (*ecr.PutImageOutput, error) {
	var err error
	var exists bool
	a.Store.View(func(tx store.Reader) {
		if _, err = a.repository(tx, in.RegistryId, in.RepositoryName); err == nil && in.ImageTag != nil && in.ImageManifest != nil {
			if tag, ok := store.ImageTags.Get(tx, *in.RepositoryName+":"+*in.ImageTag); ok {
				exists = tag.Digest == digestOf(*in.ImageManifest)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if in.ImageManifest == nil || len(*in.ImageManifest) > registry.MaxManifest {
		return nil, invalid("imageManifest", "must have length from 1 to 4194304")
	}
	reference := digestOf(*in.ImageManifest)
	if in.ImageDigest != nil && *in.ImageDigest != reference {
		return nil, model.Errorf("ImageDigestDoesNotMatchException",
			"The image digest '%s' does not match the digest '%s' that the registry calculated", *in.ImageDigest, reference)
	}
	if exists {
		return nil, model.Errorf("ImageAlreadyExistsException", "Image with digest '%s' and tag '%s' already exists in the repository "+
			"with name '%s' in registry with id '%s'", reference, *in.ImageTag, *in.RepositoryName, a.Scope.Account)
	}
	if in.ImageTag != nil {
		reference = *in.ImageTag
	}
	mediaType := ""
	if in.ImageManifestMediaType != nil {
		mediaType = *in.ImageManifestMediaType
	}
	img, err := a.Manifests.PutManifest(ctx, *in.RepositoryName, reference, mediaType, []byte(*in.ImageManifest))
	if err != nil {
		return nil, named(err)
	}
	m := &registry.Manifest{Digest: img.Digest, MediaType: img.MediaType, Content: []byte(*in.ImageManifest)}
	return &ecr.PutImageOutput{Image: new(a.image(img, in.ImageTag, m))}, nil
}

// page cuts a list at maxResults (at most 1,000, 100 by default; ECR API reference). The token is the last key given.
func page[T any](all []T, maxResults *int32, token *string, key func(T) string) ([]T, *string, error) {
	n := 100
	if maxResults != nil {
		if n = int(*maxResults); n < 1 || n > 1000 {
			return nil, nil, invalid("maxResults", "Member must have value between 1 and 1000")
		}
	}
	if token != nil {
		last, err := base64.StdEncoding.DecodeString(*token)
		if err != nil {
			return nil, nil, invalid("nextToken", "Invalid token")
		}
		i := slices.IndexFunc(all, func(v T) bool { return key(v) > string(last) })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	if len(all) <= n {
		return append([]T{}, all...), nil, nil
	}
	next := base64.StdEncoding.EncodeToString([]byte(key(all[n-1])))
	return all[:n], &next, nil
}
