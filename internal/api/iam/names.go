package iam

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/berthdev/berth/internal/model"
)

var (
	nameRegexp = regexp.MustCompile(`^[\w+=,.@-]+$`)
	pathRegexp = regexp.MustCompile(`^/([\x21-\x7E]+/)?$`)
	tagRegexp  = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

func invalid(member, constraint string) error {
	return model.Errorf("ValidationError", "1 validation error detected: Value at '%s' failed to satisfy constraint: %s", member, constraint)
}

func required(member string) error { return invalid(member, "Member must not be null") }

// checkName checks the name of something new; member is what AWS calls it.
func checkName(member string, name *string, limit int) (string, error) {
	switch {
	case name == nil || *name == "":
		return "", required(member)
	case len(*name) > limit:
		return "", model.Errorf("ValidationError", "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", *name, member, limit)
	case !nameRegexp.MatchString(*name):
		return "", model.Errorf("ValidationError", "The specified value for %s is invalid. It must contain only alphanumeric characters and/or "+
			"the following: +=,.@_-", member)
	}
	return *name, nil
}

// checkPath returns the path, which is / by default.
func checkPath(path *string) (string, error) {
	if path == nil || *path == "" {
		return "/", nil
	}
	if !pathRegexp.MatchString(*path) || len(*path) > 512 {
		return "", model.Errorf("ValidationError", "The specified value for path is invalid. It must begin and end with / and contain only "+
			"alphanumeric characters and/or / characters.")
	}
	return *path, nil
}

// checkTags checks the tags of a request.
func checkTags(tags []types.Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		key := strings.ToLower(text(t.Key))
		switch {
		case key == "" || utf8.RuneCountInString(key) > 128 || !tagRegexp.MatchString(key):
			return invalid("tags.member.key", `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+`)
		case t.Value == nil || utf8.RuneCountInString(*t.Value) > 256 || !tagRegexp.MatchString(*t.Value):
			return invalid("tags.member.value", `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
		case strings.HasPrefix(key, "aws:"):
			return model.Errorf("InvalidInput", "Tag keys may not begin with aws:")
		case seen[key]:
			return model.Errorf("InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[key] = true
	}
	return tagsFit(tags)
}

func tagsFit(tags []types.Tag) error {
	if len(tags) > maxTags {
		return model.Errorf("LimitExceeded", "The number of tags has reached the maximum limit.")
	}
	return nil
}

// withTags adds tags, or gives those that are there their new values. Keys differ by more than their letters' size.
func withTags(old, more []types.Tag) ([]types.Tag, error) {
	if err := checkTags(more); err != nil {
		return nil, err
	}
	all := slices.Clone(old)
	for _, t := range more {
		if i := slices.IndexFunc(all, func(o types.Tag) bool { return strings.EqualFold(*o.Key, *t.Key) }); i >= 0 {
			all[i] = t
		} else {
			all = append(all, t)
		}
	}
	return all, tagsFit(all)
}

func withoutTags(old []types.Tag, keys []string) []types.Tag {
	return slices.DeleteFunc(slices.Clone(old), func(t types.Tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, *t.Key) })
	})
}
