package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// put adds an inline policy or replaces it. All of an identity's together have one limit.
func put(i *model.IAMIdentity, name, doc *string, kind string, limit int) error {
	n, err := checkName("policyName", name, 128)
	if err != nil {
		return err
	}
	quota := "bytes for " + strings.ToLower(kind) + " " + i.Name
	d, err := document(doc, quota, limit)
	if err != nil {
		return err
	}
	i.Inline = slices.DeleteFunc(slices.Clone(i.Inline), func(p model.InlinePolicy) bool { return p.Name == n })
	i.Inline = append(i.Inline, model.InlinePolicy{Name: n, Document: d})
	slices.SortFunc(i.Inline, func(x, y model.InlinePolicy) int { return strings.Compare(x.Name, y.Name) })
	sum := 0
	for _, p := range i.Inline {
		sum += size(p.Document)
	}
	if sum > limit {
		return model.Errorf("LimitExceeded", "Maximum policy size of %d bytes exceeded for %s %s", limit, strings.ToLower(kind), i.Name)
	}
	return nil
}

// inline finds an inline policy.
func inline(i *model.IAMIdentity, name *string, kind string) (model.InlinePolicy, error) {
	n := slices.IndexFunc(i.Inline, func(p model.InlinePolicy) bool { return p.Name == text(name) })
	if n < 0 {
		return model.InlinePolicy{}, noSuch("The %s policy with name %s cannot be found.", kind, text(name))
	}
	return i.Inline[n], nil
}

func remove(i *model.IAMIdentity, name *string, kind string) error {
	if _, err := inline(i, name, kind); err != nil {
		return err
	}
	i.Inline = slices.DeleteFunc(slices.Clone(i.Inline), func(p model.InlinePolicy) bool { return p.Name == *name })
	return nil
}

// names lists an identity's inline policies.
func (a *api) names(find func(store.Reader) (*model.IAMIdentity, error), marker *string, maxItems *int32) ([]string, bool, *string, error) {
	i, err := a.find(find)
	if err != nil {
		return nil, false, nil, err
	}
	var all []string
	for _, p := range i.Inline {
		all = append(all, p.Name)
	}
	return page(all, func(s string) string { return s }, marker, maxItems)
}

func (a *api) find(find func(store.Reader) (*model.IAMIdentity, error)) (i *model.IAMIdentity, err error) {
	a.Store.View(func(r store.Reader) { i, err = find(r) })
	return i, err
}

// get reads an inline policy.
func (a *api) get(find func(store.Reader) (*model.IAMIdentity, error), name *string, kind string) (owner string, p model.InlinePolicy, err error) {
	i, err := a.find(find)
	if err != nil {
		return "", p, err
	}
	p, err = inline(i, name, kind)
	return i.Name, p, err
}

func (a *api) putRolePolicy(ctx context.Context, in *iam.PutRolePolicyInput) (*iam.PutRolePolicyOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		if err := modifiable(r); err != nil {
			return err
		}
		return put(&r.IAMIdentity, in.PolicyName, in.PolicyDocument, "Role", maxInline)
	})
	return &iam.PutRolePolicyOutput{}, err
}

func (a *api) getRolePolicy(_ context.Context, in *iam.GetRolePolicyInput) (*iam.GetRolePolicyOutput, error) {
	owner, p, err := a.get(findRole(in.RoleName), in.PolicyName, "role")
	if err != nil {
		return nil, err
	}
	return &iam.GetRolePolicyOutput{RoleName: &owner, PolicyName: &p.Name, PolicyDocument: encoded(p.Document)}, nil
}

func (a *api) deleteRolePolicy(ctx context.Context, in *iam.DeleteRolePolicyInput) (*iam.DeleteRolePolicyOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		if err := modifiable(r); err != nil {
			return err
		}
		return remove(&r.IAMIdentity, in.PolicyName, "role")
	})
	return &iam.DeleteRolePolicyOutput{}, err
}

func (a *api) listRolePolicies(_ context.Context, in *iam.ListRolePoliciesInput) (*iam.ListRolePoliciesOutput, error) {
	part, more, next, err := a.names(findRole(in.RoleName), in.Marker, in.MaxItems)
	return &iam.ListRolePoliciesOutput{PolicyNames: part, IsTruncated: more, Marker: next}, err
}

func (a *api) putUserPolicy(ctx context.Context, in *iam.PutUserPolicyInput) (*iam.PutUserPolicyOutput, error) {
	return &iam.PutUserPolicyOutput{}, a.changeUser(ctx, in.UserName, func(_ store.Tx, u *model.IAMUser) error {
		return put(&u.IAMIdentity, in.PolicyName, in.PolicyDocument, "User", maxInlineOf)
	})
}

func (a *api) getUserPolicy(_ context.Context, in *iam.GetUserPolicyInput) (*iam.GetUserPolicyOutput, error) {
	owner, p, err := a.get(findUser(in.UserName), in.PolicyName, "user")
	if err != nil {
		return nil, err
	}
	return &iam.GetUserPolicyOutput{UserName: &owner, PolicyName: &p.Name, PolicyDocument: encoded(p.Document)}, nil
}

func (a *api) deleteUserPolicy(ctx context.Context, in *iam.DeleteUserPolicyInput) (*iam.DeleteUserPolicyOutput, error) {
	return &iam.DeleteUserPolicyOutput{}, a.changeUser(ctx, in.UserName, func(_ store.Tx, u *model.IAMUser) error {
		return remove(&u.IAMIdentity, in.PolicyName, "user")
	})
}

func (a *api) listUserPolicies(_ context.Context, in *iam.ListUserPoliciesInput) (*iam.ListUserPoliciesOutput, error) {
	part, more, next, err := a.names(findUser(in.UserName), in.Marker, in.MaxItems)
	return &iam.ListUserPoliciesOutput{PolicyNames: part, IsTruncated: more, Marker: next}, err
}

func (a *api) putGroupPolicy(ctx context.Context, in *iam.PutGroupPolicyInput) (*iam.PutGroupPolicyOutput, error) {
	return &iam.PutGroupPolicyOutput{}, a.changeGroup(ctx, in.GroupName, func(_ store.Tx, g *model.IAMGroup) error {
		return put(&g.IAMIdentity, in.PolicyName, in.PolicyDocument, "Group", maxGroupText)
	})
}

func (a *api) getGroupPolicy(_ context.Context, in *iam.GetGroupPolicyInput) (*iam.GetGroupPolicyOutput, error) {
	owner, p, err := a.get(findGroup(in.GroupName), in.PolicyName, "group")
	if err != nil {
		return nil, err
	}
	return &iam.GetGroupPolicyOutput{GroupName: &owner, PolicyName: &p.Name, PolicyDocument: encoded(p.Document)}, nil
}

func (a *api) deleteGroupPolicy(ctx context.Context, in *iam.DeleteGroupPolicyInput) (*iam.DeleteGroupPolicyOutput, error) {
	return &iam.DeleteGroupPolicyOutput{}, a.changeGroup(ctx, in.GroupName, func(_ store.Tx, g *model.IAMGroup) error {
		return remove(&g.IAMIdentity, in.PolicyName, "group")
	})
}

func (a *api) listGroupPolicies(_ context.Context, in *iam.ListGroupPoliciesInput) (*iam.ListGroupPoliciesOutput, error) {
	part, more, next, err := a.names(findGroup(in.GroupName), in.Marker, in.MaxItems)
	return &iam.ListGroupPoliciesOutput{PolicyNames: part, IsTruncated: more, Marker: next}, err
}
