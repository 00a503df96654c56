package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/cgroup"
)

// On cgroup v2 the limits of a task and its container are the kernel's, its numbers are counted, and what does not end when asked
// is killed and its cgroups go. `make test-cgroup2` runs this in a virtual machine.
func TestLimitsOnCgroup2(t *testing.T) {
	tree, err := cgroup.Detect()
	if err != nil || tree.Layout != cgroup.V2 {
		t.Skip("this machine's cgroups are not v2: run `make test-cgroup2`")
	}
	b := start(t)
	b.importImage("app:1")
	out, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: aws.String("bounded"),
		NetworkMode: types.NetworkModeAwsvpc, Cpu: aws.String("256"), Memory: aws.String("128"),
		ContainerDefinitions: []types.ContainerDefinition{{Name: aws.String("web"), Image: aws.String("app:1"), Cpu: 128,
			Memory: aws.Int32(64), StopTimeout: aws.Int32(2),
			Environment: []types.KeyValuePair{{Name: aws.String("IGNORE_TERM"), Value: aws.String("1")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	arn := b.run(*out.TaskDefinition.TaskDefinitionArn, 1, types.NetworkModeAwsvpc)[0]
	task := b.reaches(arn, "RUNNING")
	id := arn[strings.LastIndex(arn, "/")+1:]
	group := filepath.Join("/sys/fs/cgroup", "berth-"+b.instanceID(), id)
	own := "/" + strings.TrimPrefix(b.cgroupOf(webPID(t, arn)), "/")
	if filepath.Dir(own) != strings.TrimPrefix(group, "/sys/fs/cgroup") {
		t.Fatalf("the container is in %s, not below %s", own, group)
	}
	container := filepath.Join("/sys/fs/cgroup", own)
	for file, want := range map[string]string{
		filepath.Join(group, "memory.max"): "134217728", filepath.Join(group, "cpu.max"): "25000 100000",
		filepath.Join(container, "memory.max"): "67108864",
		filepath.Join(container, "cpu.weight"): strconv.FormatInt(cgroup.Weight(128), 10)} {
		if got := readFile(t, file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if n, err := strconv.Atoi(readFile(t, filepath.Join(group, "pids.max"))); err != nil || n < 1 {
		t.Errorf("the task's processes are not bounded: %d, %v", n, err)
	}
	b.counted("http://" + *task.Containers[0].NetworkInterfaces[0].PrivateIpv4Address + "/stats")

	if _, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn}); err != nil {
		t.Fatal(err)
	}
	if code := aws.ToInt32(b.reaches(arn, "STOPPED").Containers[0].ExitCode); code != 137 {
		t.Errorf("exit code %d of a container that does not end when asked", code)
	}
	b.eventually(10*time.Second, "the task's cgroup goes", func() error {
		if _, err := os.Stat(group); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", group, err)
		}
		return nil
	})
}

// counted waits until the metadata endpoint's numbers of a container with 64 MiB are there.
func (b *berth) counted(address string) {
	b.t.Helper()
	b.eventually(10*time.Second, "the container is measured", func() error {
		_, body, _, err := get(address)
		if err != nil {
			return err
		}
		var s struct {
			Memory struct{ Usage, Limit uint64 } `json:"memory_stats"`
			Pids   struct{ Current uint64 }      `json:"pids_stats"`
			CPU    struct {
				Usage struct {
					Total uint64 `json:"total_usage"`
				} `json:"cpu_usage"`
			} `json:"cpu_stats"`
		}
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			return fmt.Errorf("%w: %q", err, body)
		}
		if s.Memory.Usage == 0 || s.Memory.Limit != 64<<20 || s.Pids.Current == 0 || s.CPU.Usage.Total == 0 {
			return fmt.Errorf("stats %+v", s)
		}
		return nil
	})
}

// cgroupOf is the cgroup of a process, below the root that this process sees.
func (b *berth) cgroupOf(pid string) string {
	b.t.Helper()
	_, path, _ := strings.Cut(readFile(b.t, "/proc/"+pid+"/cgroup"), "0::")
	return path
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
