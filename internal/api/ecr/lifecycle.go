package ecr

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/lifecycle"
	"github.com/berthdev/berth/internal/serve/registry/expiry"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) handleLifecycle(s *wire.Service) {
	wire.Handle(s, a.putLifecyclePolicy)
	wire.Handle(s, a.getLifecyclePolicy)
	wire.Handle(s, a.deleteLifecyclePolicy)
	wire.Handle(s, a.startLifecyclePolicyPreview)
	wire.Handle(s, a.getLifecyclePolicyPreview)
}

// checkLifecycle refuses a text that is no policy.
func checkLifecycle(text *string) error {
	if text == nil || *text == "" {
		return invalid("LifecyclePolicyText", "Member must not be null")
	}
	if len(*text) > lifecycle.MaxText {
		return invalid("LifecyclePolicyText", "must have length less than or equal to 30720")
	}
	if _, err := lifecycle.Parse(*text); err != nil {
		return invalid("LifecyclePolicyText", "Lifecycle policy validation failure: "+err.Error())
	}
	return nil
}

// change updates a repository in a transaction.
func (a *api) change(ctx context.Context, registryID, name *string, f func(r *model.Repository) error) (repo *model.Repository, err error) {
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		cur, err := a.repository(tx, registryID, name)
		if err != nil {
			return err
		}
		next := *cur
		if err := f(&next); err != nil {
			return err
		}
		store.Repositories.Put(tx, &next)
		repo = &next
		return nil
	})
	return repo, err
}

// look reads a repository.
func (a *api) look(registryID, name *string) (repo *model.Repository, err error) {
	a.Store.View(func(tx store.Reader) { repo, err = a.repository(tx, registryID, name) })
	return repo, err
}

func (a *api) putLifecyclePolicy(ctx context.Context, in *ecr.PutLifecyclePolicyInput) (*ecr.PutLifecyclePolicyOutput, error) {
	if _, err := a.look(in.RegistryId, in.RepositoryName); err != nil {
		return nil, err
	}
	if err := checkLifecycle(in.LifecyclePolicyText); err != nil {
		return nil, err
	}
	repo, err := a.change(ctx, in.RegistryId, in.RepositoryName, func(r *model.Repository) error {
		r.Lifecycle = *in.LifecyclePolicyText
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := expiry.Apply(ctx, a.Store, repo.Name, a.Now(), a.Log); err != nil { // the hourly round applies it again
		a.Log.Error("a lifecycle policy was not applied", "repository", repo.Name, "error", err)
	}
	return &ecr.PutLifecyclePolicyOutput{LifecyclePolicyText: &repo.Lifecycle, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name}, nil
}

func (a *api) noLifecycle(name string) error {
	return model.Errorf("LifecyclePolicyNotFoundException", "Lifecycle policy does not exist for the repository with name '%s' in the "+
		"registry with id '%s'", name, a.Scope.Account)
}

func evaluated(r *model.Repository) *time.Time {
	if r.EvaluatedAt.IsZero() {
		return new(time.Unix(0, 0))
	}
	return &r.EvaluatedAt
}

func (a *api) getLifecyclePolicy(ctx context.Context, in *ecr.GetLifecyclePolicyInput) (*ecr.GetLifecyclePolicyOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	if repo.Lifecycle == "" {
		return nil, a.noLifecycle(repo.Name)
	}
	return &ecr.GetLifecyclePolicyOutput{LifecyclePolicyText: &repo.Lifecycle, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name,
		LastEvaluatedAt: evaluated(repo)}, nil
}

func (a *api) deleteLifecyclePolicy(ctx context.Context, in *ecr.DeleteLifecyclePolicyInput) (*ecr.DeleteLifecyclePolicyOutput, error) {
	out := &ecr.DeleteLifecyclePolicyOutput{RegistryId: &a.Scope.Account}
	_, err := a.change(ctx, in.RegistryId, in.RepositoryName, func(r *model.Repository) error {
		if r.Lifecycle == "" {
			return a.noLifecycle(r.Name)
		}
		out.LifecyclePolicyText, out.RepositoryName, out.LastEvaluatedAt = new(r.Lifecycle), new(r.Name), new(*evaluated(r))
		r.Lifecycle, r.EvaluatedAt = "", time.Time{}
		return nil
	})
	return out, err
}

func (a *api) startLifecyclePolicyPreview(ctx context.Context, in *ecr.StartLifecyclePolicyPreviewInput) (*ecr.StartLifecyclePolicyPreviewOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	text := in.LifecyclePolicyText
	if text == nil {
		if repo.Lifecycle == "" {
			return nil, a.noLifecycle(repo.Name)
		}
		text = &repo.Lifecycle
	}
	if err := checkLifecycle(text); err != nil {
		return nil, err
	}
	_, err = a.change(ctx, in.RegistryId, in.RepositoryName, func(r *model.Repository) error {
		r.Preview, r.PreviewedAt = *text, a.Now()
		return nil
	})
	return &ecr.StartLifecyclePolicyPreviewOutput{LifecyclePolicyText: text, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name,
		Status: types.LifecyclePolicyPreviewStatusInProgress}, err
}

// getLifecyclePolicyPreview says what the policy would do now. An image that a rule means and that stays, because a running task uses it
// or an index lists it, is there without an action.
func (a *api) getLifecyclePolicyPreview(ctx context.Context, in *ecr.GetLifecyclePolicyPreviewInput) (*ecr.GetLifecyclePolicyPreviewOutput, error) {
	if len(in.ImageIds) > 0 && (in.MaxResults != nil || in.NextToken != nil || in.Filter != nil) {
		return nil, model.Errorf("InvalidParameterException", "imageIds cannot be given together with maxResults, nextToken or filter")
	}
	out := &ecr.GetLifecyclePolicyPreviewOutput{RegistryId: &a.Scope.Account, Status: types.LifecyclePolicyPreviewStatusComplete,
		PreviewResults: []types.LifecyclePolicyPreviewResult{}}
	var err error
	a.Store.View(func(tx store.Reader) { err = a.preview(tx, in, out) })
	if err != nil {
		return nil, err
	}
	out.PreviewResults, out.NextToken, err = page(out.PreviewResults, in.MaxResults, in.NextToken,
		func(r types.LifecyclePolicyPreviewResult) string { return *r.ImageDigest })
	return out, err
}

func (a *api) preview(tx store.Reader, in *ecr.GetLifecyclePolicyPreviewInput, out *ecr.GetLifecyclePolicyPreviewOutput) error {
	repo, err := a.repository(tx, in.RegistryId, in.RepositoryName)
	if err != nil {
		return err
	}
	out.RepositoryName, out.LifecyclePolicyText = &repo.Name, &repo.Preview
	if repo.Preview == "" {
		return model.Errorf("LifecyclePolicyPreviewNotFoundException", "Lifecycle policy preview does not exist for the repository with "+
			"name '%s' in the registry with id '%s'", repo.Name, a.Scope.Account)
	}
	policy, err := lifecycle.Parse(repo.Preview)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, id := range in.ImageIds {
		img, failure := a.find(tx, repo.Name, id)
		if failure != nil {
			return a.imageNotFound(repo.Name, id)
		}
		wanted[img.Digest] = true
	}
	expiring, moving := int32(0), int32(0)
	for _, v := range expiry.Plan(tx, repo.Name, policy, a.Now()) {
		img, _ := store.Images.Get(tx, repo.Name+"@"+v.Digest)
		if len(wanted) > 0 && !wanted[v.Digest] || in.Filter != nil && !tagged(in.Filter.TagStatus, len(img.Tags) > 0) {
			continue
		}
		r := types.LifecyclePolicyPreviewResult{ImageDigest: &img.Digest, ImageTags: img.Tags, ImagePushedAt: &img.PushedAt,
			AppliedRulePriority: new(int32(v.Priority)), StorageClass: types.LifecyclePolicyStorageClassStandard}
		if img.Archived {
			r.StorageClass = types.LifecyclePolicyStorageClassArchive
		}
		switch v.Action {
		case lifecycle.Expire:
			r.Action = &types.LifecyclePolicyRuleAction{Type: types.ImageActionTypeExpire}
			expiring++
		case lifecycle.Transition:
			r.Action = &types.LifecyclePolicyRuleAction{Type: types.ImageActionTypeTransition, TargetStorageClass: types.LifecyclePolicyTargetStorageClassArchive}
			moving++
		}
		out.PreviewResults = append(out.PreviewResults, r)
	}
	slices.SortFunc(out.PreviewResults, func(x, y types.LifecyclePolicyPreviewResult) int {
		return strings.Compare(*x.ImageDigest, *y.ImageDigest)
	})
	out.Summary = &types.LifecyclePolicyPreviewSummary{ExpiringImageTotalCount: &expiring}
	if moving > 0 {
		out.Summary.TransitioningImageTotalCounts = []types.TransitioningImageTotalCount{
			{ImageTotalCount: &moving, TargetStorageClass: types.LifecyclePolicyTargetStorageClassArchive}}
	}
	return nil
}
