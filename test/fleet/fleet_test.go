// Package fleet keeps Berth's promises across machines: namespaces as machines on one switch (test/machines), the built binary on each,
// real containers, cuts and power cuts. The tests need root and the binary of `make build` (BERTH_BIN); without them they are skipped.
package fleet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/test/images"
	"github.com/berthdev/berth/test/machines"
)

func TestMain(m *testing.M) {
	machines.Init()
	os.Exit(m.Run())
}

// fleet is the machines of a test.
type fleet struct {
	t   testing.TB
	lab *machines.Lab
	bin string
	all []*box
	// restart has the machines' service managers start Berth again when it ends.
	restart bool
}

// newFleet makes machines that have power and run nothing. Everything goes when the test ends.
func newFleet(t testing.TB, names ...string) *fleet {
	t.Helper()
	bin := os.Getenv("BERTH_BIN")
	if os.Getenv("BERTH_INTEGRATION") != "1" || bin == "" || os.Geteuid() != 0 {
		t.Skip("an integration test: run `make integration` as root")
	}
	lab, err := machines.New(machines.Config{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, lab: lab, bin: bin}
	t.Cleanup(func() {
		if t.Failed() {
			f.showLogs()
		}
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range names {
		f.add(name, "")
	}
	return f
}

// add makes one machine more; size bounds its disk, "" does not.
func (f *fleet) add(name, size string) *box {
	f.t.Helper()
	m, err := f.lab.Add(name, size)
	if err == nil {
		err = m.On()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	b := &box{Machine: m, t: f.t, fleet: f}
	b.http = &http.Client{Transport: &http.Transport{DialContext: m.Dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Second}}
	f.all = append(f.all, b)
	return b
}

func (f *fleet) showLogs() {
	for _, b := range f.all {
		for _, s := range b.Services {
			f.t.Logf("%s: the end of the log of %s:\n%s", b.Name, s.Name, b.Log(s.Name, 20000))
		}
		if data, _ := os.ReadFile(filepath.Join(b.Disk(), "containerd.log")); len(data) > 0 {
			f.t.Logf("%s: the end of containerd's log:\n%s", b.Name, data[max(0, len(data)-3000):])
		}
	}
}

// eventually polls what until it returns nil.
func eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// box is a machine with Berth on it.
type box struct {
	*machines.Machine
	t     testing.TB
	fleet *fleet
	http  *http.Client
	env   map[string]string

	servers bool // it is a server of the cluster
}

// berth runs a command on the machine and returns what it printed.
func (b *box) berth(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return b.Command(ctx, b.fleet.bin, args...).Output()
}

func (b *box) must(args ...string) string {
	b.t.Helper()
	out, err := b.berth(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// serve has the machine run `berth args` from now on, also after a power cut.
func (b *box) serve(args ...string) {
	b.t.Helper()
	if err := b.Install(machines.Service{Name: "berth", Args: append([]string{b.fleet.bin}, args...), Restart: b.fleet.restart}); err != nil {
		b.t.Fatal(err)
	}
}

// up starts `berth up` and waits until its API answers.
func (b *box) up(args ...string) {
	b.t.Helper()
	b.serve(append([]string{"up"}, args...)...)
	b.answers()
}

// answers waits until the API at the machine's own address answers.
func (b *box) answers() {
	b.t.Helper()
	eventually(b.t, 30*time.Second, b.Name+"'s API answers", func() error {
		if b.env == nil {
			if err := b.loadEnv(); err != nil {
				return err
			}
		}
		_, err := b.ecs().ListClusters(context.Background(), nil)
		return err
	})
}

func (b *box) loadEnv() error {
	out, err := b.berth("env")
	if err != nil {
		return err
	}
	env := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if !ok {
			return fmt.Errorf("berth env printed %q", line)
		}
		env[k] = v
	}
	b.env = env
	return nil
}

// config is that of an SDK client on the machine.
func (b *box) config() aws.Config {
	return aws.Config{Region: b.env["AWS_REGION"], BaseEndpoint: aws.String(b.env["AWS_ENDPOINT_URL"]), RetryMaxAttempts: 3, HTTPClient: whole{b.http},
		Credentials: credentials.NewStaticCredentialsProvider(b.env["AWS_ACCESS_KEY_ID"], b.env["AWS_SECRET_ACCESS_KEY"], "")}
}

// whole gives net/http each body whole: see wiretest.Client.
type whole struct{ *http.Client }

// Do implements the SDK's HTTPClient.
func (c whole) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return c.Client.Do(r)
}

func (b *box) ecs() *ecs.Client { return ecs.NewFromConfig(b.config()) }

// importImage puts the test program into the machine's containerd under ref.
func (b *box) importImage(ref string) {
	b.t.Helper()
	file := filepath.Join(b.Folder(), "image.tar")
	if err := images.File(file, ref); err != nil {
		b.t.Fatal(err)
	}
	b.must("image", "import", file)
	os.Remove(file)
}

// network is a subnet of the default VPC, whose ids follow from the account and the region.
var network = &ecstypes.NetworkConfiguration{AwsvpcConfiguration: &ecstypes.AwsVpcConfiguration{Subnets: []string{"subnet-96102b6dd861ecfdf"}}}

// register registers a definition of one container in awsvpc mode and returns its ARN.
func (b *box) register(family string, c ecstypes.ContainerDefinition) string {
	b.t.Helper()
	if c.Memory == nil {
		c.Memory = aws.Int32(32)
	}
	out, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: &family,
		NetworkMode: ecstypes.NetworkModeAwsvpc, ContainerDefinitions: []ecstypes.ContainerDefinition{c}})
	if err != nil {
		b.t.Fatal(err)
	}
	return *out.TaskDefinition.TaskDefinitionArn
}

// web is the container of the test program, at port 80.
func web(ref string) ecstypes.ContainerDefinition {
	return ecstypes.ContainerDefinition{Name: aws.String("web"), Image: &ref, PortMappings: []ecstypes.PortMapping{{ContainerPort: aws.Int32(80)}}}
}

// run runs count tasks in awsvpc mode and returns their ARNs.
func (b *box) run(definition string, count int32) (arns []string) {
	b.t.Helper()
	out, err := b.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &definition, Count: &count, NetworkConfiguration: network})
	if err != nil || len(out.Failures) > 0 {
		b.t.Fatal(err, out)
	}
	for _, t := range out.Tasks {
		arns = append(arns, *t.TaskArn)
	}
	return arns
}

// reaches waits until a task has a status.
func (b *box) reaches(arn, status string) (task ecstypes.Task) {
	b.t.Helper()
	eventually(b.t, 30*time.Second, "task "+status, func() error {
		out, err := b.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
		if err != nil {
			return err
		}
		if len(out.Tasks) != 1 {
			return fmt.Errorf("task %s: %v", arn, out.Failures)
		}
		if task = out.Tasks[0]; aws.ToString(task.LastStatus) != status {
			return fmt.Errorf("%s is %s (%s)", arn, *task.LastStatus, aws.ToString(task.StoppedReason))
		}
		return nil
	})
	return task
}

// get asks a URL from the machine.
func (b *box) get(url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := b.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}
