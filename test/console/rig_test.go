// Package console tests the web console in Debian's chromium: a real Berth with --runtime fake, a real browser.
package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// berth is a running Berth with fake containers.
type berth struct {
	t      testing.TB
	bin    string
	dir    string
	listen string
	cmd    *exec.Cmd
	ecs    *ecs.Client
	logs   *cloudwatchlogs.Client
	elb    *elb.Client
	ec2    *ec2.Client
}

// start runs BERTH_BIN. Without it, or without chromium, the test is skipped, aloud.
func start(t testing.TB) *berth {
	t.Helper()
	bin := os.Getenv("BERTH_BIN")
	if bin == "" || os.Getenv("BERTH_BROWSER") == "" {
		t.Skip("SKIP the console's browser tests: BERTH_BROWSER=1 and BERTH_BIN are not set (make test does it)")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("SKIP the console's browser tests: there is no chromium (make browser installs it)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &berth{t: t, bin: bin, dir: t.TempDir(), listen: l.Addr().String()}
	l.Close()
	b.up()
	t.Cleanup(b.down)
	res, err := http.Get("http://" + b.listen + "/console/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if page, err := io.ReadAll(res.Body); err != nil || strings.Contains(string(page), "built without its console") {
		t.Skip("SKIP the console's browser tests: Berth was built without its console (npm could not be used)", err)
	}
	return b
}

func (b *berth) up() {
	b.t.Helper()
	out, err := os.OpenFile(filepath.Join(b.dir, "out.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd = exec.Command(b.bin, "--data-dir", filepath.Join(b.dir, "data"), "up", "--runtime", "fake", "--listen", b.listen)
	b.cmd.Stdout, b.cmd.Stderr = out, out
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if b.try("ps") == nil {
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(out.Name())
			b.t.Fatalf("Berth does not answer:\n%s", log)
		}
	}
	env := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(b.run("env"))); s.Scan(); {
		k, v, _ := strings.Cut(strings.TrimPrefix(s.Text(), "export "), "=")
		env[k] = v
	}
	conf := aws.Config{Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], "")}
	b.ecs, b.logs = ecs.NewFromConfig(conf), cloudwatchlogs.NewFromConfig(conf)
	b.elb, b.ec2 = elb.NewFromConfig(conf), ec2.NewFromConfig(conf)
}

func (b *berth) down() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = b.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = b.cmd.Process.Kill()
		<-done
	}
	b.cmd = nil
}

func (b *berth) try(args ...string) error {
	return exec.Command(b.bin, append([]string{"--data-dir", filepath.Join(b.dir, "data")}, args...)...).Run()
}

func (b *berth) run(args ...string) string {
	b.t.Helper()
	out, err := exec.Command(b.bin, append([]string{"--data-dir", filepath.Join(b.dir, "data")}, args...)...).Output()
	if err != nil {
		b.t.Fatalf("berth %v: %v %s", args, err, out)
	}
	return string(out)
}

func (b *berth) url(path string) string { return "http://" + b.listen + path }

// key is the root access key.
func (b *berth) key() (id, secret string) {
	for s := bufio.NewScanner(strings.NewReader(b.run("env"))); s.Scan(); {
		k, v, _ := strings.Cut(strings.TrimPrefix(s.Text(), "export "), "=")
		switch k {
		case "AWS_ACCESS_KEY_ID":
			id = v
		case "AWS_SECRET_ACCESS_KEY":
			secret = v
		}
	}
	return id, secret
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// service makes a service of an image whose name says what it does (see fake.ScriptOf).
func (b *berth) service(cluster, name, image string, count int32, change ...func(*types.ContainerDefinition)) {
	b.t.Helper()
	ctx := context.Background()
	if cluster != "default" {
		must[*ecs.CreateClusterOutput](b.t)(b.ecs.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &cluster}))
	}
	b.define(name, image, change...)
	must[*ecs.CreateServiceOutput](b.t)(b.ecs.CreateService(ctx, &ecs.CreateServiceInput{Cluster: &cluster, ServiceName: &name, TaskDefinition: &name, DesiredCount: &count,
		DeploymentConfiguration: &types.DeploymentConfiguration{DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}}))
}

func (b *berth) define(name, image string, change ...func(*types.ContainerDefinition)) {
	b.t.Helper()
	group := "/test/" + name
	c := types.ContainerDefinition{Name: &name, Image: &image, Memory: aws.Int32(64), Essential: aws.Bool(true),
		LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{"awslogs-group": group, "awslogs-region": "us-east-1",
			"awslogs-stream-prefix": name, "awslogs-create-group": "true"}}}
	for _, f := range change {
		f(&c)
	}
	must[*ecs.RegisterTaskDefinitionOutput](b.t)(b.ecs.RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{Family: &name, ContainerDefinitions: []types.ContainerDefinition{c}}))
}

// browser is a chromium tab, which notes what its console and its policy complain of.
type browser struct {
	t   testing.TB
	b   *berth
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

var (
	allocate sync.Once
	pool     context.Context
)

func (b *berth) browser(width, height int, dark bool) *browser {
	b.t.Helper()
	allocate.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.Flag("disable-gpu", true),
			chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.WSURLReadTimeout(90*time.Second))
		pool, _ = chromedp.NewExecAllocator(context.Background(), options...)
	})
	ctx, cancel := chromedp.NewContext(pool)
	b.t.Cleanup(cancel)
	v := &browser{t: b.t, b: b, ctx: ctx}
	theme := "light"
	if dark {
		theme = "dark"
	}
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // not a timed context: it binds the browser
		b.t.Fatal(err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == "error" || m.IsException() || m.Source == "security" {
				v.mu.Lock()
				v.complaints = append(v.complaints, fmt.Sprintf("%s %s: %s %s", m.Source, m.Type, m.Text, m.URL))
				v.mu.Unlock()
			}
		}
	}()
	v.do(chromedp.EmulateViewport(int64(width), int64(height)), media(theme))
	return v
}

func (v *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, 60*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		v.t.Fatalf("%v\n%s", err, v.text())
	}
}

// js evaluates an expression; promises are awaited.
func js[T any](v *browser, expression string) T {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, 60*time.Second)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, func(p *cdpruntime.EvaluateParams) { p.AwaitPromise = new(true) }))
	if err != nil {
		v.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// run evaluates an expression for what it does.
func (v *browser) run(expression string) {
	v.t.Helper()
	js[bool](v, "(() => { "+expression+"; return true })()")
}

func (v *browser) text() (s string) {
	ctx, cancel := context.WithTimeout(v.ctx, 5*time.Second)
	defer cancel()
	s, _ = chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
	return s
}

// sees waits until the page shows the text.
func (v *browser) sees(text string) { v.t.Helper(); v.until(text, true) }

// lacks waits until the page does not show the text.
func (v *browser) lacks(text string) { v.t.Helper(); v.until(text, false) }

func (v *browser) until(text string, want bool) {
	v.t.Helper()
	quoted, _ := json.Marshal(text)
	for deadline := time.Now().Add(45 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if js[bool](v, fmt.Sprintf(`document.body.innerText.includes(%s)`, quoted)) == want {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("the page does not come to show (%v) %q:\n%s", want, text, v.text())
		}
	}
}

// click clicks the first button or link that is called so.
func (v *browser) click(name string) {
	v.t.Helper()
	quoted, _ := json.Marshal(name)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		done := js[bool](v, fmt.Sprintf(`(() => { const d = document.querySelector("dialog[open]"), s = "button, a, [role=option]"; const e = [...(d ?? document.querySelector("main")).querySelectorAll(s), ...(d ?? document).querySelectorAll(s)].find(e => !e.disabled && (e.innerText.trim() === %s || e.getAttribute("aria-label") === %s)); e?.click(); return !!e })()`, quoted, quoted))
		if done {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("nothing on the page is called %q:\n%s", name, v.text())
		}
	}
}

// login opens the console by a link of `berth console`.
func (v *browser) login() {
	v.t.Helper()
	v.do(chromedp.Navigate(strings.TrimSpace(v.b.run("console"))))
	v.sees("Overview")
	v.sees("Services")
}

// open goes to a page, as a reload does.
func (v *browser) open(path string) {
	v.t.Helper()
	v.do(chromedp.Navigate(v.b.url("/console" + path)))
}

// clean fails when the browser complained of anything but what is expected.
func (v *browser) clean(expected ...string) {
	v.t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
next:
	for _, c := range v.complaints {
		for _, e := range expected {
			if strings.Contains(c, e) {
				continue next
			}
		}
		v.t.Errorf("the browser complained: %s", c)
	}
	v.complaints = nil
}
