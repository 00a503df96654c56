package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
)

// seed is the task definition of the project's first issue, as people write them.
const seed = `{"family":"webserver","containerDefinitions":[{"name":"web","image":"nginx","memory":"100","cpu":"99"}],` +
	`"requiresCompatibilities":["FARGATE"],"networkMode":"awsvpc","memory":"512","cpu":"256"}`

// network is a subnet of the default VPC, whose ids follow from the account and the region.
var network = &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{"subnet-96102b6dd861ecfdf"}}}

// raw sends a body to ECS as it stands, signed.
func (b *berth) raw(op, body string) (map[string]any, error) {
	sum := sha256.Sum256([]byte(body))
	req, _ := http.NewRequest("POST", b.env["AWS_ENDPOINT_URL"]+"/", strings.NewReader(body))
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113."+op)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	creds, _ := b.config().Credentials.Retrieve(context.Background())
	err := v4.NewSigner().SignHTTP(context.Background(), creds, req, hex.EncodeToString(sum[:]), "ecs", b.env["AWS_REGION"], time.Now())
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s %s", op, res.Status, data)
	}
	out := map[string]any{}
	return out, json.Unmarshal(data, &out)
}

// register registers a definition of one container and returns its ARN.
func (b *berth) register(family string, mode types.NetworkMode, c types.ContainerDefinition, more ...types.ContainerDefinition) string {
	b.t.Helper()
	if c.Memory == nil {
		c.Memory = aws.Int32(64)
	}
	out, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: &family, NetworkMode: mode,
		ContainerDefinitions: append([]types.ContainerDefinition{c}, more...)})
	if err != nil {
		b.t.Fatal(err)
	}
	return *out.TaskDefinition.TaskDefinitionArn
}

// awslogs has a container's output in streams p/<container>/<task> of a log group, which is made.
func (b *berth) awslogs(group string) *types.LogConfiguration {
	return &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{"awslogs-group": group,
		"awslogs-region": b.env["AWS_REGION"], "awslogs-stream-prefix": "p", "awslogs-create-group": "true"}}
}

// run runs count tasks and returns their ARNs.
func (b *berth) run(definition string, count int32, mode types.NetworkMode) []string {
	b.t.Helper()
	in := &ecs.RunTaskInput{TaskDefinition: &definition, Count: &count}
	if mode == types.NetworkModeAwsvpc {
		in.NetworkConfiguration = network
	}
	out, err := b.ecs().RunTask(context.Background(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(out.Failures) > 0 {
		b.t.Fatalf("RunTask failed: %s", aws.ToString(out.Failures[0].Reason))
	}
	arns := make([]string, len(out.Tasks))
	for i, t := range out.Tasks {
		arns[i] = *t.TaskArn
	}
	return arns
}

func TestSeedTaskDefinitionRunsAsItStands(t *testing.T) {
	b := start(t)
	b.importImage("nginx:latest")
	if _, err := b.raw("RegisterTaskDefinition", seed); err != nil {
		t.Fatal(err)
	}
	out, err := b.raw("RunTask", `{"taskDefinition":"webserver","launchType":"FARGATE","count":"2",`+
		`"networkConfiguration":{"awsvpcConfiguration":{"subnets":["subnet-96102b6dd861ecfdf"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range out["tasks"].([]any) { // two tasks on port 80 of one machine
		arn := task.(map[string]any)["taskArn"].(string)
		got := b.reaches(arn, "RUNNING")
		ip := *got.Containers[0].NetworkInterfaces[0].PrivateIpv4Address
		b.eventually(5*time.Second, "the task answers on port 80", func() error {
			_, body, _, err := get("http://" + ip + "/")
			if err == nil && !strings.Contains(body, "http://169.254.170.2/v4/") {
				err = fmt.Errorf("no metadata address in %q", body)
			}
			return err
		})
	}
}

func TestExitIsReportedWithinASecond(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("job", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("job"), Image: aws.String("app:1"),
		Command: []string{"exit", "7"}})
	for _, arn := range b.run(def, 3, types.NetworkModeBridge) {
		task := b.reaches(arn, "STOPPED")
		c := task.Containers[0]
		if aws.ToInt32(c.ExitCode) != 7 || task.StopCode != types.TaskStopCodeEssentialContainerExited ||
			aws.ToString(task.StoppedReason) != "Essential container in task exited" {
			t.Errorf("exit code %v, stop code %s, reason %s", aws.ToInt32(c.ExitCode), task.StopCode, aws.ToString(task.StoppedReason))
		}
		if lag := task.StoppedAt.Sub(*task.ExecutionStoppedAt); lag > time.Second {
			t.Errorf("STOPPED %s after the container's end", lag)
		}
	}
}

func TestMemoryLimitKillIsCalledByItsName(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("glutton", types.NetworkModeHost, types.ContainerDefinition{Name: aws.String("eat"), Image: aws.String("app:1"),
		Command: []string{"eat"}, Memory: aws.Int32(64)})
	task := b.reaches(b.run(def, 1, types.NetworkModeHost)[0], "STOPPED")
	if c := task.Containers[0]; aws.ToInt32(c.ExitCode) != 137 || !strings.HasPrefix(aws.ToString(c.Reason), "OutOfMemoryError") {
		t.Errorf("exit code %d, reason %q", aws.ToInt32(c.ExitCode), aws.ToString(c.Reason))
	}
}

func TestMissingImageSaysSo(t *testing.T) {
	b := start(t)
	def := b.register("missing", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("x"),
		Image: aws.String(fmt.Sprintf("localhost:%d/no/such:1", b.port))})
	task := b.reaches(b.run(def, 1, types.NetworkModeBridge)[0], "STOPPED")
	if task.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.HasPrefix(*task.StoppedReason, "CannotPullContainerError") {
		t.Errorf("stop code %s, reason %q", task.StopCode, aws.ToString(task.StoppedReason))
	}
}

func TestBridgePortsAreReachedFromThisMachine(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	fixed := int32(freePort(t))
	for name, hostPort := range map[string]int32{"dynamic": 0, "static": fixed} {
		def := b.register(name, types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
			PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80), HostPort: &hostPort}}})
		count := int32(2)
		if hostPort != 0 {
			count = 1
		}
		for _, arn := range b.run(def, count, types.NetworkModeBridge) {
			task := b.reaches(arn, "RUNNING")
			port := *task.Containers[0].NetworkBindings[0].HostPort
			if hostPort != 0 && port != hostPort {
				t.Errorf("bound to %d, asked for %d", port, hostPort)
			}
			b.eventually(5*time.Second, name+" port answers", func() error {
				_, _, _, err := get(fmt.Sprintf("http://127.0.0.1:%d/", port))
				return err
			})
		}
	}
	out, err := b.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: aws.String("static")})
	if err != nil || len(out.Failures) != 1 || *out.Failures[0].Reason != "RESOURCE:PORTS" {
		t.Errorf("a second task on a fixed port: %v, %+v", err, out)
	}
}

func TestStopIsGracefulAndLogsAreKept(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		LogConfiguration: b.awslogs("/e2e")})
	arn := b.run(def, 1, types.NetworkModeAwsvpc)[0]
	b.reaches(arn, "RUNNING")
	_, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn, Reason: aws.String("that is enough")})
	if err != nil {
		t.Fatal(err)
	}
	task := b.reaches(arn, "STOPPED")
	if *task.StoppedReason != "that is enough" || task.StopCode != types.TaskStopCodeUserInitiated || aws.ToInt32(task.Containers[0].ExitCode) != 0 {
		t.Errorf("reason %q, code %s, exit %d", *task.StoppedReason, task.StopCode, aws.ToInt32(task.Containers[0].ExitCode))
	}
	id := arn[strings.LastIndex(arn, "/")+1:]
	logs := cloudwatchlogs.NewFromConfig(b.config())
	b.eventually(5*time.Second, "the last line is in the log", func() error {
		out, err := logs.GetLogEvents(context.Background(), &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("/e2e"),
			LogStreamName: aws.String("p/web/" + id), StartFromHead: aws.Bool(true)})
		if err != nil {
			return err
		}
		var all []string
		for _, e := range out.Events {
			all = append(all, *e.Message)
		}
		text := strings.Join(all, "\n")
		for _, want := range []string{"listening on :80", "line 2", "got SIGTERM"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no %q in %q", want, text)
			}
		}
		return nil
	})
	if out := b.mustCLI("logs", id[:12]); !strings.Contains(out, "got SIGTERM") {
		t.Errorf("berth logs: %q", out)
	}
}

func TestUnhealthyEssentialContainer(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	check := func(cmd ...string) *types.HealthCheck {
		return &types.HealthCheck{Command: append([]string{"CMD", "/web"}, cmd...), Interval: aws.Int32(5), Timeout: aws.Int32(2), Retries: aws.Int32(1)}
	}
	good := b.register("good", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("w"), Image: aws.String("app:1"), HealthCheck: check("probe")})
	bad := b.register("bad", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("w"), Image: aws.String("app:1"), HealthCheck: check("exit", "1")})
	for def, want := range map[string]types.HealthStatus{good: types.HealthStatusHealthy, bad: types.HealthStatusUnhealthy} {
		arn := b.run(def, 1, types.NetworkModeAwsvpc)[0]
		b.eventually(20*time.Second, string(want), func() error {
			task, err := b.task("default", arn)
			if err == nil && task.HealthStatus != want {
				err = fmt.Errorf("%s is %s", arn, task.HealthStatus)
			}
			return err
		})
	}
}

func TestTasksOutliveTheServer(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	web := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1")})
	stay, end := b.run(web, 1, types.NetworkModeAwsvpc)[0], b.run(web, 1, types.NetworkModeAwsvpc)[0]
	pids := map[string]string{}
	for _, arn := range []string{stay, end} {
		b.reaches(arn, "RUNNING")
		pids[arn] = webPID(t, arn)
	}
	for round, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		b.signal(sig)
		if round == 1 { // one ends while nobody watches
			var pid int
			fmt.Sscan(pids[end], &pid)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		b.up()
		b.reaches(stay, "RUNNING")
		if got := webPID(t, stay); got != pids[stay] {
			t.Fatalf("round %d: the task's process was %s, is %s", round, pids[stay], got)
		}
	}
	task := b.reaches(end, "STOPPED")
	if aws.ToInt32(task.Containers[0].ExitCode) != 137 {
		t.Errorf("exit code %d of a task that was killed while the server was down", aws.ToInt32(task.Containers[0].ExitCode))
	}
	if _, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &stay}); err != nil {
		t.Fatal(err)
	}
	b.reaches(stay, "STOPPED")
}

// webPID finds the process of the task's container by its metadata address, which is in its environment.
func webPID(t *testing.T, arn string) string {
	t.Helper()
	id := arn[strings.LastIndex(arn, "/")+1:]
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		env, err := os.ReadFile("/proc/" + p.Name() + "/environ")
		if err != nil || !strings.Contains(string(env), "/v4/"+id) {
			continue
		}
		if exe, _ := os.Readlink("/proc/" + p.Name() + "/exe"); strings.HasSuffix(exe, "/web") {
			return p.Name()
		}
	}
	t.Fatalf("no process of task %s", id)
	return ""
}
