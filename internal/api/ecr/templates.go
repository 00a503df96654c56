package ecr

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) handleTemplates(s *wire.Service) {
	wire.Handle(s, a.createRepositoryCreationTemplate)
	wire.Handle(s, a.updateRepositoryCreationTemplate)
	wire.Handle(s, a.deleteRepositoryCreationTemplate)
	wire.Handle(s, a.describeRepositoryCreationTemplates)
}

var templatePrefix = regexp.MustCompile(`^((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)$`)

func checkPrefix(member string, prefix *string) error {
	if prefix == nil || len(*prefix) > 256 || !templatePrefix.MatchString(*prefix) {
		return invalid(member, `must satisfy regular expression '((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)'`)
	}
	return nil
}

// checkTemplate checks what a template gives to repositories as CreateRepository does.
func (a *api) checkTemplate(t types.RepositoryCreationTemplate) error {
	if err := checkPrefix("prefix", t.Prefix); err != nil {
		return err
	}
	if len(t.AppliedFor) == 0 {
		return invalid("appliedFor", "Member must not be null")
	}
	for _, f := range t.AppliedFor {
		if !slices.Contains(f.Values(), f) {
			return invalid("appliedFor", "Member must satisfy enum value set: [REPLICATION, PULL_THROUGH_CACHE, CREATE_ON_PUSH]")
		}
	}
	if err := checkMutability(t.ImageTagMutability, t.ImageTagMutabilityExclusionFilters); err != nil {
		return err
	}
	if e := t.EncryptionConfiguration; e != nil {
		if err := a.checkEncryption(&types.EncryptionConfiguration{EncryptionType: e.EncryptionType, KmsKey: e.KmsKey}); err != nil {
			return err
		}
	}
	if t.LifecyclePolicy != nil && *t.LifecyclePolicy != "" {
		if err := checkLifecycle(t.LifecyclePolicy); err != nil {
			return err
		}
	}
	if t.RepositoryPolicy != nil && *t.RepositoryPolicy != "" {
		if err := checkPolicy(t.RepositoryPolicy); err != nil {
			return err
		}
	}
	return checkTags(t.ResourceTags)
}

func (a *api) createRepositoryCreationTemplate(ctx context.Context, in *ecr.CreateRepositoryCreationTemplateInput) (*ecr.CreateRepositoryCreationTemplateOutput, error) {
	now := a.Now()
	t := types.RepositoryCreationTemplate{AppliedFor: in.AppliedFor, CreatedAt: &now, UpdatedAt: &now, CustomRoleArn: in.CustomRoleArn, Description: in.Description,
		EncryptionConfiguration: in.EncryptionConfiguration, ImageTagMutability: in.ImageTagMutability,
		ImageTagMutabilityExclusionFilters: in.ImageTagMutabilityExclusionFilters, LifecyclePolicy: in.LifecyclePolicy, Prefix: in.Prefix,
		RepositoryPolicy: in.RepositoryPolicy, ResourceTags: in.ResourceTags}
	if t.ImageTagMutability == "" {
		t.ImageTagMutability = types.ImageTagMutabilityMutable
	}
	if err := a.checkTemplate(t); err != nil {
		return nil, err
	}
	var asked *types.EncryptionConfiguration
	if e := t.EncryptionConfiguration; e != nil {
		asked = &types.EncryptionConfiguration{EncryptionType: e.EncryptionType, KmsKey: e.KmsKey}
	}
	resolved, err := a.encryption(ctx, asked)
	if err != nil {
		return nil, err
	}
	if resolved != nil {
		t.EncryptionConfiguration = &types.EncryptionConfigurationForRepositoryCreationTemplate{EncryptionType: resolved.EncryptionType, KmsKey: resolved.KmsKey}
	}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.CreationTemplates.Get(tx, *t.Prefix); ok {
			return model.Errorf("TemplateAlreadyExistsException", "The Template already exists for prefix '%s' in the registry with id '%s'", *t.Prefix, a.Scope.Account)
		}
		store.CreationTemplates.Put(tx, &model.CreationTemplate{Template: t})
		return nil
	})
	return &ecr.CreateRepositoryCreationTemplateOutput{RegistryId: &a.Scope.Account, RepositoryCreationTemplate: &t}, err
}

func (a *api) noTemplate(prefix string) error {
	return model.Errorf("TemplateNotFoundException", "The Template does not exist for prefix '%s' in the registry with id '%s'", prefix, a.Scope.Account)
}

func (a *api) updateRepositoryCreationTemplate(ctx context.Context, in *ecr.UpdateRepositoryCreationTemplateInput) (*ecr.UpdateRepositoryCreationTemplateOutput, error) {
	if err := checkPrefix("prefix", in.Prefix); err != nil {
		return nil, err
	}
	out := &ecr.UpdateRepositoryCreationTemplateOutput{RegistryId: &a.Scope.Account}
	if e := in.EncryptionConfiguration; e != nil {
		plain := &types.EncryptionConfiguration{EncryptionType: e.EncryptionType, KmsKey: e.KmsKey}
		if err := a.checkEncryption(plain); err != nil {
			return nil, err
		}
		resolved, err := a.encryption(ctx, plain)
		if err != nil {
			return nil, err
		}
		in.EncryptionConfiguration = &types.EncryptionConfigurationForRepositoryCreationTemplate{EncryptionType: resolved.EncryptionType, KmsKey: resolved.KmsKey}
	}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.CreationTemplates.Get(tx, *in.Prefix)
		if !ok {
			return a.noTemplate(*in.Prefix)
		}
		t := cur.Template
		t.UpdatedAt = new(a.Now())
		if in.AppliedFor != nil {
			t.AppliedFor = in.AppliedFor
		}
		if in.ImageTagMutability != "" {
			t.ImageTagMutability, t.ImageTagMutabilityExclusionFilters = in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters
		}
		if in.EncryptionConfiguration != nil {
			t.EncryptionConfiguration = in.EncryptionConfiguration
		}
		if in.ResourceTags != nil {
			t.ResourceTags = in.ResourceTags
		}
		for _, f := range []struct{ to, from **string }{{&t.CustomRoleArn, &in.CustomRoleArn}, {&t.Description, &in.Description},
			{&t.LifecyclePolicy, &in.LifecyclePolicy}, {&t.RepositoryPolicy, &in.RepositoryPolicy}} {
			if *f.from != nil {
				*f.to = *f.from
			}
		}
		if err := a.checkTemplate(t); err != nil {
			return err
		}
		store.CreationTemplates.Put(tx, &model.CreationTemplate{Template: t})
		out.RepositoryCreationTemplate = &t
		return nil
	})
	return out, err
}

func (a *api) deleteRepositoryCreationTemplate(ctx context.Context, in *ecr.DeleteRepositoryCreationTemplateInput) (*ecr.DeleteRepositoryCreationTemplateOutput, error) {
	if err := checkPrefix("prefix", in.Prefix); err != nil {
		return nil, err
	}
	out := &ecr.DeleteRepositoryCreationTemplateOutput{RegistryId: &a.Scope.Account}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.CreationTemplates.Get(tx, *in.Prefix)
		if !ok {
			return a.noTemplate(*in.Prefix)
		}
		out.RepositoryCreationTemplate = &cur.Template
		store.CreationTemplates.Delete(tx, *in.Prefix)
		return nil
	})
	return out, err
}

func (a *api) describeRepositoryCreationTemplates(ctx context.Context, in *ecr.DescribeRepositoryCreationTemplatesInput) (*ecr.DescribeRepositoryCreationTemplatesOutput, error) {
	all := []types.RepositoryCreationTemplate{}
	var err error
	a.Store.View(func(tx store.Reader) {
		for _, prefix := range in.Prefixes {
			if _, ok := store.CreationTemplates.Get(tx, prefix); !ok {
				err = a.noTemplate(prefix)
				return
			}
		}
		for t := range store.CreationTemplates.Scan(tx, "") {
			if len(in.Prefixes) == 0 || slices.Contains(in.Prefixes, *t.Template.Prefix) {
				all = append(all, t.Template)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(all, in.MaxResults, in.NextToken, func(t types.RepositoryCreationTemplate) string { return *t.Prefix })
	return &ecr.DescribeRepositoryCreationTemplatesOutput{NextToken: next, RegistryId: &a.Scope.Account, RepositoryCreationTemplates: all}, err
}

// wildcard tells whether s is what a pattern with * for anything says.
func wildcard(pattern, s string) bool {
	first, rest, some := strings.Cut(pattern, "*")
	if !some {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	for i := len(first); i <= len(s); i++ {
		if wildcard(rest, s[i:]) {
			return true
		}
	}
	return false
}
