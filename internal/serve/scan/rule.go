package scan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
)

// severities from the worst.
var severities = []types.FindingSeverity{types.FindingSeverityCritical, types.FindingSeverityHigh, types.FindingSeverityMedium, types.FindingSeverityLow,
	types.FindingSeverityInformational, types.FindingSeverityUndefined}

// CheckRule refuses a rule whose severity there is not.
func CheckRule(rule model.RunRule) error {
	if rule.MaxSeverity != "" && !slices.Contains(severities, types.FindingSeverity(rule.MaxSeverity)) {
		return fmt.Errorf("--max-severity %q: want one of %v", rule.MaxSeverity, severities)
	}
	return nil
}

// Judge refuses an image by what is known of it: which rule, and which finding.
func Judge(rule model.RunRule, status *types.ImageScanStatus, f *types.ImageScanFindings) error {
	why := ""
	if status.Description != nil {
		why = ": " + *status.Description
	}
	switch status.Status {
	case types.ScanStatusComplete:
	case types.ScanStatusInProgress:
		return errors.New("the registry's rule lets only scanned images run, and this one is being scanned: try again")
	case types.ScanStatusFindingsUnavailable:
		return errors.New("the registry's rule lets only scanned images run, and nothing is known to compare this one with" + why)
	default:
		return errors.New("the registry's rule lets only scanned images run, and this one could not be" + why)
	}
	worst := slices.Index(severities, types.FindingSeverity(rule.MaxSeverity))
	if rule.MaxSeverity == "" || f == nil {
		return nil
	}
	n, first := 0, ""
	for _, s := range severities[:max(worst, 0)] {
		if n += int(f.FindingSeverityCounts[string(s)]); n > 0 && first == "" {
			first = firstOf(f, s)
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("the registry's rule lets no image run with findings above %s, and this one has %d: %s", rule.MaxSeverity, n, first)
}

// firstOf names the first finding of a severity.
func firstOf(f *types.ImageScanFindings, s types.FindingSeverity) string {
	for _, x := range f.Findings {
		if x.Severity != s || x.Name == nil {
			continue
		}
		at := map[string]string{}
		for _, a := range x.Attributes {
			at[*a.Key] = *a.Value
		}
		return fmt.Sprintf("%s (%s) in %s %s", *x.Name, s, at["package_name"], at["package_version"])
	}
	for _, x := range f.EnhancedFindings {
		if x.Severity != nil && *x.Severity == string(s) && x.PackageVulnerabilityDetails != nil {
			d := x.PackageVulnerabilityDetails
			for _, p := range d.VulnerablePackages {
				return fmt.Sprintf("%s (%s) in %s %s", *d.VulnerabilityId, s, *p.Name, *p.Version)
			}
		}
	}
	return string(s)
}
