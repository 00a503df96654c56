package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"context"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// held is all that containers and their networks hold on the machine.
func (n *node) held(t testing.TB) map[string]int {
	t.Helper()
	count := map[string]int{"shims": len(n.shims(t))}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.run+"/") || strings.Contains(line, n.root+"/") {
			count["mounts"]++
		}
	}
	filepath.WalkDir("/sys/fs/cgroup", func(p string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.Contains(p, "/berth-"+n.id+"/") {
			count["cgroups"]++
		}
		return nil
	})
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, network.DevicePrefix(n.id)) || l.Attrs().Name == network.BridgeName(n.id) {
			count["devices"]++
		}
	}
	ctx := n.context(context.Background())
	if err := n.client.SnapshotService(n.config.Snapshotter).Walk(ctx, func(context.Context, snapshots.Info) error {
		count["snapshots"]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	all, err := n.client.ContainerService().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	count["containers"] = len(all)
	leases, err := n.client.LeasesService().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	count["leases"] = len(leases)
	for _, dir := range []string{"exits", "stdin", "fifo", "runc"} {
		entries, _ := os.ReadDir(filepath.Join(n.config.StateDir, dir))
		count[dir] = len(entries)
	}
	for _, dir := range []string{"netns", "networks", "containerd/s"} {
		entries, _ := os.ReadDir(filepath.Join(n.run, dir))
		for _, e := range entries {
			if e.Name() != "last" {
				count[dir]++
			}
		}
	}
	bundles, _ := os.ReadDir(filepath.Join(n.run, "containerd", "io.containerd.runtime.v2.task", n.config.Namespace))
	count["bundles"] = len(bundles)
	count["nft elements"] = n.elements(t)
	fds, _ := os.ReadDir("/proc/" + strconv.Itoa(n.daemon.PID()) + "/fd")
	count["containerd's descriptors, by tens"] = len(fds) / 10
	return count
}

func (n *node) elements(t testing.TB) int {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	set, err := conn.GetSetByName(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "berth-" + n.id}, "ports")
	if err != nil {
		return 0
	}
	elements, err := conn.GetSetElements(set)
	if err != nil {
		t.Fatal(err)
	}
	return len(elements)
}

// After many tasks of two containers, some of which fail to start and some of which are killed, the machine holds what it held
// before. BERTH_LEAK_CYCLES sets how many; 50 otherwise.
func TestNothingLeaks(t *testing.T) {
	n := newNode(t)
	cycles, err := strconv.Atoi(os.Getenv("BERTH_LEAK_CYCLES"))
	if err != nil {
		cycles = 50
	}
	conf := network.Config{ID: n.id, RunDir: n.run, StateDir: t.TempDir(), Log: n.config.Log}
	net, err := network.Open(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := net.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	image := n.busybox(t, nil)
	go func() {
		for range n.Exits() {
		}
	}()
	n.cycle(t, net, image, 0) // what is made once is made now
	before := n.held(t)
	begun := time.Now()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				n.cycle(t, net, image, i)
			}
		})
	}
	for i := range cycles {
		next <- i
	}
	close(next)
	wg.Wait()
	t.Logf("%d cycles took %v", cycles, time.Since(begun).Round(time.Millisecond))
	var after map[string]int
	defer func() {
		if t.Failed() {
			t.Logf("before %v\nafter  %v", before, after)
		}
	}()
	waitFor(t, "the machine to hold what it held before", func() bool {
		after = n.held(t)
		for what, count := range after {
			if count > before[what] {
				return false
			}
		}
		return true
	})
}

// cycle runs one task: two containers in one network with a published port.
func (n *node) cycle(t testing.TB, net *network.Network, image agent.Image, i int) {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			t.Error(i, err)
		}
	}
	script := []string{"exit 1", "sleep 600", "exit 0"}[i%3]
	a := n.container(image, script)
	b := n.container(image, "sleep 600", func(s *agent.ContainerSpec) {
		s.TaskID, s.ID = a.TaskID, a.TaskID+"-two"
		s.Definition.Interactive = new(i%2 == 0)
		if i%5 == 4 {
			s.Definition.EntryPoint = []string{"/nope"} // cannot start
		}
	})
	info, err := net.Setup(ctx, agent.NetworkSpec{ID: a.TaskID, TaskID: a.TaskID, Mode: types.NetworkModeBridge,
		Ports: []agent.PortMapping{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp"}}})
	check(err)
	a.NetnsPath, b.NetnsPath = info.NetnsPath, info.NetnsPath
	check(n.Create(ctx, a))
	check(n.Start(ctx, a.ID))
	if err := n.Create(ctx, b); (err != nil) != (i%5 == 4) {
		t.Error(i, "second container:", err)
	} else if err == nil && i%7 != 6 { // one in seven is deleted before it was started
		check(n.Start(ctx, b.ID))
		if _, out, err := n.Exec(ctx, b.ID, []string{"/bin/echo", fmt.Sprint(i)}); err != nil || out != fmt.Sprintln(i) {
			t.Error(i, "exec:", out, err)
		}
	}
	check(n.Delete(ctx, a.ID))
	check(n.Delete(ctx, b.ID))
	check(net.Teardown(ctx, a.TaskID))
}

// BenchmarkStart measures a task of one container, from network to running process.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	net, err := network.Open(b.Context(), network.Config{ID: n.id, RunDir: n.run, StateDir: b.TempDir(), Log: n.config.Log})
	if err != nil {
		b.Fatal(err)
	}
	defer net.Destroy(context.Background())
	image := n.busybox(b, nil)
	go func() {
		for range n.Exits() {
		}
	}()
	for b.Loop() {
		s := n.container(image, "sleep 600")
		info, err := net.Setup(b.Context(), agent.NetworkSpec{ID: s.TaskID, Mode: types.NetworkModeAwsvpc})
		if err != nil {
			b.Fatal(err)
		}
		s.NetnsPath = info.NetnsPath
		n.start(b, s)
		b.StopTimer()
		if err := n.Delete(b.Context(), s.ID); err != nil {
			b.Fatal(err)
		}
		if err := net.Teardown(b.Context(), s.TaskID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
