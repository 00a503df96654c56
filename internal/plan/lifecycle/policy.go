// Package lifecycle decides which images of a repository a lifecycle policy expires or archives (ECR user guide, "Lifecycle policies").
// It is pure: policy, images and the time in, verdicts out.
package lifecycle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Policy is a policy that was checked, its rules in the order of their priorities.
type Policy struct {
	Rules []Rule `json:"rules"`
}

// Rule is one rule of a policy.
type Rule struct {
	Priority    int       `json:"rulePriority"`
	Description string    `json:"description"`
	Selection   Selection `json:"selection"`
	Action      Action    `json:"action"`
}

// Selection tells which images a rule is about, and which of them are too many or too old.
type Selection struct {
	TagStatus    string   `json:"tagStatus"` // tagged, untagged, any
	TagPrefixes  []string `json:"tagPrefixList"`
	TagPatterns  []string `json:"tagPatternList"`
	StorageClass string   `json:"storageClass"` // standard (the default), archive
	CountType    string   `json:"countType"`
	CountUnit    string   `json:"countUnit"`
	CountNumber  int      `json:"countNumber"`
}

// Action is what a rule does with its images.
type Action struct {
	Type   string `json:"type"` // expire, transition
	Target string `json:"targetStorageClass"`
}

// The words of policies.
const (
	Tagged            = "tagged"
	Untagged          = "untagged"
	Any               = "any"
	Standard          = "standard"
	Archive           = "archive"
	MoreThan          = "imageCountMoreThan"
	SincePushed       = "sinceImagePushed"
	SincePulled       = "sinceImagePulled"
	SinceTransitioned = "sinceImageTransitioned"
	Expire            = "expire"
	Transition        = "transition"
)

// The bounds of policies (ECR API reference and user guide).
const (
	MaxText      = 30720
	MinText      = 100 // of what AWS takes; Berth takes shorter ones
	maxRules     = 50
	maxWildcards = 4
)

// Parse reads and checks a policy. The error's text says what is wrong as ECR does after "Lifecycle policy validation failure: ".
func Parse(text string) (Policy, error) {
	var p Policy
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return p, fmt.Errorf("object instance has properties which are not allowed by the schema: [%s]", name)
		}
		return p, fmt.Errorf("Could not map policyString into LifecyclePolicy.")
	}
	if dec.More() {
		return p, fmt.Errorf("Could not map policyString into LifecyclePolicy.")
	}
	if len(p.Rules) == 0 || len(p.Rules) > maxRules {
		return p, fmt.Errorf(`object has missing required properties (["rules"]), of which there are from 1 to %d`, maxRules)
	}
	for _, r := range p.Rules {
		if err := r.check(); err != nil {
			return p, fmt.Errorf("rule %d: %w", r.Priority, err)
		}
	}
	slices.SortStableFunc(p.Rules, func(a, b Rule) int { return a.Priority - b.Priority })
	return p, p.together()
}

// together checks what rules must be to each other.
func (p Policy) together() error {
	untagged := map[string]bool{}
	anyClass := map[string]bool{}
	for i, r := range p.Rules {
		class := r.class()
		if i > 0 && p.Rules[i-1].Priority == r.Priority {
			return fmt.Errorf("Duplicate rule priority found: %d", r.Priority)
		}
		if anyClass[class] {
			return fmt.Errorf("Any rule must have the lowest priority: a rule with tagStatus=any must be the last of its storage class")
		}
		if r.Selection.TagStatus == Untagged && untagged[class] {
			return fmt.Errorf("There can be only one rule with tagStatus=untagged in a storage class")
		}
		untagged[class] = untagged[class] || r.Selection.TagStatus == Untagged
		anyClass[class] = r.Selection.TagStatus == Any
	}
	return nil
}

func (r Rule) class() string {
	if r.Selection.StorageClass == "" {
		return Standard
	}
	return r.Selection.StorageClass
}

func (r Rule) check() error {
	s := r.Selection
	if r.Priority < 1 || r.Priority > 999 {
		return fmt.Errorf("numeric instance is lower than the required minimum (minimum: 1, found: %d)", r.Priority)
	}
	if !slices.Contains([]string{Tagged, Untagged, Any}, s.TagStatus) {
		return unknown("tagStatus", s.TagStatus, Any, Tagged, Untagged)
	}
	if !slices.Contains([]string{"", Standard, Archive}, s.StorageClass) {
		return unknown("storageClass", s.StorageClass, Archive, Standard)
	}
	lists := len(s.TagPrefixes) + len(s.TagPatterns)
	switch {
	case s.TagStatus != Tagged && lists > 0:
		return fmt.Errorf("tagPrefixList and tagPatternList may be given for tagStatus=tagged only")
	case s.TagStatus == Tagged && lists == 0:
		return fmt.Errorf("tagPrefixList or tagPatternList must be given for tagStatus=tagged")
	case len(s.TagPrefixes) > 0 && len(s.TagPatterns) > 0:
		return fmt.Errorf("tagPrefixList and tagPatternList cannot both be given")
	case slices.Contains(s.TagPrefixes, "") || slices.Contains(s.TagPatterns, ""):
		return fmt.Errorf("a tag prefix or pattern is empty")
	}
	for _, p := range s.TagPatterns {
		if strings.Count(p, "*") > maxWildcards {
			return fmt.Errorf("the tag pattern %q has more than %d wildcards", p, maxWildcards)
		}
	}
	return r.checkCount()
}

func (r Rule) checkCount() error {
	s := r.Selection
	types := []string{MoreThan, SincePulled, SincePushed, SinceTransitioned}
	switch {
	case !slices.Contains(types, s.CountType):
		return unknown("countType", s.CountType, types...)
	case s.CountNumber < 1:
		return fmt.Errorf("numeric instance is lower than the required minimum (minimum: 1, found: %d)", s.CountNumber)
	case s.CountType == MoreThan && s.CountUnit != "":
		return fmt.Errorf("countUnit may not be given for countType=%s", MoreThan)
	case s.CountType != MoreThan && s.CountUnit != "days":
		return unknown("countUnit", s.CountUnit, "days")
	case s.CountType == SinceTransitioned && r.class() != Archive:
		return fmt.Errorf("countType=%s needs storageClass=%s", SinceTransitioned, Archive)
	case s.CountType == SincePulled && r.class() == Archive:
		return fmt.Errorf("countType=%s needs storageClass=%s", SincePulled, Standard)
	case r.Action.Type != Expire && r.Action.Type != Transition:
		return unknown("type", r.Action.Type, Expire, Transition)
	case r.Action.Type == Expire && r.Action.Target != "":
		return fmt.Errorf("targetStorageClass may be given for type=%s only", Transition)
	case r.Action.Type == Transition && r.Action.Target != Archive:
		return unknown("targetStorageClass", r.Action.Target, Archive)
	case r.Action.Type == Transition && r.class() == Archive:
		return fmt.Errorf("an image that is archived cannot be archived")
	}
	return nil
}

func unknown(member, value string, known ...string) error {
	return fmt.Errorf("%s: instance value (%q) not found in enum (possible values: [%q])", member, value, strings.Join(known, `","`))
}
