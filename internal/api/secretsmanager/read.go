package secretsmanager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

const keysEnabled = keys.Enabled

func (a *api) getSecretValue(ctx context.Context, in *sdk.GetSecretValueInput) (*sdk.GetSecretValueOutput, error) {
	if err := required("secretId", in.SecretId); err != nil {
		return nil, err
	}
	got, err := a.Vault.Secret(ctx, vault.SecretQuery{ID: *in.SecretId, VersionID: value(in.VersionId), Stage: value(in.VersionStage)})
	if err != nil {
		return nil, err
	}
	a.noteRead(ctx, got.Row)
	e := drawValue(got)
	return &sdk.GetSecretValueOutput{ARN: e.ARN, Name: e.Name, CreatedDate: e.CreatedDate, SecretBinary: e.SecretBinary, SecretString: e.SecretString,
		VersionId: e.VersionId, VersionStages: e.VersionStages}, nil
}

func drawValue(got *vault.GotSecret) types.SecretValueEntry {
	e := types.SecretValueEntry{ARN: &got.Row.ARN, Name: &got.Row.Name, CreatedDate: &got.Version.CreatedAt, VersionId: &got.Version.ID,
		VersionStages: vault.Stages(got.Row, got.Version.ID)}
	if got.Version.Binary {
		e.SecretBinary = got.Value
	} else {
		e.SecretString = new(string(got.Value))
	}
	return e
}

// noteRead notes the day when a secret was last read. What cannot be noted is noted the next time.
func (a *api) noteRead(ctx context.Context, s *model.Secret) {
	day := a.Now().UTC().Truncate(24 * time.Hour)
	if !s.AccessedAt.Before(day) {
		return
	}
	_, err := a.change(ctx, &s.Name, func(_ store.Tx, s *model.Secret) error { s.AccessedAt = day; return nil })
	if err != nil && a.Log != nil {
		a.Log.Debug("when a secret was read is not noted", "secret", s.Name, "error", err)
	}
}

func (a *api) batchGetSecretValue(ctx context.Context, in *sdk.BatchGetSecretValueInput) (*sdk.BatchGetSecretValueOutput, error) {
	if (len(in.SecretIdList) == 0) == (len(in.Filters) == 0) {
		return nil, invalid("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	}
	if len(in.SecretIdList) > 20 {
		return nil, model.Errorf("ValidationException", "1 validation error detected: Value at 'secretIdList' failed to satisfy constraint: Member must have length less than or equal to 20")
	}
	ids, out := in.SecretIdList, &sdk.BatchGetSecretValueOutput{SecretValues: []types.SecretValueEntry{}, Errors: []types.APIErrorType{}}
	if len(in.Filters) > 0 {
		all, err := a.list(in.Filters, false)
		if err != nil {
			return nil, err
		}
		part, next, err := page(all, in.MaxResults, in.NextToken, 20, func(s *model.Secret) string { return s.Name })
		if err != nil {
			return nil, err
		}
		out.NextToken = next
		for _, s := range part {
			ids = append(ids, s.ARN)
		}
	}
	for _, id := range ids {
		got, err := a.Vault.Secret(ctx, vault.SecretQuery{ID: id})
		if e, refused := err.(*model.Error); refused {
			out.Errors = append(out.Errors, types.APIErrorType{ErrorCode: &e.Code, Message: &e.Message, SecretId: &id})
			continue
		}
		if err != nil {
			return nil, err
		}
		out.SecretValues = append(out.SecretValues, drawValue(got))
	}
	return out, nil
}

func (a *api) describeSecret(_ context.Context, in *sdk.DescribeSecretInput) (*sdk.DescribeSecretOutput, error) {
	s, err := a.find(in.SecretId)
	if err != nil {
		return nil, err
	}
	e := draw(s)
	return &sdk.DescribeSecretOutput{ARN: e.ARN, Name: e.Name, Description: e.Description, KmsKeyId: e.KmsKeyId, Type: e.Type, CreatedDate: e.CreatedDate,
		LastChangedDate: e.LastChangedDate, LastAccessedDate: e.LastAccessedDate, DeletedDate: e.DeletedDate, Tags: e.Tags,
		VersionIdsToStages: e.SecretVersionsToStages}, nil
}

func draw(s *model.Secret) types.SecretListEntry {
	e := types.SecretListEntry{ARN: &s.ARN, Name: &s.Name, CreatedDate: &s.CreatedAt, LastChangedDate: &s.ChangedAt, Tags: slices.Clone(s.Tags)}
	optional(&e.Description, s.Description)
	optional(&e.KmsKeyId, s.KMSKeyID)
	optional(&e.Type, s.Type)
	if e.Tags == nil {
		e.Tags = []types.Tag{}
	}
	if !s.AccessedAt.IsZero() {
		e.LastAccessedDate = &s.AccessedAt
	}
	if !s.DeletedAt.IsZero() {
		e.DeletedDate = &s.DeletedAt
	}
	for stage, version := range s.Stages {
		if e.SecretVersionsToStages == nil {
			e.SecretVersionsToStages = map[string][]string{}
		}
		e.SecretVersionsToStages[version] = append(e.SecretVersionsToStages[version], stage)
	}
	for _, stages := range e.SecretVersionsToStages {
		slices.Sort(stages)
	}
	return e
}

func optional(to **string, v string) {
	if v != "" {
		*to = &v
	}
}

// list is the secrets that match all filters, in the order of their names.
func (a *api) list(filters []types.Filter, deleted bool) (all []*model.Secret, err error) {
	for _, f := range filters {
		if !slices.Contains(f.Key.Values(), f.Key) || len(f.Values) == 0 || len(f.Values) > 10 {
			return nil, invalid("A filter needs one of the keys description, name, tag-key, tag-value, primary-region, owning-service, all, and 1 to 10 values")
		}
	}
	a.Store.View(func(r store.Reader) {
		for s := range store.Secrets.Scan(r, "") {
			if (deleted || s.DeleteAt.IsZero()) && matches(s, filters) {
				all = append(all, s)
			}
		}
	})
	return all, nil
}

func matches(s *model.Secret, filters []types.Filter) bool {
	for _, f := range filters {
		if !slices.ContainsFunc(f.Values, func(v string) bool { return matchesNot(s, f.Key, v) }) {
			return false
		}
	}
	return true
}

// matchesNot compares with one value, of which "!" before it asks for the opposite.
func matchesNot(s *model.Secret, key types.FilterNameStringType, v string) bool {
	if rest, not := strings.CutPrefix(v, "!"); not {
		return !matchesOne(s, key, rest)
	}
	return matchesOne(s, key, v)
}

func matchesOne(s *model.Secret, key types.FilterNameStringType, v string) bool {
	tags := func(of func(types.Tag) *string) bool {
		return slices.ContainsFunc(s.Tags, func(t types.Tag) bool { return strings.HasPrefix(value(of(t)), v) })
	}
	words := func() bool {
		for _, w := range strings.Fields(strings.ToLower(v)) {
			if !strings.Contains(strings.ToLower(s.Description), w) {
				return false
			}
		}
		return true
	}
	tagKey, tagValue := func(t types.Tag) *string { return t.Key }, func(t types.Tag) *string { return t.Value }
	switch key {
	case types.FilterNameStringTypeName:
		return strings.HasPrefix(s.Name, v)
	case types.FilterNameStringTypeDescription:
		return words()
	case types.FilterNameStringTypeTagKey:
		return tags(tagKey)
	case types.FilterNameStringTypeTagValue:
		return tags(tagValue)
	case types.FilterNameStringTypeAll:
		return strings.Contains(strings.ToLower(s.Name), strings.ToLower(v)) || s.Description != "" && words() || tags(tagKey) || tags(tagValue)
	}
	return false // no secret is of another service or region
}

func (a *api) listSecrets(_ context.Context, in *sdk.ListSecretsInput) (*sdk.ListSecretsOutput, error) {
	all, err := a.list(in.Filters, value(in.IncludePlannedDeletion))
	if err != nil {
		return nil, err
	}
	order := func(s *model.Secret) time.Time {
		switch in.SortBy {
		case types.SortByTypeLastAccessedDate:
			return s.AccessedAt
		case types.SortByTypeLastChangedDate:
			return s.ChangedAt
		case types.SortByTypeName:
			return time.Time{}
		}
		return s.CreatedAt
	}
	name := func(s *model.Secret) string { return s.Name }
	if in.SortBy != "" || in.SortOrder != "" { // pages go by the order, which tokens then say
		slices.SortStableFunc(all, func(a, b *model.Secret) int {
			by := cmp.Or(order(a).Compare(order(b)), cmp.Compare(a.Name, b.Name))
			if in.SortOrder != types.SortOrderTypeAsc {
				by = -by
			}
			return by
		})
		place := map[string]string{}
		for i, s := range all {
			place[s.Name] = fmt.Sprintf("%08d", i)
		}
		name = func(s *model.Secret) string { return place[s.Name] }
	}
	part, next, err := page(all, in.MaxResults, in.NextToken, 100, name)
	out := &sdk.ListSecretsOutput{SecretList: []types.SecretListEntry{}, NextToken: next}
	for _, s := range part {
		out.SecretList = append(out.SecretList, draw(s))
	}
	return out, err
}

func (a *api) listSecretVersionIds(_ context.Context, in *sdk.ListSecretVersionIdsInput) (*sdk.ListSecretVersionIdsOutput, error) {
	s, err := a.find(in.SecretId)
	if err != nil {
		return nil, err
	}
	var all []*model.SecretVersion
	a.Store.View(func(r store.Reader) {
		for v := range store.SecretVersions.Scan(r, s.Name+":") {
			if value(in.IncludeDeprecated) || len(vault.Stages(s, v.ID)) > 0 {
				all = append(all, v)
			}
		}
	})
	part, next, err := page(all, in.MaxResults, in.NextToken, 100, func(v *model.SecretVersion) string { return v.ID })
	out := &sdk.ListSecretVersionIdsOutput{ARN: &s.ARN, Name: &s.Name, Versions: []types.SecretVersionsListEntry{}, NextToken: next}
	for _, v := range part {
		e := types.SecretVersionsListEntry{CreatedDate: &v.CreatedAt, VersionId: &v.ID, VersionStages: vault.Stages(s, v.ID), KmsKeyIds: []string{v.KeyARN}}
		if s.KMSKeyID == "" {
			e.KmsKeyIds = []string{"DefaultEncryptionKey"}
		}
		out.Versions = append(out.Versions, e)
	}
	return out, err
}
