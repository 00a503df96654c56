package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// attach adds a managed policy to an identity; one that is there already is no error.
func (a *api) attach(tx store.Tx, i *model.IAMIdentity, arn *string, kind string) error {
	p, err := a.attachable(tx, arn)
	if err != nil {
		return err
	}
	if slices.Contains(i.Attached, p.ARN) {
		return nil
	}
	if len(i.Attached) >= maxAttached {
		return model.Errorf("LimitExceeded", "Cannot exceed quota for PoliciesPer%s: %d", kind, maxAttached)
	}
	if !a.Keys.knows(p.ARN) && a.Keys.Log != nil {
		a.Keys.Log.Warn("a policy of AWS's that Berth does not know is attached: it allows nothing here", "policy", p.ARN, kind, i.Name)
	}
	i.Attached = append(slices.Clone(i.Attached), p.ARN)
	return nil
}

func detach(i *model.IAMIdentity, arn *string) error {
	if !slices.Contains(i.Attached, text(arn)) {
		return noSuch("Policy %s was not found.", text(arn))
	}
	i.Attached = without(i.Attached, *arn)
	return nil
}

// attached lists the managed policies of an identity.
func (a *api) attached(find func(store.Reader) (*model.IAMIdentity, error), prefix, marker *string, maxItems *int32) (
	part []types.AttachedPolicy, more bool, next *string, err error) {
	var all []types.AttachedPolicy
	a.Store.View(func(r store.Reader) {
		var i *model.IAMIdentity
		if i, err = find(r); err != nil {
			return
		}
		for _, arn := range slices.Sorted(slices.Values(i.Attached)) {
			if p, ok := a.Keys.managedPolicy(r, arn); ok && strings.HasPrefix(p.Path, text(prefix)) {
				all = append(all, types.AttachedPolicy{PolicyArn: &p.ARN, PolicyName: &p.Name})
			}
		}
	})
	if err != nil {
		return nil, false, nil, err
	}
	return page(all, func(p types.AttachedPolicy) string { return *p.PolicyArn }, marker, maxItems)
}

func findRole(name *string) func(store.Reader) (*model.IAMIdentity, error) {
	return func(r store.Reader) (*model.IAMIdentity, error) {
		x, err := role(r, name)
		if err != nil {
			return nil, err
		}
		return &x.IAMIdentity, nil
	}
}

func findUser(name *string) func(store.Reader) (*model.IAMIdentity, error) {
	return func(r store.Reader) (*model.IAMIdentity, error) {
		x, err := user(r, name)
		if err != nil {
			return nil, err
		}
		return &x.IAMIdentity, nil
	}
}

func findGroup(name *string) func(store.Reader) (*model.IAMIdentity, error) {
	return func(r store.Reader) (*model.IAMIdentity, error) {
		x, err := group(r, name)
		if err != nil {
			return nil, err
		}
		return &x.IAMIdentity, nil
	}
}

func (a *api) attachRolePolicy(ctx context.Context, in *iam.AttachRolePolicyInput) (*iam.AttachRolePolicyOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(tx store.Tx, r *model.IAMRole) error {
		if err := modifiable(r); err != nil {
			return err
		}
		return a.attach(tx, &r.IAMIdentity, in.PolicyArn, "Role")
	})
	return &iam.AttachRolePolicyOutput{}, err
}

func (a *api) detachRolePolicy(ctx context.Context, in *iam.DetachRolePolicyInput) (*iam.DetachRolePolicyOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		if err := modifiable(r); err != nil {
			return err
		}
		return detach(&r.IAMIdentity, in.PolicyArn)
	})
	return &iam.DetachRolePolicyOutput{}, err
}

func (a *api) listAttachedRolePolicies(_ context.Context, in *iam.ListAttachedRolePoliciesInput) (*iam.ListAttachedRolePoliciesOutput, error) {
	part, more, next, err := a.attached(findRole(in.RoleName), in.PathPrefix, in.Marker, in.MaxItems)
	return &iam.ListAttachedRolePoliciesOutput{AttachedPolicies: part, IsTruncated: more, Marker: next}, err
}

func (a *api) attachUserPolicy(ctx context.Context, in *iam.AttachUserPolicyInput) (*iam.AttachUserPolicyOutput, error) {
	return &iam.AttachUserPolicyOutput{}, a.changeUser(ctx, in.UserName, func(tx store.Tx, u *model.IAMUser) error {
		return a.attach(tx, &u.IAMIdentity, in.PolicyArn, "User")
	})
}

func (a *api) detachUserPolicy(ctx context.Context, in *iam.DetachUserPolicyInput) (*iam.DetachUserPolicyOutput, error) {
	return &iam.DetachUserPolicyOutput{}, a.changeUser(ctx, in.UserName, func(_ store.Tx, u *model.IAMUser) error {
		return detach(&u.IAMIdentity, in.PolicyArn)
	})
}

func (a *api) listAttachedUserPolicies(_ context.Context, in *iam.ListAttachedUserPoliciesInput) (*iam.ListAttachedUserPoliciesOutput, error) {
	part, more, next, err := a.attached(findUser(in.UserName), in.PathPrefix, in.Marker, in.MaxItems)
	return &iam.ListAttachedUserPoliciesOutput{AttachedPolicies: part, IsTruncated: more, Marker: next}, err
}

func (a *api) attachGroupPolicy(ctx context.Context, in *iam.AttachGroupPolicyInput) (*iam.AttachGroupPolicyOutput, error) {
	return &iam.AttachGroupPolicyOutput{}, a.changeGroup(ctx, in.GroupName, func(tx store.Tx, g *model.IAMGroup) error {
		return a.attach(tx, &g.IAMIdentity, in.PolicyArn, "Group")
	})
}

func (a *api) detachGroupPolicy(ctx context.Context, in *iam.DetachGroupPolicyInput) (*iam.DetachGroupPolicyOutput, error) {
	return &iam.DetachGroupPolicyOutput{}, a.changeGroup(ctx, in.GroupName, func(_ store.Tx, g *model.IAMGroup) error {
		return detach(&g.IAMIdentity, in.PolicyArn)
	})
}

func (a *api) listAttachedGroupPolicies(_ context.Context, in *iam.ListAttachedGroupPoliciesInput) (*iam.ListAttachedGroupPoliciesOutput, error) {
	part, more, next, err := a.attached(findGroup(in.GroupName), in.PathPrefix, in.Marker, in.MaxItems)
	return &iam.ListAttachedGroupPoliciesOutput{AttachedPolicies: part, IsTruncated: more, Marker: next}, err
}
