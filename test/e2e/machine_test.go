package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// instanceID is what the names of everything on the machine carry.
func (b *berth) instanceID() string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "instance.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	var in struct{ ID string }
	if err := json.Unmarshal(data, &in); err != nil {
		b.t.Fatal(err)
	}
	return in.ID
}

// killContainerd ends this Berth's containerd with SIGKILL.
func (b *berth) killContainerd() {
	b.t.Helper()
	pids := processes(" containerd --config", b.instanceID())
	if len(pids) == 0 {
		b.t.Fatal("found no containerd of this instance")
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
}

// processes returns the pids whose command line has both words.
func processes(word, id string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmd, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if line := strings.ReplaceAll(string(cmd), "\x00", " "); strings.Contains(line, word) && strings.Contains(line, id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leftovers counts what the machine still has of an instance.
func leftovers(id string) map[string]int {
	count := map[string]int{}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, id) {
			count["mounts"]++
		}
	}
	links, _ := os.ReadDir("/sys/class/net")
	for _, l := range links {
		if strings.Contains(l.Name(), id) {
			count["links"]++
		}
	}
	count["processes"] = len(processes("", id))
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/berth-" + id + "*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/berth-" + id + "*")
	count["cgroups"] = len(cgroups) + len(unified)
	return count
}

func TestDownLeavesNothing(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	id := b.instanceID()
	for _, mode := range []types.NetworkMode{types.NetworkModeAwsvpc, types.NetworkModeBridge, types.NetworkModeNone} {
		def := b.register("web-"+string(mode), mode, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1")})
		b.reaches(b.run(def, 1, mode)[0], "RUNNING")
	}
	b.mustCLI("down")
	b.wait()
	b.eventually(10*time.Second, "nothing is left on the machine", func() error {
		for kind, n := range leftovers(id) {
			if n > 0 {
				return fmt.Errorf("%d %s of instance %s", n, kind, id)
			}
		}
		return nil
	})
	b.up() // and it starts again with its data
	if out := b.mustCLI("image", "ls"); !strings.Contains(out, "app:1") {
		t.Errorf("images after down and up: %q", out)
	}
}

func TestTwoInstancesSideBySide(t *testing.T) {
	one, two := start(t), start(t)
	for _, b := range []*berth{one, two} {
		b.importImage("app:1")
		def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1")})
		task := b.reaches(b.run(def, 1, types.NetworkModeAwsvpc)[0], "RUNNING")
		ip := *task.Containers[0].NetworkInterfaces[0].PrivateIpv4Address
		b.eventually(5*time.Second, "task of "+b.dir+" answers", func() error {
			_, _, _, err := get("http://" + ip + "/")
			return err
		})
	}
	one.mustCLI("down")
	one.wait()
	def := two.register("again", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1")})
	two.reaches(two.run(def, 1, types.NetworkModeAwsvpc)[0], "RUNNING")
}

func TestFakeRuntimeNeedsNoContainers(t *testing.T) {
	b := start(t, "--runtime", "fake")
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("anything")})
	b.reaches(b.run(def, 1, types.NetworkModeAwsvpc)[0], "RUNNING")
}

// stock skips when a stock client is not installed.
func stock(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// client runs a stock client against b.
func (b *berth) client(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = b.environ("AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func TestStockCLI(t *testing.T) {
	cli := stock(t, "aws")
	b := start(t)
	b.importImage("app:1")
	var extra []string
	call := func(args ...string) (string, error) { return b.client(b.dir, cli, append(args, extra...)...) }
	must := func(args ...string) string {
		t.Helper()
		out, err := call(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	version := must("--version")
	var major, minor int
	if _, err := fmt.Sscanf(version, "aws-cli/%d.%d", &major, &minor); err != nil {
		t.Fatalf("%v: %s", err, version)
	}
	if major == 1 && minor < 29 || major == 2 && minor < 13 {
		t.Logf("%s does not know AWS_ENDPOINT_URL: it gets --endpoint-url", strings.TrimSpace(version))
		extra = []string{"--endpoint-url", b.env["AWS_ENDPOINT_URL"]}
	}
	if out := must("sts", "get-caller-identity", "--query", "Account", "--output", "text"); strings.TrimSpace(out) != "000000000000" {
		t.Errorf("account %q", out)
	}
	must("ecs", "create-cluster", "--cluster-name", "demo")
	must("ecs", "register-task-definition", "--family", "web", "--network-mode", "awsvpc", "--container-definitions",
		`[{"name":"web","image":"app:1","memory":64,"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"demo","awslogs-region":"us-east-1","awslogs-stream-prefix":"p","awslogs-create-group":"true"}}}]`)
	must("ecs", "create-service", "--cluster", "demo", "--service-name", "web", "--task-definition", "web", "--desired-count", "2",
		"--network-configuration", "awsvpcConfiguration={subnets=[subnet-96102b6dd861ecfdf]}")
	must("ecs", "wait", "services-stable", "--cluster", "demo", "--services", "web")
	if out := must("ecs", "list-tasks", "--cluster", "demo", "--query", "length(taskArns)", "--output", "text"); strings.TrimSpace(out) != "2" {
		t.Errorf("tasks: %q", out)
	}
	tail := []string{"logs", "tail", "demo"}
	if major == 1 { // logs tail came with version 2
		tail = []string{"logs", "filter-log-events", "--log-group-name", "demo"}
	}
	if out := must(tail...); !strings.Contains(out, "listening on :80") {
		t.Errorf("logs tail: %q", out)
	}
	if out, err := call("ecs", "describe-services", "--cluster", "nowhere", "--services", "x"); err == nil || !strings.Contains(out, "ClusterNotFoundException") {
		t.Errorf("an unknown cluster: %v %s", err, out)
	}
	must("ecs", "update-service", "--cluster", "demo", "--service", "web", "--desired-count", "0")
	must("ecs", "delete-service", "--cluster", "demo", "--service", "web", "--force")
	must("ecs", "wait", "services-inactive", "--cluster", "demo", "--services", "web")
	must("ecs", "delete-cluster", "--cluster", "demo")
	must("ecr", "create-repository", "--repository-name", "team/app")
	if out := must("ecr", "get-login-password"); len(strings.TrimSpace(out)) < 20 {
		t.Errorf("password %q", out)
	}
}
