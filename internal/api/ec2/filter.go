package ec2

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/berthdev/berth/internal/model"
)

// maxFilters and maxValues are EC2's own bounds of a request's filters and of a filter's values.
const (
	maxFilters = 50
	maxValues  = 200
)

// attributes are what filters see of a resource.
type attributes map[string]string

// matches tells whether a resource passes every filter; a value may contain * and ?. none names the filters that exist but that
// nothing here has a value for. Filters that do not exist are refused.
func matches(filters []types.Filter, has attributes, none ...string) (bool, error) {
	if len(filters) > maxFilters {
		return false, model.Errorf("FilterLimitExceeded", "The maximum number of filters is %d", maxFilters)
	}
	all := true
	for _, f := range filters {
		name := ""
		if f.Name != nil {
			name = *f.Name
		}
		if len(f.Values) > maxValues {
			return false, model.Errorf("FilterLimitExceeded", "The maximum number of values of a filter is %d", maxValues)
		}
		value, known := has[name]
		switch {
		case known:
			all = all && slices.ContainsFunc(f.Values, func(pattern string) bool { return wild(pattern, value) })
		case strings.HasPrefix(name, "tag:"), name == "tag-key", name == "tag-value", slices.Contains(none, name):
			all = false // nothing here has tags
		default:
			return false, model.Errorf("InvalidParameterValue", "The filter '%.100s' is invalid", name)
		}
	}
	return all, nil
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
