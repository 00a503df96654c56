package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wipe does to this Berth what a power cut does to a machine, or the end of the container that Berth itself runs in: its processes,
// mounts, links, firewall, cgroups and the files in /run are gone, and its data stays.
func (b *berth) wipe() {
	b.t.Helper()
	id := b.instanceID()
	var groups []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/berth-" + id + "*", "/sys/fs/cgroup/berth-" + id + "*"} {
		found, _ := filepath.Glob(pattern)
		for _, root := range found {
			_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error { // what is gone is no matter
				if err == nil && d.IsDir() {
					groups = append(groups, path)
				}
				return nil
			})
		}
	}
	for range 3 { // a process may have forked
		pids := append(processes(b.dir, ""), processes("/run/berth/"+id, "")...)
		for _, g := range groups {
			procs, _ := os.ReadFile(filepath.Join(g, "cgroup.procs"))
			for _, word := range strings.Fields(string(procs)) {
				if pid, err := strconv.Atoi(word); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				b.t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.wait()
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.Contains(at, "/run/berth/"+id) || strings.HasPrefix(at, b.dir) {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range links {
		if strings.Contains(l.Attrs().Name, id) {
			_ = netlink.LinkDel(l) // one end of a pair takes the other with it
		}
	}
	conn, err := nftables.New()
	if err != nil {
		b.t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, t := range tables {
		if strings.Contains(t.Name, id) {
			conn.DelTable(t)
		}
	}
	if err := conn.Flush(); err != nil {
		b.t.Fatal(err)
	}
	slices.Reverse(groups) // the lower ones first
	for _, g := range groups {
		_ = os.Remove(g)
	}
	if err := os.RemoveAll("/run/berth/" + id); err != nil {
		b.t.Fatal(err)
	}
	for kind, n := range leftovers(id) {
		if n > 0 {
			b.t.Fatalf("the test itself left %d %s", n, kind)
		}
	}
}

// After a power cut services run again, with new tasks; a task that nobody manages is reported as lost and not run a second time;
// the load balancer answers, and images and logs are there.
func TestTheMachineRestarts(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	web := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	host := b.register("host", types.NetworkModeBridge, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	address := b.balanced(web, 2)
	b.stable("web")
	once := append(b.run(web, 1, types.NetworkModeAwsvpc), b.run(host, 1, types.NetworkModeBridge)...)
	for _, arn := range once {
		b.reaches(arn, "RUNNING")
	}
	old := b.tasks("web")

	b.wipe()
	b.up()
	for _, arn := range once {
		task := b.reaches(arn, "STOPPED")
		c := task.Containers[0]
		if task.StopCode != types.TaskStopCodeEssentialContainerExited || c.ExitCode != nil && *c.ExitCode == 0 {
			t.Errorf("%s: %s %q, exit code %v, reason %q", arn, task.StopCode, aws.ToString(task.StoppedReason), aws.ToInt32(c.ExitCode),
				aws.ToString(c.Reason))
		}
	}
	b.eventually(30*time.Second, "the service's tasks are new ones", func() error {
		now := b.tasks("web")
		for _, arn := range now {
			if slices.Contains(old, arn) {
				return fmt.Errorf("%v, before %v", now, old)
			}
		}
		return nil
	})
	b.stable("web")
	b.eventually(20*time.Second, "the load balancer answers", func() error {
		status, _, _, err := get(address + "/")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	b.reaches(b.run(host, 1, types.NetworkModeBridge)[0], "RUNNING")
	b.mustCLI("down")
	b.wait()
	for kind, n := range leftovers(b.instanceID()) {
		if n > 0 {
			t.Errorf("%d %s are left", n, kind)
		}
	}
}
