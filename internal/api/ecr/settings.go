package ecr

import (
	"cmp"
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) handleSettings(s *wire.Service) {
	wire.Handle(s, a.getAccountSetting)
	wire.Handle(s, a.putAccountSetting)
	wire.Handle(s, a.putSigningConfiguration)
	wire.Handle(s, a.getSigningConfiguration)
	wire.Handle(s, a.deleteSigningConfiguration)
	wire.Handle(s, a.describeImageSigningStatus)
	wire.Handle(s, a.registerPullTimeUpdateExclusion)
	wire.Handle(s, a.deregisterPullTimeUpdateExclusion)
	wire.Handle(s, a.listPullTimeUpdateExclusions)
	wire.Handle(s, a.updateImageStorageClass)
	wire.Handle(s, a.listImageReferrers)
}

// accountSettings are the settings that exist, with their values; the first is the default (ECR API reference).
var accountSettings = map[string][]string{
	"BASIC_SCAN_TYPE_VERSION": {"AWS_NATIVE", "CLAIR"},
	"REGISTRY_POLICY_SCOPE":   {"V2", "V1"},
	"BLOB_MOUNTING":           {"ENABLED", "DISABLED"},
}

func checkSetting(name *string) (string, error) {
	if name == nil || accountSettings[*name] == nil {
		return "", invalid("name", "Member must satisfy enum value set: ["+strings.Join(slices.Sorted(maps.Keys(accountSettings)), ", ")+"]")
	}
	return *name, nil
}

func (a *api) getAccountSetting(ctx context.Context, in *ecr.GetAccountSettingInput) (*ecr.GetAccountSettingOutput, error) {
	name, err := checkSetting(in.Name)
	if err != nil {
		return nil, err
	}
	return &ecr.GetAccountSettingOutput{Name: &name, Value: new(cmp.Or(a.registrySettings().Account[name], accountSettings[name][0]))}, nil
}

func (a *api) putAccountSetting(ctx context.Context, in *ecr.PutAccountSettingInput) (*ecr.PutAccountSettingOutput, error) {
	name, err := checkSetting(in.Name)
	if err != nil {
		return nil, err
	}
	if in.Value == nil || !slices.Contains(accountSettings[name], *in.Value) {
		return nil, invalid("value", "Member must satisfy enum value set: ["+strings.Join(accountSettings[name], ", ")+"]")
	}
	err = a.changeSettings(ctx, func(s *model.RegistrySettings) error {
		s.Account = maps.Clone(s.Account)
		if s.Account == nil {
			s.Account = map[string]string{}
		}
		s.Account[name] = *in.Value
		return nil
	})
	return &ecr.PutAccountSettingOutput{Name: &name, Value: in.Value}, err
}

var signingProfile = regexp.MustCompile(`^arn:aws(-[a-z]+)*:signer:[a-z0-9-]+:[0-9]{12}:/signing-profiles/[a-zA-Z0-9_]{2,}$`)

func (a *api) putSigningConfiguration(ctx context.Context, in *ecr.PutSigningConfigurationInput) (*ecr.PutSigningConfigurationOutput, error) {
	c := in.SigningConfiguration
	if c == nil || len(c.Rules) > 10 {
		return nil, model.Errorf("ValidationException", "signingConfiguration must be given, with at most 10 rules")
	}
	for _, r := range c.Rules {
		if r.SigningProfileArn == nil || !signingProfile.MatchString(*r.SigningProfileArn) {
			return nil, model.Errorf("ValidationException", "signingProfileArn must be the ARN of a signing profile")
		}
		for _, f := range r.RepositoryFilters {
			if f.Filter == nil || f.FilterType != types.SigningRepositoryFilterTypeWildcardMatch {
				return nil, model.Errorf("ValidationException", "a repository filter needs a filter of type WILDCARD_MATCH")
			}
		}
	}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error { s.Signing = c; return nil })
	return &ecr.PutSigningConfigurationOutput{SigningConfiguration: c}, err
}

func (a *api) noSigning() error {
	return model.Errorf("SigningConfigurationNotFoundException", "Signing configuration does not exist in the registry with id '%s'", a.Scope.Account)
}

func (a *api) getSigningConfiguration(ctx context.Context, in *ecr.GetSigningConfigurationInput) (*ecr.GetSigningConfigurationOutput, error) {
	s := a.registrySettings()
	if s.Signing == nil {
		return nil, a.noSigning()
	}
	return &ecr.GetSigningConfigurationOutput{RegistryId: &a.Scope.Account, SigningConfiguration: s.Signing}, nil
}

func (a *api) deleteSigningConfiguration(ctx context.Context, in *ecr.DeleteSigningConfigurationInput) (*ecr.DeleteSigningConfigurationOutput, error) {
	out := &ecr.DeleteSigningConfigurationOutput{RegistryId: &a.Scope.Account}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error {
		if s.Signing == nil {
			return a.noSigning()
		}
		out.SigningConfiguration, s.Signing = s.Signing, nil
		return nil
	})
	return out, err
}

// describeImageSigningStatus says of each rule that is about the repository that Berth signed nothing: it keeps the configuration only.
func (a *api) describeImageSigningStatus(ctx context.Context, in *ecr.DescribeImageSigningStatusInput) (*ecr.DescribeImageSigningStatusOutput, error) {
	repo, img, err := a.one(in.RegistryId, in.RepositoryName, in.ImageId)
	if err != nil {
		return nil, err
	}
	out := &ecr.DescribeImageSigningStatusOutput{ImageId: &types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: in.ImageId.ImageTag},
		RegistryId: &a.Scope.Account, RepositoryName: &repo.Name, SigningStatuses: []types.ImageSigningStatus{}}
	s := a.registrySettings()
	if s.Signing == nil {
		return out, nil
	}
	for _, r := range s.Signing.Rules {
		about := len(r.RepositoryFilters) == 0 || slices.ContainsFunc(r.RepositoryFilters, func(f types.SigningRepositoryFilter) bool {
			return wildcard(*f.Filter, repo.Name)
		})
		if about {
			out.SigningStatuses = append(out.SigningStatuses, types.ImageSigningStatus{SigningProfileArn: r.SigningProfileArn, Status: types.SigningStatusFailed,
				FailureCode: new("SigningNotSupported"), FailureReason: new("Berth keeps signing configurations and signs nothing: sign with notation or cosign")})
		}
	}
	return out, nil
}

// one finds one image, which must be there.
func (a *api) one(registryID, name *string, id *types.ImageIdentifier) (repo *model.Repository, img *model.Image, err error) {
	if id == nil {
		return nil, nil, invalid("imageId", "Member must not be null")
	}
	a.Store.View(func(tx store.Reader) {
		if repo, err = a.repository(tx, registryID, name); err != nil {
			return
		}
		var failure *types.ImageFailure
		if img, failure = a.find(tx, repo.Name, *id); failure != nil {
			if err = a.imageNotFound(repo.Name, *id); failure.FailureCode != types.ImageFailureCodeImageNotFound {
				err = model.Errorf("InvalidParameterException", "%s", *failure.FailureReason)
			}
		}
	})
	return repo, img, err
}

var principalARN = regexp.MustCompile(`^arn:aws(-[a-z]+)*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+$`)

func checkPrincipal(arn *string) error {
	if arn == nil || !principalARN.MatchString(*arn) || len(*arn) > 200 {
		return model.Errorf("ValidationException", "principalArn must be the ARN of an IAM role or user")
	}
	return nil
}

func (a *api) registerPullTimeUpdateExclusion(ctx context.Context, in *ecr.RegisterPullTimeUpdateExclusionInput) (*ecr.RegisterPullTimeUpdateExclusionOutput, error) {
	if err := checkPrincipal(in.PrincipalArn); err != nil {
		return nil, err
	}
	at := a.Now()
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error {
		if _, ok := s.Exclusions[*in.PrincipalArn]; ok {
			return model.Errorf("ExclusionAlreadyExistsException", "The pull time update exclusion for '%s' already exists in the registry with id '%s'",
				*in.PrincipalArn, a.Scope.Account)
		}
		if len(s.Exclusions) >= 100 {
			return model.Errorf("LimitExceededException", "A registry has at most 100 pull time update exclusions")
		}
		next := map[string]time.Time{}
		maps.Copy(next, s.Exclusions)
		next[*in.PrincipalArn] = at
		s.Exclusions = next
		return nil
	})
	return &ecr.RegisterPullTimeUpdateExclusionOutput{CreatedAt: &at, PrincipalArn: in.PrincipalArn}, err
}

func (a *api) deregisterPullTimeUpdateExclusion(ctx context.Context, in *ecr.DeregisterPullTimeUpdateExclusionInput) (*ecr.DeregisterPullTimeUpdateExclusionOutput, error) {
	if err := checkPrincipal(in.PrincipalArn); err != nil {
		return nil, err
	}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error {
		if _, ok := s.Exclusions[*in.PrincipalArn]; !ok {
			return model.Errorf("ExclusionNotFoundException", "The pull time update exclusion for '%s' does not exist in the registry with id '%s'",
				*in.PrincipalArn, a.Scope.Account)
		}
		s.Exclusions = maps.Clone(s.Exclusions)
		delete(s.Exclusions, *in.PrincipalArn)
		return nil
	})
	return &ecr.DeregisterPullTimeUpdateExclusionOutput{PrincipalArn: in.PrincipalArn}, err
}

func (a *api) listPullTimeUpdateExclusions(ctx context.Context, in *ecr.ListPullTimeUpdateExclusionsInput) (*ecr.ListPullTimeUpdateExclusionsOutput, error) {
	all, next, err := page(slices.Sorted(maps.Keys(a.registrySettings().Exclusions)), in.MaxResults, in.NextToken, func(s string) string { return s })
	return &ecr.ListPullTimeUpdateExclusionsOutput{PullTimeUpdateExclusions: all, NextToken: next}, err
}

// updateImageStorageClass archives an image or brings it back. Its bytes stay where they are: what an archived image has is that it
// cannot be pulled.
func (a *api) updateImageStorageClass(ctx context.Context, in *ecr.UpdateImageStorageClassInput) (*ecr.UpdateImageStorageClassOutput, error) {
	if in.TargetStorageClass != types.TargetStorageClassArchive && in.TargetStorageClass != types.TargetStorageClassStandard {
		return nil, invalid("targetStorageClass", "Member must satisfy enum value set: [STANDARD, ARCHIVE]")
	}
	repo, img, err := a.one(in.RegistryId, in.RepositoryName, in.ImageId)
	if err != nil {
		return nil, err
	}
	archive := in.TargetStorageClass == types.TargetStorageClassArchive
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.Images.Get(tx, img.Key())
		if !ok {
			return a.imageNotFound(repo.Name, *in.ImageId)
		}
		if cur.Archived == archive {
			return model.Errorf("ImageStorageClassUpdateNotSupportedException", "The image is in the storage class %s already", in.TargetStorageClass)
		}
		next := *cur
		if next.Archived = archive; archive {
			next.ArchivedAt = a.Now()
		} else {
			next.ActivatedAt = a.Now()
		}
		store.Images.Put(tx, &next)
		return nil
	})
	status := types.ImageStatusActive
	if archive {
		status = types.ImageStatusArchived
	}
	return &ecr.UpdateImageStorageClassOutput{ImageId: &types.ImageIdentifier{ImageDigest: &img.Digest, ImageTag: in.ImageId.ImageTag}, ImageStatus: status,
		RegistryId: &a.Scope.Account, RepositoryName: &repo.Name}, err
}

func (a *api) listImageReferrers(ctx context.Context, in *ecr.ListImageReferrersInput) (*ecr.ListImageReferrersOutput, error) {
	if in.SubjectId == nil || in.SubjectId.ImageDigest == nil || !digestShape.MatchString(*in.SubjectId.ImageDigest) {
		return nil, model.Errorf("ValidationException", "subjectId must have an imageDigest of the form '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")
	}
	if in.MaxResults != nil && *in.MaxResults > 50 {
		return nil, model.Errorf("ValidationException", "maxResults must be at most 50")
	}
	found := []types.ImageReferrer{}
	var err error
	a.Store.View(func(tx store.Reader) {
		var repo *model.Repository
		if repo, err = a.repository(tx, in.RegistryId, in.RepositoryName); err != nil {
			return
		}
		for img := range store.Images.By(tx, store.BySubject, repo.Name+"@"+*in.SubjectId.ImageDigest) {
			r := types.ImageReferrer{Digest: &img.Digest, MediaType: &img.MediaType, Size: &img.ManifestSize, ArtifactStatus: types.ArtifactStatusActive,
				Annotations: img.Annotations}
			if img.ArtifactType != "" {
				r.ArtifactType = &img.ArtifactType
			}
			if img.Archived {
				r.ArtifactStatus = types.ArtifactStatusArchived
			}
			if refers(in.Filter, r) {
				found = append(found, r)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	most := in.MaxResults
	if most == nil {
		most = new(int32(50))
	}
	found, next, err := page(found, most, in.NextToken, func(r types.ImageReferrer) string { return *r.Digest })
	return &ecr.ListImageReferrersOutput{Referrers: found, NextToken: next}, err
}

func refers(f *types.ListImageReferrersFilter, r types.ImageReferrer) bool {
	if f == nil {
		return r.ArtifactStatus == types.ArtifactStatusActive
	}
	want := cmp.Or(f.ArtifactStatus, types.ArtifactStatusFilterActive)
	if want != types.ArtifactStatusFilterAny && string(want) != string(r.ArtifactStatus) {
		return false
	}
	return len(f.ArtifactTypes) == 0 || r.ArtifactType != nil && slices.Contains(f.ArtifactTypes, *r.ArtifactType)
}
