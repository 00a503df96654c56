package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/creack/pty"

	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
)

// importBusybox preloads the node with busybox under ref.
func (b *berth) importBusybox(t *testing.T, ref string) {
	t.Helper()
	file := filepath.Join(b.dir, "busybox.tar")
	if err := os.WriteFile(file, imagetest.Archive(t, imagetest.Busybox(t, nil), ref), 0o600); err != nil {
		t.Fatal(err)
	}
	b.mustCLI("image", "import", file)
}

// typed is a program on a terminal.
type typed struct {
	t      *testing.T
	master *os.File
	ended  chan error

	mu  sync.Mutex
	out bytes.Buffer
}

func onTerminal(t *testing.T, cmd *exec.Cmd) *typed {
	t.Helper()
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 97, Rows: 29})
	if err != nil {
		t.Fatal(err)
	}
	p := &typed{t: t, master: master, ended: make(chan error, 1)}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			p.mu.Lock()
			p.out.Write(buffer[:n])
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		p.ended <- cmd.Wait()
		master.Close()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return p
}

func (p *typed) types(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatalf("type %q: %v; it said %q", keys, err, p.said())
	}
}

func (p *typed) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *typed) says(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second * patience); !strings.Contains(p.said(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("it does not say %q but %q", text, p.said())
		}
	}
}

func (p *typed) ends(limit time.Duration) error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(limit * patience):
		p.t.Fatalf("it does not end; it said %q", p.said())
		return nil
	}
}

// runShell runs a task with ECS Exec, of a container that goes on until it is stopped, and returns its ARN.
func (b *berth) runShell(t *testing.T) string {
	t.Helper()
	b.importBusybox(t, "shell:1")
	def := b.register("shell", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("shell"), Image: aws.String("shell:1"),
		EntryPoint: []string{"/bin/sh", "-c"}, Command: []string{`trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done`}, LogConfiguration: b.awslogs("shell")})
	out, err := b.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &def, NetworkConfiguration: network, EnableExecuteCommand: true})
	if err != nil || len(out.Tasks) != 1 {
		t.Fatalf("%+v %v", out, err)
	}
	b.reaches(*out.Tasks[0].TaskArn, "RUNNING")
	return *out.Tasks[0].TaskArn
}

// TestExec: a shell in a container by berth exec and by the stock CLI with its plugin, over the API's port; exit codes, terminals, what is
// written down of it, and its end when the server is killed.
func TestExec(t *testing.T) {
	b := start(t)
	arn := b.runShell(t)
	id := arn[strings.LastIndex(arn, "/")+1:]

	out, err := b.cli("exec", id[:6], "--", "sh", "-c", "echo out; echo err >&2; exit 7")
	if ended, ok := errors.AsType[*exec.ExitError](err); !ok || ended.ExitCode() != 7 || out != "out\n" || !strings.HasSuffix(err.Error(), "err\n") {
		t.Errorf("berth exec without a terminal: %q %v", out, err)
	}
	p := onTerminal(t, exec.Command(b.bin, "--data-dir", b.dir, "exec", id[:6]))
	p.types("stty size; echo done-$((40+2))\r")
	p.says("29 97")
	p.says("done-42")
	p.types("echo sleeps-$((1+1)); sleep 100\r")
	p.says("sleeps-2")
	time.Sleep(300 * time.Millisecond)
	p.types("\x03") // Ctrl-C ends the sleep and not the session
	p.types("echo interrupted-$?\r")
	p.says("interrupted-130")
	p.types("exit 5\r")
	if ended, ok := errors.AsType[*exec.ExitError](p.ends(10 * time.Second)); !ok || ended.ExitCode() != 5 {
		t.Errorf("berth exec on a terminal ended with %v; it said %q", ended, p.said())
	}
	b.eventually(10*time.Second, "the session is written down", func() error {
		out, err := cloudwatchlogs.NewFromConfig(b.config()).FilterLogEvents(context.Background(), &cloudwatchlogs.FilterLogEventsInput{
			LogGroupName: aws.String("shell"), LogStreamNamePrefix: aws.String("ecs-execute-command-")})
		if err != nil {
			return err
		}
		var got strings.Builder
		for _, e := range out.Events {
			got.WriteString(*e.Message + "\n")
		}
		for _, want := range []string{"root runs /bin/sh in container shell of task " + id, "done-42", "exit code 5"} {
			if !strings.Contains(got.String(), want) {
				return fmt.Errorf("no %q in %q", want, got.String())
			}
		}
		return nil
	})
	stockShell(t, b, arn)
	killedServer(t, b, id)
}

// stockShell opens a shell by aws ecs execute-command.
func stockShell(t *testing.T, b *berth, arn string) {
	cli, err := exec.LookPath("aws")
	if err != nil {
		t.Log("SKIPPED: the stock CLI is not installed")
		return
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "session-manager-plugin"), "github.com/aws/session-manager-plugin/src/sessionmanagerplugin-main")
	build.Dir = "../plugin"
	if out, err := build.CombinedOutput(); err != nil {
		t.Logf("SKIPPED: the stock session-manager-plugin cannot be built here: %v\n%s", err, out)
		return
	}
	cmd := exec.Command(cli, "--endpoint-url", b.env["AWS_ENDPOINT_URL"], "ecs", "execute-command", "--task", arn, "--interactive", "--command", "/bin/sh")
	cmd.Env = b.environ("PATH="+dir+":"+os.Getenv("PATH"), "AWS_PAGER=")
	p := onTerminal(t, cmd)
	p.says("Starting session with SessionId: ecs-execute-command-")
	p.types("echo by-the-plugin-$((40+2)); stty size\r")
	p.says("by-the-plugin-42")
	p.says("29 97")
	p.types("i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done\r")
	p.says("line-2999")
	for i := range 3000 {
		if !strings.Contains(p.said(), fmt.Sprintf("line-%d\r", i)) {
			t.Fatalf("line %d is lost", i)
		}
	}
	p.types("exit\r")
	if err := p.ends(15 * time.Second); err != nil {
		t.Errorf("the plugin ended with %v: %q", err, p.said())
	}
	p.says("Exiting session with sessionId")
}

// killedServer kills the server while somebody is in a shell: that ends in words, and nothing of it stays in the container.
func killedServer(t *testing.T, b *berth, id string) {
	p := onTerminal(t, exec.Command(b.bin, "--data-dir", b.dir, "exec", id))
	p.types("echo be$((1+1))gun; sleep 98765\r")
	p.says("be2gun")
	b.signal(syscall.SIGKILL)
	if ended, ok := errors.AsType[*exec.ExitError](p.ends(20 * time.Second)); !ok || ended.ExitCode() != 1 {
		t.Errorf("after a kill it ended with %v: %q", ended, p.said())
	}
	p.says("the session broke")
	b.up()
	b.eventually(20*time.Second, "the shell of a session that was lost is ended", func() error {
		out, err := b.cli("exec", id, "--", "sh", "-c", "ps | grep -E 'bin[/]sh$|9876[5]' || true")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("there is %s", out)
		}
		return err
	})
}
