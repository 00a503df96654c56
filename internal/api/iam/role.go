package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

// defaultSession is a role's longest session when nobody said otherwise, seconds.
const defaultSession = 3600

func (a *api) createRole(ctx context.Context, in *iam.CreateRoleInput) (*iam.CreateRoleOutput, error) {
	role, err := a.newRole(in)
	if err != nil {
		return nil, err
	}
	err = a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.IAMRoles.Get(tx, role.Key()); ok {
			return exists("Role with name %s already exists.", role.Name)
		}
		if err := a.checkTrust(tx, role.Trust); err != nil {
			return err
		}
		if err := a.checkBoundary(tx, in.PermissionsBoundary); err != nil {
			return err
		}
		store.IAMRoles.Put(tx, role)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateRoleOutput{Role: roleView(role, true)}, nil
}

// newRole checks the request by itself.
func (a *api) newRole(in *iam.CreateRoleInput) (*model.IAMRole, error) {
	name, err := checkName("roleName", in.RoleName, 64)
	if err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "/aws-service-role/") {
		return nil, model.Errorf("ValidationError", "The path /aws-service-role/ is reserved: create the role with CreateServiceLinkedRole")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	session := int32(defaultSession)
	if in.MaxSessionDuration != nil {
		session = *in.MaxSessionDuration
	}
	if err := checkSession(session); err != nil {
		return nil, err
	}
	if len(text(in.Description)) > 1000 {
		return nil, invalid("description", "Member must have length less than or equal to 1000")
	}
	if in.AssumeRolePolicyDocument == nil {
		return nil, required("assumeRolePolicyDocument")
	}
	return &model.IAMRole{IAMIdentity: model.IAMIdentity{Name: name, Path: path, ID: newID("AROA"), ARN: a.arn("role", path, name), CreatedAt: a.Now()},
		Description: text(in.Description), Trust: *in.AssumeRolePolicyDocument, MaxSession: session, Boundary: text(in.PermissionsBoundary),
		Tags: in.Tags}, nil
}

func checkSession(seconds int32) error {
	if seconds < 3600 || seconds > 43200 {
		return invalid("maxSessionDuration", "Member must have value between 3600 and 43200")
	}
	return nil
}

// checkTrust checks a role's trust: the users and roles of this account that it names must be there.
func (a *api) checkTrust(tx store.Reader, trust string) error {
	if size(trust) > maxTrust {
		return model.Errorf("LimitExceeded", "Cannot exceed quota for ACLSizePerRole: %d", maxTrust)
	}
	d, err := policy.Validate(trust, policy.ForTrust)
	if err != nil {
		return model.Errorf("MalformedPolicyDocument", "%s", err)
	}
	for _, arn := range d.ARNs() {
		if !a.known(tx, arn) {
			return model.Errorf("MalformedPolicyDocument", "%s", policy.InvalidPrincipal("AWS", arn))
		}
	}
	return nil
}

// known tells whether a principal is there; those of other accounts are taken for it.
func (a *api) known(r store.Reader, arn string) bool {
	own := a.arn("", "", "")
	rest, ok := strings.CutPrefix(arn, own)
	if !ok {
		return true
	}
	switch name := strings.ToLower(model.ARNTail(arn)); {
	case strings.HasPrefix(rest, "role/"):
		role, ok := store.IAMRoles.Get(r, name)
		return ok && role.ARN == arn
	case strings.HasPrefix(rest, "user/"):
		user, ok := store.IAMUsers.Get(r, name)
		return ok && user.ARN == arn
	}
	return true
}

// roleView is a role as answers tell it; whole as GetRole and CreateRole do, others leave some of it out.
func roleView(r *model.IAMRole, whole bool) *types.Role {
	v := &types.Role{Arn: &r.ARN, CreateDate: &r.CreatedAt, Path: &r.Path, RoleId: &r.ID, RoleName: &r.Name, AssumeRolePolicyDocument: encoded(r.Trust),
		Description: optional(r.Description), MaxSessionDuration: &r.MaxSession}
	if whole {
		v.PermissionsBoundary, v.RoleLastUsed = boundary(r.Boundary), &types.RoleLastUsed{}
		if len(r.Tags) > 0 {
			v.Tags = r.Tags
		}
	}
	return v
}

// role finds a role by its name.
func role(r store.Reader, name *string) (*model.IAMRole, error) {
	if name == nil {
		return nil, required("roleName")
	}
	if role, ok := store.IAMRoles.Get(r, strings.ToLower(*name)); ok {
		return role, nil
	}
	return nil, cannotBeFound("role", *name)
}

// changeRole stores what change makes of a role. What AWS's services made for themselves they change alone.
func (a *api) changeRole(ctx context.Context, name *string, change func(store.Tx, *model.IAMRole) error) (*model.IAMRole, error) {
	var next model.IAMRole
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		old, err := role(tx, name)
		if err != nil {
			return err
		}
		next = *old
		if err := change(tx, &next); err != nil {
			return err
		}
		store.IAMRoles.Put(tx, &next)
		return nil
	})
	return &next, err
}

func (a *api) getRole(_ context.Context, in *iam.GetRoleInput) (out *iam.GetRoleOutput, err error) {
	a.Store.View(func(r store.Reader) {
		var found *model.IAMRole
		if found, err = role(r, in.RoleName); err == nil {
			out = &iam.GetRoleOutput{Role: roleView(found, true)}
		}
	})
	return out, err
}

func (a *api) updateRole(ctx context.Context, in *iam.UpdateRoleInput) (*iam.UpdateRoleOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		if in.MaxSessionDuration != nil {
			if err := checkSession(*in.MaxSessionDuration); err != nil {
				return err
			}
			r.MaxSession = *in.MaxSessionDuration
		}
		if in.Description != nil {
			r.Description = *in.Description
		}
		return nil
	})
	return &iam.UpdateRoleOutput{}, err
}

func (a *api) updateRoleDescription(ctx context.Context, in *iam.UpdateRoleDescriptionInput) (*iam.UpdateRoleDescriptionOutput, error) {
	r, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		r.Description = text(in.Description)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.UpdateRoleDescriptionOutput{Role: roleView(r, true)}, nil
}

func (a *api) updateAssumeRolePolicy(ctx context.Context, in *iam.UpdateAssumeRolePolicyInput) (*iam.UpdateAssumeRolePolicyOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(tx store.Tx, r *model.IAMRole) error {
		if err := modifiable(r); err != nil {
			return err
		}
		r.Trust = text(in.PolicyDocument)
		return a.checkTrust(tx, r.Trust)
	})
	return &iam.UpdateAssumeRolePolicyOutput{}, err
}

// modifiable refuses the roles of AWS's services.
func modifiable(r *model.IAMRole) error {
	if strings.HasPrefix(r.Path, serviceRolePath) {
		return model.Errorf("UnmodifiableEntity", "Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", r.Name)
	}
	return nil
}

func (a *api) deleteRole(ctx context.Context, in *iam.DeleteRoleInput) (*iam.DeleteRoleOutput, error) {
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		r, err := role(tx, in.RoleName)
		if err != nil {
			return err
		}
		if err := modifiable(r); err != nil {
			return err
		}
		for p := range store.InstanceProfiles.Scan(tx, "") {
			if p.Role == r.Key() {
				return conflict("remove roles from instance profile")
			}
		}
		if err := bare(&r.IAMIdentity); err != nil {
			return err
		}
		store.IAMRoles.Delete(tx, r.Key())
		return nil
	})
	return &iam.DeleteRoleOutput{}, err
}

// bare refuses to delete what still has policies.
func bare(i *model.IAMIdentity) error {
	if len(i.Attached) > 0 {
		return conflict("detach all policies")
	}
	if len(i.Inline) > 0 {
		return conflict("delete policies")
	}
	return nil
}

func (a *api) listRoles(_ context.Context, in *iam.ListRolesInput) (*iam.ListRolesOutput, error) {
	var all []types.Role
	a.Store.View(func(r store.Reader) {
		for role := range store.IAMRoles.Scan(r, "") {
			if strings.HasPrefix(role.Path, text(in.PathPrefix)) {
				all = append(all, *roleView(role, false))
			}
		}
	})
	part, more, next, err := page(all, func(r types.Role) string { return strings.ToLower(*r.RoleName) }, in.Marker, in.MaxItems)
	return &iam.ListRolesOutput{Roles: part, IsTruncated: more, Marker: next}, err
}

func (a *api) tagRole(ctx context.Context, in *iam.TagRoleInput) (*iam.TagRoleOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) (err error) {
		r.Tags, err = withTags(r.Tags, in.Tags)
		return err
	})
	return &iam.TagRoleOutput{}, err
}

func (a *api) untagRole(ctx context.Context, in *iam.UntagRoleInput) (*iam.UntagRoleOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		r.Tags = withoutTags(r.Tags, in.TagKeys)
		return nil
	})
	return &iam.UntagRoleOutput{}, err
}

func (a *api) listRoleTags(_ context.Context, in *iam.ListRoleTagsInput) (*iam.ListRoleTagsOutput, error) {
	var found *model.IAMRole
	var err error
	a.Store.View(func(r store.Reader) { found, err = role(r, in.RoleName) })
	if err != nil {
		return nil, err
	}
	part, more, next, err := pageTags(found.Tags, in.Marker, in.MaxItems)
	return &iam.ListRoleTagsOutput{Tags: part, IsTruncated: more, Marker: next}, err
}

func pageTags(tags []types.Tag, marker *string, maxItems *int32) ([]types.Tag, bool, *string, error) {
	key := func(t types.Tag) string { return strings.ToLower(*t.Key) }
	sorted := slices.SortedFunc(slices.Values(tags), func(x, y types.Tag) int { return strings.Compare(key(x), key(y)) })
	return page(sorted, key, marker, maxItems)
}

// checkBoundary: a boundary is a managed policy that is there.
func (a *api) checkBoundary(r store.Reader, arn *string) error {
	if arn == nil || *arn == "" {
		return nil
	}
	_, err := a.attachable(r, arn)
	return err
}

func (a *api) putRolePermissionsBoundary(ctx context.Context, in *iam.PutRolePermissionsBoundaryInput) (*iam.PutRolePermissionsBoundaryOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(tx store.Tx, r *model.IAMRole) error {
		r.Boundary = text(in.PermissionsBoundary)
		return a.checkBoundary(tx, in.PermissionsBoundary)
	})
	return &iam.PutRolePermissionsBoundaryOutput{}, err
}

func (a *api) deleteRolePermissionsBoundary(ctx context.Context, in *iam.DeleteRolePermissionsBoundaryInput) (*iam.DeleteRolePermissionsBoundaryOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(_ store.Tx, r *model.IAMRole) error {
		r.Boundary = ""
		return nil
	})
	return &iam.DeleteRolePermissionsBoundaryOutput{}, err
}
