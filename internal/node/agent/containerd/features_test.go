package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/containerd/imagetest"
)

// given is what one container asks for and what must come out of it.
type given struct {
	name, script string
	change       func(*agent.ContainerSpec)
	out          string // what stdout must contain
	exit         int32
}

// asks are containers of an image whose command is "echo from image", in /work. volume holds the file f with "mounted".
func asks(volume string) []given {
	linux := func(f func(*types.LinuxParameters)) func(*agent.ContainerSpec) {
		return func(s *agent.ContainerSpec) {
			s.Definition.LinuxParameters = &types.LinuxParameters{}
			f(s.Definition.LinuxParameters)
		}
	}
	return []given{
		{"image's command", "", func(s *agent.ContainerSpec) { s.Definition.EntryPoint, s.Definition.Command = nil, nil },
			"from image", 0},
		{"own command", "", func(s *agent.ContainerSpec) { s.Definition.EntryPoint, s.Definition.Command = nil, []string{"me"} },
			"from me", 0},
		{"environment", `echo $FROM $OVER $MINE $HOME`, func(s *agent.ContainerSpec) { s.Env = []string{"OVER=me", "MINE=too"} },
			"image me too /root", 0},
		{"working directory of the image", `pwd`, nil, "/work", 0},
		{"own working directory", `pwd`, func(s *agent.ContainerSpec) { s.Definition.WorkingDirectory = new("/made") }, "/made", 0},
		{"root", `id`, nil, "uid=0(root) gid=0(root)", 0},
		{"user by name", `id; echo $HOME`, func(s *agent.ContainerSpec) { s.Definition.User = new("app") },
			"uid=1000(app) gid=1000(app) groups=50(staff),1000(app)\n/home/app", 0},
		{"user by numbers", `id`, func(s *agent.ContainerSpec) { s.Definition.User = new("1234:50") }, "uid=1234 gid=50(staff)", 0},
		{"no capabilities for a user", `grep CapEff /proc/self/status`,
			func(s *agent.ContainerSpec) { s.Definition.User = new("app") }, "0000000000000000", 0},
		{"Docker's capabilities", `grep CapEff /proc/self/status`, nil, "00000000a80425fb", 0},
		{"a capability dropped, one added", `grep CapEff /proc/self/status`, linux(func(p *types.LinuxParameters) {
			p.Capabilities = &types.KernelCapabilities{Drop: []string{"ALL"}, Add: []string{"NET_ADMIN"}}
		}), "0000000000001000", 0},
		{"seccomp filter", `grep Seccomp: /proc/self/status`, nil, "2", 0},
		{"a system call that is filtered", `mount -t tmpfs x /tmp 2>&1`, linux(func(p *types.LinuxParameters) {
			p.Capabilities = &types.KernelCapabilities{Drop: []string{"CHOWN"}}
		}), "ermi", 1},
		{"privileged", `grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && ls /dev/mem /dev/loop-control 2>/dev/null; echo ok`,
			func(s *agent.ContainerSpec) { s.Definition.Privileged = new(true) }, "0\n", 0},
		{"read-only root", `touch /x 2>&1 || echo refused`,
			func(s *agent.ContainerSpec) { s.Definition.ReadonlyRootFilesystem = new(true) }, "refused", 0},
		{"ulimit", `ulimit -n; ulimit -u`, func(s *agent.ContainerSpec) {
			s.Definition.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: 512, HardLimit: 600},
				{Name: types.UlimitNameNproc, SoftLimit: 77, HardLimit: 88}}
		}, "512", 0},
		{"a ulimit above this machine's", `ulimit -Hn`, func(s *agent.ContainerSpec) {
			s.Definition.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: 1000, HardLimit: 1 << 20}}
		}, "", 0},
		{"shared memory", `df -m /dev/shm | tail -n1`,
			linux(func(p *types.LinuxParameters) { p.SharedMemorySize = new(int32(123)) }), " 123 ", 0},
		{"tmpfs", `df -m /scratch | tail -n1`, linux(func(p *types.LinuxParameters) {
			p.Tmpfs = []types.Tmpfs{{ContainerPath: new("/scratch"), Size: 7, MountOptions: []string{"noexec"}}}
		}), " 7 ", 0},
		{"device", `ls /dev/myfull && ! echo x >/dev/myfull 2>/dev/null && echo full`, linux(func(p *types.LinuxParameters) {
			p.Devices = []types.Device{{HostPath: new("/dev/full"), ContainerPath: new("/dev/myfull")}}
		}), "/dev/myfull\nfull", 0},
		{"sysctl", `cat /proc/sys/kernel/msgmax`, func(s *agent.ContainerSpec) {
			s.Definition.SystemControls = []types.SystemControl{{Namespace: new("kernel.msgmax"), Value: new("9999")}}
		}, "9999", 0},
		{"hostname", `hostname; echo $HOSTNAME`, func(s *agent.ContainerSpec) { s.Hostname = "web-1" }, "web-1\nweb-1", 0},
		{"masked and read-only paths", `cat /proc/kcore | head -c 1; echo 1 >/proc/sys/kernel/panic 2>/dev/null || echo refused`,
			nil, "refused", 0},
		{"volume", `cat /v/f; echo new >/v/g`, func(s *agent.ContainerSpec) {
			s.Mounts = []agent.Mount{{Type: "bind", Source: volume, Destination: "/v"}}
		}, "mounted", 0},
		{"read-only volume", `cat /v/g; echo x >/v/h 2>/dev/null || echo refused`, func(s *agent.ContainerSpec) {
			s.Mounts = []agent.Mount{{Type: "bind", Source: volume, Destination: "/v", ReadOnly: true}}
		}, "new\nrefused", 0},
		{"terminal", `tty; echo $TERM`, func(s *agent.ContainerSpec) { s.Definition.PseudoTerminal = new(true) },
			"/dev/pts/0\r\nxterm", 0},
		{"closed standard input", `cat; echo end`, nil, "end", 0},
		{"processes of its own", `echo $$; ls -d /proc/[0-9]*`, nil, "1\n/proc/1", 0},
		{"processes of the machine", `ls -d /proc/[0-9]* | grep -c .; echo $$`,
			func(s *agent.ContainerSpec) { s.PIDMode = types.PidModeHost }, "", 0},
		{"memory of the machine", `cat /proc/sysvipc/shm | head -n1`,
			func(s *agent.ContainerSpec) { s.IPCMode = types.IpcModeHost }, "key", 0},
		{"init process", `echo $$; cat /proc/1/cmdline | head -c 17`,
			linux(func(p *types.LinuxParameters) { p.InitProcessEnabled = new(true) }), "/sbin/docker-init", 0},
		{"exit code through init", `exit 9`, linux(func(p *types.LinuxParameters) { p.InitProcessEnabled = new(true) }), "", 9},
		{"no new privileges", `grep NoNewPrivs /proc/self/status`, func(s *agent.ContainerSpec) {
			s.Definition.DockerSecurityOptions = []string{"no-new-privileges"}
		}, "1", 0},
		{"exit code", `exit 42`, nil, "", 42},
		{"killed by a signal", `kill -9 $$; sleep 1`, func(s *agent.ContainerSpec) { s.PIDMode = types.PidModeHost }, "", 137},
	}
}

func TestWhatAContainerIsGiven(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, func(c *v1.Config) {
		c.Env, c.WorkingDir = []string{"PATH=/bin", "FROM=image", "OVER=image"}, "/work"
		c.Entrypoint, c.Cmd = []string{"/bin/echo", "from"}, []string{"image"}
	})
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "f"), []byte("mounted"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range asks(volume) {
		t.Run(c.name, func(t *testing.T) {
			s := n.container(image, c.script)
			if c.change != nil {
				c.change(&s)
			}
			state, out, stderr := n.runs(t, s)
			if !strings.Contains(out, c.out) || state.ExitCode != c.exit {
				t.Errorf("exit %d, want %d; stdout %q, want %q; stderr %q", state.ExitCode, c.exit, out, c.out, stderr)
			}
		})
	}
}

func TestWhatIsRefused(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	for _, c := range []struct {
		name   string
		change func(*agent.ContainerSpec)
		want   string // the error's name
		says   string
	}{
		{"no such program", func(s *agent.ContainerSpec) { s.Definition.EntryPoint = []string{"/nope"} },
			"CannotStartContainerError", "/nope"},
		{"no such user", func(s *agent.ContainerSpec) { s.Definition.User = new("ghost") }, "CannotCreateContainerError", "ghost"},
		{"an image that is gone", func(s *agent.ContainerSpec) { s.Image.Ref = "docker.io/library/gone:1" },
			"CannotCreateContainerError", "gone"},
		{"a capability", func(s *agent.ContainerSpec) {
			s.Definition.LinuxParameters = &types.LinuxParameters{Capabilities: &types.KernelCapabilities{Add: []string{"FLY"}}}
		}, "CannotCreateContainerError", "FLY"},
		{"a sysctl of the machine", func(s *agent.ContainerSpec) {
			s.Definition.SystemControls = []types.SystemControl{{Namespace: new("net.ipv4.ip_forward"), Value: new("1")}}
		}, "CannotStartContainerError", "ip_forward"},
		{"a mount", func(s *agent.ContainerSpec) {
			s.Mounts = []agent.Mount{{Type: "bind", Source: "/no/such/folder", Destination: "/v"}}
		}, "CannotCreateContainerError", "/no/such/folder"},
		{"a device", func(s *agent.ContainerSpec) {
			s.Definition.LinuxParameters = &types.LinuxParameters{Devices: []types.Device{{HostPath: new("/dev/nope")}}}
		}, "CannotCreateContainerError", "/dev/nope"},
		{"a security option", func(s *agent.ContainerSpec) { s.Definition.DockerSecurityOptions = []string{"apparmor:x"} },
			"CannotCreateContainerError", "apparmor"},
		{"a shared process namespace", func(s *agent.ContainerSpec) { s.PIDMode = types.PidModeTask },
			"CannotCreateContainerError", "pidMode"},
	} {
		s := n.container(image, "true", c.change)
		err := n.Create(t.Context(), s)
		e, ok := errors.AsType[*agent.Error](err)
		if !ok || e.Name != c.want || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %v, want a %s about %s", c.name, err, c.want, c.says)
		}
		if got, found := n.state(t, s.ID); found {
			t.Errorf("%s left %+v", c.name, got)
		}
		if n.tree.Exists(n.taskCgroup(s.TaskID)) {
			t.Errorf("%s left a cgroup", c.name)
		}
	}
}

func TestMemoryLimits(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	eat := `dd if=/dev/zero of=/dev/shm/x bs=1M count=60 2>/dev/null; exec tail -c 60000000 /dev/zero`
	for name, change := range map[string]func(*agent.ContainerSpec){
		"of the container": func(s *agent.ContainerSpec) { s.Definition.Memory = new(int32(24)) },
		"of the task":      func(s *agent.ContainerSpec) { s.TaskMemory = 24 },
	} {
		s := n.container(image, eat, change)
		n.start(t, s)
		if exit := n.exit(t, s.ID); !exit.OOMKilled || exit.ExitCode != 137 {
			t.Errorf("limit %s: %+v, want an OOM kill", name, exit)
		}
		if got, _ := n.state(t, s.ID); !got.OOMKilled {
			t.Errorf("limit %s: the list does not tell of the OOM kill: %+v", name, got)
		}
	}
	s := n.container(image, `kill -9 $$`, func(s *agent.ContainerSpec) {
		s.PIDMode, s.Definition.Memory = types.PidModeHost,
			new(int32(24))
	})
	if state, _, _ := n.runs(t, s); state.OOMKilled || state.ExitCode != 137 {
		t.Errorf("killed by a signal: %+v, want no OOM kill", state)
	}
}

func TestCPULimits(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	s := n.container(image, `sleep 60`, func(s *agent.ContainerSpec) { s.TaskCPU, s.Definition.Cpu = 256, 99 })
	n.start(t, s)
	sidecar := n.container(image, `sleep 60`, func(o *agent.ContainerSpec) {
		o.TaskID, o.TaskCPU, o.ID = s.TaskID, 256,
			s.TaskID+"-two"
	})
	n.start(t, sidecar)
	if n.tree.Layout == "v2" {
		t.Skip("reads cgroup v1 files")
	}
	for file, want := range map[string]string{
		n.taskCgroup(s.TaskID) + "/cpu.cfs_quota_us":                        "25000",
		n.taskCgroup(s.TaskID) + "/cpu.shares":                              "256",
		n.containerCgroup(s.TaskID, s.ID) + "/cpu.shares":                   "99",
		n.containerCgroup(sidecar.TaskID, sidecar.ID) + "/cpu.shares":       "2",
		n.containerCgroup(sidecar.TaskID, sidecar.ID) + "/cpu.cfs_quota_us": "-1",
	} {
		if got := read(t, "/sys/fs/cgroup/cpu"+file); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
	}
	free := n.container(image, `sleep 60`, func(s *agent.ContainerSpec) { s.Definition.Cpu = 300 })
	n.start(t, free)
	beside := n.container(image, `sleep 60`, func(o *agent.ContainerSpec) {
		o.TaskID, o.Definition.Cpu, o.ID = free.TaskID, 200,
			free.TaskID+"-two"
	})
	n.start(t, beside)
	if got := read(t, "/sys/fs/cgroup/cpu"+n.taskCgroup(free.TaskID)+"/cpu.shares"); got != "500" {
		t.Errorf("a task without a CPU size weighs %s, want what its containers weigh", got)
	}
}

func TestExec(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	s := n.container(image, `sleep 600`, func(s *agent.ContainerSpec) { s.Env, s.Definition.User = []string{"X=1"}, new("app") })
	n.start(t, s)
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	exit, out, err := n.Exec(t.Context(), s.ID, sh(`echo $X; id -u; echo bad >&2; exit 3`))
	if err != nil || exit != 3 || !strings.Contains(out, "1\n1000\n") || !strings.Contains(out, "bad\n") {
		t.Errorf("exit %d, output %q, %v", exit, out, err)
	}
	exit, out, err = n.Exec(t.Context(), s.ID, sh(`yes | head -n 100000`))
	if err != nil || exit != 0 || len(out) != execOutput {
		t.Errorf("much output: exit %d, %d bytes, %v", exit, len(out), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, _, err = n.Exec(ctx, s.ID, sh(`sleep 60`)); !errors.Is(err, context.DeadlineExceeded) ||
		time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v, want the deadline's error", time.Since(begun), err)
	}
	if _, _, err = n.Exec(t.Context(), s.ID, []string{"/nope"}); err == nil {
		t.Error("a program that is not there ran")
	}
	if _, out, _ = n.Exec(t.Context(), s.ID, sh(`ps | grep -c "sleep 60$"`)); strings.TrimSpace(out) == "2" {
		t.Error("the command that ran too long still runs")
	}
	if left, _ := os.ReadDir(filepath.Join(n.config.StateDir, "fifo")); len(left) != 0 {
		t.Errorf("%d pipes left over", len(left))
	}
	if _, _, err = n.Exec(t.Context(), "gone", sh(`true`)); err == nil {
		t.Error("exec in a container that is gone")
	}
}

func TestInitReapsAndForwards(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	s := n.container(image, `(sh -c 'sleep 0.2 & exit' &); trap 'echo got; exit 5' USR1; while :; do sleep 0.05; done`,
		func(s *agent.ContainerSpec) {
			s.Definition.LinuxParameters = &types.LinuxParameters{InitProcessEnabled: new(true)}
		})
	n.start(t, s)
	waitFor(t, "no zombie", func() bool {
		_, out, err := n.Exec(t.Context(), s.ID, []string{"/bin/sh", "-c",
			`cat /proc/[0-9]*/stat | grep -c " Z "; ls -d /proc/[0-9]* | grep -c .`})
		return err == nil && strings.HasPrefix(out, "0")
	})
	if err := n.Signal(t.Context(), s.ID, 10); err != nil { // SIGUSR1
		t.Fatal(err)
	}
	if exit := n.exit(t, s.ID); exit.ExitCode != 5 || read(t, s.Stdout) != "got" {
		t.Errorf("%+v, output %q", exit, read(t, s.Stdout))
	}
}

// All that is written before the exit is in the files, in order, and appending goes on after the file was cut off by a rotation.
func TestOutputIsAppended(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil)
	s := n.container(image, `i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done`)
	if _, out, _ := n.runs(t, s); strings.Count(out, "\n") != 19999 || !strings.HasSuffix(out, "line 19999") {
		t.Errorf("%d lines", strings.Count(out, "\n"))
	}
	s = n.container(image, `echo one; sleep 0.5; echo two`)
	n.start(t, s)
	waitFor(t, "the first line", func() bool { return read(t, s.Stdout) == "one" })
	if err := os.Truncate(s.Stdout, 0); err != nil {
		t.Fatal(err)
	}
	n.exit(t, s.ID)
	waitFor(t, "the second line", func() bool { return read(t, s.Stdout) == "two" })
}

// An image whose passwd is a link that leads out of it does not read the machine's users.
func TestUsersComeFromTheImage(t *testing.T) {
	n := newNode(t)
	image := n.busybox(t, nil, imagetest.File{Path: "etc/passwd", Link: "../../../../../../../../etc/outside"},
		imagetest.File{Path: "etc/outside", Content: "inner:x:77:77::/in:/bin/sh\n"})
	s := n.container(image, "id -u", func(s *agent.ContainerSpec) { s.Definition.User = new("inner") })
	if _, out, _ := n.runs(t, s); out != "77" {
		t.Errorf("user %q, want that of the image", out)
	}
}
