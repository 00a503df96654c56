// Package e2e keeps Berth's promises to its users, one test a promise: the built binary, real containers, real clients. The tests
// need root and the binary of `make build` (BERTH_BIN); without them they are skipped.
package e2e

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/wire/wiretest"
)

// berth is one Berth of a test: its own data directory, port and processes.
type berth struct {
	t    testing.TB
	dir  string
	port int
	bin  string
	env  map[string]string
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd
	log *os.File
}

// start runs `berth up` and takes everything down when the test ends.
func start(t testing.TB, args ...string) *berth {
	t.Helper()
	bin := os.Getenv("BERTH_BIN")
	if os.Getenv("BERTH_INTEGRATION") != "1" || bin == "" {
		t.Skip("an integration test: run `make integration`")
	}
	fake := strings.Contains(strings.Join(args, " "), "fake")
	if os.Getuid() != 0 && !fake {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	b := &berth{t: t, dir: dir, port: freePort(t), bin: bin, args: args}
	t.Cleanup(func() {
		if t.Failed() {
			b.showStacks()
			b.showLog()
		}
		if out, err := exec.Command(b.bin, "--data-dir", b.dir, "down", "--purge", "--now").CombinedOutput(); err != nil {
			t.Errorf("berth down --purge --now: %v\n%s", err, out)
		}
		b.wait()
		os.RemoveAll(dir)
	})
	b.up()
	return b
}

func freePort(t testing.TB) int {
	t.Helper()
	for range 100 { // below those that the kernel gives to whoever asks for any, other tests among them
		port := 10_000 + rand.IntN(22_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// up starts the server and waits until the API answers.
func (b *berth) up() {
	b.t.Helper()
	log, err := os.OpenFile(filepath.Join(b.dir, "up.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	args := append([]string{"--data-dir", b.dir, "up", "--listen", "127.0.0.1:" + strconv.Itoa(b.port)}, b.args...)
	cmd := exec.Command(b.bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.cmd, b.log = cmd, log
	b.mu.Unlock()
	b.eventually(20*time.Second, "the API answers", func() error {
		if b.env == nil {
			if err := b.loadEnv(); err != nil {
				return err
			}
		}
		_, err := b.ecs().ListClusters(context.Background(), nil)
		return err
	})
}

func (b *berth) loadEnv() error {
	out, err := exec.Command(b.bin, "--data-dir", b.dir, "env").Output()
	if err != nil {
		return err
	}
	env := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if !ok {
			return fmt.Errorf("berth env printed %q", line)
		}
		env[k] = v
	}
	b.env = env
	return nil
}

// signal ends the server with sig and waits for it; tasks go on.
func (b *berth) signal(sig syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(sig); err != nil {
		b.t.Fatal(err)
	}
	b.wait()
}

func (b *berth) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd != nil {
		b.cmd.Wait()
		b.log.Close()
		b.cmd = nil
	}
}

// showStacks ends a server that still runs, and shows which of its goroutines that write or decide wait for what.
func (b *berth) showStacks() {
	if b.cmd == nil {
		return
	}
	file := filepath.Join(b.dir, "up.log")
	before, err := os.Stat(file)
	if err != nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended by itself
	b.wait()
	data, _ := os.ReadFile(file)
	var shown strings.Builder
	for stack := range strings.SplitSeq(string(data[min(int(before.Size()), len(data)):]), "\n\n") {
		if strings.Contains(stack, "/internal/store/etcd.") || strings.Contains(stack, "/internal/control.") || strings.Contains(stack, "/internal/app.(*server)") {
			shown.WriteString(stack + "\n\n")
		}
	}
	b.t.Logf("goroutines of the store, control and the server:\n%.40000s", shown.String())
	if err := os.Truncate(file, before.Size()); err != nil { // the log's end is shown next
		b.t.Log(err)
	}
}

func (b *berth) showLog() {
	data, _ := os.ReadFile(filepath.Join(b.dir, "up.log"))
	if len(data) > 40000 {
		data = data[len(data)-40000:]
	}
	b.t.Logf("the end of berth up's log:\n%s", data)
	if data, _ := os.ReadFile(filepath.Join(b.dir, "containerd.log")); len(data) > 0 {
		b.t.Logf("the end of containerd's log:\n%s", data[max(0, len(data)-20000):])
	}
}

// cli runs a berth command and returns what it printed.
func (b *berth) cli(args ...string) (string, error) {
	cmd := exec.Command(b.bin, append([]string{"--data-dir", b.dir}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("berth %s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (b *berth) mustCLI(args ...string) string {
	b.t.Helper()
	out, err := b.cli(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *berth) config() aws.Config {
	return aws.Config{Region: b.env["AWS_REGION"], BaseEndpoint: aws.String(b.env["AWS_ENDPOINT_URL"]), RetryMaxAttempts: 3, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider(b.env["AWS_ACCESS_KEY_ID"], b.env["AWS_SECRET_ACCESS_KEY"], "")}
}

func (b *berth) ecs() *ecs.Client { return ecs.NewFromConfig(b.config()) }

// environ is the environment for a stock client.
func (b *berth) environ(extra ...string) []string {
	env := os.Environ()
	for k, v := range b.env {
		env = append(env, k+"="+v)
	}
	return append(env, extra...)
}

// patience multiplies the waits of eventually: an emulated machine is slow.
var patience = func() time.Duration {
	n, _ := strconv.Atoi(os.Getenv("BERTH_E2E_PATIENCE"))
	return time.Duration(max(n, 1))
}()

// eventually polls f until it returns nil.
func (b *berth) eventually(limit time.Duration, what string, f func() error) {
	b.t.Helper()
	limit *= patience
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// task returns a task as the API describes it.
func (b *berth) task(cluster, arn string) (ecstypes.Task, error) {
	out, err := b.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: []string{arn}})
	if err != nil {
		return ecstypes.Task{}, err
	}
	if len(out.Tasks) != 1 {
		return ecstypes.Task{}, fmt.Errorf("task %s: %v", arn, out.Failures)
	}
	return out.Tasks[0], nil
}

// reaches waits until the task's lastStatus is status.
func (b *berth) reaches(arn, status string) ecstypes.Task {
	b.t.Helper()
	var task ecstypes.Task
	b.eventually(30*time.Second, "task "+status, func() (err error) {
		if task, err = b.task("default", arn); err != nil {
			return err
		}
		if got := aws.ToString(task.LastStatus); got != status {
			return fmt.Errorf("%s is %s (%s)", arn, got, aws.ToString(task.StoppedReason))
		}
		return nil
	})
	return task
}

func get(url string) (status int, body string, header http.Header, err error) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return 0, "", nil, err
	}
	defer res.Body.Close()
	var buf bytes.Buffer
	_, err = buf.ReadFrom(res.Body)
	return res.StatusCode, buf.String(), res.Header, err
}

func randomName() string {
	b := make([]byte, 4)
	cryptorand.Read(b)
	return hex.EncodeToString(b)
}
