package iam

import (
	"context"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// getAccountSummary counts, and tells AWS's quotas.
func (a *api) getAccountSummary(context.Context, *iam.GetAccountSummaryInput) (*iam.GetAccountSummaryOutput, error) {
	s := map[string]int32{"UsersQuota": 5000, "GroupsQuota": 300, "RolesQuota": 1000, "PoliciesQuota": 1500, "InstanceProfilesQuota": 1000,
		"AccessKeysPerUserQuota": maxUserKeys, "GroupsPerUserQuota": maxGroupsOf, "AttachedPoliciesPerUserQuota": maxAttached,
		"AttachedPoliciesPerGroupQuota": maxAttached, "AttachedPoliciesPerRoleQuota": maxAttached, "UserPolicySizeQuota": maxInlineOf,
		"GroupPolicySizeQuota": maxGroupText, "RolePolicySizeQuota": maxInline, "AssumeRolePolicySizeQuota": maxTrust, "PolicySizeQuota": maxManaged,
		"VersionsPerPolicyQuota": maxVersions, "PolicyVersionsInUseQuota": 10000, "ServerCertificatesQuota": 20, "SigningCertificatesPerUserQuota": 2,
		"Providers": 0, "ServerCertificates": 0, "MFADevices": 0, "MFADevicesInUse": 0, "AccountMFAEnabled": 0, "AccountSigningCertificatesPresent": 0,
		"AccountAccessKeysPresent": 1, "AccountPasswordPresent": 0, "GlobalEndpointTokenVersion": 1}
	a.Store.View(func(r store.Reader) {
		for range store.IAMUsers.Scan(r, "") {
			s["Users"]++
		}
		for range store.IAMGroups.Scan(r, "") {
			s["Groups"]++
		}
		for range store.IAMRoles.Scan(r, "") {
			s["Roles"]++
		}
		for p := range store.IAMPolicies.Scan(r, "") {
			s["Policies"]++
			s["PolicyVersionsInUse"] += int32(len(p.Versions))
		}
		for range store.InstanceProfiles.Scan(r, "") {
			s["InstanceProfiles"]++
		}
		for range store.OIDCProviders.Scan(r, "") {
			s["Providers"]++
		}
	})
	return &iam.GetAccountSummaryOutput{SummaryMap: s}, nil
}

var aliasRegexp = regexp.MustCompile(`^[a-z0-9]([a-z0-9]|-[a-z0-9])*$`)

func (a *api) createAccountAlias(ctx context.Context, in *iam.CreateAccountAliasInput) (*iam.CreateAccountAliasOutput, error) {
	alias := text(in.AccountAlias)
	if len(alias) < 3 || len(alias) > 63 || !aliasRegexp.MatchString(alias) {
		return nil, invalid("accountAlias", "Member must satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$")
	}
	return &iam.CreateAccountAliasOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		store.IAMAccounts.Put(tx, &model.IAMAccount{Alias: alias}) // an account has one: a new one takes the old one's place
		return nil
	})
}

func (a *api) deleteAccountAlias(ctx context.Context, in *iam.DeleteAccountAliasInput) (*iam.DeleteAccountAliasOutput, error) {
	return &iam.DeleteAccountAliasOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		account, ok := store.IAMAccounts.Get(tx, (*model.IAMAccount)(nil).Key())
		if !ok || account.Alias != text(in.AccountAlias) {
			return noSuch("The account alias %s cannot be found.", text(in.AccountAlias))
		}
		store.IAMAccounts.Delete(tx, account.Key())
		return nil
	})
}

func (a *api) listAccountAliases(context.Context, *iam.ListAccountAliasesInput) (*iam.ListAccountAliasesOutput, error) {
	out := &iam.ListAccountAliasesOutput{AccountAliases: []string{}}
	a.Store.View(func(r store.Reader) {
		if account, ok := store.IAMAccounts.Get(r, (*model.IAMAccount)(nil).Key()); ok {
			out.AccountAliases = append(out.AccountAliases, account.Alias)
		}
	})
	return out, nil
}
