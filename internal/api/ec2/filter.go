package ec2

import (
	"cmp"
	"encoding/base64"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// maxFilters and maxValues are EC2's own bounds of a request's filters and of a filter's values.
const (
	maxFilters = 50
	maxValues  = 200
)

// attributes are what filters see of a resource: a filter that exists has a key, though the resource may have no value of it.
type attributes map[string][]string

// with adds the filters that tags answer.
func (has attributes) with(tags []types.Tag) attributes {
	has["tag-key"], has["tag-value"] = nil, nil
	for _, t := range tags {
		has["tag-key"] = append(has["tag-key"], str(t.Key))
		has["tag-value"] = append(has["tag-value"], str(t.Value))
		has["tag:"+str(t.Key)] = []string{str(t.Value)}
	}
	return has
}

// none adds filters that exist and that nothing here has a value for.
func (has attributes) none(names ...string) attributes {
	for _, n := range names {
		has[n] = nil
	}
	return has
}

// matches tells whether a resource passes every filter; a value may contain * and ?. Filters that do not exist are refused.
func matches(filters []types.Filter, has attributes) (bool, error) {
	if len(filters) > maxFilters {
		return false, model.Errorf("FilterLimitExceeded", "The maximum number of filters is %d", maxFilters)
	}
	all := true
	for _, f := range filters {
		name := str(f.Name)
		if len(f.Values) > maxValues {
			return false, model.Errorf("FilterLimitExceeded", "The maximum number of values of a filter is %d", maxValues)
		}
		values, known := has[name]
		if !known && !strings.HasPrefix(name, "tag:") {
			return false, invalid("The filter '%s' is invalid", clip(name))
		}
		all = all && slices.ContainsFunc(f.Values, func(pattern string) bool {
			return slices.ContainsFunc(values, func(value string) bool { return wild(pattern, value) })
		})
	}
	return all, nil
}

// query is what Describe operations have in common.
type query struct {
	kind    kind
	ids     []string
	filters []types.Filter
	max     *int32
	token   *string
}

// list answers a Describe operation: of shows a row, and tells what filters see of it.
func list[T, O any, P interface {
	*T
	store.Keyed
}](q query, rows iter.Seq[P], of func(P) (O, attributes)) ([]O, *string, error) {
	if q.max != nil && len(q.ids) > 0 {
		return nil, nil, model.Errorf("InvalidParameterCombination", "The parameter maxResults cannot be used with the parameter %sIds", q.kind.prefix)
	}
	var all []P
	for row := range rows {
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b P) int { return cmp.Compare(a.Key(), b.Key()) })
	for _, id := range q.ids {
		if !slices.ContainsFunc(all, func(r P) bool { return r.Key() == id }) {
			return nil, nil, q.kind.none(id)
		}
	}
	_, has := of(new(T)) // a wrong filter is refused where there are no rows too
	if _, err := matches(q.filters, has); err != nil {
		return nil, nil, err
	}
	out := []O{}
	var keys []string
	for _, row := range all {
		if len(q.ids) > 0 && !slices.Contains(q.ids, row.Key()) {
			continue
		}
		shown, has := of(row)
		ok, err := matches(q.filters, has)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			out, keys = append(out, shown), append(keys, row.Key())
		}
	}
	return page(q, out, keys)
}

// page cuts a list; the token is the key of the last one shown.
func page[O any](q query, all []O, keys []string) ([]O, *string, error) {
	const most = 1000
	if q.max != nil && (*q.max < 5 || *q.max > most) {
		return nil, nil, invalid("Value ( %d ) for parameter maxResults is invalid. Expecting a value between 5 and %d.", *q.max, most)
	}
	if t := str(q.token); t != "" {
		last, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil {
			return nil, nil, model.Errorf("InvalidNextToken", "The token '%s' is invalid", clip(t))
		}
		from, _ := slices.BinarySearch(keys, string(last)+"\x00")
		all, keys = all[from:], keys[from:]
	}
	n := most
	if q.max != nil {
		n = int(*q.max)
	}
	if len(all) <= n {
		return all, nil, nil
	}
	return all[:n], new(base64.RawURLEncoding.EncodeToString([]byte(keys[n-1]))), nil
}

// wild matches * to any text, ? to any one character and \ to what follows it, in time proportional to both lengths' product.
func wild(pattern, s string) bool {
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
			continue
		case p < len(pattern) && pattern[p] == '?':
			p++
			i++
			continue
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == s[i]:
			p += 2
			i++
			continue
		case p < len(pattern) && pattern[p] != '\\' && pattern[p] == s[i]:
			p++
			i++
			continue
		}
		if star < 0 {
			return false
		}
		from++
		p, i = star+1, from
	}
	return strings.Trim(pattern[p:], "*") == ""
}
