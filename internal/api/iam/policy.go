package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) createPolicy(ctx context.Context, in *iam.CreatePolicyInput) (*iam.CreatePolicyOutput, error) {
	name, err := checkName("policyName", in.PolicyName, 128)
	if err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	doc, err := document(in.PolicyDocument, "PolicySize", maxManaged)
	if err != nil {
		return nil, err
	}
	now := a.Now()
	p := &model.IAMPolicy{Name: name, Path: path, ID: newID("ANPA"), ARN: a.arn("policy", path, name), Description: text(in.Description), Tags: in.Tags,
		Last: 1, Versions: []model.PolicyVersion{{ID: "v1", Document: doc, Default: true, CreatedAt: now}}, CreatedAt: now, UpdatedAt: now}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		for other := range store.IAMPolicies.Scan(tx, "") {
			if strings.EqualFold(other.Name, name) {
				return exists("A policy called %s already exists. Duplicate names are not allowed.", name)
			}
		}
		store.IAMPolicies.Put(tx, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreatePolicyOutput{Policy: policyView(p, uses{}, true)}, nil
}

func policyView(p *model.IAMPolicy, u uses, whole bool) *types.Policy {
	v := &types.Policy{Arn: &p.ARN, AttachmentCount: &u.attached, PermissionsBoundaryUsageCount: &u.boundaries, CreateDate: &p.CreatedAt,
		UpdateDate: &p.UpdatedAt, DefaultVersionId: &p.Default().ID, IsAttachable: true, Path: &p.Path, PolicyId: &p.ID, PolicyName: &p.Name}
	if whole {
		v.Description = optional(p.Description)
		v.Tags = p.Tags
		if v.Tags == nil {
			v.Tags = []types.Tag{}
		}
	}
	return v
}

// managed finds a managed policy by its ARN.
func (a *api) managed(r store.Reader, arn *string) (*model.IAMPolicy, error) {
	if arn == nil {
		return nil, required("policyArn")
	}
	if p, ok := a.Keys.managedPolicy(r, *arn); ok {
		return p, nil
	}
	if !strings.HasPrefix(*arn, "arn:") {
		return nil, model.Errorf("ValidationError", "ARN %s is not valid.", *arn)
	}
	return nil, noSuch("Policy %s was not found.", *arn)
}

// attachable is managed in the words for what is to be attached.
func (a *api) attachable(r store.Reader, arn *string) (*model.IAMPolicy, error) {
	p, err := a.managed(r, arn)
	if model.ErrorCode(err) == "NoSuchEntity" {
		return nil, noSuch("Policy %s does not exist or is not attachable.", *arn)
	}
	return p, err
}

// changePolicy stores what change makes of a policy of the account.
func (a *api) changePolicy(ctx context.Context, arn *string, change func(store.Tx, *model.IAMPolicy) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := a.managed(tx, arn)
		if err != nil {
			return err
		}
		if err := a.own(old); err != nil {
			return err
		}
		next := *old
		if err := change(tx, &next); err != nil {
			return err
		}
		store.IAMPolicies.Put(tx, &next)
		return nil
	})
}

// own refuses to change AWS's policies.
func (a *api) own(p *model.IAMPolicy) error {
	if strings.HasPrefix(p.ARN, awsPrefix) {
		return model.Errorf("AccessDenied", "Policies of AWS cannot be changed: %s", p.ARN)
	}
	return nil
}

func (a *api) getPolicy(_ context.Context, in *iam.GetPolicyInput) (out *iam.GetPolicyOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var p *model.IAMPolicy
		if p, err = a.managed(r, in.PolicyArn); err == nil {
			out = &iam.GetPolicyOutput{Policy: policyView(p, countUses(r)[p.ARN], true)}
		}
	})
	return out, err
}

func (a *api) deletePolicy(ctx context.Context, in *iam.DeletePolicyInput) (*iam.DeletePolicyOutput, error) {
	return &iam.DeletePolicyOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		p, err := a.managed(tx, in.PolicyArn)
		if err != nil {
			return err
		}
		if err := a.own(p); err != nil {
			return err
		}
		switch u := countUses(tx)[p.ARN]; {
		case u.attached > 0 || u.boundaries > 0:
			return model.Errorf("DeleteConflict", "Cannot delete a policy attached to entities.")
		case len(p.Versions) > 1:
			return model.Errorf("DeleteConflict", "This policy has more than one version. Before you delete a policy, you must delete the policy's "+
				"versions. The default version is deleted with the policy.")
		}
		store.IAMPolicies.Delete(tx, p.ARN)
		return nil
	})
}

func (a *api) listPolicies(_ context.Context, in *iam.ListPoliciesInput) (*iam.ListPoliciesOutput, error) {
	var all []types.Policy
	a.Store.View(func(r store.Reader) {
		use := countUses(r)
		add := func(p *model.IAMPolicy) {
			u := use[p.ARN]
			if in.OnlyAttached && u.attached == 0 || in.PolicyUsageFilter == types.PolicyUsageTypePermissionsBoundary && u.boundaries == 0 ||
				!strings.HasPrefix(p.Path, text(in.PathPrefix)) {
				return
			}
			all = append(all, *policyView(p, u, false))
		}
		if in.Scope != types.PolicyScopeTypeAws {
			for p := range store.IAMPolicies.Scan(r, "") {
				add(p)
			}
		}
		if in.Scope != types.PolicyScopeTypeLocal {
			for _, p := range a.Keys.aws() {
				add(p)
			}
		}
	})
	slices.SortFunc(all, func(x, y types.Policy) int { return strings.Compare(*x.Arn, *y.Arn) })
	part, more, next, err := page(all, func(p types.Policy) string { return *p.Arn }, in.Marker, in.MaxItems)
	return &iam.ListPoliciesOutput{Policies: part, IsTruncated: more, Marker: next}, err
}

func versionView(v *model.PolicyVersion, whole bool) *types.PolicyVersion {
	out := &types.PolicyVersion{CreateDate: &v.CreatedAt, IsDefaultVersion: v.Default, VersionId: &v.ID}
	if whole {
		out.Document = encoded(v.Document)
	}
	return out
}

func (a *api) createPolicyVersion(ctx context.Context, in *iam.CreatePolicyVersionInput) (*iam.CreatePolicyVersionOutput, error) {
	doc, err := document(in.PolicyDocument, "PolicySize", maxManaged)
	if err != nil {
		return nil, err
	}
	v := model.PolicyVersion{Document: doc, Default: in.SetAsDefault, CreatedAt: a.Now()}
	err = a.changePolicy(ctx, in.PolicyArn, func(_ store.Tx, p *model.IAMPolicy) error {
		if len(p.Versions) >= maxVersions {
			return model.Errorf("LimitExceeded", "A managed policy can have up to %d versions. Before you create a new version, you must delete an "+
				"existing version.", maxVersions)
		}
		p.Last++
		v.ID = fmt.Sprintf("v%d", p.Last)
		p.Versions = append(slices.Clone(p.Versions), v)
		p.UpdatedAt = v.CreatedAt
		if v.Default {
			makeDefault(p, v.ID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreatePolicyVersionOutput{PolicyVersion: versionView(&v, false)}, nil
}

func makeDefault(p *model.IAMPolicy, id string) {
	for i := range p.Versions {
		p.Versions[i].Default = p.Versions[i].ID == id
	}
}

// version finds the place of a version.
func version(p *model.IAMPolicy, id *string) (int, error) {
	i := slices.IndexFunc(p.Versions, func(v model.PolicyVersion) bool { return v.ID == text(id) })
	if i < 0 {
		return 0, noSuch("Policy %s version %s does not exist or is not attachable.", p.ARN, text(id))
	}
	return i, nil
}

func (a *api) getPolicyVersion(_ context.Context, in *iam.GetPolicyVersionInput) (out *iam.GetPolicyVersionOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var p *model.IAMPolicy
		var i int
		if p, err = a.managed(r, in.PolicyArn); err != nil {
			return
		}
		if i, err = version(p, in.VersionId); err == nil {
			out = &iam.GetPolicyVersionOutput{PolicyVersion: versionView(&p.Versions[i], true)}
		}
	})
	return out, err
}

func (a *api) listPolicyVersions(_ context.Context, in *iam.ListPolicyVersionsInput) (*iam.ListPolicyVersionsOutput, error) {
	var p *model.IAMPolicy
	var err error
	a.Store.View(func(r store.Reader) { p, err = a.managed(r, in.PolicyArn) })
	if err != nil {
		return nil, err
	}
	var all []types.PolicyVersion
	for i := range slices.Backward(p.Versions) {
		all = append(all, *versionView(&p.Versions[i], false))
	}
	return &iam.ListPolicyVersionsOutput{Versions: all}, nil // there are five at most
}

func (a *api) setDefaultPolicyVersion(ctx context.Context, in *iam.SetDefaultPolicyVersionInput) (*iam.SetDefaultPolicyVersionOutput, error) {
	return &iam.SetDefaultPolicyVersionOutput{}, a.changePolicy(ctx, in.PolicyArn, func(_ store.Tx, p *model.IAMPolicy) error {
		if _, err := version(p, in.VersionId); err != nil {
			return err
		}
		p.Versions, p.UpdatedAt = slices.Clone(p.Versions), a.Now()
		makeDefault(p, *in.VersionId)
		return nil
	})
}

func (a *api) deletePolicyVersion(ctx context.Context, in *iam.DeletePolicyVersionInput) (*iam.DeletePolicyVersionOutput, error) {
	return &iam.DeletePolicyVersionOutput{}, a.changePolicy(ctx, in.PolicyArn, func(_ store.Tx, p *model.IAMPolicy) error {
		i, err := version(p, in.VersionId)
		if err != nil {
			return err
		}
		if p.Versions[i].Default {
			return model.Errorf("DeleteConflict", "Cannot delete the default version of a policy.")
		}
		p.Versions = slices.Delete(slices.Clone(p.Versions), i, i+1)
		return nil
	})
}

func (a *api) listEntitiesForPolicy(_ context.Context, in *iam.ListEntitiesForPolicyInput) (*iam.ListEntitiesForPolicyOutput, error) {
	out := &iam.ListEntitiesForPolicyOutput{PolicyGroups: []types.PolicyGroup{}, PolicyRoles: []types.PolicyRole{}, PolicyUsers: []types.PolicyUser{}}
	var err error
	a.Store.View(func(r store.Reader) {
		var p *model.IAMPolicy
		if p, err = a.managed(r, in.PolicyArn); err != nil {
			return
		}
		wants := func(kind types.EntityType, i *model.IAMIdentity, boundary string) bool {
			used := slices.Contains(i.Attached, p.ARN)
			if in.PolicyUsageFilter == types.PolicyUsageTypePermissionsBoundary {
				used = boundary == p.ARN
			}
			return used && (in.EntityFilter == "" || in.EntityFilter == kind) && strings.HasPrefix(i.Path, text(in.PathPrefix))
		}
		for g := range store.IAMGroups.Scan(r, "") {
			if wants(types.EntityTypeGroup, &g.IAMIdentity, "") {
				out.PolicyGroups = append(out.PolicyGroups, types.PolicyGroup{GroupId: &g.ID, GroupName: &g.Name})
			}
		}
		for x := range store.IAMRoles.Scan(r, "") {
			if wants(types.EntityTypeRole, &x.IAMIdentity, x.Boundary) {
				out.PolicyRoles = append(out.PolicyRoles, types.PolicyRole{RoleId: &x.ID, RoleName: &x.Name})
			}
		}
		for u := range store.IAMUsers.Scan(r, "") {
			if wants(types.EntityTypeUser, &u.IAMIdentity, u.Boundary) {
				out.PolicyUsers = append(out.PolicyUsers, types.PolicyUser{UserId: &u.ID, UserName: &u.Name})
			}
		}
	})
	return out, err
}

func (a *api) tagPolicy(ctx context.Context, in *iam.TagPolicyInput) (*iam.TagPolicyOutput, error) {
	return &iam.TagPolicyOutput{}, a.changePolicy(ctx, in.PolicyArn, func(_ store.Tx, p *model.IAMPolicy) (err error) {
		p.Tags, err = withTags(p.Tags, in.Tags)
		return err
	})
}

func (a *api) untagPolicy(ctx context.Context, in *iam.UntagPolicyInput) (*iam.UntagPolicyOutput, error) {
	return &iam.UntagPolicyOutput{}, a.changePolicy(ctx, in.PolicyArn, func(_ store.Tx, p *model.IAMPolicy) error {
		p.Tags = withoutTags(p.Tags, in.TagKeys)
		return nil
	})
}

func (a *api) listPolicyTags(_ context.Context, in *iam.ListPolicyTagsInput) (*iam.ListPolicyTagsOutput, error) {
	var p *model.IAMPolicy
	var err error
	a.Store.View(func(r store.Reader) { p, err = a.managed(r, in.PolicyArn) })
	if err != nil {
		return nil, err
	}
	part, more, next, err := pageTags(p.Tags, in.Marker, in.MaxItems)
	return &iam.ListPolicyTagsOutput{Tags: part, IsTruncated: more, Marker: next}, err
}
