package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
)

// TestFirelensAndFileSystems: a log router gets the lines of its task's containers; a directory of the machine stands for an EFS file
// system, and what stands for nothing is named; a container reaches the agent's endpoint.
func TestFirelensAndFileSystems(t *testing.T) {
	b := start(t)
	program := filepath.Join(t.TempDir(), "router")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./router")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(b.dir, "router.tar")
	img := imagetest.Busybox(t, nil, imagetest.File{Path: "router", Content: string(data), Mode: 0o755})
	if err := os.WriteFile(archive, imagetest.Archive(t, img, "router:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.mustCLI("image", "import", archive)
	shared := t.TempDir()
	b.mustCLI("file-system", "set", "fs-1", shared)
	if out := b.mustCLI("file-system", "ls"); !strings.Contains(out, shared) {
		t.Errorf("file-system ls: %q", out)
	}

	arn := b.runOn("fs-1")
	b.eventually(20*time.Second, "the router has the lines of the other container", func() error {
		out, err := cloudwatchlogs.NewFromConfig(b.config()).FilterLogEvents(context.Background(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("routed")})
		if err != nil {
			return err
		}
		var got strings.Builder
		for _, e := range out.Events {
			got.WriteString(*e.Message + "\n")
		}
		id := arn[strings.LastIndex(arn, "/")+1:]
		for _, want := range []string{"routed app-firelens-" + id + " stdout first", "routed app-firelens-" + id + " stderr second", "403 Forbidden"} {
			if !strings.Contains(got.String(), want) {
				return fmt.Errorf("no %q in %q", want, got.String())
			}
		}
		return nil
	})
	if got, err := os.ReadFile(filepath.Join(shared, "written")); err != nil || string(got) != "here\n" {
		t.Errorf("in the shared directory: %q %v", got, err)
	}
	if got := b.reaches(b.runOn("fs-2"), "STOPPED"); !strings.Contains(aws.ToString(got.StoppedReason), "berth file-system set fs-2") {
		t.Errorf("stoppedReason %q", aws.ToString(got.StoppedReason))
	}
}

// runOn runs a task with a log router and a volume on a file system.
func (b *berth) runOn(fileSystem string) string {
	b.t.Helper()
	out, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: aws.String("rest"), NetworkMode: types.NetworkModeAwsvpc,
		Volumes: []types.Volume{{Name: aws.String("shared"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{FileSystemId: &fileSystem}}},
		ContainerDefinitions: []types.ContainerDefinition{
			{Name: aws.String("app"), Image: aws.String("router:1"), Memory: aws.Int32(64), EntryPoint: []string{"/bin/sh", "-c"},
				Command: []string{`echo first; echo second >&2; echo here >/data/written; wget -S -O- $ECS_AGENT_URI/task-protection/v1/state 2>&1; ` +
					`trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done`},
				MountPoints:      []types.MountPoint{{SourceVolume: aws.String("shared"), ContainerPath: aws.String("/data")}},
				LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwsfirelens, Options: map[string]string{"Name": "stdout"}}},
			{Name: aws.String("router"), Image: aws.String("router:1"), Memory: aws.Int32(64), EntryPoint: []string{"/router"}, LogConfiguration: b.awslogs("routed"),
				FirelensConfiguration: &types.FirelensConfiguration{Type: types.FirelensConfigurationTypeFluentbit}},
		}})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.run(*out.TaskDefinition.TaskDefinitionArn, 1, types.NetworkModeAwsvpc)[0]
}
