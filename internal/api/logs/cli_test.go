package logs_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// awsCLI makes a command of the stock command line, or skips the test.
func awsCLI(ctx context.Context, f *fixture, args ...string) *exec.Cmd {
	aws, err := exec.LookPath("aws")
	if err != nil {
		f.t.Skip("the aws command line is not installed")
	}
	args = append(args, "--endpoint-url", *f.Options().BaseEndpoint) // versions before 2.13 do not read AWS_ENDPOINT_URL
	cmd := exec.CommandContext(ctx, aws, args...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKID",
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "PYTHONUNBUFFERED=1")
	return cmd
}

func TestAWSLogsFilter(t *testing.T) {
	f := setup(t)
	f.put("web/1", f.now-10, "first", "second")
	f.put("web/2", f.now-5, "third")
	timed, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := awsCLI(timed, f, "logs", "filter-log-events", "--log-group-name", group, "--page-size", "1",
		"--query", "events[].message", "--output", "text").CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || strings.Join(got, " ") != "first second third" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestAWSLogsTail follows a group with the stock command line where that has `logs tail` (version 2).
func TestAWSLogsTail(t *testing.T) {
	f := setup(t)
	timed, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if out, err := awsCLI(timed, f, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "aws-cli/2") {
		t.Skipf("the aws command line is not version 2: %s", out)
	}
	f.put("web/1", f.now-10, "first", "second")
	cmd := awsCLI(timed, f, "logs", "tail", group, "--follow", "--since", "1h", "--format", "short")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	pipe, err := cmd.StdoutPipe()
	f.ok(err)
	f.ok(cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var got []string
	for lines := bufio.NewScanner(pipe); len(got) < 3 && lines.Scan(); {
		_, message, _ := strings.Cut(lines.Text(), " ")
		got = append(got, message)
		if len(got) == 2 { // it follows: what is written from now on shows too
			f.put("web/2", f.now, "third")
		}
	}
	equal(t, "aws logs tail (it complains: "+complaint.String()+")", got, "first", "second", "third")
}
