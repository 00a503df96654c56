package doctor

import (
	"strings"
	"testing"
)

func TestAWSVersion(t *testing.T) {
	for printed, want := range map[string]Grade{
		"aws-cli/2.9.19 Python/3.11.2 Linux/6.1 source/x86_64.debian.12 prompt/off\n": Warn,
		"aws-cli/2.12.7 Python/3.11.4": Warn,
		"aws-cli/2.13.0 Python/3.11.4": OK,
		"aws-cli/2.31.1":               OK,
		"aws-cli/1.28.85 Python/3.8":   Warn,
		"aws-cli/1.45.11 Python/3.11":  OK,
		"something else":               "",
		"":                             "",
	} {
		got := awsVersion("/usr/bin/aws", printed)
		switch {
		case want == "" && len(got) > 0, want != "" && (len(got) != 1 || got[0].Grade != want):
			t.Errorf("%q: %+v, want %q", printed, got, want)
		case want == Warn && !strings.Contains(got[0].Cure, "--endpoint-url"):
			t.Errorf("%q: %+v", printed, got)
		}
	}
}
