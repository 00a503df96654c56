package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
)

// remains counts what tasks may leave on the machine while Berth itself goes on: more than leftovers, which is for after its end.
func (b *berth) remains() map[string]int {
	id := b.instanceID()
	count := leftovers(id)
	count["shims"] = len(processes("containerd-shim-runc-v2", id))
	delete(count, "processes")
	namespaces, _ := os.ReadDir("/run/berth/" + id + "/netns")
	count["namespaces"] = len(namespaces)
	delete(count, "cgroups")
	for _, pattern := range []string{"/sys/fs/cgroup/*/berth-" + id + "/*", "/sys/fs/cgroup/berth-" + id + "/*"} {
		found, _ := filepath.Glob(pattern)
		for _, f := range found {
			if st, err := os.Stat(f); err == nil && st.IsDir() {
				count["cgroups"]++
			}
		}
	}
	snapshots, _ := os.ReadDir(filepath.Join(b.dir, "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"))
	count["snapshots"] = len(snapshots)
	tasks, _ := os.ReadDir("/run/berth/" + id + "/files")
	count["files"] = len(tasks)
	return count
}

// snapshots are the keys of containerd's snapshots by the folder's name, read from a copy of the snapshotter's database.
func (b *berth) snapshots() map[string]string {
	data, err := os.ReadFile(filepath.Join(b.dir, "containerd/io.containerd.snapshotter.v1.overlayfs/metadata.db"))
	file := filepath.Join(b.t.TempDir(), "metadata.db")
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	var all map[string]string
	if err == nil {
		var ms *storage.MetaStore
		if ms, err = storage.NewMetaStore(file); err == nil {
			defer ms.Close()
			err = ms.WithTransaction(context.Background(), false, func(ctx context.Context) (err error) {
				all, err = storage.IDMap(ctx)
				return err
			})
		}
	}
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return all
}

// TestCyclesLeaveNothing starts and stops tasks, BERTH_CYCLES of them (1,000 unless told), and counts what is left.
func TestCyclesLeaveNothing(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	cycles, _ := strconv.Atoi(os.Getenv("BERTH_CYCLES"))
	if cycles == 0 {
		cycles = 1000
	}
	modes := []types.NetworkMode{types.NetworkModeAwsvpc, types.NetworkModeBridge, types.NetworkModeHost}
	defs := map[types.NetworkMode]string{}
	for _, mode := range modes {
		defs[mode] = b.register("brief-"+string(mode), mode, types.ContainerDefinition{Name: aws.String("c"), Image: aws.String("app:1"),
			Command: []string{"exit", "0"}, Memory: aws.Int32(16)})
		b.reaches(b.run(defs[mode], 1, mode)[0], "STOPPED") // so that what stays for good is there already
	}
	var before map[string]int
	b.eventually(20*time.Second, "the first tasks are cleaned up", func() error {
		if before = b.remains(); before["shims"]+before["namespaces"] > 0 || before["snapshots"] > 1 { // the image's one layer stays
			return fmt.Errorf("%v", before)
		}
		return nil
	})
	for i := 0; i < cycles; i += 10 {
		mode := modes[i/10%len(modes)]
		for _, arn := range b.run(defs[mode], 10, mode) {
			b.reaches(arn, "STOPPED")
		}
	}
	b.eventually(60*time.Second, "nothing is left", func() error {
		after := b.remains()
		for kind, n := range after {
			if n > before[kind] {
				return fmt.Errorf("%d %s after %d tasks, %d before: %v; snapshots %v", n, kind, cycles, before[kind], after, b.snapshots())
			}
		}
		return nil
	})
	t.Logf("%d tasks left nothing: %v", cycles, before)
}

// TestKilledAtRandomPoints kills the server and containerd at random moments while tasks start and stop. What was acknowledged
// happens all the same. BERTH_CHAOS=1 makes it longer.
func TestKilledAtRandomPoints(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1")})
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	running, stopping := []string{}, []string{}
	rounds := 9
	if os.Getenv("BERTH_CHAOS") == "1" {
		rounds = 30
	}
	for round := range rounds {
		running = append(running, b.run(def, 2, types.NetworkModeAwsvpc)...)
		if len(running) > 4 {
			victim := running[random.IntN(len(running))]
			if _, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &victim}); err != nil {
				t.Fatal(err)
			}
			stopping = append(stopping, victim)
			for i, arn := range running {
				if arn == victim {
					running = append(running[:i], running[i+1:]...)
					break
				}
			}
		}
		time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
		if round%3 == 2 {
			b.killContainerd()
		} else {
			b.signal(syscall.SIGKILL)
			b.up()
		}
	}
	for _, arn := range running {
		b.reaches(arn, "RUNNING")
	}
	for _, arn := range stopping {
		b.reaches(arn, "STOPPED")
	}
	pids := map[string]bool{}
	for _, arn := range running {
		pids[webPID(t, arn)] = true
		if _, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn}); err != nil {
			t.Fatal(err)
		}
	}
	if len(pids) != len(running) {
		t.Errorf("%d processes for %d tasks", len(pids), len(running))
	}
	for _, arn := range running {
		b.reaches(arn, "STOPPED")
	}
	b.eventually(30*time.Second, "nothing is left of the tasks", func() error {
		if left := b.remains(); left["shims"]+left["namespaces"]+left["cgroups"] > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// TestTaskRoleHasCredentialsThatWork: in a namespace of its own a task finds them at 169.254.170.2, in host mode at 127.0.0.1, where
// it is told from the machine's other users by its processes. They do not administer.
func TestTaskRoleHasCredentialsThatWork(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	for _, mode := range []types.NetworkMode{types.NetworkModeAwsvpc, types.NetworkModeHost} {
		roleOf(b, mode)
	}
}

// roleOf runs a task that prints its role's credentials, and uses them.
func roleOf(b *berth, mode types.NetworkMode) {
	t, group := b.t, "/role-"+string(mode)
	out, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: aws.String("role"),
		NetworkMode: mode, TaskRoleArn: aws.String("arn:aws:iam::000000000000:role/reader"),
		ContainerDefinitions: []types.ContainerDefinition{{Name: aws.String("c"), Image: aws.String("app:1"), Memory: aws.Int32(32), Command: []string{"role"},
			LogConfiguration: b.awslogs(group)}}})
	if err != nil {
		t.Fatal(err)
	}
	b.reaches(b.run(*out.TaskDefinition.TaskDefinitionArn, 1, mode)[0], "STOPPED")
	var role struct{ AccessKeyId, SecretAccessKey, Token, RoleArn string }
	b.eventually(5*time.Second, "the credentials are in the log", func() error {
		events, err := cloudwatchlogs.NewFromConfig(b.config()).FilterLogEvents(context.Background(),
			&cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String(group)})
		if err != nil {
			return err
		}
		if len(events.Events) == 0 {
			return fmt.Errorf("no line yet")
		}
		line := *events.Events[0].Message
		if err := json.Unmarshal([]byte(line), &role); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		return nil
	})
	conf := b.config()
	conf.Credentials = credentials.NewStaticCredentialsProvider(role.AccessKeyId, role.SecretAccessKey, role.Token)
	who, err := sts.NewFromConfig(conf).GetCallerIdentity(context.Background(), nil)
	if err != nil || !strings.Contains(*who.Arn, "assumed-role/reader/") {
		t.Errorf("who am I with the task's credentials: %v %+v", err, who)
	}
	if _, err := ecs.NewFromConfig(conf).ListClusters(context.Background(), nil); err == nil || !strings.Contains(err.Error(),
		"is not authorized to perform: ecs:ListClusters on resource: * because no identity-based policy allows") {
		t.Errorf("a task's role administers: %v", err)
	}
}
