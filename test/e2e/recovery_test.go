package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/test/images"
)

// berth down asks tasks to end, whether or not the server lives, says how it goes on, can be interrupted and repeated, and with --now
// does not wait. What ended is told by the next berth up.
func TestDownAsksFirst(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	id := b.instanceID()
	polite := b.register("polite", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Environment: []types.KeyValuePair{{Name: aws.String("TERM_EXIT"), Value: aws.String("5")}}})
	rude := b.register("rude", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		StopTimeout: aws.Int32(8), Environment: []types.KeyValuePair{{Name: aws.String("IGNORE_TERM"), Value: aws.String("1")}}})
	first, second := b.run(polite, 1, types.NetworkModeBridge)[0], b.run(rude, 1, types.NetworkModeBridge)[0]
	b.reaches(first, "RUNNING")
	b.reaches(second, "RUNNING")
	b.signal(syscall.SIGKILL) // the server need not live for it
	cut := exec.Command(b.bin, "--data-dir", b.dir, "down")
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if err := cut.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cut.Wait(); err == nil {
		t.Error("down that was interrupted says that all is well")
	}
	begun := time.Now()
	out := b.mustCLI("down")
	if took := time.Since(begun); took > 25*time.Second {
		t.Errorf("the rest of down took %v", took)
	}
	if !strings.Contains(out, "1 of 1 stopped: rude:1") || !strings.Contains(out, "Berth is down") {
		t.Errorf("down printed\n%s", out)
	}
	for kind, n := range leftovers(id) {
		if n > 0 {
			t.Errorf("%d %s are left", n, kind)
		}
	}
	b.up()
	for arn, code := range map[string]int32{first: 5, second: 137} {
		task := b.reaches(arn, "STOPPED")
		if got := aws.ToInt32(task.Containers[0].ExitCode); got != code || !strings.Contains(aws.ToString(task.StoppedReason), "berth down") {
			t.Errorf("exit code %d, %q; want %d", got, aws.ToString(task.StoppedReason), code)
		}
	}
	arn := b.run(rude, 1, types.NetworkModeBridge)[0]
	b.reaches(arn, "RUNNING")
	begun = time.Now()
	b.mustCLI("down", "--now")
	if took := time.Since(begun); took > 7*time.Second {
		t.Errorf("down --now took %v", took)
	}
	b.wait()
}

// A data directory may be named from where one stands.
func TestRelativeDataDirectory(t *testing.T) {
	if os.Getenv("BERTH_INTEGRATION") != "1" {
		t.Skip("an integration test: run `make integration`")
	}
	parent, err := os.MkdirTemp("", "berth-rel-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if _, err := images.Program(); err != nil { // which is built in this module
		t.Fatal(err)
	}
	t.Chdir(parent)
	if err := os.Mkdir("data", 0o700); err != nil {
		t.Fatal(err)
	}
	b := &berth{t: t, dir: "data", port: freePort(t), bin: os.Getenv("BERTH_BIN")}
	b.up()
	defer func() { b.mustCLI("down", "--purge", "--now"); b.wait() }()
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1")})
	b.reaches(b.run(def, 1, types.NetworkModeBridge)[0], "RUNNING")
	if entries, _ := filepath.Glob("/data*"); len(entries) > 0 {
		t.Errorf("%v were made at the root", entries)
	}
}

// A containerd that hangs is noticed and replaced, tasks are unharmed, and it is said. A shim that hangs holds up neither an upgrade
// nor the stop of its task.
func TestWhatHangsHoldsUpNothing(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		StopTimeout: aws.Int32(2)})
	a, c := b.run(def, 1, types.NetworkModeBridge)[0], b.run(def, 1, types.NetworkModeBridge)[0]
	b.reaches(a, "RUNNING")
	b.reaches(c, "RUNNING")
	pid := webPID(t, c)
	id := b.instanceID()
	for _, ctd := range processes("containerd", id) {
		if err := syscall.Kill(ctd, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	b.eventually(40*time.Second, "a task starts on the new containerd", func() error {
		data, _ := os.ReadFile(filepath.Join(b.dir, "up.log"))
		if !strings.Contains(string(data), "containerd does not answer; killing it") {
			return fmt.Errorf("nothing was said")
		}
		return nil
	})
	t.Logf("a containerd that hangs was replaced after %v", time.Since(begun).Round(100*time.Millisecond))
	b.reaches(b.run(def, 1, types.NetworkModeBridge)[0], "RUNNING")
	if got := webPID(t, c); got != pid {
		t.Errorf("a task's process was %s, is %s", pid, got)
	}
	shims := 0
	for _, shim := range processes("shim", id) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shim))
		if strings.Contains(string(cmdline), a[strings.LastIndex(a, "/")+1:]) {
			shims++
			if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
	}
	if shims != 1 {
		t.Fatalf("%d shims of the task", shims)
	}
	b.signal(syscall.SIGKILL)
	b.killContainerd()
	begun = time.Now()
	b.up()
	t.Logf("with a shim that hangs, Berth was up after %v", time.Since(begun).Round(100*time.Millisecond))
	b.reaches(b.run(def, 1, types.NetworkModeBridge)[0], "RUNNING")
	b.reaches(a, "RUNNING")
	if _, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &a}); err != nil {
		t.Fatal(err)
	}
	b.reaches(a, "STOPPED")
	b.eventually(15*time.Second, "the hung shim's end", func() error {
		for _, shim := range processes("shim", id) {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shim))
			if strings.Contains(string(cmdline), a[strings.LastIndex(a, "/")+1:]) {
				return fmt.Errorf("process %d", shim)
			}
		}
		return nil
	})
}
