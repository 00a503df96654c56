package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
	"github.com/berthdev/berth/internal/node/agent/logdriver"
	"github.com/berthdev/berth/internal/node/overlay"
	"github.com/berthdev/berth/internal/nodelink"
)

// node is this machine as a place for tasks: the agent on its runtime, and its half of the node link.
type node struct {
	in      *Instance
	log     *slog.Logger
	version string
	up      uplink
	agent   *agent.Agent
	machine *machine
	client  *nodelink.Client
}

// machine is what an agent works on. loops run beside the agent; close releases what is not a task's.
type machine struct {
	agent.Config
	runtimeVersion string
	gateway        string  // the bridge's address, at which tasks reach this machine; "" without one
	across         *across // nil where tasks have no addresses
	ports          []int32 // TCP ports that tasks may not take
	loops          []func(context.Context) error
	start          func(*agent.Agent) // called once the agent exists; may be nil
	close          func()
}

func openNode(ctx context.Context, in *Instance, up uplink, version string, log *slog.Logger) (*node, error) {
	n := &node{in: in, log: log, version: version, up: up}
	open := openMachine
	if in.Runtime == "fake" {
		open = openFake
	}
	var err error
	if n.machine, err = open(ctx, in, up, log); err != nil {
		return nil, err
	}
	conf := n.machine.Config
	conf.StateDir, conf.Region, conf.Pace = in.Path("tasks"), in.Region, in.Pace
	conf.Log = log.With("component", "agent")
	conf.Handout = up.handout
	conf.Report = func(r model.Report) { n.client.Report(r) }
	n.agent = agent.New(conf)
	if n.machine.start != nil {
		n.machine.start(n.agent)
	}
	return n, nil
}

// openFake is a machine in memory: for user interfaces, demonstrations and tests without root.
func openFake(_ context.Context, _ *Instance, up uplink, log *slog.Logger) (*machine, error) {
	m := fake.New(fake.Config{})
	logs := logdriver.New(logdriver.Config{Sink: up.logs, Log: log.With("component", "logs")}) // what they write is read as of real ones
	return &machine{Config: agent.Config{Runtime: m.Runtime, Images: m.Images, Network: m.Network, Logs: logs}, runtimeVersion: "fake",
		close: func() { m.Runtime.Close(); _ = logs.Close() }}, nil
}

// run manages tasks until ctx is done.
func (n *node) run(ctx context.Context) error {
	n.client = nodelink.NewClient(nodelink.ClientConfig{Declare: n.declare, Dial: n.up.dial, OnServers: n.up.servers, Memory: n.up.memory, Beats: n.up.beats, OnAssign: n.assigned,
		OnKeep: n.agent.Keep, Kept: n.kept,
		Log: n.log.With("component", "nodelink")})
	var guests sync.WaitGroup // sessions in containers, which end with ctx
	defer guests.Wait()
	n.client.OnCall = func(c nodelink.Call) { guests.Go(func() { n.called(ctx, c) }) }
	if n.machine.across != nil {
		n.client.Network = n.machine.across
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.agent.Run(ctx) })
	g.Go(func() error { return n.client.Run(ctx) })
	g.Go(func() error { return n.meter(ctx) })
	for _, loop := range n.machine.loops {
		g.Go(func() error { return loop(ctx) })
	}
	return g.Wait()
}

// assigned takes in the whole set of assignments.
func (n *node) assigned(all []model.Assignment) {
	if n.up.assigned != nil {
		n.up.assigned(all)
	}
	n.agent.SetAssignments(all)
}

// kept are the tasks that the servers' state does not know, since a backup was put back.
func (n *node) kept() (all []nodelink.Kept) {
	for _, a := range n.agent.Kept() {
		t := a.Task
		group := "family:" + t.Family
		if t.Service != "" {
			group = "service:" + t.Service
		}
		all = append(all, nodelink.Kept{Task: t.ID, Cluster: t.Cluster, Group: group, Definition: t.TaskDefinition})
	}
	slices.SortFunc(all, func(a, b nodelink.Kept) int { return strings.Compare(a.Task, b.Task) })
	return all
}

func (n *node) close() {
	if n.machine.close != nil {
		n.machine.close()
	}
}

// reservedMemory is what is kept for the machine itself, MiB.
const reservedMemory = 512

// declare is what the node says of itself. The reserved ports are those of the ECS agent's documentation and the API's own.
func (n *node) declare() model.Declaration {
	api, _ := strconv.Atoi(n.in.Port())
	arch := map[string]string{"amd64": "x86_64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	d := model.Declaration{Hostname: hostname(), Address: n.up.address(), CPU: int64(runtime.NumCPU()) * 1024,
		Memory: max(totalMemory()-reservedMemory, 256), ReservedPorts: append([]int32{22, 2375, 2376, int32(api)}, n.machine.ports...),
		Arch: runtime.GOARCH, Version: n.version, RuntimeVersion: n.machine.runtimeVersion, Boot: bootID(), Attributes: n.in.attributes(arch)}
	d.GPUs = len(n.machine.GPUs)
	if n.in.Node != nil {
		d.Clusters = n.in.Node.Clusters
	}
	if n.machine.across != nil {
		d.OverlayKey = n.machine.across.key
	}
	if address, err := netip.ParseAddr(d.Address); err == nil {
		d.MTU = overlay.MTU(address)
	}
	return d
}

// totalMemory is the machine's memory in MiB (/proc/meminfo).
func totalMemory() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kb); err == nil {
			return kb / 1024
		}
	}
	return 0
}

// gpus are the numbers of this machine's NVIDIA GPUs: those of the devices /dev/nvidia<number>.
func gpus() (numbers []string) {
	paths, _ := filepath.Glob("/dev/nvidia[0-9]*") // the pattern is good
	for _, path := range paths {
		number := strings.TrimPrefix(path, "/dev/nvidia")
		if _, err := strconv.Atoi(number); err == nil {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
