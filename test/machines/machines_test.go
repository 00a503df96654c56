package machines

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Init()
	if dir := os.Getenv("MACHINES_TEST_ABANDON"); dir != "" {
		abandon(dir)
	}
	os.Exit(m.Run())
}

func lab(t *testing.T, c Config, names ...string) (*Lab, []*Machine) {
	t.Helper()
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Geteuid() != 0 {
		t.Skip("an integration test: run `make integration` as root")
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var all []*Machine
	for _, n := range names {
		m, err := l.Add(n, "")
		if err == nil {
			err = m.On()
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return l, all
}

func (m *Machine) must(t *testing.T, script string) string {
	t.Helper()
	out, err := m.Command(t.Context(), "/bin/sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// answers asks the echo of another machine once, within limit.
func answers(from, to *Machine, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.Address.String()+":7000")
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if line != "hello\n" {
		return fmt.Errorf("answered %q: %v", line, err)
	}
	return nil
}

func until(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for err := f(); err != nil; err = f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A machine has its own name, processes, network, /run and boot; its disk and nothing else outlives a power cut.
func TestAMachineAndItsPower(t *testing.T) {
	_, all := lab(t, Config{}, "n1")
	m := all[0]
	boot := m.must(t, "cat /proc/sys/kernel/random/boot_id")
	if real, _ := os.ReadFile("/proc/sys/kernel/random/boot_id"); boot == strings.TrimSpace(string(real)) {
		t.Error("its boot is the real machine's")
	}
	if got := m.must(t, "hostname; ls /run; ip -br -4 a show dev eth0 | awk '{print $3}'; test -d /sys/fs/cgroup && echo cgroups"); got != "n1\n10.77.0.1/24\ncgroups" {
		t.Errorf("the machine is %q", got)
	}
	m.must(t, "touch /run/here; echo kept >$BERTH_DATA_DIR/file; sleep 1000 >/dev/null 2>&1 & setsid unshare -p -f sleep 1000 >/dev/null 2>&1 &")
	until(t, "two sleep", func() error {
		if n := len(m.Processes("sleep 1000")); n < 2 { // and unshare, whose line has the words too
			return fmt.Errorf("%d sleep", n)
		}
		return nil
	})
	sleepers := m.Processes("sleep 1000")
	before := time.Now()
	if err := m.Off(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the power cut took %v", time.Since(before))
	for _, p := range sleepers {
		if p.alive() {
			t.Errorf("process %+v outlives the machine", p)
		}
	}
	if _, err := m.Command(t.Context(), "true").Output(); err == nil || !strings.Contains(err.Error(), "is off") {
		t.Errorf("a command on a machine that is off: %v", err)
	}
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	if again := m.must(t, "cat /proc/sys/kernel/random/boot_id"); again == boot {
		t.Error("the second boot has the first one's id")
	}
	if got := m.must(t, "ls /run; cat $BERTH_DATA_DIR/file"); got != "kept" {
		t.Errorf("after the power cut: %q", got)
	}
}

// Cuts hold for both ways or one, and end.
func TestCuts(t *testing.T) {
	l, all := lab(t, Config{}, "a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	for _, m := range all {
		if err := m.Install(Service{Name: "echo", Args: []string{"/bin/busybox", "nc", "-ll", "-p", "7000", "-e", "/bin/cat"}}); err != nil {
			t.Fatal(err)
		}
	}
	free := func(from, to *Machine) {
		t.Helper()
		until(t, "no answer", func() error { return answers(from, to, 500*time.Millisecond) })
	}
	closed := func(from, to *Machine) {
		t.Helper()
		if answers(from, to, 300*time.Millisecond) == nil {
			t.Errorf("%s reaches %s", from.Name, to.Name)
		}
	}
	free(a, b)
	free(b, a)
	if err := l.Cut(a, b); err != nil {
		t.Fatal(err)
	}
	closed(a, b)
	closed(b, a)
	free(a, c)
	if err := l.HealBetween(a, b); err != nil {
		t.Fatal(err)
	}
	free(a, b)
	// One way: what a says arrives, and b's answer does not.
	if err := l.CutOneWay(b, a); err != nil {
		t.Fatal(err)
	}
	received := func() string {
		return b.must(t, "awk '$1 == \"eth0:\" {print $3}' /proc/net/dev")
	}
	before := received()
	closed(a, b)
	if received() == before {
		t.Error("the open way is closed too")
	}
	if err := l.Isolate(c); err != nil {
		t.Fatal(err)
	}
	closed(a, c)
	closed(c, b)
	if err := l.Heal(); err != nil {
		t.Fatal(err)
	}
	free(a, b)
	free(c, b)
}

// Services come with the power, and again when they end if they are told to; a shutdown lets them end.
func TestServices(t *testing.T) {
	l, all := lab(t, Config{Env: []string{"GREETING=hello"}}, "n1")
	m := all[0]
	script := `trap 'echo bye; exit' TERM; echo $GREETING from $(hostname); while :; do sleep 0.05; done`
	for name, restart := range map[string]bool{"once": false, "always": true} {
		if err := m.Install(Service{Name: name, Args: []string{"/bin/sh", "-c", script + " # " + name}, Restart: restart}); err != nil {
			t.Fatal(err)
		}
	}
	greeted := func(name string, times int) {
		t.Helper()
		until(t, name, func() error {
			if log := m.Log(name, 1000); strings.Count(log, "hello from n1\n") != times {
				return fmt.Errorf("want %d greetings: %q", times, log)
			}
			return nil
		})
	}
	greeted("once", 1)
	greeted("always", 1)
	if n, err := m.Signal(unix.SIGKILL, "hello", "# once"); n != 0 || err != nil { // the words of its variables are not its line's
		t.Error(n, err)
	}
	for _, name := range []string{"once", "always"} {
		if n, err := m.Signal(unix.SIGKILL, "# "+name); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	greeted("always", 2)
	greeted("once", 1)
	if err := m.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if log := m.Log("always", 1000); !strings.HasSuffix(log, "bye\n") {
		t.Errorf("shut down: %q", log)
	}
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	greeted("always", 3)
	greeted("once", 2)
	if _, err := l.Add("a-long-name", ""); err == nil {
		t.Error("a name too long for a port was taken")
	}
}

// abandon makes machines and waits to be killed.
func abandon(dir string) {
	os.Setenv("TMPDIR", dir)
	l, err := New(Config{})
	var m *Machine
	if err == nil {
		m, err = l.Add("n1", "16m")
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(m.Disk(), "instance.json"), []byte(`{"id":"`+os.Getenv("MACHINES_TEST_ID")+`"}`), 0o600)
	}
	if err == nil {
		err = m.On()
	}
	if err == nil {
		err = m.Install(Service{Name: "sleep", Args: []string{"/bin/sleep", "1001"}})
	}
	for len(m.Processes("sleep 1001")) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("ready", m.Processes("sleep 1001")[0].PID, err)
	select {}
}

// A program that is killed takes its machines along; what they left on disk and of cgroups goes with the next one.
func TestNothingIsLeftOfAKilledProgram(t *testing.T) {
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Geteuid() != 0 {
		t.Skip("an integration test: run `make integration` as root")
	}
	tmp, id := t.TempDir(), "t"+randomHex(3)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MACHINES_TEST_ABANDON="+tmp, "MACHINES_TEST_ID="+id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "ready %d <nil>\n", &pid); err != nil {
		t.Fatal(err)
	}
	sleeper, _, ok := look(pid)
	if !ok {
		t.Fatal("the service does not run")
	}
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	roots = append(roots, "/sys/fs/cgroup/cgroup.procs")
	made := ""
	for _, r := range roots {
		if _, err := os.Stat(r); err == nil && made == "" {
			made = filepath.Join(filepath.Dir(r), "berth-"+id, "deep")
			if err := os.MkdirAll(made, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "the machine outlives its program", func() error {
		if sleeper.alive() {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
	t.Setenv("TMPDIR", tmp)
	lab(t, Config{}, "n2")
	if left, _ := filepath.Glob(tmp + "/*"); len(left) != 1 {
		t.Errorf("folders: %v", left)
	}
	if _, err := os.Stat(filepath.Dir(made)); err == nil {
		t.Errorf("cgroup %s is left", made)
	}
	if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Count(string(mounts), tmp) != 0 {
		t.Errorf("a disk is still mounted")
	}
}
