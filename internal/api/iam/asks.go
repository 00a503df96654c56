package iam

import (
	"context"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/store"
)

// asks names the user, group, role, policy, profile or provider that a request is about.
func (a *api) asks(ctx context.Context, op string, in any) []wire.Ask {
	ask := wire.Ask{Action: "iam:" + op, Context: map[string][]string{}}
	var tags []types.Tag
	a.Store.View(func(r store.Reader) {
		ask.Resources, tags = a.about(ctx, r, in)
	})
	for _, t := range tags {
		ask.Context["aws:ResourceTag/"+text(t.Key)] = []string{text(t.Value)}
		ask.Context["iam:ResourceTag/"+text(t.Key)] = []string{text(t.Value)}
	}
	v := reflect.ValueOf(in).Elem()
	if arn := member(v, "PolicyArn"); arn != "" {
		ask.Context["iam:PolicyARN"] = []string{arn}
	}
	if b := member(v, "PermissionsBoundary"); b != "" {
		ask.Context["iam:PermissionsBoundary"] = []string{b}
	}
	if s := member(v, "AWSServiceName"); s != "" {
		ask.Context["iam:AWSServiceName"] = []string{s}
	}
	requestTags(ask.Context, v)
	asks := []wire.Ask{ask}
	if r, ok := in.(*iam.AddRoleToInstanceProfileInput); ok {
		asks = append(asks, wire.Ask{Action: "iam:PassRole", Resources: []string{a.roleARN(text(r.RoleName))},
			Context: map[string][]string{"iam:PassedToService": {"ec2.amazonaws.com"}}})
	}
	return asks
}

// requestTags tells the tags of a request.
func requestTags(keys map[string][]string, v reflect.Value) {
	if f := v.FieldByName("Tags"); f.IsValid() {
		if tags, ok := reflect.TypeAssert[[]types.Tag](f); ok {
			for _, t := range tags {
				keys["aws:RequestTag/"+text(t.Key)] = []string{text(t.Value)}
				keys["aws:TagKeys"] = append(keys["aws:TagKeys"], text(t.Key))
			}
		}
	}
	if f := v.FieldByName("TagKeys"); f.IsValid() {
		if names, ok := reflect.TypeAssert[[]string](f); ok {
			keys["aws:TagKeys"] = names
		}
	}
}

// member is a text of the request by its name, "" without one.
func member(v reflect.Value, name string) string {
	if f := v.FieldByName(name); f.IsValid() {
		if s, ok := reflect.TypeAssert[*string](f); ok {
			return text(s)
		}
	}
	return ""
}

// about returns the ARN of what a request is about, and its tags. What is not there yet is named as it will be.
func (a *api) about(ctx context.Context, r store.Reader, in any) (arns []string, tags []types.Tag) {
	v := reflect.ValueOf(in).Elem()
	path := member(v, "Path")
	if path == "" {
		path = "/"
	}
	named := func(kind, name string, find func(*string) (string, []types.Tag, bool)) ([]string, []types.Tag) {
		if arn, tags, ok := find(&name); ok {
			return []string{arn}, tags
		}
		return []string{a.arn(kind, path, name)}, nil
	}
	// Who is in a profile or a group is asked of the profile and the group.
	if name := member(v, "InstanceProfileName"); name != "" {
		return named("instance-profile", name, func(n *string) (string, []types.Tag, bool) {
			p, err := profile(r, n)
			if err != nil {
				return "", nil, false
			}
			return p.ARN, p.Tags, true
		})
	}
	if name := member(v, "GroupName"); name != "" {
		return named("group", name, func(n *string) (string, []types.Tag, bool) {
			g, err := group(r, n)
			if err != nil {
				return "", nil, false
			}
			return g.ARN, nil, true
		})
	}
	if name := member(v, "RoleName"); name != "" {
		return named("role", name, func(n *string) (string, []types.Tag, bool) {
			x, err := role(r, n)
			if err != nil {
				return "", nil, false
			}
			return x.ARN, x.Tags, true
		})
	}
	if arn := member(v, "PolicySourceArn"); arn != "" {
		return []string{arn}, nil
	}
	if name, own := member(v, "UserName"), v.FieldByName("UserName").IsValid(); name != "" || own && callingUser(ctx) != nil {
		if name == "" {
			name = *callingUser(ctx)
		}
		return named("user", name, func(n *string) (string, []types.Tag, bool) {
			u, err := user(r, n)
			if err != nil {
				return "", nil, false
			}
			return u.ARN, u.Tags, true
		})
	}
	return a.aboutOther(r, v, path)
}

func (a *api) aboutOther(r store.Reader, v reflect.Value, path string) (arns []string, tags []types.Tag) {
	if arn := member(v, "PolicyArn"); arn != "" {
		if p, ok := a.Keys.managedPolicy(r, arn); ok {
			tags = p.Tags
		}
		return []string{arn}, tags
	}
	if arn := member(v, "OpenIDConnectProviderArn"); arn != "" {
		if p, ok := store.OIDCProviders.Get(r, arn); ok {
			tags = p.Tags
		}
		return []string{arn}, tags
	}
	if name := member(v, "PolicyName"); name != "" {
		return []string{a.arn("policy", path, name)}, nil
	}
	if u := member(v, "Url"); u != "" {
		return []string{a.arn("oidc-provider", "/", strings.TrimPrefix(u, "https://"))}, nil
	}
	if s := member(v, "AWSServiceName"); s != "" {
		return []string{a.arn("role", serviceRolePath+s+"/", serviceRoles[s][0])}, nil
	}
	return nil, nil
}

// roleARN is the ARN of a role by its name, as it would be when it is not there.
func (a *api) roleARN(name string) (arn string) {
	arn = a.arn("role", "/", name)
	a.Store.View(func(r store.Reader) {
		if x, err := role(r, &name); err == nil {
			arn = x.ARN
		}
	})
	return arn
}
