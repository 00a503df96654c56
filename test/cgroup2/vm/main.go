//go:build linux

// Command vm is the first process of the virtual machine of `make test-cgroup2`: it mounts what a machine has, with cgroup v2 only,
// runs the end-to-end tests that fit in two settings, and says on the console how they ended.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tests are those of test/e2e that run here. Left out: TestExitIsReportedWithinASecond, TestService*, TestSoak, TestCycles*,
// TestKilledAtRandomPoints, TestNothingThatServesPeopleStops and TestTheMachineRestarts (they measure or take minutes, and the machine is
// emulated), TestStockCLI, TestDocker*, TestTerraform*, TestBuild* and the shop (the machine lacks their clients), and what does not
// concern cgroups.
const tests = "^(TestLimitsOnCgroup2|TestMemoryLimitKillIsCalledByItsName|TestAppArmorHoldsContainers|TestDownLeavesNothing)$"

func main() {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "nested":
		err = nested()
	case len(os.Args) > 1 && os.Args[1] == "machine":
		err = machine()
	default:
		err = moveRoot()
	}
	if err != nil {
		fmt.Println("berth-vm:", err)
	}
	if os.Getpid() == 1 {
		if err == nil {
			fmt.Println("berth-vm: all passed")
		}
		unix.Sync()
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	if err != nil {
		os.Exit(1)
	}
}

// moveRoot goes on from a tmpfs: a container's root cannot be made in the initial file system, which knows no pivot_root.
func moveRoot() error {
	if err := mount("tmpfs", "/new", "tmpfs", "size=90%,mode=755"); err != nil {
		return err
	}
	for _, name := range []string{"berth", "e2e", "web", "init"} {
		data, err := os.ReadFile("/" + name)
		if err == nil {
			err = os.WriteFile("/new/"+name, data, 0o755)
		}
		if err == nil {
			err = os.Remove("/" + name)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(os.CopyFS("/new", os.DirFS("/walls")), os.RemoveAll("/walls")); err != nil {
		return err
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	if err := os.Chdir("/new"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return syscall.Exec("/init", []string{"/init", "machine"}, environment)
}

var environment = []string{"PATH=/bin:/sbin", "HOME=/root", "TMPDIR=/tmp", "BERTH_INTEGRATION=1", "BERTH_BIN=/berth", "BERTH_E2E_WEB=/web",
	"BERTH_E2E_PATIENCE=4"}

func loadModules(dir string) error {
	files, err := filepath.Glob(dir + "/*.ko")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no modules in %s: %w", dir, err)
	}
	sort.Strings(files)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

func mount(source, at, kind, options string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, at, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// machine makes a machine of the kernel and runs the tests in both settings.
func machine() error {
	for _, m := range [][4]string{{"proc", "/proc", "proc", ""}, {"sysfs", "/sys", "sysfs", ""}, {"dev", "/dev", "devtmpfs", ""},
		{"devpts", "/dev/pts", "devpts", "ptmxmode=666"}, {"shm", "/dev/shm", "tmpfs", ""}, {"mqueue", "/dev/mqueue", "mqueue", ""},
		{"run", "/run", "tmpfs", "mode=755"}, {"cgroup2", "/sys/fs/cgroup", "cgroup2", ""},
		{"securityfs", "/sys/kernel/security", "securityfs", ""}} {
		if err := mount(m[0], m[1], m[2], m[3]); err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := os.MkdirAll("/tmp", 0o1777); err != nil {
		return err
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/hosts": "127.0.0.1 localhost\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := up("lo"); err != nil {
		return err
	}
	fmt.Println("berth-vm: in a cgroup that holds processes")
	err := inside("/sys/fs/cgroup/outer")
	fmt.Println("berth-vm: in the machine's root cgroup")
	if failed := run(0, nil, "/e2e", "-test.v", "-test.run", tests, "-test.timeout", "8m"); failed != nil {
		err = errors.Join(err, fmt.Errorf("in the machine's root cgroup: %w", failed))
	}
	return err
}

// inside runs the tests below a cgroup as a container runs them: it is the root of their cgroup namespace, its controllers are
// theirs, and they are in it.
func inside(group string) error {
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu +memory +pids +io +cpuset"), 0)
	if err != nil {
		return err
	}
	dir, err := os.Open(group)
	if err != nil {
		return err
	}
	defer dir.Close()
	attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := run(syscall.CLONE_NEWNS|syscall.CLONE_NEWCGROUP, attr, "/init", "nested"); err != nil {
		return fmt.Errorf("in a cgroup that holds processes: %w", err)
	}
	return nil
}

func nested() error {
	if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := mount("cgroup2", "/sys/fs/cgroup", "cgroup2", ""); err != nil {
		return err
	}
	if own, err := os.ReadFile("/proc/self/cgroup"); err != nil || strings.TrimSpace(string(own)) != "0::/" {
		return fmt.Errorf("the cgroup namespace has no root of its own: %q %v", own, err)
	}
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0); err != unix.EBUSY && !strings.Contains(fmt.Sprint(err), "busy") {
		return fmt.Errorf("this setting should refuse to hand down a controller, and says %v", err)
	}
	return syscall.Exec("/e2e", []string{"/e2e", "-test.v", "-test.run", tests, "-test.timeout", "8m"}, environment)
}

// run runs a program to its end, and meanwhile reaps what others left behind.
func run(unshare uintptr, attr *syscall.SysProcAttr, argv ...string) error {
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Unshareflags = unshare
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: "/", Env: environment, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: attr})
	if err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case pid == p.Pid && status != 0:
			return fmt.Errorf("%s ended with status %#x", strings.Join(argv[:2], " "), uint32(status))
		case pid == p.Pid:
			return nil
		}
	}
}

// up brings a link up.
func up(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}
