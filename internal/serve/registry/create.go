package registry

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// root is the prefix of rules and templates that are for all names.
const root = "ROOT"

// under tells whether a repository's name begins with a prefix, as a path does, and what is left of it.
func under(name, prefix string) (rest string, ok bool) {
	if prefix == root {
		return name, true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(prefix, "/")+"/")
}

// template is the one with the longest prefix that a repository of that name is to get; nil: there is none.
func template(tx store.Reader, name string, applied types.RCTAppliedFor) (best *types.RepositoryCreationTemplate) {
	for t := range store.CreationTemplates.Scan(tx, "") {
		if _, ok := under(name, *t.Template.Prefix); !ok || !slices.Contains(t.Template.AppliedFor, applied) {
			continue
		}
		if best == nil || *best.Prefix == root || *t.Template.Prefix != root && len(*t.Template.Prefix) > len(*best.Prefix) {
			best = &t.Template
		}
	}
	return best
}

// ensure makes a repository as its template says where there is none and the caller may create it. Without template a push makes none, and a cache one with ECR's
// defaults.
func (r *Registry) ensure(ctx context.Context, name string, applied types.RCTAppliedFor) error {
	var need bool
	r.Store.View(func(tx store.Reader) {
		_, there := store.Repositories.Get(tx, name)
		need = !there && (applied != types.RCTAppliedForCreateOnPush || template(tx, name, applied) != nil)
	})
	if !need {
		return nil
	}
	if err := r.allow(ctx, "ecr:CreateRepository", name); err != nil {
		return err
	}
	return r.Store.Update(ctx, func(tx store.Tx) error {
		if _, there := store.Repositories.Get(tx, name); there {
			return nil
		}
		repo := &model.Repository{Name: name, Repository: types.Repository{CreatedAt: new(r.Now()), RegistryId: &r.Scope.Account, RepositoryName: &name,
			RepositoryArn: new(r.Scope.ARN("ecr", "repository/"+name)), RepositoryUri: new(r.Host + "/" + name), ImageTagMutability: types.ImageTagMutabilityMutable,
			ImageScanningConfiguration: &types.ImageScanningConfiguration{},
			EncryptionConfiguration:    Encryption(r.Encrypt)}}
		if t := template(tx, name, applied); t != nil {
			given(repo, t)
		}
		store.Repositories.Put(tx, repo)
		return nil
	})
}

// given has a repository have what its template says.
func given(repo *model.Repository, t *types.RepositoryCreationTemplate) {
	repo.Tags = t.ResourceTags
	if t.ImageTagMutability != "" {
		repo.Repository.ImageTagMutability, repo.Repository.ImageTagMutabilityExclusionFilters = t.ImageTagMutability, t.ImageTagMutabilityExclusionFilters
	}
	if e := t.EncryptionConfiguration; e != nil && e.EncryptionType != "" {
		repo.Repository.EncryptionConfiguration = &types.EncryptionConfiguration{EncryptionType: e.EncryptionType, KmsKey: e.KmsKey}
	}
	if t.LifecyclePolicy != nil {
		repo.Lifecycle = *t.LifecyclePolicy
	}
	if t.RepositoryPolicy != nil {
		repo.Policy = *t.RepositoryPolicy
	}
}
