package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a document is for.
type Kind int

// The kinds of documents.
const (
	ForIdentity Kind = iota // of users, groups and roles, boundaries and sessions
	ForResource
	ForTrust // who may assume a role
)

// Validate reads a document and checks it as AWS does for its kind. Every error's text is AWS's.
func Validate(text string, kind Kind) (*Document, error) {
	d, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if kind == ForIdentity && d.Version != version2012 {
		return nil, sentence("Policy document must be version 2012-10-17 or greater.")
	}
	for i := range d.Statements { // what AWS reads first
		if err := checkResources(&d.Statements[i], kind); errors.Is(err, errLegacy) {
			return nil, err
		}
	}
	sids := map[string]bool{}
	for i := range d.Statements {
		if s := &d.Statements[i]; s.Sid != "" {
			if sids[s.Sid] {
				return nil, sentence("Statement IDs (SID) in a single policy must be unique.")
			}
			sids[s.Sid] = true
		}
	}
	for _, check := range []func(*Statement, Kind) error{checkSid, checkActions, checkResources, checkVendors, checkPrincipals} {
		for i := range d.Statements {
			if err := check(&d.Statements[i], kind); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

func sentence(format string, args ...any) error { return fmt.Errorf(format, args...) }

var sidRegexp = regexp.MustCompile(`^[0-9A-Za-z]*$`)

// checkSid: resources' policies may have any.
func checkSid(s *Statement, kind Kind) error {
	if kind != ForResource && !sidRegexp.MatchString(s.Sid) {
		return sentence("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")
	}
	return nil
}

func checkActions(s *Statement, _ Kind) error {
	if len(s.actions) == 0 {
		return sentence("Policy statement must contain actions.")
	}
	return nil
}

func checkPrincipals(s *Statement, kind Kind) error {
	switch {
	case kind == ForIdentity && s.principals != nil:
		return sentence("Policy document should not specify a principal.")
	case kind == ForTrust && s.principals == nil:
		return sentence("AssumeRole policy must contain principals.")
	case kind == ForResource && s.principals == nil:
		return sentence("Missing required field Principal")
	case kind == ForTrust && (s.hasResource || s.notResources):
		return sentence("Has prohibited field Resource")
	case kind == ForIdentity && !s.hasResource:
		return sentence("Policy statement must contain resources.")
	}
	return nil
}

// trustActions are those that a role's trust may hold, in small letters.
var trustActions = []string{"sts:assumerole", "sts:assumerolewithsaml", "sts:assumerolewithwebidentity", "sts:tagsession", "sts:setsourceidentity",
	"sts:setcontext", "sts:*", "*", "sts:assumerole*"}

var vendorRegexp = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

func checkVendors(s *Statement, kind Kind) error {
	for _, a := range s.actions {
		raw := a.source()
		vendor, rest, ok := strings.Cut(raw, ":")
		switch {
		case raw == "*":
		case !ok:
			return sentence("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
		case strings.Contains(rest, ":"):
			return sentence("Actions/Condition can contain only one colon.")
		case vendor != "*" && !vendorRegexp.MatchString(vendor):
			return sentence("Vendor %s is not valid", vendor)
		}
		if kind == ForTrust && !slices.Contains(trustActions, raw) {
			return sentence("AssumeRole policy may only specify STS AssumeRole actions.")
		}
	}
	return nil
}

// iamPaths are what the resources of IAM begin with.
var iamPaths = []string{"user/", "federated-user/", "role/", "group/", "instance-profile/", "mfa/", "server-certificate/", "policy/", "sms-mfa/",
	"saml-provider/", "oidc-provider/", "report/", "access-report/"}

var partitions = []string{"*", "aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"}

func checkResources(s *Statement, _ Kind) error {
	for _, r := range s.resources {
		if err := checkResource(r.raw); err != nil {
			return err
		}
	}
	return nil
}

func checkResource(r string) error {
	if r == "*" {
		return nil
	}
	_, rest, ok := strings.Cut(r, ":")
	if !ok {
		return sentence(`Resource %s must be in ARN format or "*".`, r)
	}
	partition, rest, more := strings.Cut(rest, ":")
	if !slices.Contains(partitions, partition) {
		f := append(strings.SplitN(rest, ":", 4), "*", "*", "*", "*")[:4]
		for i := range f {
			if n := strings.Count(rest, ":"); i > n || rest == "" {
				f[i] = "*"
			}
		}
		return sentence(`Partition "%s" is not valid for resource "arn:%s:%s".`, partition, partition, strings.Join(f, ":"))
	}
	if !more {
		return errors.New("Resource vendor must be fully qualified and cannot contain regexes.") //nolint:staticcheck // AWS's sentence
	}
	f := strings.SplitN(rest, ":", 4)
	switch {
	case len(f) < 4 && strings.Contains(r, "::"), f[0] == "":
		return errLegacy
	case len(f) < 4:
		return nil // * stands for what is left out
	case f[0] == "iam" && f[1] != "":
		return sentence("IAM resource %s cannot contain region information.", r)
	case f[0] == "s3" && f[1] != "" && !strings.HasPrefix(f[3], "accesspoint/"):
		return sentence("Resource %s can not contain region information.", r)
	case f[0] == "iam" && !isIAMPath(f[3]):
		return sentence(`IAM resource path must either be "*" or start with %s.`, strings.Join(iamPaths, ", "))
	}
	return nil
}

func isIAMPath(s string) bool {
	if s == "*" || s == "root" {
		return true
	}
	for _, p := range iamPaths {
		if strings.HasPrefix(s, p) || strings.HasPrefix(s, "*") || strings.HasPrefix(s, "$") {
			return true
		}
	}
	return false
}

// source is the pattern as it was compiled from, in small letters where it is compared so.
func (p *pattern) source() string { return p.raw }
