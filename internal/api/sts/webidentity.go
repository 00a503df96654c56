package sts

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) assumeRoleWithWebIdentity(ctx context.Context, in *sts.AssumeRoleWithWebIdentityInput) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	if in.ProviderId != nil {
		return nil, model.Errorf("ValidationError", "ProviderId is for tokens of OAuth 2.0, which Berth does not take: leave it out for those of OpenID Connect")
	}
	t, err := readToken(text(in.WebIdentityToken))
	if err != nil {
		return nil, model.Errorf("InvalidIdentityToken", "%s", err)
	}
	p, ok := a.provider(t.Issuer)
	if !ok {
		return nil, model.Errorf("InvalidIdentityToken", "No OpenIDConnect provider found in your account for %.255s", t.Issuer)
	}
	if err := a.keys.verify(ctx, p, t); err != nil {
		return nil, model.Errorf("InvalidIdentityToken", "%s", err)
	}
	if err := t.inTime(a.Now()); err != nil {
		return nil, model.Errorf("ExpiredTokenException", "Token expired: %s", err)
	}
	i := slices.IndexFunc(t.Audience, func(aud string) bool { return slices.Contains(p.ClientIDs, aud) })
	if i < 0 {
		return nil, model.Errorf("InvalidIdentityToken", "Incorrect token audience")
	}
	role, ok := a.role(text(in.RoleArn))
	if !ok || !a.trusts(ctx, role, p, t, t.Audience[i], text(in.RoleSessionName)) {
		return nil, model.Errorf("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	g := model.Grant{Role: role.ARN, RoleID: role.ID, Session: text(in.RoleSessionName), Federated: p.ARN}
	creds, who, err := a.open(g, role.MaxSession, in.DurationSeconds, in.Policy, in.PolicyArns)
	if err != nil {
		return nil, err
	}
	return &sts.AssumeRoleWithWebIdentityOutput{Credentials: view(creds), AssumedRoleUser: who, Audience: &t.Audience[i], Provider: &p.ARN,
		SubjectFromWebIdentityToken: &t.Subject, PackedPolicySize: packed(g, in.Policy)}, nil
}

// provider finds who issues tokens under a URL.
func (a *api) provider(issuer string) (found *model.OIDCProvider, ok bool) {
	name, https := strings.CutPrefix(strings.TrimSuffix(issuer, "/"), "https://")
	if !https {
		return nil, false
	}
	a.Store.View(func(r store.Reader) {
		found, ok = store.OIDCProviders.Get(r, "arn:"+model.Partition+":iam::"+a.Scope.Account+":oidc-provider/"+name)
	})
	return found, ok
}

// trusts tells whether a role's trust takes a token of a provider.
func (a *api) trusts(ctx context.Context, role *model.IAMRole, p *model.OIDCProvider, t *token, audience, session string) bool {
	d, err := policy.Parse(role.Trust)
	if err != nil {
		return false
	}
	keys := policy.Keys{}
	keys.Set(p.URL+":aud", audience)
	keys.Set(p.URL+":sub", t.Subject)
	keys.Set(p.URL+":amr", t.Methods...)
	keys.Set("aws:FederatedProvider", p.ARN)
	keys.Set("sts:RoleSessionName", session)
	c := wire.CallerFrom(ctx)
	if c.Source != "" {
		keys.Set("aws:SourceIp", c.Source)
	}
	return policy.Decide(&policy.Subject{Principal: policy.Principal{Federated: p.ARN}}, &policy.Request{Action: "sts:AssumeRoleWithWebIdentity",
		Resource: role.ARN, Keys: keys, Policies: []*policy.Document{d}, Must: true}).Allowed
}
