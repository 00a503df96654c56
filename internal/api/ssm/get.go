package ssm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

func (a *api) getParameter(ctx context.Context, in *sdk.GetParameterInput) (*sdk.GetParameterOutput, error) {
	if err := required("name", in.Name); err != nil {
		return nil, err
	}
	p, err := a.Vault.Parameter(ctx, *in.Name, value(in.WithDecryption))
	if err != nil {
		return nil, err
	}
	return &sdk.GetParameterOutput{Parameter: &p.Parameter}, nil
}

// maxNames is how many parameters a request may name.
const maxNames = 10

func checkNames(names []string) error {
	if len(names) == 0 || len(names) > maxNames {
		return invalid("1 validation error detected: Value '%.200v' at 'names' failed to satisfy constraint: Member must have length between 1 and %d", names, maxNames)
	}
	return nil
}

func (a *api) getParameters(ctx context.Context, in *sdk.GetParametersInput) (*sdk.GetParametersOutput, error) {
	if err := checkNames(in.Names); err != nil {
		return nil, err
	}
	out := &sdk.GetParametersOutput{Parameters: []types.Parameter{}, InvalidParameters: []string{}}
	seen := map[string]bool{}
	for _, name := range in.Names {
		if seen[name] {
			continue
		}
		seen[name] = true
		p, err := a.Vault.Parameter(ctx, name, value(in.WithDecryption))
		switch code := model.ErrorCode(err); {
		case err == nil:
			out.Parameters = append(out.Parameters, p.Parameter)
		case code == "ParameterNotFound" || code == "ParameterVersionNotFound":
			out.InvalidParameters = append(out.InvalidParameters, name)
		default:
			return nil, err
		}
	}
	slices.SortFunc(out.Parameters, func(a, b types.Parameter) int { return cmp.Compare(*a.Name, *b.Name) })
	return out, nil
}

// folder reads a path: "" is the root.
func folder(path *string) (prefix string, err error) {
	if err := required("path", path); err != nil {
		return "", err
	}
	if !strings.HasPrefix(*path, "/") {
		return "", invalid("The parameter doesn't meet the parameter name requirements. The parameter name must begin with a forward slash \"/\". It can't be prefixed " +
			"with \"aws\" or \"ssm\" (case-insensitive). It must use only letters, numbers, or the following symbols: . (period), - (hyphen), _ (underscore). " +
			"Special characters are not allowed. All sub-paths, if specified, must use the forward slash symbol \"/\". Valid example: /get/parameters2-/by1./path0_.")
	}
	if prefix = strings.Trim(*path, "/"); prefix != "" {
		prefix += "/"
	}
	return prefix, nil
}

func (a *api) getParametersByPath(ctx context.Context, in *sdk.GetParametersByPathInput) (*sdk.GetParametersByPathOutput, error) {
	prefix, err := folder(in.Path)
	if err != nil {
		return nil, err
	}
	filters, err := readFilters(in.ParameterFilters, "Type", "KeyId", "Label")
	if err != nil {
		return nil, err
	}
	var all []types.Parameter
	for p := range a.Vault.PublicParameters("/" + prefix) {
		if value(in.Recursive) || !strings.Contains((*p.Name)[len(prefix)+1:], "/") {
			all = append(all, *p)
		}
	}
	var found []entry
	a.Store.View(func(r store.Reader) { found = a.scan(r, prefix) })
	for _, e := range found {
		if !value(in.Recursive) && strings.Contains(e.p.Path[len(prefix):], "/") || !filters.match(a, e) {
			continue
		}
		if label := filters.label(); label != "" {
			a.Store.View(func(r store.Reader) {
				_, e.v, _ = a.Vault.FindParameter(r, vault.ParameterName{Path: e.p.Path, Selector: ":" + label})
			})
		}
		if e.v != nil {
			all = append(all, types.Parameter{Name: &e.p.Name, ARN: new(a.Vault.ParameterARN(e.p.Path)), DataType: &e.v.DataType, LastModifiedDate: &e.v.At,
				Type: e.v.Type, Version: e.v.Number})
		}
	}
	slices.SortFunc(all, func(a, b types.Parameter) int { return cmp.Compare(*a.Name, *b.Name) })
	part, next, err := page(all, in.MaxResults, in.NextToken, 10, func(p types.Parameter) string { return *p.Name })
	if err != nil {
		return nil, err
	}
	for i, p := range part { // only what is shown is decrypted
		if p.Value == nil {
			read, err := a.Vault.Parameter(ctx, fmt.Sprintf("%s:%d", *p.Name, p.Version), value(in.WithDecryption))
			if err != nil {
				return nil, err
			}
			part[i].Value = read.Value
		}
	}
	return &sdk.GetParametersByPathOutput{Parameters: part, NextToken: next}, nil
}

// entry is a parameter with its newest version.
type entry struct {
	p *model.Parameter
	v *model.ParameterVersion
}

func (a *api) scan(r store.Reader, prefix string) (all []entry) {
	for p := range store.Parameters.Scan(r, prefix) {
		if v, ok := store.ParameterVersions.Get(r, model.ParameterVersionKey(p.Path, p.Newest)); ok {
			all = append(all, entry{p, v})
		}
	}
	return all
}

func (a *api) getParameterHistory(ctx context.Context, in *sdk.GetParameterHistoryInput) (*sdk.GetParameterHistoryOutput, error) {
	path, err := a.name(in.Name)
	if err != nil {
		return nil, err
	}
	var p *model.Parameter
	var all []*model.ParameterVersion
	a.Store.View(func(r store.Reader) {
		p, _ = store.Parameters.Get(r, path)
		all = slices.Collect(store.ParameterVersions.Scan(r, path+":"))
	})
	if p == nil {
		return nil, notFound()
	}
	part, next, err := page(all, in.MaxResults, in.NextToken, 50, (*model.ParameterVersion).Key)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetParameterHistoryOutput{NextToken: next}
	for _, v := range part {
		text, err := a.Vault.ParameterValue(ctx, v, value(in.WithDecryption))
		if err != nil {
			return nil, err
		}
		h := types.ParameterHistory{Name: &p.Name, Type: v.Type, Value: &text, Version: v.Number, LastModifiedDate: &v.At, LastModifiedUser: &v.User,
			DataType: &v.DataType, Tier: v.Tier, Labels: labelsOf(p, v.Number), Policies: []types.ParameterInlinePolicy{}}
		optional(&h.Description, v.Description)
		optional(&h.AllowedPattern, v.AllowedPattern)
		optional(&h.KeyId, v.KeyID)
		out.Parameters = append(out.Parameters, h)
	}
	return out, nil
}

func optional(to **string, v string) {
	if v != "" {
		*to = &v
	}
}

func (a *api) describeParameters(_ context.Context, in *sdk.DescribeParametersInput) (*sdk.DescribeParametersOutput, error) {
	if len(in.Filters) > 0 && len(in.ParameterFilters) > 0 {
		return nil, invalid("You can use either Filters or ParameterFilters in a single request.")
	}
	given := in.ParameterFilters
	for _, f := range in.Filters { // the old form
		option := "Equals"
		if f.Key == types.ParametersFilterKeyName {
			option = "BeginsWith"
		}
		given = append(given, types.ParameterStringFilter{Key: new(string(f.Key)), Option: &option, Values: f.Values})
	}
	filters, err := readFilters(given, "Path", "Name", "Type", "KeyId", "Tier", "DataType", "tag:")
	if err != nil {
		return nil, err
	}
	all := []types.ParameterMetadata{}
	a.Store.View(func(r store.Reader) {
		for _, e := range a.scan(r, "") {
			if filters.match(a, e) {
				all = append(all, a.metadata(e))
			}
		}
	})
	if value(in.Shared) {
		all = nil // nobody shares parameters with this account
	}
	slices.SortFunc(all, func(a, b types.ParameterMetadata) int { return cmp.Compare(*a.Name, *b.Name) })
	part, next, err := page(all, in.MaxResults, in.NextToken, 50, func(m types.ParameterMetadata) string { return *m.Name })
	return &sdk.DescribeParametersOutput{Parameters: part, NextToken: next}, err
}

func (a *api) metadata(e entry) types.ParameterMetadata {
	m := types.ParameterMetadata{Name: &e.p.Name, ARN: new(a.Vault.ParameterARN(e.p.Path)), Type: e.v.Type, Version: e.v.Number, LastModifiedDate: &e.v.At,
		LastModifiedUser: &e.v.User, DataType: &e.v.DataType, Tier: e.v.Tier, Policies: []types.ParameterInlinePolicy{}}
	optional(&m.Description, e.v.Description)
	optional(&m.AllowedPattern, e.v.AllowedPattern)
	optional(&m.KeyId, e.v.KeyID)
	return m
}
