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

// Upstreams tells whether an upstream registry can be reached with what a rule says.
type Upstreams interface {
	// Ping returns why not.
	Ping(ctx context.Context, rule *model.PullThroughRule) error
}

func (a *api) handleUpstreams(s *wire.Service) {
	wire.Handle(s, a.createPullThroughCacheRule)
	wire.Handle(s, a.updatePullThroughCacheRule)
	wire.Handle(s, a.deletePullThroughCacheRule)
	wire.Handle(s, a.describePullThroughCacheRules)
	wire.Handle(s, a.validatePullThroughCacheRule)
}

var (
	// rulePrefix and upstreamPrefix are of the ECR API reference; upstreamURL is a host, which AWS bounds to those that it knows.
	rulePrefix     = regexp.MustCompile(`^((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)$`)
	upstreamURL    = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$`)
	credentialName = ":secret:ecr-pullthroughcache/"
)

// known are the upstream registries by their hosts (ECR API reference).
var known = map[string]types.UpstreamRegistry{
	"public.ecr.aws": types.UpstreamRegistryEcrPublic, "quay.io": types.UpstreamRegistryQuay, "registry.k8s.io": types.UpstreamRegistryK8s,
	"registry-1.docker.io": types.UpstreamRegistryDockerHub, "ghcr.io": types.UpstreamRegistryGitHubContainerRegistry,
	"registry.gitlab.com": types.UpstreamRegistryGitLabContainerRegistry, "cgr.dev": types.UpstreamRegistryChainguard,
}

func checkRulePrefix(prefix *string) error {
	if prefix == nil || *prefix != "ROOT" && (len(*prefix) < 2 || len(*prefix) > 30) {
		return invalid("ecrRepositoryPrefix", "must have length from 2 to 30")
	}
	if !rulePrefix.MatchString(*prefix) {
		return invalid("ecrRepositoryPrefix", "must satisfy regular expression '^((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)$'")
	}
	return nil
}

func checkCredential(arn *string) error {
	if arn != nil && !strings.Contains(*arn, credentialName) {
		return invalid("credentialArn", `must satisfy regular expression '^arn:aws(-[a-z]+)*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr\-pullthroughcache\/[a-zA-Z0-9\/_+=.@-]+$'`)
	}
	return nil
}

func (a *api) createPullThroughCacheRule(ctx context.Context, in *ecr.CreatePullThroughCacheRuleInput) (*ecr.CreatePullThroughCacheRuleOutput, error) {
	if err := a.checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	if err := checkRulePrefix(in.EcrRepositoryPrefix); err != nil {
		return nil, err
	}
	if err := checkCredential(in.CredentialArn); err != nil {
		return nil, err
	}
	if in.UpstreamRegistryUrl == nil || !upstreamURL.MatchString(*in.UpstreamRegistryUrl) {
		return nil, model.Errorf("UnsupportedUpstreamRegistryException", "The specified upstream registry isn't supported: upstreamRegistryUrl is a host, such as registry-1.docker.io")
	}
	if in.UpstreamRegistry != "" && !slices.Contains(in.UpstreamRegistry.Values(), in.UpstreamRegistry) {
		return nil, model.Errorf("UnsupportedUpstreamRegistryException", "The specified upstream registry isn't supported.")
	}
	now, prefix := a.Now(), "ROOT"
	if in.UpstreamRepositoryPrefix != nil {
		if prefix = *in.UpstreamRepositoryPrefix; prefix != "ROOT" && !rulePrefix.MatchString(prefix) {
			return nil, invalid("upstreamRepositoryPrefix", "must satisfy regular expression '^((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)$'")
		}
	}
	rule := types.PullThroughCacheRule{CreatedAt: &now, UpdatedAt: &now, CredentialArn: in.CredentialArn, CustomRoleArn: in.CustomRoleArn,
		EcrRepositoryPrefix: in.EcrRepositoryPrefix, RegistryId: &a.Scope.Account, UpstreamRegistry: in.UpstreamRegistry,
		UpstreamRegistryUrl: in.UpstreamRegistryUrl, UpstreamRepositoryPrefix: &prefix}
	if rule.UpstreamRegistry == "" {
		rule.UpstreamRegistry = known[*in.UpstreamRegistryUrl]
	}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.PullThroughRules.Get(tx, *in.EcrRepositoryPrefix); ok {
			return model.Errorf("PullThroughCacheRuleAlreadyExistsException", "Pull through cache rule with ecrRepositoryPrefix '%s' already exists "+
				"in the registry with id '%s'", *in.EcrRepositoryPrefix, a.Scope.Account)
		}
		store.PullThroughRules.Put(tx, &model.PullThroughRule{Rule: rule})
		return nil
	})
	return &ecr.CreatePullThroughCacheRuleOutput{CreatedAt: &now, CredentialArn: in.CredentialArn, CustomRoleArn: in.CustomRoleArn,
		EcrRepositoryPrefix: in.EcrRepositoryPrefix, RegistryId: &a.Scope.Account, UpstreamRegistry: rule.UpstreamRegistry,
		UpstreamRegistryUrl: in.UpstreamRegistryUrl, UpstreamRepositoryPrefix: &prefix}, err
}

func (a *api) noRule(prefix string) error {
	return model.Errorf("PullThroughCacheRuleNotFoundException", "Pull through cache rule with ecrRepositoryPrefix '%s' does not exist in the "+
		"registry with id '%s'", prefix, a.Scope.Account)
}

// rule finds a rule after checking the parameters.
func (a *api) rule(tx store.Reader, registryID, prefix *string) (*model.PullThroughRule, error) {
	if err := a.checkRegistry(registryID); err != nil {
		return nil, err
	}
	if err := checkRulePrefix(prefix); err != nil {
		return nil, err
	}
	if r, ok := store.PullThroughRules.Get(tx, *prefix); ok {
		return r, nil
	}
	return nil, a.noRule(*prefix)
}

func (a *api) updatePullThroughCacheRule(ctx context.Context, in *ecr.UpdatePullThroughCacheRuleInput) (*ecr.UpdatePullThroughCacheRuleOutput, error) {
	if err := checkCredential(in.CredentialArn); err != nil {
		return nil, err
	}
	out := &ecr.UpdatePullThroughCacheRuleOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		cur, err := a.rule(tx, in.RegistryId, in.EcrRepositoryPrefix)
		if err != nil {
			return err
		}
		next := *cur
		next.Rule.UpdatedAt = new(a.Now())
		if in.CredentialArn != nil {
			next.Rule.CredentialArn = in.CredentialArn
		}
		if in.CustomRoleArn != nil {
			next.Rule.CustomRoleArn = in.CustomRoleArn
		}
		store.PullThroughRules.Put(tx, &next)
		r := next.Rule
		*out = ecr.UpdatePullThroughCacheRuleOutput{CredentialArn: r.CredentialArn, CustomRoleArn: r.CustomRoleArn, EcrRepositoryPrefix: r.EcrRepositoryPrefix,
			RegistryId: &a.Scope.Account, UpdatedAt: r.UpdatedAt, UpstreamRepositoryPrefix: r.UpstreamRepositoryPrefix}
		return nil
	})
	return out, err
}

func (a *api) deletePullThroughCacheRule(ctx context.Context, in *ecr.DeletePullThroughCacheRuleInput) (*ecr.DeletePullThroughCacheRuleOutput, error) {
	out := &ecr.DeletePullThroughCacheRuleOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		cur, err := a.rule(tx, in.RegistryId, in.EcrRepositoryPrefix)
		if err != nil {
			return err
		}
		r := cur.Rule
		*out = ecr.DeletePullThroughCacheRuleOutput{CreatedAt: r.CreatedAt, CredentialArn: r.CredentialArn, CustomRoleArn: r.CustomRoleArn,
			EcrRepositoryPrefix: r.EcrRepositoryPrefix, RegistryId: &a.Scope.Account, UpstreamRegistryUrl: r.UpstreamRegistryUrl,
			UpstreamRepositoryPrefix: r.UpstreamRepositoryPrefix}
		store.PullThroughRules.Delete(tx, cur.Key())
		return nil
	})
	return out, err
}

func (a *api) describePullThroughCacheRules(ctx context.Context, in *ecr.DescribePullThroughCacheRulesInput) (*ecr.DescribePullThroughCacheRulesOutput, error) {
	if err := a.checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	all := []types.PullThroughCacheRule{}
	var err error
	a.Store.View(func(tx store.Reader) {
		for _, prefix := range in.EcrRepositoryPrefixes {
			if _, ok := store.PullThroughRules.Get(tx, prefix); !ok {
				err = a.noRule(prefix)
				return
			}
		}
		for r := range store.PullThroughRules.Scan(tx, "") {
			if len(in.EcrRepositoryPrefixes) == 0 || slices.Contains(in.EcrRepositoryPrefixes, r.Key()) {
				all = append(all, r.Rule)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	all, next, err := page(all, in.MaxResults, in.NextToken, func(r types.PullThroughCacheRule) string { return *r.EcrRepositoryPrefix })
	return &ecr.DescribePullThroughCacheRulesOutput{NextToken: next, PullThroughCacheRules: all}, err
}

func (a *api) validatePullThroughCacheRule(ctx context.Context, in *ecr.ValidatePullThroughCacheRuleInput) (*ecr.ValidatePullThroughCacheRuleOutput, error) {
	var rule *model.PullThroughRule
	var err error
	a.Store.View(func(tx store.Reader) { rule, err = a.rule(tx, in.RegistryId, in.EcrRepositoryPrefix) })
	if err != nil {
		return nil, err
	}
	r := rule.Rule
	out := &ecr.ValidatePullThroughCacheRuleOutput{CredentialArn: r.CredentialArn, CustomRoleArn: r.CustomRoleArn, EcrRepositoryPrefix: r.EcrRepositoryPrefix,
		IsValid: true, RegistryId: &a.Scope.Account, UpstreamRegistryUrl: r.UpstreamRegistryUrl, UpstreamRepositoryPrefix: r.UpstreamRepositoryPrefix}
	if err := a.Upstreams.Ping(ctx, rule); err != nil {
		out.IsValid, out.Failure = false, new(err.Error())
	}
	return out, nil
}
