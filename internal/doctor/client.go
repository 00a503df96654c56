package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// awsCLI looks at the stock aws command, where there is one.
func awsCLI(ctx context.Context) []Finding {
	path, err := exec.LookPath("aws")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput() // old versions print it as an error
	if err != nil {
		return nil // whatever this aws is, it is not ours to judge
	}
	return awsVersion(path, string(out))
}

// awsVersion judges what `aws --version` prints. AWS_ENDPOINT_URL is read from 1.29.0 and 2.13.0 on (AWS CLI changelogs).
func awsVersion(path, printed string) []Finding {
	word, _, _ := strings.Cut(strings.TrimSpace(printed), " ")
	var major, minor int
	if _, err := fmt.Sscanf(word, "aws-cli/%d.%d", &major, &minor); err != nil {
		return nil
	}
	if major == 1 && minor < 29 || major == 2 && minor < 13 {
		return found("aws", Warn, fmt.Sprintf("%s is %s, which does not read AWS_ENDPOINT_URL and would talk to the real AWS.", path, word),
			"Install version 2.13 or later, or give it: --endpoint-url $AWS_ENDPOINT_URL")
	}
	return ok("aws", "%s is %s.", path, word)
}
