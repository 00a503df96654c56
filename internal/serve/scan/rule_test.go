package scan_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/scan"
)

func TestOnlyWhatWasScannedIsRun(t *testing.T) {
	why := "the worker was killed"
	for status, says := range map[types.ScanStatus]string{
		types.ScanStatusComplete:            "",
		types.ScanStatusInProgress:          "is being scanned",
		types.ScanStatusFindingsUnavailable: "nothing is known to compare this one with: " + why,
		types.ScanStatusFailed:              "could not be: " + why,
		types.ScanStatusUnsupportedImage:    "could not be: " + why,
	} {
		err := scan.Judge(model.RunRule{}, &types.ImageScanStatus{Status: status, Description: &why}, nil)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", status, err)
		}
	}
	for severity, ok := range map[string]bool{"": true, "HIGH": true, "high": false, "ALL": false} {
		if err := scan.CheckRule(model.RunRule{MaxSeverity: severity}); (err == nil) != ok {
			t.Errorf("%q: %v", severity, err)
		}
	}
}
