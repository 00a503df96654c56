package iam

import (
	"context"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxClientIDs is how many audiences a provider may have (IAM quotas).
const maxClientIDs = 100

func (a *api) createOpenIDConnectProvider(ctx context.Context, in *iam.CreateOpenIDConnectProviderInput) (*iam.CreateOpenIDConnectProviderOutput, error) {
	u, err := url.Parse(text(in.Url))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || len(*in.Url) > 255 {
		return nil, model.Errorf("ValidationError", "Invalid Open ID Connect Provider URL")
	}
	if err := checkThumbprints(in.ThumbprintList); err != nil {
		return nil, err
	}
	if err := checkClientIDs(in.ClientIDList); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	name := u.Host + strings.TrimSuffix(u.Path, "/")
	p := &model.OIDCProvider{ARN: a.arn("oidc-provider", "/", name), URL: name, ClientIDs: in.ClientIDList, Thumbprints: in.ThumbprintList, Tags: in.Tags,
		CreatedAt: a.Now()}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.OIDCProviders.Get(tx, p.ARN); ok {
			return exists("Provider with url https://%s already exists.", name)
		}
		store.OIDCProviders.Put(tx, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateOpenIDConnectProviderOutput{OpenIDConnectProviderArn: &p.ARN, Tags: p.Tags}, nil
}

func checkThumbprints(all []string) error {
	if len(all) > 5 {
		return invalid("thumbprintList", "Thumbprint list must contain fewer than 5 entries.")
	}
	for _, t := range all {
		if b, err := hex.DecodeString(t); err != nil || len(b) != 20 {
			return invalid("thumbprintList", "Member must be the SHA-1 of a certificate, 40 hexadecimal digits")
		}
	}
	return nil
}

func checkClientIDs(all []string) error {
	if len(all) > maxClientIDs {
		return model.Errorf("LimitExceeded", "Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: %d", maxClientIDs)
	}
	for _, id := range all {
		if id == "" || len(id) > 255 {
			return invalid("clientIDList", "Member must have length less than or equal to 255, and greater than or equal to 1")
		}
	}
	return nil
}

func provider(r store.Reader, arn *string) (*model.OIDCProvider, error) {
	if p, ok := store.OIDCProviders.Get(r, text(arn)); ok {
		return p, nil
	}
	return nil, noSuch("OpenIDConnect Provider not found for arn %s", text(arn))
}

func (a *api) viewProvider(arn *string) (p *model.OIDCProvider, err error) {
	a.Store.View(func(r store.Reader) { p, err = provider(r, arn) })
	return p, err
}

func (a *api) changeProvider(ctx context.Context, arn *string, change func(*model.OIDCProvider) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := provider(tx, arn)
		if err != nil {
			return err
		}
		next := *old
		if err := change(&next); err != nil {
			return err
		}
		store.OIDCProviders.Put(tx, &next)
		return nil
	})
}

func (a *api) getOpenIDConnectProvider(_ context.Context, in *iam.GetOpenIDConnectProviderInput) (*iam.GetOpenIDConnectProviderOutput, error) {
	p, err := a.viewProvider(in.OpenIDConnectProviderArn)
	if err != nil {
		return nil, err
	}
	out := &iam.GetOpenIDConnectProviderOutput{Url: &p.URL, ClientIDList: p.ClientIDs, ThumbprintList: p.Thumbprints, CreateDate: &p.CreatedAt, Tags: p.Tags}
	if out.Tags == nil {
		out.Tags = []types.Tag{}
	}
	return out, nil
}

// deleteOpenIDConnectProvider is content with one that is not there, as AWS is.
func (a *api) deleteOpenIDConnectProvider(ctx context.Context, in *iam.DeleteOpenIDConnectProviderInput) (*iam.DeleteOpenIDConnectProviderOutput, error) {
	return &iam.DeleteOpenIDConnectProviderOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		store.OIDCProviders.Delete(tx, text(in.OpenIDConnectProviderArn))
		return nil
	})
}

func (a *api) listOpenIDConnectProviders(context.Context, *iam.ListOpenIDConnectProvidersInput) (*iam.ListOpenIDConnectProvidersOutput, error) {
	out := &iam.ListOpenIDConnectProvidersOutput{OpenIDConnectProviderList: []types.OpenIDConnectProviderListEntry{}}
	a.Store.View(func(r store.Reader) {
		for p := range store.OIDCProviders.Scan(r, "") {
			out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, types.OpenIDConnectProviderListEntry{Arn: &p.ARN})
		}
	})
	return out, nil
}

func (a *api) addClientIDToOpenIDConnectProvider(ctx context.Context, in *iam.AddClientIDToOpenIDConnectProviderInput) (
	*iam.AddClientIDToOpenIDConnectProviderOutput, error) {
	return &iam.AddClientIDToOpenIDConnectProviderOutput{}, a.changeProvider(ctx, in.OpenIDConnectProviderArn, func(p *model.OIDCProvider) error {
		if !slices.Contains(p.ClientIDs, text(in.ClientID)) {
			p.ClientIDs = append(slices.Clone(p.ClientIDs), text(in.ClientID))
		}
		return checkClientIDs(p.ClientIDs)
	})
}

func (a *api) removeClientIDFromOpenIDConnectProvider(ctx context.Context, in *iam.RemoveClientIDFromOpenIDConnectProviderInput) (
	*iam.RemoveClientIDFromOpenIDConnectProviderOutput, error) {
	return &iam.RemoveClientIDFromOpenIDConnectProviderOutput{}, a.changeProvider(ctx, in.OpenIDConnectProviderArn, func(p *model.OIDCProvider) error {
		p.ClientIDs = without(p.ClientIDs, text(in.ClientID))
		return nil
	})
}

func (a *api) updateOpenIDConnectProviderThumbprint(ctx context.Context, in *iam.UpdateOpenIDConnectProviderThumbprintInput) (
	*iam.UpdateOpenIDConnectProviderThumbprintOutput, error) {
	return &iam.UpdateOpenIDConnectProviderThumbprintOutput{}, a.changeProvider(ctx, in.OpenIDConnectProviderArn, func(p *model.OIDCProvider) error {
		p.Thumbprints = in.ThumbprintList
		return checkThumbprints(in.ThumbprintList)
	})
}

func (a *api) tagOpenIDConnectProvider(ctx context.Context, in *iam.TagOpenIDConnectProviderInput) (*iam.TagOpenIDConnectProviderOutput, error) {
	return &iam.TagOpenIDConnectProviderOutput{}, a.changeProvider(ctx, in.OpenIDConnectProviderArn, func(p *model.OIDCProvider) (err error) {
		p.Tags, err = withTags(p.Tags, in.Tags)
		return err
	})
}

func (a *api) untagOpenIDConnectProvider(ctx context.Context, in *iam.UntagOpenIDConnectProviderInput) (*iam.UntagOpenIDConnectProviderOutput, error) {
	return &iam.UntagOpenIDConnectProviderOutput{}, a.changeProvider(ctx, in.OpenIDConnectProviderArn, func(p *model.OIDCProvider) error {
		p.Tags = withoutTags(p.Tags, in.TagKeys)
		return nil
	})
}

func (a *api) listOpenIDConnectProviderTags(_ context.Context, in *iam.ListOpenIDConnectProviderTagsInput) (*iam.ListOpenIDConnectProviderTagsOutput, error) {
	p, err := a.viewProvider(in.OpenIDConnectProviderArn)
	if err != nil {
		return nil, err
	}
	part, more, next, err := pageTags(p.Tags, in.Marker, in.MaxItems)
	return &iam.ListOpenIDConnectProviderTagsOutput{Tags: part, IsTruncated: more, Marker: next}, err
}
