package ecr

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createRepository(ctx context.Context, in *ecr.CreateRepositoryInput) (*ecr.CreateRepositoryOutput, error) {
	repo, err := a.newRepository(in)
	if err != nil {
		return nil, err
	}
	if repo.Repository.EncryptionConfiguration, err = a.encryption(ctx, in.EncryptionConfiguration); err != nil {
		return nil, err
	}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Repositories.Get(tx, repo.Name); ok {
			return model.Errorf("RepositoryAlreadyExistsException",
				"The repository with name '%s' already exists in the registry with id '%s'", repo.Name, a.Scope.Account)
		}
		store.Repositories.Put(tx, repo)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecr.CreateRepositoryOutput{Repository: &repo.Repository}, nil
}

// encryption is what a repository is encrypted with: the key by its ARN, which stays whatever becomes of its aliases.
func (a *api) encryption(ctx context.Context, e *types.EncryptionConfiguration) (*types.EncryptionConfiguration, error) {
	if e == nil {
		return registry.Encryption(a.Encrypt), nil
	}
	if e.EncryptionType == types.EncryptionTypeAes256 {
		return &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256}, nil
	}
	key := "alias/aws/ecr"
	if e.KmsKey != nil {
		key = *e.KmsKey
	}
	arn, err := a.Keys.UsableKey(ctx, key)
	if refusal, ok := errors.AsType[*model.Error](err); ok {
		return nil, &types.KmsException{Message: &refusal.Message, KmsError: &refusal.Code}
	}
	return &types.EncryptionConfiguration{EncryptionType: e.EncryptionType, KmsKey: &arn}, err
}

// newRepository validates the request and fills in ECR's defaults.
func (a *api) newRepository(in *ecr.CreateRepositoryInput) (*model.Repository, error) {
	if err := a.checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	if err := checkName(in.RepositoryName); err != nil {
		return nil, err
	}
	if err := checkMutability(in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters); err != nil {
		return nil, err
	}
	if err := a.checkEncryption(in.EncryptionConfiguration); err != nil {
		return nil, err
	}
	if err := a.checkScanning(in.ImageScanningConfiguration); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	name := *in.RepositoryName
	repo := &model.Repository{Name: name, Tags: in.Tags, Repository: types.Repository{
		CreatedAt:                          new(a.Now()),
		ImageScanningConfiguration:         in.ImageScanningConfiguration,
		ImageTagMutability:                 in.ImageTagMutability,
		ImageTagMutabilityExclusionFilters: in.ImageTagMutabilityExclusionFilters,
		RegistryId:                         &a.Scope.Account,
		RepositoryArn:                      new(a.arn(name)),
		RepositoryName:                     &name,
		RepositoryUri:                      new(a.uri(name)),
	}}
	if repo.Repository.ImageTagMutability == "" {
		repo.Repository.ImageTagMutability = types.ImageTagMutabilityMutable
	}
	if repo.Repository.ImageScanningConfiguration == nil {
		repo.Repository.ImageScanningConfiguration = &types.ImageScanningConfiguration{}
	}
	return repo, nil
}

func (a *api) arn(name string) string { return a.Scope.ARN("ecr", "repository/"+name) }

var exclusionFilter = regexp.MustCompile(`^[0-9a-zA-Z._*-]{1,128}$`)

func checkMutability(m types.ImageTagMutability, filters []types.ImageTagMutabilityExclusionFilter) error {
	excludes := m == types.ImageTagMutabilityImmutableWithExclusion || m == types.ImageTagMutabilityMutableWithExclusion
	switch {
	case m != "" && !slices.Contains(m.Values(), m):
		return invalid("imageTagMutability",
			"Member must satisfy enum value set: [IMMUTABLE, MUTABLE, MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION]")
	case excludes && len(filters) == 0:
		return model.Errorf("InvalidParameterException", "imageTagMutabilityExclusionFilters must be given with the tag mutability %s", m)
	case !excludes && len(filters) > 0:
		return model.Errorf("InvalidParameterException", "imageTagMutabilityExclusionFilters may be given with the tag mutabilities "+
			"MUTABLE_WITH_EXCLUSION and IMMUTABLE_WITH_EXCLUSION only")
	case len(filters) > 5:
		return invalid("imageTagMutabilityExclusionFilters", "Member must have length less than or equal to 5")
	}
	for _, f := range filters {
		if f.Filter == nil || !exclusionFilter.MatchString(*f.Filter) || strings.Count(*f.Filter, "*") > 2 {
			return invalid("imageTagMutabilityExclusionFilters", "must satisfy regular expression '[0-9a-zA-Z._*-]{1,128}', with at most two wildcards")
		}
		if f.FilterType != types.ImageTagMutabilityExclusionFilterTypeWildcard {
			return invalid("imageTagMutabilityExclusionFilters", "Member must satisfy enum value set: [WILDCARD]")
		}
	}
	return nil
}

// checkEncryption refuses what a repository cannot be encrypted with.
func (a *api) checkEncryption(e *types.EncryptionConfiguration) error {
	switch {
	case e == nil:
		return nil
	case !slices.Contains(e.EncryptionType.Values(), e.EncryptionType):
		return invalid("encryptionConfiguration.encryptionType", "Member must satisfy enum value set: [AES256, KMS, KMS_DSSE]")
	case a.Keys == nil:
		return model.Errorf("InvalidParameterException", "This Berth has no keys for the encryption type %s", e.EncryptionType)
	case e.EncryptionType == types.EncryptionTypeAes256 && e.KmsKey != nil:
		return model.Errorf("InvalidParameterException", "kmsKey may be given with the encryption types KMS and KMS_DSSE only")
	}
	return nil
}

func (a *api) describeRepositories(ctx context.Context, in *ecr.DescribeRepositoriesInput) (*ecr.DescribeRepositoriesOutput, error) {
	if err := a.checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	var repos []types.Repository
	var err error
	a.Store.View(func(tx store.Reader) {
		if len(in.RepositoryNames) > 0 {
			for _, name := range in.RepositoryNames {
				repo, ok := store.Repositories.Get(tx, name)
				if !ok {
					err = a.noRepository(name)
					return
				}
				repos = append(repos, repo.Repository)
			}
			return
		}
		for repo := range store.Repositories.Scan(tx, "") {
			repos = append(repos, repo.Repository)
		}
	})
	if err != nil {
		return nil, err
	}
	repos, next, err := page(repos, in.MaxResults, in.NextToken, func(r types.Repository) string { return *r.RepositoryName })
	return &ecr.DescribeRepositoriesOutput{Repositories: repos, NextToken: next}, err
}

func (a *api) deleteRepository(ctx context.Context, in *ecr.DeleteRepositoryInput) (*ecr.DeleteRepositoryOutput, error) {
	var gone *model.Repository
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		repo, err := a.repository(tx, in.RegistryId, in.RepositoryName)
		if err != nil {
			return err
		}
		images := slices.Collect(store.Images.By(tx, store.ByRepository, repo.Name))
		if len(images) > 0 && !in.Force {
			return model.Errorf("RepositoryNotEmptyException", "The repository with name '%s' in registry with id '%s' cannot be "+
				"deleted because it still contains images", repo.Name, a.Scope.Account)
		}
		for _, img := range images {
			store.Images.Delete(tx, img.Key())
		}
		for _, tag := range slices.Collect(store.ImageTags.By(tx, store.ByRepository, repo.Name)) {
			store.ImageTags.Delete(tx, tag.Key())
		}
		for _, b := range slices.Collect(store.RepositoryBlobs.By(tx, store.ByRepository, repo.Name)) {
			store.RepositoryBlobs.Delete(tx, b.Key())
		}
		store.Repositories.Delete(tx, repo.Name)
		gone = repo
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecr.DeleteRepositoryOutput{Repository: &gone.Repository}, nil
}

func (a *api) putImageTagMutability(ctx context.Context, in *ecr.PutImageTagMutabilityInput) (*ecr.PutImageTagMutabilityOutput, error) {
	if in.ImageTagMutability == "" {
		return nil, checkMutability("null", nil)
	}
	if err := checkMutability(in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters); err != nil {
		return nil, err
	}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		repo, err := a.repository(tx, in.RegistryId, in.RepositoryName)
		if err != nil {
			return err
		}
		next := *repo
		next.Repository.ImageTagMutability = in.ImageTagMutability
		next.Repository.ImageTagMutabilityExclusionFilters = in.ImageTagMutabilityExclusionFilters
		store.Repositories.Put(tx, &next)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecr.PutImageTagMutabilityOutput{ImageTagMutability: in.ImageTagMutability,
		ImageTagMutabilityExclusionFilters: in.ImageTagMutabilityExclusionFilters, RegistryId: &a.Scope.Account,
		RepositoryName: in.RepositoryName}, nil
}

// byARN changes the tags of the repository that an ARN names.
func (a *api) byARN(ctx context.Context, arn *string, change func([]types.Tag) ([]types.Tag, error)) error {
	prefix := a.arn("")
	if arn == nil || !strings.HasPrefix(*arn, prefix) {
		return invalid("resourceArn", "Invalid ARN")
	}
	name := strings.TrimPrefix(*arn, prefix)
	return a.Store.Update(ctx, func(tx store.Tx) error {
		repo, err := a.repository(tx, nil, &name)
		if err != nil {
			return err
		}
		next := *repo
		if next.Tags, err = change(slices.Clone(repo.Tags)); err != nil {
			return err
		}
		store.Repositories.Put(tx, &next)
		return nil
	})
}

// checkTags validates the tags of one request (ECR API reference, "Tag").
func checkTags(tags []types.Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		if t.Key == nil || *t.Key == "" || strings.HasPrefix(*t.Key, "aws:") || utf8.RuneCountInString(*t.Key) > 128 ||
			t.Value != nil && utf8.RuneCountInString(*t.Value) > 256 {
			return model.Errorf("InvalidTagParameterException", "A tag needs a key of 1 to 128 characters that does not begin with aws:, "+
				"and a value of at most 256")
		}
		if seen[*t.Key] {
			return model.Errorf("InvalidTagParameterException", "The tag key '%s' is specified more than once", *t.Key)
		}
		seen[*t.Key] = true
	}
	return checkNumber(tags)
}

func checkNumber(tags []types.Tag) error {
	if len(tags) > 50 {
		return model.Errorf("TooManyTagsException", "A repository may have at most 50 tags")
	}
	return nil
}

func (a *api) tagResource(ctx context.Context, in *ecr.TagResourceInput) (*ecr.TagResourceOutput, error) {
	return &ecr.TagResourceOutput{}, a.byARN(ctx, in.ResourceArn, func(tags []types.Tag) ([]types.Tag, error) {
		if err := checkTags(in.Tags); err != nil {
			return nil, err
		}
		for _, t := range in.Tags {
			i := slices.IndexFunc(tags, func(o types.Tag) bool { return *o.Key == *t.Key })
			if i >= 0 {
				tags[i] = t
			} else {
				tags = append(tags, t)
			}
		}
		return tags, checkNumber(tags)
	})
}

func (a *api) untagResource(ctx context.Context, in *ecr.UntagResourceInput) (*ecr.UntagResourceOutput, error) {
	return &ecr.UntagResourceOutput{}, a.byARN(ctx, in.ResourceArn, func(tags []types.Tag) ([]types.Tag, error) {
		return slices.DeleteFunc(tags, func(t types.Tag) bool { return slices.Contains(in.TagKeys, *t.Key) }), nil
	})
}

func (a *api) listTagsForResource(ctx context.Context, in *ecr.ListTagsForResourceInput) (*ecr.ListTagsForResourceOutput, error) {
	prefix := a.arn("")
	if in.ResourceArn == nil || !strings.HasPrefix(*in.ResourceArn, prefix) {
		return nil, invalid("resourceArn", "Invalid ARN")
	}
	out, err := &ecr.ListTagsForResourceOutput{Tags: []types.Tag{}}, error(nil)
	a.Store.View(func(tx store.Reader) {
		var repo *model.Repository
		if repo, err = a.repository(tx, nil, new(strings.TrimPrefix(*in.ResourceArn, prefix))); err == nil {
			out.Tags = append(out.Tags, repo.Tags...)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
