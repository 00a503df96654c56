package e2e

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A Docker daemon logs in, pushes and pulls; a task runs what it pushed.
func TestDockerPushesAndPulls(t *testing.T) {
	docker := stock(t, "docker")
	if out, err := exec.Command(docker, "version").CombinedOutput(); err != nil {
		t.Skipf("no Docker daemon answers: %s", out)
	}
	b := start(t)
	port := strconv.Itoa(b.port)
	ref := "localhost:" + port + "/team/app:1"
	must := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(docker, args...)
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(b.dir, "docker"))
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	registry := ecr.NewFromConfig(b.config())
	if _, err := registry.CreateRepository(context.Background(), &ecr.CreateRepositoryInput{RepositoryName: aws.String("team/app")}); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "app.tar")
	if err := tarball.WriteToFile(file, tag, webImage(t, ref)); err != nil {
		t.Fatal(err)
	}
	must("", "load", "-i", file)
	t.Cleanup(func() { exec.Command(docker, "rmi", "-f", ref).Run() })
	token, err := registry.GetAuthorizationToken(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	login, err := base64.StdEncoding.DecodeString(*token.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		t.Fatal(err)
	}
	must(strings.TrimPrefix(string(login), "AWS:"), "login", "-u", "AWS", "--password-stdin", "localhost:"+port)
	must("", "push", ref)
	must("", "rmi", ref)
	if out := must("", "pull", ref); !strings.Contains(out, "Downloaded newer image") {
		t.Errorf("docker pull: %s", out)
	}
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: &ref})
	b.reaches(b.run(def, 1, types.NetworkModeAwsvpc)[0], "RUNNING")
}
