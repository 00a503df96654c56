package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Berth's own image (deploy/image) is built by berth build and runs as a task of Berth; the Berth inside runs a task in turn, which
// answers.
func TestBerthRunsInAContainer(t *testing.T) {
	b := start(t)
	folder := t.TempDir()
	program, err := os.ReadFile(b.bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "berth"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	b.mustCLI("build", "-f", "../../deploy/image/Dockerfile", "-t", "berth:test", folder)
	out, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: aws.String("berth"), NetworkMode: types.NetworkModeAwsvpc,
		ContainerDefinitions: []types.ContainerDefinition{{Name: aws.String("berth"), Image: aws.String(fmt.Sprintf("localhost:%d/berth:test", b.port)),
			Memory: aws.Int32(1024), Privileged: aws.Bool(true), LogConfiguration: b.awslogs("/berth"),
			MountPoints: []types.MountPoint{{SourceVolume: aws.String("data"), ContainerPath: aws.String("/var/lib/berth")}}}},
		Volumes: []types.Volume{{Name: aws.String("data")}}})
	if err != nil {
		t.Fatal(err)
	}
	outer := b.reaches(b.run(*out.TaskDefinition.TaskDefinitionArn, 1, types.NetworkModeAwsvpc)[0], "RUNNING")
	address := aws.ToString(outer.Containers[0].NetworkInterfaces[0].PrivateIpv4Address)
	inner := &berth{t: t, dir: b.dir, bin: b.bin, env: map[string]string{}}
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := b.cli("logs", *outer.TaskArn)
			t.Logf("the inner Berth said:\n%s", said)
		}
	})
	b.eventually(30*time.Second, "the inner Berth has made its key", func() error {
		found, err := filepath.Glob(filepath.Join(b.dir, "tasks", "*", "volumes", "*", "root-key.json"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%v, %v", found, err)
		}
		env, err := (&berth{bin: b.bin, dir: filepath.Dir(found[0])}).cli("env")
		for line := range strings.Lines(env) {
			k, v, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
			inner.env[k] = v
		}
		inner.env["AWS_ENDPOINT_URL"] = "http://" + address + ":4566"
		return err
	})
	b.eventually(30*time.Second, "the inner Berth answers", func() error {
		_, err := inner.ecs().ListClusters(context.Background(), nil)
		return err
	})
	inner.push(address+":4566/app:1", "nested")
	def := inner.register("app", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("localhost:4566/app:1"),
		Memory: aws.Int32(64), PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80), HostPort: aws.Int32(8081)}}})
	inner.reaches(inner.run(def, 1, types.NetworkModeBridge)[0], "RUNNING")
	answers := func() error {
		status, _, _, err := get("http://" + address + ":8081/")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	}
	b.eventually(20*time.Second, "the task inside answers", answers)
}

// push makes the repository and pushes the test program's image to ref.
func (b *berth) push(ref, label string) {
	b.t.Helper()
	registry := ecr.NewFromConfig(b.config())
	target, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := registry.CreateRepository(context.Background(), &ecr.CreateRepositoryInput{RepositoryName: aws.String(target.Context().RepositoryStr())}); err != nil {
		b.t.Fatal(err)
	}
	token, err := registry.GetAuthorizationToken(context.Background(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	login, err := base64.StdEncoding.DecodeString(*token.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		b.t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(login), ":")
	if err := remote.Write(target, webImage(b.t, label), remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
		b.t.Fatal(err)
	}
}
