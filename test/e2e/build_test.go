package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

// A build gets its secrets without keeping them, keeps its cache in a repository, takes other folders, and makes the same image again.
func TestBuildOptions(t *testing.T) {
	b := start(t)
	dir := contextDir(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY busybox /bin/sh\nCOPY --from=more thing /thing\n" +
		"RUN --mount=type=secret,id=token test -s /run/secrets/token\nCMD [\"/bin/sh\"]\n"})
	other := t.TempDir()
	for name, text := range map[string]string{"thing": "thing", "token": "hush"} {
		if err := os.WriteFile(filepath.Join(other, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := func(args ...string) (string, time.Duration) {
		t.Helper()
		began := time.Now()
		cmd := exec.Command(b.bin, append([]string{"--data-dir", b.dir, "build", "--progress", "plain", "--build-context", "more=" + other,
			"--secret", "id=token,src=" + filepath.Join(other, "token")}, append(args, dir)...)...)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("berth build %q: %v\n%s", args, err, errs.String())
		}
		_, digest, _ := strings.Cut(strings.TrimSpace(string(out)), "@")
		return digest, time.Since(began)
	}
	first, _ := build("-t", "team/same", "--cache-to", "team/cache:v1")
	again, _ := build("-t", "team/same", "--no-cache")
	if first != again {
		t.Errorf("a second build made %s, not %s", again, first)
	}
	if _, took := build("-t", "team/same", "--cache-from", "team/cache:v1"); took > 5*time.Second {
		t.Errorf("a build without changes took %s", took)
	} else {
		t.Logf("a build without changes took %s", took)
	}
	attested, _ := build("-t", "team/attested", "--provenance")
	c := ecr.NewFromConfig(b.config())
	for repo, tag := range map[string]string{"team/cache": "v1", "team/attested": "latest"} {
		out, err := c.ListImages(context.Background(), &ecr.ListImagesInput{RepositoryName: aws.String(repo)})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, i := range out.ImageIds {
			found = found || i.ImageTag != nil && *i.ImageTag == tag
		}
		if !found {
			t.Errorf("%s has no %s: %v", repo, tag, out.ImageIds)
		}
	}
	if attested == first {
		t.Error("an attested image is an index of its own")
	}
}
