package ecr

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecr"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) handlePolicies(s *wire.Service) {
	wire.Handle(s, a.setRepositoryPolicy)
	wire.Handle(s, a.getRepositoryPolicy)
	wire.Handle(s, a.deleteRepositoryPolicy)
	wire.Handle(s, a.putRegistryPolicy)
	wire.Handle(s, a.getRegistryPolicy)
	wire.Handle(s, a.deleteRegistryPolicy)
}

// maxPolicy is how long a policy may be (ECR API reference).
const maxPolicy = 10240

func checkPolicy(text *string) error {
	if text == nil {
		return invalid("PolicyText", "Member must not be null")
	}
	if len(*text) > maxPolicy {
		return invalid("PolicyText", "must have length less than or equal to 10240")
	}
	if _, err := policy.Parse(*text); err != nil {
		return invalid("PolicyText", "Invalid repository policy provided")
	}
	return nil
}

func (a *api) noRepositoryPolicy(name string) error {
	return model.Errorf("RepositoryPolicyNotFoundException", "Repository policy does not exist for the repository with name '%s' in the "+
		"registry with id '%s'", name, a.Scope.Account)
}

func (a *api) setRepositoryPolicy(ctx context.Context, in *ecr.SetRepositoryPolicyInput) (*ecr.SetRepositoryPolicyOutput, error) {
	if _, err := a.look(in.RegistryId, in.RepositoryName); err != nil {
		return nil, err
	}
	if err := checkPolicy(in.PolicyText); err != nil {
		return nil, err
	}
	repo, err := a.change(ctx, in.RegistryId, in.RepositoryName, func(r *model.Repository) error {
		r.Policy = *in.PolicyText
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecr.SetRepositoryPolicyOutput{PolicyText: &repo.Policy, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name}, nil
}

func (a *api) getRepositoryPolicy(ctx context.Context, in *ecr.GetRepositoryPolicyInput) (*ecr.GetRepositoryPolicyOutput, error) {
	repo, err := a.look(in.RegistryId, in.RepositoryName)
	if err != nil {
		return nil, err
	}
	if repo.Policy == "" {
		return nil, a.noRepositoryPolicy(repo.Name)
	}
	return &ecr.GetRepositoryPolicyOutput{PolicyText: &repo.Policy, RegistryId: &a.Scope.Account, RepositoryName: &repo.Name}, nil
}

func (a *api) deleteRepositoryPolicy(ctx context.Context, in *ecr.DeleteRepositoryPolicyInput) (*ecr.DeleteRepositoryPolicyOutput, error) {
	out := &ecr.DeleteRepositoryPolicyOutput{RegistryId: &a.Scope.Account}
	_, err := a.change(ctx, in.RegistryId, in.RepositoryName, func(r *model.Repository) error {
		if r.Policy == "" {
			return a.noRepositoryPolicy(r.Name)
		}
		out.PolicyText, out.RepositoryName = new(r.Policy), new(r.Name)
		r.Policy = ""
		return nil
	})
	return out, err
}

// settings are those of the registry; rows are shared, so change replaces.
func settings(tx store.Reader) model.RegistrySettings {
	if s, ok := store.RegistrySettings.Get(tx, model.RegistryKey); ok {
		return *s
	}
	return model.RegistrySettings{}
}

func (a *api) registrySettings() (s model.RegistrySettings) {
	a.Store.View(func(tx store.Reader) { s = settings(tx) })
	return s
}

func (a *api) changeSettings(ctx context.Context, f func(s *model.RegistrySettings) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		next := settings(tx)
		if err := f(&next); err != nil {
			return err
		}
		store.RegistrySettings.Put(tx, &next)
		return nil
	})
}

func (a *api) noRegistryPolicy() error {
	return model.Errorf("RegistryPolicyNotFoundException", "Registry policy does not exist in the registry with id '%s'", a.Scope.Account)
}

func (a *api) putRegistryPolicy(ctx context.Context, in *ecr.PutRegistryPolicyInput) (*ecr.PutRegistryPolicyOutput, error) {
	if err := checkPolicy(in.PolicyText); err != nil {
		return nil, err
	}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error { s.Policy = *in.PolicyText; return nil })
	return &ecr.PutRegistryPolicyOutput{PolicyText: in.PolicyText, RegistryId: &a.Scope.Account}, err
}

func (a *api) getRegistryPolicy(ctx context.Context, in *ecr.GetRegistryPolicyInput) (*ecr.GetRegistryPolicyOutput, error) {
	s := a.registrySettings()
	if s.Policy == "" {
		return nil, a.noRegistryPolicy()
	}
	return &ecr.GetRegistryPolicyOutput{PolicyText: &s.Policy, RegistryId: &a.Scope.Account}, nil
}

func (a *api) deleteRegistryPolicy(ctx context.Context, in *ecr.DeleteRegistryPolicyInput) (*ecr.DeleteRegistryPolicyOutput, error) {
	out := &ecr.DeleteRegistryPolicyOutput{RegistryId: &a.Scope.Account}
	err := a.changeSettings(ctx, func(s *model.RegistrySettings) error {
		if s.Policy == "" {
			return a.noRegistryPolicy()
		}
		out.PolicyText, s.Policy = new(s.Policy), ""
		return nil
	})
	return out, err
}
