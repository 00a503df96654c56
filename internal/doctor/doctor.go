// Package doctor looks at the machine before Berth runs on it: what is missing or will bite, in one sentence each, with its cure.
package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/daemon"
	"github.com/berthdev/berth/internal/node/embedded"
	"github.com/berthdev/berth/internal/node/quota"
)

// Grade is how bad a finding is.
type Grade string

// The grades. Berth can't run where anything fails.
const (
	OK   Grade = "ok"
	Warn Grade = "warn"
	Fail Grade = "fail"
)

// Finding is one thing that was looked at.
type Finding struct {
	Name     string
	Grade    Grade
	Sentence string
	Cure     string // "" when there is nothing to do
}

// Config is what the machine is checked for.
type Config struct {
	DataDir string
	Listen  string // host:port of the API
	// Running: a Berth with this data directory runs, so that its port is rightly taken.
	Running bool
	// Containerd is that of the instance in DataDir; the zero value for none.
	Containerd daemon.Config
}

// Check looks at everything, in the order in which a start needs it.
func Check(ctx context.Context, c Config) []Finding {
	return slices.Concat(root(), programs(), cgroups(), filesystem(c), firewall(), forwarding(), walls(), inotify(), port(ctx, c),
		disk(c), clock(), containerd(ctx, c), awsCLI(ctx))
}

func ok(name, format string, args ...any) []Finding {
	return []Finding{{name, OK, fmt.Sprintf(format, args...), ""}}
}

func found(name string, g Grade, sentence, cure string) []Finding {
	return []Finding{{name, g, sentence, cure}}
}

// capabilities that Berth, its containers or both need (capabilities(7)).
var capabilities = []struct {
	bit  uint
	name string
	g    Grade
	why  string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", Fail, "mounts and namespaces can't be made"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", Fail, "bridges and firewall rules can't be made"},
	{unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT", Fail, "containers can't be started"},
	{unix.CAP_MKNOD, "CAP_MKNOD", Warn, "containers with devices of their own can't be started"},
	{unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", Warn, "ulimits above this process's own are lowered to them"},
}

func root() []Finding {
	if os.Geteuid() != 0 {
		return found("root", Fail, "Berth does not run as root, and containers need it.",
			"Run it with sudo, or try: berth up --runtime fake")
	}
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return found("root", Warn, "The capabilities of this process can't be read: "+err.Error(), "")
	}
	var effective uint64
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			effective, _ = strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	all := ok("root", "This is root.")
	for _, cp := range capabilities {
		if effective&(1<<cp.bit) == 0 {
			all = append(all, found(cp.name, cp.g, cp.name+" is missing: "+cp.why+".",
				"Start Berth where root has all capabilities, outside a container.")...)
		}
	}
	return all
}

func programs() []Finding {
	inside, err := embedded.Find()
	switch {
	case err != nil:
		return found("runc", Fail, "runc and the shim are neither in this binary nor in PATH.", "Build Berth with: make build")
	case !inside:
		return found("runc", Warn, "This binary was built without runc and the shim; those in PATH are used.",
			"Build Berth with: make build")
	}
	return ok("runc", "runc and the shim are inside this binary.")
}

// containerd is that of a Berth that runs: one that hangs is replaced within seconds, and one that stays away is worth a word.
func containerd(ctx context.Context, c Config) []Finding {
	if !c.Running || c.Containerd.Socket == "" {
		return nil
	}
	h, err := daemon.Look(ctx, c.Containerd)
	switch {
	case err != nil:
		return found("containerd", Warn, "containerd can't be looked at: "+err.Error(), "")
	case h.PID == 0:
		return found("containerd", Warn, "containerd does not run; tasks go on, and Berth is starting it again.",
			"If this stays so, look at "+c.Containerd.LogFile+".")
	case !h.Serves:
		return found("containerd", Warn, fmt.Sprintf("containerd (process %d) does not answer; tasks go on, and Berth replaces it within seconds.", h.PID),
			"If this stays so, look at "+c.Containerd.LogFile+".")
	}
	all := ok("containerd", "containerd (process %d) answers.", h.PID)
	if len(h.Aside) > 0 {
		all = append(all, found("shims", Warn, fmt.Sprintf("The shims of %d containers do not answer: %s. The containers run on.",
			len(h.Aside), strings.Join(h.Aside, ", ")), "Stop their tasks, which ends them, or let the shims go on: kill -CONT.")...)
	}
	return all
}

// controllers that limits need.
var controllers = []string{"cpu", "memory", "pids"}

func cgroups() []Finding {
	tree, err := cgroup.Detect()
	if err != nil {
		return found("cgroups", Fail, "No cgroups can be used: "+err.Error(), "Mount cgroup2 at /sys/fs/cgroup.")
	}
	have := tree.Controllers()
	for _, c := range controllers {
		if !slices.Contains(have, c) {
			return found("cgroups", Fail, fmt.Sprintf("The cgroup layout is %s, and its controller %s is missing.", tree.Layout, c),
				"Enable it on the kernel's command line, such as cgroup_enable="+c+".")
		}
	}
	return ok("cgroups", "The cgroup layout is %s, with %s.", tree.Layout, strings.Join(controllers, ", "))
}

// existing is the closest directory to path that exists.
func existing(path string) string {
	for {
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}

func filesystem(c Config) []Finding {
	dir, err := os.MkdirTemp(existing(c.DataDir), ".berth-doctor-")
	if err != nil {
		return found("data directory", Fail, fmt.Sprintf("%s can't be written: %v.", c.DataDir, err), "Choose another with --data-dir.")
	}
	defer os.RemoveAll(dir)
	if name, reason := daemon.Snapshotter(dir); name != "overlayfs" {
		return found("overlayfs", Warn, "overlayfs does not work in "+c.DataDir+" ("+reason+"): every container gets a whole copy of "+
			"its image.",
			"Put the data directory on ext4 or xfs, and load the module overlay.")
	}
	return ok("overlayfs", "overlayfs works in %s.", c.DataDir)
}

func forwarding() []Finding {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err == nil && strings.TrimSpace(string(data)) == "1" {
		return ok("ip_forward", "This machine forwards packets.")
	}
	return found("ip_forward", Warn, "net.ipv4.ip_forward is off; Berth switches it on when it starts, "+
		"lets nothing but its tasks' packets through, and off again with berth down.", "")
}

// The least of what many containers' logs need (inotify(7)).
const minWatches, minInstances = 8192, 128

func inotify() []Finding {
	for name, least := range map[string]int{"max_user_watches": minWatches, "max_user_instances": minInstances} {
		data, err := os.ReadFile("/proc/sys/fs/inotify/" + name)
		if n, perr := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && perr == nil && n < least {
			return found("inotify", Warn, fmt.Sprintf("fs.inotify.%s is %d: logs of many containers will be polled.", name, n),
				fmt.Sprintf("sysctl fs.inotify.%s=%d", name, least))
		}
	}
	return ok("inotify", "The limits of inotify suffice.")
}

func port(ctx context.Context, c Config) []Finding {
	if c.Running {
		return ok("port", "Berth runs and answers at %s.", c.Listen)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return found("port", Fail, fmt.Sprintf("The API's address %s can't be taken: %v.", c.Listen, err),
			"Choose another with: berth up --listen")
	}
	l.Close()
	return ok("port", "The API's address %s is free.", c.Listen)
}

// The disk that is needed, bytes: less than the first makes trouble soon, less than the second at once.
const wantDisk, needDisk = 5 << 30, 1 << 30

func disk(c Config) []Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(c.DataDir), &st); err != nil {
		return found("disk", Warn, "The free disk space is unknown: "+err.Error(), "")
	}
	free := st.Bavail * uint64(st.Bsize)
	switch gib := float64(free) / (1 << 30); {
	case free < needDisk:
		return found("disk", Fail, fmt.Sprintf("Only %.1f GiB are free for %s.", gib, c.DataDir),
			"Free some, or choose another place with --data-dir.")
	case free < wantDisk:
		return found("disk", Warn, fmt.Sprintf("Only %.1f GiB are free for %s: few images fit.", gib, c.DataDir), "Free some.")
	default:
		return ok("disk", "%.0f GiB are free for %s; %s", gib, c.DataDir, bounds(existing(c.DataDir)))
	}
}

// bounds says what bounds the disk that containers use.
func bounds(dir string) string {
	if _, err := quota.Detect(dir); err != nil {
		return "what containers write to their own files is bounded by that only."
	}
	return "what a task's containers write to their own files is bounded by its ephemeral storage."
}

// built is a time before which no clock that is right can be.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func clock() []Finding {
	if now := time.Now(); now.Before(built) {
		return found("clock", Fail, "The clock says "+now.UTC().Format(time.DateOnly)+": signatures of clients with the right time "+
			"are refused.",
			"Set the clock, such as by systemd-timesyncd.")
	}
	return ok("clock", "The clock is plausible.")
}
