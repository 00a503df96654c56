package ssm

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/model"
)

// filters must all match.
type filters []filter

type filter struct {
	key, option string
	values      []string
}

// options are what each key may be compared with, the usual one first.
var options = map[string][]string{"Name": {"Equals", "BeginsWith", "Contains"}, "Path": {"OneLevel", "Recursive"}, "KeyId": {"Equals", "BeginsWith"},
	"Type": {"Equals", "BeginsWith"}, "Tier": {"Equals", "BeginsWith"}, "DataType": {"Equals", "BeginsWith"}, "Label": {"Equals"}, "tag:": {"Equals", "BeginsWith"}}

// readFilters reads the filters of a request that knows these keys.
func readFilters(given []types.ParameterStringFilter, keys ...string) (all filters, err error) {
	seen := map[string]bool{}
	for _, g := range given {
		f := filter{key: value(g.Key), option: value(g.Option), values: g.Values}
		kind := f.key
		if strings.HasPrefix(kind, "tag:") {
			kind = "tag:"
		}
		if !slices.Contains(keys, kind) {
			return nil, model.Errorf("InvalidFilterKey", "The following filter key is not valid: %.100s. Valid filter keys include: [%s].", f.key, strings.Join(keys, ", "))
		}
		known := options[kind]
		if f.option == "" {
			f.option = known[0]
		}
		switch {
		case seen[f.key]:
			return nil, model.Errorf("InvalidFilterKey", "The following filter is duplicated in the request: %.100s. A request can contain only one occurrence of a specific filter.", f.key)
		case !slices.Contains(known, f.option):
			return nil, model.Errorf("InvalidFilterOption", "The following filter option is not valid: %.100s. Valid options include: [%s].", f.option, strings.Join(known, ", "))
		case len(f.values) == 0 && kind != "tag:":
			return nil, model.Errorf("InvalidFilterValue", "The following filter values are missing : null for filter key %s", f.key)
		case len(f.values) > 50:
			return nil, model.Errorf("InvalidFilterValue", "A filter has 50 values at most")
		}
		seen[f.key] = true
		all = append(all, f)
	}
	return all, nil
}

func (all filters) match(a *api, e entry) bool {
	for _, f := range all {
		if !f.match(e) {
			return false
		}
	}
	return true
}

// label is the one that a request asks for; "" for none.
func (all filters) label() string {
	for _, f := range all {
		if f.key == "Label" {
			return f.values[0]
		}
	}
	return ""
}

func (f filter) match(e entry) bool {
	switch f.key {
	case "Name":
		return slices.ContainsFunc(f.values, func(v string) bool {
			if f.option == "Contains" {
				return strings.Contains(e.p.Name, v)
			}
			return f.text(e.p.Path, strings.TrimPrefix(v, "/"))
		})
	case "Path":
		return slices.ContainsFunc(f.values, func(v string) bool { return f.below(e.p.Path, v) })
	case "Label":
		_, ok := e.p.Labels[f.values[0]]
		return ok
	}
	of := map[string]string{"Type": string(e.v.Type), "KeyId": e.v.KeyID, "Tier": string(e.v.Tier), "DataType": e.v.DataType}[f.key]
	if tag, is := strings.CutPrefix(f.key, "tag:"); is {
		i := slices.IndexFunc(e.p.Tags, func(t types.Tag) bool { return value(t.Key) == tag })
		if i < 0 || len(f.values) == 0 {
			return i >= 0
		}
		of = value(e.p.Tags[i].Value)
	}
	return slices.ContainsFunc(f.values, func(v string) bool { return f.text(of, v) })
}

func (f filter) text(of, v string) bool {
	if f.option == "BeginsWith" {
		return strings.HasPrefix(of, v)
	}
	return of == v
}

func (f filter) below(path, folder string) bool {
	prefix := strings.Trim(folder, "/")
	if prefix != "" {
		prefix += "/"
	}
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (f.option == "Recursive" || !strings.Contains(rest, "/"))
}
