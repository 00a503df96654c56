package iam

import (
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	Now   func() time.Time
	// Keys seals the secrets of access keys, and answers simulations.
	Keys *Authority
}

type api struct{ Config }

// statuses are the HTTP statuses of IAM's errors; others have 400.
var statuses = map[string]int{"NoSuchEntity": 404, "EntityAlreadyExists": 409, "DeleteConflict": 409, "LimitExceeded": 409,
	"ConcurrentModification": 409, "ServiceFailure": 500}

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "iam", Protocol: wire.Query, Version: "2010-05-08", Namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
		Statuses: statuses, Asks: a.asks}
	a.handleIdentities(s)
	a.handlePolicies(s)
	wire.Handle(s, a.createInstanceProfile)
	wire.Handle(s, a.getInstanceProfile)
	wire.Handle(s, a.deleteInstanceProfile)
	wire.Handle(s, a.listInstanceProfiles)
	wire.Handle(s, a.listInstanceProfilesForRole)
	wire.Handle(s, a.addRoleToInstanceProfile)
	wire.Handle(s, a.removeRoleFromInstanceProfile)
	wire.Handle(s, a.tagInstanceProfile)
	wire.Handle(s, a.untagInstanceProfile)
	wire.Handle(s, a.listInstanceProfileTags)
	wire.Handle(s, a.createOpenIDConnectProvider)
	wire.Handle(s, a.getOpenIDConnectProvider)
	wire.Handle(s, a.deleteOpenIDConnectProvider)
	wire.Handle(s, a.listOpenIDConnectProviders)
	wire.Handle(s, a.addClientIDToOpenIDConnectProvider)
	wire.Handle(s, a.removeClientIDFromOpenIDConnectProvider)
	wire.Handle(s, a.updateOpenIDConnectProviderThumbprint)
	wire.Handle(s, a.tagOpenIDConnectProvider)
	wire.Handle(s, a.untagOpenIDConnectProvider)
	wire.Handle(s, a.listOpenIDConnectProviderTags)
	wire.Handle(s, a.simulatePrincipalPolicy)
	wire.Handle(s, a.simulateCustomPolicy)
	wire.Handle(s, a.getContextKeysForCustomPolicy)
	wire.Handle(s, a.getContextKeysForPrincipalPolicy)
	wire.Handle(s, a.getAccountSummary)
	wire.Handle(s, a.createAccountAlias)
	wire.Handle(s, a.deleteAccountAlias)
	wire.Handle(s, a.listAccountAliases)
	return s
}

func (a *api) handleIdentities(s *wire.Service) {
	wire.Handle(s, a.createUser)
	wire.Handle(s, a.getUser)
	wire.Handle(s, a.updateUser)
	wire.Handle(s, a.deleteUser)
	wire.Handle(s, a.listUsers)
	wire.Handle(s, a.tagUser)
	wire.Handle(s, a.untagUser)
	wire.Handle(s, a.listUserTags)
	wire.Handle(s, a.createAccessKey)
	wire.Handle(s, a.updateAccessKey)
	wire.Handle(s, a.deleteAccessKey)
	wire.Handle(s, a.listAccessKeys)
	wire.Handle(s, a.getAccessKeyLastUsed)
	wire.Handle(s, a.createGroup)
	wire.Handle(s, a.getGroup)
	wire.Handle(s, a.updateGroup)
	wire.Handle(s, a.deleteGroup)
	wire.Handle(s, a.listGroups)
	wire.Handle(s, a.listGroupsForUser)
	wire.Handle(s, a.addUserToGroup)
	wire.Handle(s, a.removeUserFromGroup)
	wire.Handle(s, a.createRole)
	wire.Handle(s, a.createServiceLinkedRole)
	wire.Handle(s, a.deleteServiceLinkedRole)
	wire.Handle(s, a.getServiceLinkedRoleDeletionStatus)
	wire.Handle(s, a.getRole)
	wire.Handle(s, a.updateRole)
	wire.Handle(s, a.updateRoleDescription)
	wire.Handle(s, a.updateAssumeRolePolicy)
	wire.Handle(s, a.deleteRole)
	wire.Handle(s, a.listRoles)
	wire.Handle(s, a.tagRole)
	wire.Handle(s, a.untagRole)
	wire.Handle(s, a.listRoleTags)
	wire.Handle(s, a.putRolePermissionsBoundary)
	wire.Handle(s, a.deleteRolePermissionsBoundary)
	wire.Handle(s, a.putUserPermissionsBoundary)
	wire.Handle(s, a.deleteUserPermissionsBoundary)
	wire.Handle(s, a.listSSHPublicKeys)
	wire.Handle(s, a.listSigningCertificates)
	wire.Handle(s, a.listMFADevices)
	wire.Handle(s, a.listVirtualMFADevices)
	wire.Handle(s, a.listServiceSpecificCredentials)
	wire.Handle(s, a.getLoginProfile)
	wire.Handle(s, a.deleteLoginProfile)
}

func (a *api) handlePolicies(s *wire.Service) {
	wire.Handle(s, a.createPolicy)
	wire.Handle(s, a.getPolicy)
	wire.Handle(s, a.deletePolicy)
	wire.Handle(s, a.listPolicies)
	wire.Handle(s, a.createPolicyVersion)
	wire.Handle(s, a.getPolicyVersion)
	wire.Handle(s, a.listPolicyVersions)
	wire.Handle(s, a.setDefaultPolicyVersion)
	wire.Handle(s, a.deletePolicyVersion)
	wire.Handle(s, a.listEntitiesForPolicy)
	wire.Handle(s, a.tagPolicy)
	wire.Handle(s, a.untagPolicy)
	wire.Handle(s, a.listPolicyTags)
	wire.Handle(s, a.attachRolePolicy)
	wire.Handle(s, a.detachRolePolicy)
	wire.Handle(s, a.listAttachedRolePolicies)
	wire.Handle(s, a.attachUserPolicy)
	wire.Handle(s, a.detachUserPolicy)
	wire.Handle(s, a.listAttachedUserPolicies)
	wire.Handle(s, a.attachGroupPolicy)
	wire.Handle(s, a.detachGroupPolicy)
	wire.Handle(s, a.listAttachedGroupPolicies)
	wire.Handle(s, a.putRolePolicy)
	wire.Handle(s, a.getRolePolicy)
	wire.Handle(s, a.deleteRolePolicy)
	wire.Handle(s, a.listRolePolicies)
	wire.Handle(s, a.putUserPolicy)
	wire.Handle(s, a.getUserPolicy)
	wire.Handle(s, a.deleteUserPolicy)
	wire.Handle(s, a.listUserPolicies)
	wire.Handle(s, a.putGroupPolicy)
	wire.Handle(s, a.getGroupPolicy)
	wire.Handle(s, a.deleteGroupPolicy)
	wire.Handle(s, a.listGroupPolicies)
}

// arn names something of IAM, which has no region.
func (a *api) arn(kind, path, name string) string {
	return "arn:" + model.Partition + ":iam::" + a.Scope.Account + ":" + kind + path + name
}

// newID makes an id of the kind that the prefix tells.
func newID(prefix string) string { return (prefix + random32(12))[:21] }

// encoded is how documents come back: as in RFC 3986.
func encoded(document string) *string {
	return new(strings.ReplaceAll(url.QueryEscape(document), "+", "%20"))
}

func noSuch(format string, args ...any) error { return model.Errorf("NoSuchEntity", format, args...) }

// cannotBeFound is the refusal of a name that nothing has; kind is user, group or role.
func cannotBeFound(kind, name string) error {
	return noSuch("The %s with name %s cannot be found.", kind, name)
}

func exists(format string, args ...any) error {
	return model.Errorf("EntityAlreadyExists", format, args...)
}

func conflict(what string) error {
	return model.Errorf("DeleteConflict", "Cannot delete entity, must %s first.", what)
}

// Limits (IAM user guide, "IAM and STS quotas"; what AWS raises on request is AWS's default).
const (
	maxVersions  = 5
	maxManaged   = 6144 // characters, white space not counted
	maxInline    = 10240
	maxInlineOf  = 2048 // of a user; a group's are 5120
	maxTrust     = 2048
	maxAttached  = 10
	maxUserKeys  = 2
	maxTags      = 50
	maxGroupsOf  = 10
	maxGroupText = 5120
)

// document checks a policy of an identity.
func document(text *string, quota string, limit int) (string, error) {
	if text == nil || *text == "" {
		return "", required("policyDocument")
	}
	if size(*text) > limit {
		return "", model.Errorf("LimitExceeded", "Cannot exceed quota for %s: %d", quota, limit)
	}
	if _, err := policy.Validate(*text, policy.ForIdentity); err != nil {
		return "", model.Errorf("MalformedPolicyDocument", "%s", err)
	}
	return *text, nil
}

// size is the number of characters that AWS counts.
func size(text string) int {
	n := 0
	for _, r := range text {
		if r != ' ' && r != '\n' && r != '\t' && r != '\r' {
			n++
		}
	}
	return n
}

// page cuts a list that is in the order of its keys. A marker names the last key that was seen.
func page[T any](all []T, key func(T) string, marker *string, maxItems *int32) (part []T, truncated bool, next *string, err error) {
	limit := 100
	if maxItems != nil {
		if limit = int(*maxItems); limit < 1 || limit > 1000 {
			return nil, false, nil, invalid("maxItems", "Member must have value between 1 and 1000")
		}
	}
	if marker != nil {
		last, err := base64.RawURLEncoding.DecodeString(*marker)
		if err != nil {
			return nil, false, nil, model.Errorf("ValidationError", "Invalid Marker.")
		}
		for len(all) > 0 && key(all[0]) <= string(last) {
			all = all[1:]
		}
	}
	if len(all) > limit {
		all, truncated = all[:limit], true
		next = new(base64.RawURLEncoding.EncodeToString([]byte(key(all[limit-1]))))
	}
	if all == nil {
		all = []T{}
	}
	return all, truncated, next, nil
}

// boundary is how answers tell a permissions boundary.
func boundary(arn string) *types.AttachedPermissionsBoundary {
	if arn == "" {
		return nil
	}
	return &types.AttachedPermissionsBoundary{PermissionsBoundaryArn: &arn, PermissionsBoundaryType: types.PermissionsBoundaryAttachmentTypePolicy}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// optional is nil for an empty text, which answers leave out.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
