package e2e

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// exit is the exit code of a command that failed.
func exit(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

// contextDir is a build context with busybox and these files.
func contextDir(t *testing.T, files map[string]string) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("/bin/busybox is not there: install busybox-static")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const dockerfile = `FROM scratch AS base
COPY busybox /bin/sh
COPY secret* kept /
ARG GREETING=nobody
RUN echo "hello $GREETING" >/greeting
ENTRYPOINT ["/bin/sh", "-c"]

FROM base AS other
CMD ["cat /greeting; echo other; ls /"]

FROM base
CMD ["cat /greeting; ls /"]
`

// said runs a task of an image to its end and returns what it wrote.
func (b *berth) said(image string) string {
	b.t.Helper()
	group := "/said/" + randomName()
	def := b.register("say-"+randomName(), types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("c"), Image: &image,
		LogConfiguration: b.awslogs(group)})
	arn := b.run(def, 1, types.NetworkModeAwsvpc)[0]
	task := b.reaches(arn, "STOPPED")
	if code := aws.ToInt32(task.Containers[0].ExitCode); code != 0 {
		b.t.Fatalf("%s ended with %d: %s %s", image, code, aws.ToString(task.StoppedReason), aws.ToString(task.Containers[0].Reason))
	}
	return b.mustCLI("logs", arn[strings.LastIndex(arn, "/")+1:])
}

// A Dockerfile's stages, arguments, cache and ignored files do what they do with docker build, and a RUN step really runs.
func TestBuild(t *testing.T) {
	b := start(t)
	dir := contextDir(t, map[string]string{"Dockerfile": dockerfile, "Other.Dockerfile": strings.Replace(dockerfile, "hello", "bye", 1),
		".dockerignore": "secret*\n", "secret.txt": "x", "kept": "x"})
	build := func(args ...string) (ref, progress string) {
		t.Helper()
		cmd := exec.Command(b.bin, append([]string{"--data-dir", b.dir, "build", "--progress", "plain"}, args...)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("berth build %q: %v\n%s", args, err, errs.String())
		}
		ref, digest, ok := strings.Cut(strings.TrimSpace(string(out)), "@")
		if !ok || !strings.HasPrefix(digest, "sha256:") {
			t.Fatalf("berth build printed %q", out)
		}
		return ref, errs.String()
	}
	ref, progress := build("-t", "team/app", dir)
	if !strings.HasSuffix(ref, "/team/app:latest") || strings.Contains(progress, "CACHED") {
		t.Errorf("the first build made %s: %s", ref, progress)
	}
	if said := b.said(ref); !strings.Contains(said, "hello nobody") || !strings.Contains(said, "kept") || strings.Contains(said, "secret") ||
		strings.Contains(said, "other") {
		t.Errorf("the image says %q", said)
	}
	if _, progress := build("-t", "team/app", dir); !strings.Contains(progress, "CACHED") {
		t.Errorf("nothing was cached: %s", progress)
	}
	if _, progress := build("-t", "team/app", "--no-cache", dir); strings.Contains(progress, "CACHED") {
		t.Errorf("--no-cache took something from the cache: %s", progress)
	}
	ref, _ = build("-t", "team/app:v2", "--build-arg", "GREETING=you", "--target", "other", dir)
	if said := b.said(ref); !strings.Contains(said, "hello you") || !strings.Contains(said, "other") {
		t.Errorf("the image of another stage and argument says %q", said)
	}
	ref, _ = build("-t", "team/app:v3", "-f", filepath.Join(dir, "Other.Dockerfile"), "--no-push", dir)
	if said := b.said(ref); !strings.Contains(said, "bye nobody") {
		t.Errorf("the image of another Dockerfile, only in the node's store, says %q", said)
	}

	images, err := ecr.NewFromConfig(b.config()).ListImages(context.Background(), &ecr.ListImagesInput{RepositoryName: aws.String("team/app"),
		Filter: &ecrtypes.ListImagesFilter{TagStatus: ecrtypes.TagStatusTagged}})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]bool{}
	for _, i := range images.ImageIds {
		tags[*i.ImageTag] = true
	}
	if !tags["latest"] || !tags["v2"] || len(tags) != 2 {
		t.Errorf("the registry has %v: v3 was built with --no-push", tags)
	}
	if out := b.mustCLI("image", "ls"); !strings.Contains(out, "team/app:v3") {
		t.Errorf("berth image ls: %s", out)
	}
}

// What goes wrong with a build is one sentence and exit code 1; what cannot be understood is 2.
func TestBuildFailures(t *testing.T) {
	b := start(t)
	dir := contextDir(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY busybox /bin/sh\nRUN exit 7\n",
		"missing": "FROM scratch\nCOPY nothing /\n", "unknown": "FROM 127.0.0.1:1/no/such:1\n", "bad": "FRM scratch\n"})
	for name, c := range map[string]struct {
		args []string
		code int
		text string
	}{
		"a step fails":   {[]string{"-t", "team/x", dir}, 1, "exit code: 7"},
		"no such file":   {[]string{"-t", "team/x", "-f", filepath.Join(dir, "missing"), dir}, 1, `"/nothing": not found`},
		"no such base":   {[]string{"-t", "team/x", "-f", filepath.Join(dir, "unknown"), dir}, 1, "127.0.0.1:1/no/such:1"},
		"no instruction": {[]string{"-t", "team/x", "-f", filepath.Join(dir, "bad"), dir}, 1, "unknown instruction: FRM"},
		"no Dockerfile":  {[]string{"-t", "team/x", t.TempDir()}, 1, "no Dockerfile"},
		"short name":     {[]string{"-t", "x", dir}, 1, "InvalidParameterException: Invalid parameter at 'repositoryName'"},
		"no name":        {[]string{dir}, 2, "-t REPO[:TAG]"},
		"another host":   {[]string{"-t", "docker.io/x", dir}, 2, "docker.io/x"},
		"no folder":      {[]string{"-t", "team/x"}, 2, "usage: berth build"},
		"unknown flag":   {[]string{"-t", "team/x", "--squash", dir}, 2, "--squash"},
	} {
		_, err := b.cli(append([]string{"build", "--progress", "plain"}, c.args...)...)
		if exit(errors.Unwrap(err)) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: exit code %d: %v", name, exit(errors.Unwrap(err)), err)
			continue
		}
		last := lastLine(err.Error())
		if !strings.HasPrefix(last, "berth: ") || strings.Contains(last, "goroutine") {
			t.Errorf("%s ends with %q", name, last)
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Both kinds of archives preload a node.
func TestImagesAreImported(t *testing.T) {
	b := start(t)
	b.importImage("docker.example/archive:1") // a docker-archive
	dir := filepath.Join(t.TempDir(), "oci")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	img := mutate.MediaType(webImage(t, "oci"), "application/vnd.oci.image.manifest.v1+json")
	if err := l.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "oci:2",
		"io.containerd.image.name": "docker.io/library/oci:2"})); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "oci.tar")
	if out, err := exec.Command("tar", "-cf", file, "-C", dir, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out := b.mustCLI("image", "import", file); !strings.Contains(out, "oci:2") {
		t.Errorf("imported %q", out)
	}
	for _, ref := range []string{"docker.example/archive:1", "oci:2"} {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		if out := b.mustCLI("image", "ls"); !strings.Contains(out, tag.TagStr()) {
			t.Errorf("berth image ls lacks %s: %s", ref, out)
		}
		def := b.register("imported-"+tag.TagStr(), types.NetworkModeHost, types.ContainerDefinition{Name: aws.String("c"), Image: &ref,
			Command: []string{"exit", "0"}})
		task := b.reaches(b.run(def, 1, types.NetworkModeHost)[0], "STOPPED")
		if aws.ToInt32(task.Containers[0].ExitCode) != 0 || task.Containers[0].ExitCode == nil {
			t.Errorf("%s: %s", ref, aws.ToString(task.StoppedReason))
		}
	}
	bad := filepath.Join(b.dir, "bad.tar")
	if err := os.WriteFile(bad, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{bad, bad + ".none"} {
		if _, err := b.cli("image", "import", file); exit(errors.Unwrap(err)) != 1 || !strings.Contains(err.Error(), file) {
			t.Errorf("import of %s: %v", file, err)
		}
	}
}

// `berth logs -f SERVICE` shows what its tasks write from now on, those that start later too, each line once.
func TestLogsFollow(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("talk", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("w"), Image: aws.String("app:1"),
		LogConfiguration: b.awslogs("/talk")})
	service := &ecs.CreateServiceInput{ServiceName: aws.String("talk"), TaskDefinition: &def, DesiredCount: aws.Int32(1), NetworkConfiguration: network}
	if _, err := b.ecs().CreateService(context.Background(), service); err != nil {
		t.Fatal(err)
	}
	b.eventually(20*time.Second, "the service's task has written", func() error {
		out, err := b.cli("logs", "talk")
		if err == nil && !strings.Contains(out, "listening on :80") {
			err = errors.New("nothing is logged")
		}
		return err
	})
	cmd := exec.Command(b.bin, "--data-dir", b.dir, "logs", "-f", "talk")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			lines <- s.Text()
		}
	}()
	seen := map[string]int{}
	wait := func(tasks int) {
		t.Helper()
		for limit := time.After(20 * time.Second); len(seen) < tasks; {
			select {
			case line := <-lines:
				if strings.Contains(line, "listening on :80") {
					seen[line]++
				}
			case <-limit:
				t.Fatalf("lines of %d tasks were expected: %v", tasks, seen)
			}
		}
	}
	wait(1)
	if _, err := b.ecs().UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: aws.String("talk"), DesiredCount: aws.Int32(2)}); err != nil {
		t.Fatal(err)
	}
	wait(2)
	time.Sleep(2 * time.Second) // some more rounds of asking
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for line := range lines {
		if strings.Contains(line, "listening on :80") {
			seen[line]++
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted, berth logs -f ended with %v", err)
	}
	for line, n := range seen {
		if n != 1 {
			t.Errorf("%q was printed %d times", line, n)
		}
	}
	if _, err := b.cli("logs", "nobody"); exit(errors.Unwrap(err)) != 1 || !strings.Contains(err.Error(), "no task or service is called nobody") {
		t.Errorf("of nobody: %v", err)
	}
}

// A command line that cannot be understood ends with 2, and one that finds no Berth with 1 and the cure.
func TestUsage(t *testing.T) {
	bin := os.Getenv("BERTH_BIN")
	if bin == "" {
		t.Skip("an integration test: run `make integration`")
	}
	for line, c := range map[string]struct {
		code int
		text string
	}{
		"frobnicate":        {2, "frobnicate"},
		"up extra":          {2, "extra"},
		"up --pace quick":   {2, "quick"},
		"up --runtime vm":   {2, "vm"},
		"up --account 12":   {2, "12 digits"},
		"up --region x/y":   {2, "x/y"},
		"up --listen 80":    {2, "127.0.0.1:4566"},
		"logs":              {2, "usage: berth logs"},
		"image import":      {2, "usage: berth image import"},
		"ps --unknown":      {2, "--unknown"},
		"ps":                {1, "berth up"},
		"env":               {1, "berth up"},
		"build -t x .":      {1, "berth up"},
		"version":           {0, ""},
		"--help":            {0, ""},
		"build -t x . more": {2, "usage: berth build"},
	} {
		cmd := exec.Command(bin, append([]string{"--data-dir", filepath.Join(t.TempDir(), "none")}, strings.Fields(line)...)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Run(); exit(err) != c.code || !strings.Contains(errs.String(), c.text) {
			t.Errorf("berth %s: %v: %s", line, err, errs.String())
		}
		if n := strings.Count(strings.TrimSpace(errs.String()), "\n"); n > 0 {
			t.Errorf("berth %s says more than a sentence: %s", line, errs.String())
		}
	}
}
