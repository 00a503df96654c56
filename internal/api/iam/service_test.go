package iam_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
)

type rig struct {
	*sdk.Client // of the root
	t           *testing.T
	keys        *iam.Authority
	store       *mem.Store
	url         string
}

func newRig(t *testing.T) *rig {
	keys, err := iam.Open(filepath.Join(t.TempDir(), "key"), scope, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	keys.Store = s
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: keys, Access: keys, Services: []*wire.Service{
		iam.New(iam.Config{Store: s, Scope: scope, Now: time.Now, Keys: keys})}}))
	t.Cleanup(srv.Close)
	r := &rig{t: t, keys: keys, store: s, url: srv.URL}
	id, secret := keys.Root()
	r.Client = r.as(id, secret, "")
	return r
}

func (r *rig) as(id, secret, token string) *sdk.Client {
	return sdk.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &r.url, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)})
}

const (
	ecsTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	s3Read   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b c/*"}]}`
)

func (r *rig) role(name string) *types.Role {
	r.t.Helper()
	return wiretest.Must[*sdk.CreateRoleOutput](r.t)(r.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(ecsTrust)})).Role
}

func (r *rig) user(name string) *sdk.Client {
	r.t.Helper()
	wiretest.Must[*sdk.CreateUserOutput](r.t)(r.CreateUser(ctx, &sdk.CreateUserInput{UserName: &name}))
	k := wiretest.Must[*sdk.CreateAccessKeyOutput](r.t)(r.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: &name})).AccessKey
	return r.as(*k.AccessKeyId, *k.SecretAccessKey, "")
}

func TestRoles(t *testing.T) {
	r := newRig(t)
	made := wiretest.Must[*sdk.CreateRoleOutput](t)(r.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: aws.String("App"), Path: aws.String("/svc/"),
		AssumeRolePolicyDocument: aws.String(ecsTrust), Description: aws.String("d"), MaxSessionDuration: aws.Int32(7200),
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("blue")}}})).Role
	if *made.Arn != "arn:aws:iam::000000000000:role/svc/App" || !strings.HasPrefix(*made.RoleId, "AROA") || len(*made.RoleId) != 21 {
		t.Errorf("%+v", made)
	}
	got := wiretest.Must[*sdk.GetRoleOutput](t)(r.GetRole(ctx, &sdk.GetRoleInput{RoleName: aws.String("app")})).Role
	if doc, err := url.PathUnescape(*got.AssumeRolePolicyDocument); err != nil || doc != ecsTrust || strings.ContainsAny(*got.AssumeRolePolicyDocument, "{ +") {
		t.Errorf("the trust is %s", *got.AssumeRolePolicyDocument)
	}
	if *got.MaxSessionDuration != 7200 || *got.Description != "d" || len(got.Tags) != 1 || got.RoleLastUsed == nil {
		t.Errorf("%+v", got)
	}
	_, err := r.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: aws.String("APP"), AssumeRolePolicyDocument: aws.String(ecsTrust)})
	wiretest.Refused(t, err, "EntityAlreadyExists", "Role with name APP already exists.")
	_, err = r.GetRole(ctx, &sdk.GetRoleInput{RoleName: aws.String("none")})
	wiretest.Refused(t, err, "NoSuchEntity", "The role with name none cannot be found.")
	_, err = r.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/ghost"},"Action":"sts:AssumeRole"}]}`)})
	wiretest.Refused(t, err, "MalformedPolicyDocument", `Invalid principal in policy: "AWS":"arn:aws:iam::000000000000:user/ghost"`)
	wiretest.Must[*sdk.AttachRolePolicyOutput](t)(r.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: aws.String("App"),
		PolicyArn: aws.String("arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")}))
	wiretest.Must[*sdk.PutRolePolicyOutput](t)(r.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: aws.String("App"), PolicyName: aws.String("in"), PolicyDocument: aws.String(s3Read)}))
	inline := wiretest.Must[*sdk.GetRolePolicyOutput](t)(r.GetRolePolicy(ctx, &sdk.GetRolePolicyInput{RoleName: aws.String("App"), PolicyName: aws.String("in")}))
	if doc, _ := url.PathUnescape(*inline.PolicyDocument); doc != s3Read || !strings.Contains(*inline.PolicyDocument, "b%20c%2F%2A") {
		t.Errorf("%s", *inline.PolicyDocument)
	}
	attached := wiretest.Must[*sdk.ListAttachedRolePoliciesOutput](t)(r.ListAttachedRolePolicies(ctx, &sdk.ListAttachedRolePoliciesInput{RoleName: aws.String("App")}))
	if len(attached.AttachedPolicies) != 1 || *attached.AttachedPolicies[0].PolicyName != "AmazonECSTaskExecutionRolePolicy" {
		t.Errorf("%+v", attached.AttachedPolicies)
	}
	remove := func() error {
		return wiretest.Error(r.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: aws.String("App")}))
	}
	wiretest.Must[*sdk.CreateInstanceProfileOutput](t)(r.CreateInstanceProfile(ctx, &sdk.CreateInstanceProfileInput{InstanceProfileName: aws.String("ip")}))
	wiretest.Must[*sdk.AddRoleToInstanceProfileOutput](t)(r.AddRoleToInstanceProfile(ctx, &sdk.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("ip"), RoleName: aws.String("App")}))
	if of := wiretest.Must[*sdk.ListInstanceProfilesForRoleOutput](t)(r.ListInstanceProfilesForRole(ctx, &sdk.ListInstanceProfilesForRoleInput{RoleName: aws.String("App")})); len(of.InstanceProfiles) != 1 || len(of.InstanceProfiles[0].Roles) != 1 {
		t.Errorf("%+v", of.InstanceProfiles)
	}
	wiretest.Refused(t, remove(), "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
	wiretest.Must[*sdk.RemoveRoleFromInstanceProfileOutput](t)(r.RemoveRoleFromInstanceProfile(ctx, &sdk.RemoveRoleFromInstanceProfileInput{InstanceProfileName: aws.String("ip"), RoleName: aws.String("App")}))
	wiretest.Refused(t, remove(), "DeleteConflict", "Cannot delete entity, must detach all policies first.")
	wiretest.Must[*sdk.DetachRolePolicyOutput](t)(r.DetachRolePolicy(ctx, &sdk.DetachRolePolicyInput{RoleName: aws.String("App"), PolicyArn: attached.AttachedPolicies[0].PolicyArn}))
	wiretest.Refused(t, remove(), "DeleteConflict", "Cannot delete entity, must delete policies first.")
	wiretest.Must[*sdk.DeleteRolePolicyOutput](t)(r.DeleteRolePolicy(ctx, &sdk.DeleteRolePolicyInput{RoleName: aws.String("App"), PolicyName: aws.String("in")}))
	if err := remove(); err != nil {
		t.Error(err)
	}
}

func TestServiceLinkedRoles(t *testing.T) {
	r := newRig(t)
	made := wiretest.Must[*sdk.CreateServiceLinkedRoleOutput](t)(r.CreateServiceLinkedRole(ctx, &sdk.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("ecs.amazonaws.com")})).Role
	if *made.Arn != "arn:aws:iam::000000000000:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS" {
		t.Error(*made.Arn)
	}
	_, err := r.CreateServiceLinkedRole(ctx, &sdk.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("ecs.amazonaws.com")})
	wiretest.Refused(t, err, "InvalidInput", "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix.")
	_, err = r.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: made.RoleName})
	wiretest.Refused(t, err, "UnmodifiableEntity", "Cannot perform the operation on the protected role")
	gone := wiretest.Must[*sdk.DeleteServiceLinkedRoleOutput](t)(r.DeleteServiceLinkedRole(ctx, &sdk.DeleteServiceLinkedRoleInput{RoleName: made.RoleName}))
	status := wiretest.Must[*sdk.GetServiceLinkedRoleDeletionStatusOutput](t)(r.GetServiceLinkedRoleDeletionStatus(ctx, &sdk.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: gone.DeletionTaskId}))
	if status.Status != types.DeletionTaskStatusTypeSucceeded {
		t.Error(status.Status)
	}
}

func TestManagedPolicies(t *testing.T) {
	r := newRig(t)
	made := wiretest.Must[*sdk.CreatePolicyOutput](t)(r.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(s3Read), Description: aws.String("d")})).Policy
	if *made.Arn != "arn:aws:iam::000000000000:policy/p" || *made.DefaultVersionId != "v1" || !strings.HasPrefix(*made.PolicyId, "ANPA") {
		t.Errorf("%+v", made)
	}
	version := func(doc string, byDefault bool) (*sdk.CreatePolicyVersionOutput, error) {
		return r.CreatePolicyVersion(ctx, &sdk.CreatePolicyVersionInput{PolicyArn: made.Arn, PolicyDocument: &doc, SetAsDefault: byDefault})
	}
	for i := range 4 {
		wiretest.Must[*sdk.CreatePolicyVersionOutput](t)(version(s3Read, i == 0))
	}
	wiretest.Refused(t, wiretest.Error(version(s3Read, true)), "LimitExceeded", "A managed policy can have up to 5 versions.")
	all := wiretest.Must[*sdk.ListPolicyVersionsOutput](t)(r.ListPolicyVersions(ctx, &sdk.ListPolicyVersionsInput{PolicyArn: made.Arn})).Versions
	if len(all) != 5 || *all[0].VersionId != "v5" || !all[3].IsDefaultVersion {
		t.Errorf("%+v", all)
	}
	remove := func(id string) error {
		return wiretest.Error(r.DeletePolicyVersion(ctx, &sdk.DeletePolicyVersionInput{PolicyArn: made.Arn, VersionId: &id}))
	}
	wiretest.Refused(t, remove("v2"), "DeleteConflict", "Cannot delete the default version of a policy.")
	wiretest.Refused(t, remove("v9"), "NoSuchEntity", "Policy arn:aws:iam::000000000000:policy/p version v9 does not exist or is not attachable.")
	wiretest.Must[*sdk.SetDefaultPolicyVersionOutput](t)(r.SetDefaultPolicyVersion(ctx, &sdk.SetDefaultPolicyVersionInput{PolicyArn: made.Arn, VersionId: aws.String("v1")}))
	wiretest.Refused(t, wiretest.Error(r.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: made.Arn})), "DeleteConflict", "more than one version")
	for _, id := range []string{"v2", "v3", "v4", "v5"} {
		if err := remove(id); err != nil {
			t.Error(err)
		}
	}
	r.role("app")
	wiretest.Must[*sdk.AttachRolePolicyOutput](t)(r.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: aws.String("app"), PolicyArn: made.Arn}))
	got := wiretest.Must[*sdk.GetPolicyOutput](t)(r.GetPolicy(ctx, &sdk.GetPolicyInput{PolicyArn: made.Arn})).Policy
	if *got.AttachmentCount != 1 || *got.Description != "d" {
		t.Errorf("%+v", got)
	}
	wiretest.Refused(t, wiretest.Error(r.DeletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: made.Arn})), "DeleteConflict", "Cannot delete a policy attached to entities.")
	for doc, want := range map[string]string{"{}": "Syntax errors in policy.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"x","Resource":"*"}]}`: "Actions/Conditions must be prefaced by a vendor"} {
		_, err := r.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: aws.String("q"), PolicyDocument: &doc})
		wiretest.Refused(t, err, "MalformedPolicyDocument", want)
	}
	long := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"a:b","Resource":"arn:aws:s3:::` + strings.Repeat("x", 6144) + `"}]}`
	_, err := r.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: aws.String("q"), PolicyDocument: &long})
	wiretest.Refused(t, err, "LimitExceeded", "Cannot exceed quota for PolicySize: 6144")
	_, err = r.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: aws.String("app"), PolicyArn: aws.String("arn:aws:iam::000000000000:policy/none")})
	wiretest.Refused(t, err, "NoSuchEntity", "Policy arn:aws:iam::000000000000:policy/none does not exist or is not attachable.")
}

// TestAWSsOwnPolicies are valid, there, and not to be changed; one that Berth does not know allows nothing.
func TestAWSsOwnPolicies(t *testing.T) {
	r := newRig(t)
	p := sdk.NewListPoliciesPaginator(r, &sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeAws, MaxItems: aws.Int32(20)})
	n := 0
	for p.HasMorePages() {
		page := wiretest.Must[*sdk.ListPoliciesOutput](t)(p.NextPage(ctx))
		for _, one := range page.Policies {
			n++
			v := wiretest.Must[*sdk.GetPolicyVersionOutput](t)(r.GetPolicyVersion(ctx, &sdk.GetPolicyVersionInput{PolicyArn: one.Arn, VersionId: one.DefaultVersionId})).PolicyVersion
			doc, _ := url.PathUnescape(*v.Document)
			if _, err := policy.Validate(doc, policy.ForIdentity); err != nil {
				t.Errorf("%s: %v", *one.Arn, err)
			}
		}
	}
	if n < 60 {
		t.Errorf("%d policies", n)
	}
	_, err := r.CreatePolicyVersion(ctx, &sdk.CreatePolicyVersionInput{PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess"), PolicyDocument: aws.String(s3Read)})
	wiretest.Refused(t, err, "AccessDenied", "cannot be changed")
	r.role("app")
	wiretest.Must[*sdk.AttachRolePolicyOutput](t)(r.AttachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: aws.String("app"), PolicyArn: aws.String("arn:aws:iam::aws:policy/NobodyKnowsThis")}))
	s := r.keys.Issue("arn:aws:iam::000000000000:role/app", "t", time.Hour)
	wiretest.Refused(t, wiretest.Error(r.as(s.AccessKeyID, s.SecretAccessKey, s.Token).ListRoles(ctx, nil)), "AccessDenied", "because no identity-based policy")
}

func TestUsersAndGroups(t *testing.T) {
	r := newRig(t)
	ann := r.user("Ann")
	denied := "User: arn:aws:iam::000000000000:user/Ann is not authorized to perform: "
	wiretest.Refused(t, wiretest.Error(ann.ListUsers(ctx, nil)), "AccessDenied", denied+"iam:ListUsers on resource: * because no identity-based policy allows the iam:ListUsers action")
	wiretest.Refused(t, wiretest.Error(ann.GetUser(ctx, nil)), "AccessDenied", denied+"iam:GetUser on resource: user Ann")
	wiretest.Must[*sdk.CreateGroupOutput](t)(r.CreateGroup(ctx, &sdk.CreateGroupInput{GroupName: aws.String("readers")}))
	wiretest.Must[*sdk.AttachGroupPolicyOutput](t)(r.AttachGroupPolicy(ctx, &sdk.AttachGroupPolicyInput{GroupName: aws.String("readers"), PolicyArn: aws.String("arn:aws:iam::aws:policy/IAMReadOnlyAccess")}))
	wiretest.Must[*sdk.AddUserToGroupOutput](t)(r.AddUserToGroup(ctx, &sdk.AddUserToGroupInput{GroupName: aws.String("readers"), UserName: aws.String("ann")}))
	if _, err := ann.ListUsers(ctx, nil); err != nil {
		t.Error(err)
	}
	got := wiretest.Must[*sdk.GetUserOutput](t)(ann.GetUser(ctx, nil)).User
	if *got.UserName != "Ann" || !strings.HasPrefix(*got.UserId, "AIDA") {
		t.Errorf("%+v", got)
	}
	wiretest.Must[*sdk.PutUserPolicyOutput](t)(r.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: aws.String("Ann"), PolicyName: aws.String("no"), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:ListUsers","Resource":"*"}]}`)}))
	wiretest.Refused(t, wiretest.Error(ann.ListUsers(ctx, nil)), "AccessDenied", "iam:ListUsers on resource: * with an explicit deny in an identity-based policy")
	if g := wiretest.Must[*sdk.GetGroupOutput](t)(r.GetGroup(ctx, &sdk.GetGroupInput{GroupName: aws.String("readers")})); len(g.Users) != 1 {
		t.Errorf("%+v", g.Users)
	}
	conflict := func(err error, text string) {
		t.Helper()
		wiretest.Refused(t, err, "DeleteConflict", text)
	}
	conflict(wiretest.Error(r.DeleteGroup(ctx, &sdk.DeleteGroupInput{GroupName: aws.String("readers")})), "must remove users from group first")
	conflict(wiretest.Error(r.DeleteUser(ctx, &sdk.DeleteUserInput{UserName: aws.String("Ann")})), "must delete access keys first")
	wiretest.Must[*sdk.UpdateUserOutput](t)(r.UpdateUser(ctx, &sdk.UpdateUserInput{UserName: aws.String("Ann"), NewUserName: aws.String("Anne"), NewPath: aws.String("/staff/")}))
	if who := wiretest.Must[*sdk.GetUserOutput](t)(ann.GetUser(ctx, nil)).User; *who.Arn != "arn:aws:iam::000000000000:user/staff/Anne" {
		t.Errorf("her key is that of %s", *who.Arn)
	}
}

// TestAccessKeys: two a user; their secrets are nowhere to be read; an inactive one is none.
func TestAccessKeys(t *testing.T) {
	r := newRig(t)
	ann := r.user("ann")
	second := wiretest.Must[*sdk.CreateAccessKeyOutput](t)(r.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: aws.String("ann")})).AccessKey
	_, err := r.CreateAccessKey(ctx, &sdk.CreateAccessKeyInput{UserName: aws.String("ann")})
	wiretest.Refused(t, err, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
	r.store.View(func(tx store.Reader) {
		k, ok := store.AccessKeys.Get(tx, *second.AccessKeyId)
		if !ok {
			t.Fatal("no row")
		}
		if row, _ := model.EncodeRow(k); strings.Contains(string(row), *second.SecretAccessKey) {
			t.Error("the secret is in the row")
		}
	})
	wiretest.Must[*sdk.UpdateAccessKeyOutput](t)(r.UpdateAccessKey(ctx, &sdk.UpdateAccessKeyInput{UserName: aws.String("ann"), AccessKeyId: second.AccessKeyId, Status: types.StatusTypeInactive}))
	_, err = r.as(*second.AccessKeyId, *second.SecretAccessKey, "").ListUsers(ctx, nil)
	wiretest.Refused(t, err, "InvalidClientTokenId", "The security token included in the request is invalid.")
	wiretest.Refused(t, wiretest.Error(ann.ListAccessKeys(ctx, nil)), "AccessDenied", "iam:ListAccessKeys on resource: user ann")
	wiretest.Must[*sdk.DeleteAccessKeyOutput](t)(r.DeleteAccessKey(ctx, &sdk.DeleteAccessKeyInput{UserName: aws.String("ann"), AccessKeyId: second.AccessKeyId}))
	keys := wiretest.Must[*sdk.ListAccessKeysOutput](t)(r.ListAccessKeys(ctx, &sdk.ListAccessKeysInput{UserName: aws.String("ann")})).AccessKeyMetadata
	if len(keys) != 1 || keys[0].Status != types.StatusTypeActive {
		t.Errorf("%+v", keys)
	}
}

// TestSessionsOfRoles: a session does what its role's policies say; who lost the role, or has one of the same name, lost everything.
func TestSessionsOfRoles(t *testing.T) {
	r := newRig(t)
	role := r.role("app")
	s := r.keys.Issue(*role.Arn, "task1", time.Hour)
	task := r.as(s.AccessKeyID, s.SecretAccessKey, s.Token)
	list := func() error { return wiretest.Error(task.ListRoles(ctx, nil)) }
	wiretest.Refused(t, list(), "AccessDenied", "User: arn:aws:sts::000000000000:assumed-role/app/task1 is not authorized to perform: iam:ListRoles")
	put := func(doc string) {
		t.Helper()
		wiretest.Must[*sdk.PutRolePolicyOutput](t)(r.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: role.RoleName, PolicyName: aws.String("p"), PolicyDocument: &doc}))
	}
	put(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`)
	if err := list(); err != nil {
		t.Error(err)
	}
	bound := wiretest.Must[*sdk.CreatePolicyOutput](t)(r.CreatePolicy(ctx, &sdk.CreatePolicyInput{PolicyName: aws.String("bound"), PolicyDocument: aws.String(s3Read)})).Policy
	wiretest.Must[*sdk.PutRolePermissionsBoundaryOutput](t)(r.PutRolePermissionsBoundary(ctx, &sdk.PutRolePermissionsBoundaryInput{RoleName: role.RoleName, PermissionsBoundary: bound.Arn}))
	wiretest.Refused(t, list(), "AccessDenied", "because no permissions boundary allows the iam:ListRoles action")
	wiretest.Must[*sdk.DeleteRolePermissionsBoundaryOutput](t)(r.DeleteRolePermissionsBoundary(ctx, &sdk.DeleteRolePermissionsBoundaryInput{RoleName: role.RoleName}))
	put(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"blue"}}}]}`)
	wiretest.Refused(t, list(), "AccessDenied", "because no identity-based policy")
	wiretest.Must[*sdk.TagRoleOutput](t)(r.TagRole(ctx, &sdk.TagRoleInput{RoleName: role.RoleName, Tags: []types.Tag{{Key: aws.String("Team"), Value: aws.String("blue")}}}))
	if err := list(); err != nil {
		t.Error(err)
	}
	wiretest.Must[*sdk.DeleteRolePolicyOutput](t)(r.DeleteRolePolicy(ctx, &sdk.DeleteRolePolicyInput{RoleName: role.RoleName, PolicyName: aws.String("p")}))
	wiretest.Must[*sdk.DeleteRoleOutput](t)(r.DeleteRole(ctx, &sdk.DeleteRoleInput{RoleName: role.RoleName}))
	wiretest.Refused(t, list(), "AccessDenied", "because no identity-based policy")
	r.role("app")
	put(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`)
	wiretest.Refused(t, list(), "AccessDenied", "because no identity-based policy")
}

func TestSimulate(t *testing.T) {
	r := newRig(t)
	role := r.role("app")
	doc := "{\"Version\":\"2012-10-17\",\n \"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"ecs:RunTask\",\"Resource\":\"*\",\n\"Condition\":{\"ArnEquals\":{\"ecs:cluster\":\"arn:aws:ecs:us-east-1:000000000000:cluster/c\"}}}]}"
	wiretest.Must[*sdk.PutRolePolicyOutput](t)(r.PutRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: role.RoleName, PolicyName: aws.String("p"), PolicyDocument: &doc}))
	simulate := func(change func(*sdk.SimulatePrincipalPolicyInput)) []types.EvaluationResult {
		t.Helper()
		in := &sdk.SimulatePrincipalPolicyInput{PolicySourceArn: role.Arn, ActionNames: []string{"ecs:RunTask", "ecs:StopTask"}}
		change(in)
		return wiretest.Must[*sdk.SimulatePrincipalPolicyOutput](t)(r.SimulatePrincipalPolicy(ctx, in)).EvaluationResults
	}
	got := simulate(func(*sdk.SimulatePrincipalPolicyInput) {})
	if len(got) != 2 || got[0].EvalDecision != types.PolicyEvaluationDecisionTypeImplicitDeny || !slices.Equal(got[0].MissingContextValues, []string{"ecs:cluster"}) {
		t.Errorf("%+v", got)
	}
	got = simulate(func(in *sdk.SimulatePrincipalPolicyInput) {
		in.ContextEntries = []types.ContextEntry{{ContextKeyName: aws.String("ecs:cluster"), ContextKeyType: types.ContextKeyTypeEnumString,
			ContextKeyValues: []string{"arn:aws:ecs:us-east-1:000000000000:cluster/c"}}}
	})
	if got[0].EvalDecision != types.PolicyEvaluationDecisionTypeAllowed || got[1].EvalDecision != types.PolicyEvaluationDecisionTypeImplicitDeny {
		t.Errorf("%+v", got)
	}
	m := got[0].MatchedStatements
	if len(m) != 1 || *m[0].SourcePolicyId != "p" || m[0].SourcePolicyType != types.PolicySourceTypeRole || m[0].StartPosition.Line != 2 || m[0].StartPosition.Column != 15 || m[0].EndPosition.Line != 3 {
		t.Errorf("%+v %+v %+v", m, m[0].StartPosition, m[0].EndPosition)
	}
	custom := wiretest.Must[*sdk.SimulateCustomPolicyOutput](t)(r.SimulateCustomPolicy(ctx, &sdk.SimulateCustomPolicyInput{ActionNames: []string{"s3:GetObject", "s3:PutObject"},
		PolicyInputList: []string{s3Read, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:Put*","Resource":"*"}]}`}, ResourceArns: []string{"arn:aws:s3:::b c/x"}}))
	if e := custom.EvaluationResults; e[0].EvalDecision != types.PolicyEvaluationDecisionTypeAllowed || e[1].EvalDecision != types.PolicyEvaluationDecisionTypeExplicitDeny ||
		*e[1].MatchedStatements[0].SourcePolicyId != "PolicyInputList.2" {
		t.Errorf("%+v", e)
	}
	keys := wiretest.Must[*sdk.GetContextKeysForPrincipalPolicyOutput](t)(r.GetContextKeysForPrincipalPolicy(ctx, &sdk.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: role.Arn}))
	if !slices.Equal(keys.ContextKeyNames, []string{"ecs:cluster"}) {
		t.Errorf("%v", keys.ContextKeyNames)
	}
	_, err := r.SimulatePrincipalPolicy(ctx, &sdk.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String("arn:aws:s3:::b"), ActionNames: []string{"a:b"}})
	wiretest.Refused(t, err, "InvalidInput", "Invalid Entity Arn")
}

// TestRegistryPasswords: a user's password at the registry is good for what its policies allow, repository by repository, and for what a
// repository's own policy gives; it is good for nothing once the user is gone.
func TestRegistryPasswords(t *testing.T) {
	r := newRig(t)
	r.user("ann")
	doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:BatchGetImage","Resource":"arn:aws:ecr:*:*:repository/app/*"}]}`
	wiretest.Must[*sdk.PutUserPolicyOutput](t)(r.PutUserPolicy(ctx, &sdk.PutUserPolicyInput{UserName: aws.String("ann"), PolicyName: aws.String("p"), PolicyDocument: &doc}))
	made := wiretest.Must[*sdk.GetUserOutput](t)(r.GetUser(ctx, &sdk.GetUserInput{UserName: aws.String("ann")})).User
	password, _ := r.keys.IssueRegistryToken(wire.Caller{Account: scope.Account, ARN: "arn:aws:iam::000000000000:user/ann", UserID: *made.UserId}, time.Hour)
	if who, err := r.keys.CheckRegistryToken(password); err != nil || who != "arn:aws:iam::000000000000:user/ann" {
		t.Errorf("%s %v", who, err)
	}
	repo := func(name string) string { return scope.ARN("ecr", "repository/"+name) }
	given := `{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/ann"},"Action":"ecr:BatchGetImage"}]}`
	taken := `{"Version":"2008-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"ecr:BatchGetImage"}]}`
	for _, c := range []struct {
		action, repo string
		policies     []string
		allowed      bool
	}{
		{"ecr:BatchGetImage", "app/web", nil, true}, {"ecr:BatchGetImage", "db", nil, false}, {"ecr:PutImage", "app/web", nil, false},
		{"ecr:BatchGetImage", "db", []string{given}, true}, {"ecr:BatchGetImage", "app/web", []string{taken}, false},
		{"ecr:BatchGetImage", "app/web", []string{"no policy"}, false},
	} {
		if err := r.keys.AllowToken(password, c.action, repo(c.repo), c.policies...); (err == nil) != c.allowed {
			t.Errorf("%+v: %v", c, err)
		}
	}
	owner, _ := r.keys.IssueRegistryToken(wire.Caller{}, time.Hour)
	if err := r.keys.AllowToken(owner, "ecr:PutImage", repo("db")); err != nil {
		t.Error(err)
	}
	r.keys.Off = true
	if err := r.keys.AllowToken(password, "ecr:PutImage", repo("db")); err != nil {
		t.Errorf("with --iam off: %v", err)
	}
	r.keys.Off = false
	wiretest.Must[*sdk.DeleteUserPolicyOutput](t)(r.DeleteUserPolicy(ctx, &sdk.DeleteUserPolicyInput{UserName: aws.String("ann"), PolicyName: aws.String("p")}))
	keys := wiretest.Must[*sdk.ListAccessKeysOutput](t)(r.ListAccessKeys(ctx, &sdk.ListAccessKeysInput{UserName: aws.String("ann")})).AccessKeyMetadata
	wiretest.Must[*sdk.DeleteAccessKeyOutput](t)(r.DeleteAccessKey(ctx, &sdk.DeleteAccessKeyInput{UserName: aws.String("ann"), AccessKeyId: keys[0].AccessKeyId}))
	wiretest.Must[*sdk.DeleteUserOutput](t)(r.DeleteUser(ctx, &sdk.DeleteUserInput{UserName: aws.String("ann")}))
	if _, err := r.keys.CheckRegistryToken(password); err == nil {
		t.Error("the password of nobody")
	}
	r.user("ann")
	if _, err := r.keys.CheckRegistryToken(password); err == nil {
		t.Error("the password of another ann")
	}
}

// TestMayAssume: a task gets the credentials of a role that lets tasks take it on, or that IAM does not know.
func TestMayAssume(t *testing.T) {
	r := newRig(t)
	r.role("app")
	wiretest.Must[*sdk.CreateRoleOutput](t)(r.CreateRole(ctx, &sdk.CreateRoleInput{RoleName: aws.String("ec2"), Path: aws.String("/x/"), AssumeRolePolicyDocument: aws.String(
		strings.ReplaceAll(ecsTrust, "ecs-tasks", "ec2"))}))
	for arn, want := range map[string]bool{"role/app": true, "role/nobody": true, "role/x/ec2": false, "role/y/app": false} {
		err := r.keys.MayAssume("arn:aws:iam::000000000000:"+arn, "ecs-tasks.amazonaws.com")
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "ECS was unable to assume the role") {
			t.Errorf("%s: %v", arn, err)
		}
	}
}

// BenchmarkAllow is a whole decision: who calls, what bounds them, and the answer.
func BenchmarkAllow(b *testing.B) {
	keys, err := iam.Open(filepath.Join(b.TempDir(), "key"), scope, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	s := mem.New(store.Schema())
	defer s.Close()
	keys.Store = s
	role := &model.IAMRole{IAMIdentity: model.IAMIdentity{Name: "app", Path: "/", ID: "AROA1", ARN: "arn:aws:iam::000000000000:role/app",
		Inline:   []model.InlinePolicy{{Name: "p", Document: s3Read}},
		Attached: []string{"arn:aws:iam::aws:policy/AmazonECS_FullAccess", "arn:aws:iam::aws:policy/ReadOnlyAccess"}}}
	if err := s.Update(ctx, func(tx store.Tx) error { store.IAMRoles.Put(tx, role); return nil }); err != nil {
		b.Fatal(err)
	}
	session := keys.Issue(role.ARN, "s", time.Hour)
	_, caller, err := keys.Secret(session.AccessKeyID, session.Token)
	if err != nil {
		b.Fatal(err)
	}
	ask := wire.Ask{Action: "ecs:DescribeTasks", Resources: []string{"arn:aws:ecs:us-east-1:000000000000:task/default/x"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := keys.Allow(caller, ask); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPagesAndAccount(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.role(fmt.Sprintf("r%d", i))
	}
	p := sdk.NewListRolesPaginator(r, &sdk.ListRolesInput{MaxItems: aws.Int32(2)})
	var names []string
	for p.HasMorePages() {
		for _, role := range wiretest.Must[*sdk.ListRolesOutput](t)(p.NextPage(ctx)).Roles {
			names = append(names, *role.RoleName)
		}
	}
	if !slices.Equal(names, []string{"r0", "r1", "r2", "r3", "r4"}) {
		t.Error(names)
	}
	wiretest.Refused(t, wiretest.Error(r.ListRoles(ctx, &sdk.ListRolesInput{Marker: aws.String("%%")})), "ValidationError", "Invalid Marker.")
	sum := wiretest.Must[*sdk.GetAccountSummaryOutput](t)(r.GetAccountSummary(ctx, nil)).SummaryMap
	if sum["Roles"] != 5 || sum["PolicySizeQuota"] != 6144 {
		t.Error(sum)
	}
	wiretest.Must[*sdk.CreateAccountAliasOutput](t)(r.CreateAccountAlias(ctx, &sdk.CreateAccountAliasInput{AccountAlias: aws.String("acme")}))
	if a := wiretest.Must[*sdk.ListAccountAliasesOutput](t)(r.ListAccountAliases(ctx, nil)).AccountAliases; !slices.Equal(a, []string{"acme"}) {
		t.Error(a)
	}
	_, err := r.CreateAccountAlias(ctx, &sdk.CreateAccountAliasInput{AccountAlias: aws.String("A--b")})
	wiretest.Refused(t, err, "ValidationError", "accountAlias")
	_, err = r.ListSAMLProviders(ctx, nil)
	wiretest.Refused(t, err, "UnsupportedOperationException", "Berth does not support iam:ListSAMLProviders yet")
}
