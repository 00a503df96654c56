package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/containerd"
	"github.com/berthdev/berth/internal/node/agent/logdriver"
	"github.com/berthdev/berth/internal/node/agent/metadata"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/daemon"
	"github.com/berthdev/berth/internal/node/embedded"
	"github.com/berthdev/berth/internal/node/overlay"
	"github.com/berthdev/berth/internal/node/quota"
	"github.com/berthdev/berth/internal/node/vitals"
	"github.com/berthdev/berth/internal/serve/build"
	"github.com/berthdev/berth/internal/serve/dns"
	"github.com/berthdev/berth/internal/timeouts"
)

// The ports of the metadata server at the bridge's address. Each instance has a bridge of its own, so they never collide.
const metadataPort = 51679

// platform is containerd, runc and this machine's network as an instance uses them; `berth up` and `berth down` share it.
type platform struct {
	in          *Instance
	log         *slog.Logger
	binaries    embedded.Binaries
	snapshotter string
	daemon      *daemon.Daemon
	runtime     *containerd.Runtime
	images      *containerd.Images
	network     *network.Network
	overlay     *overlay.Overlay
}

func (in *Instance) cgroup() string { return "/" + in.Namespace() }

// Containerd is the config of the instance's containerd.
func (in *Instance) Containerd() daemon.Config { return in.daemonConfig() }

// daemonConfig is that of the instance's containerd.
func (in *Instance) daemonConfig() daemon.Config {
	return daemon.Config{Root: in.Path("containerd"), State: filepath.Join(in.RunDir(), "ctd"), Socket: in.ContainerdSocket(),
		LogFile: in.Path("containerd.log"), Cgroup: in.cgroup() + "-containerd"}
}

// openPlatform starts what does not run yet. What it opened before an error is closed.
func openPlatform(ctx context.Context, in *Instance, up uplink, log *slog.Logger) (_ *platform, err error) {
	if err := needRoot(); err != nil {
		return nil, err
	}
	p := &platform{in: in, log: log}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := os.MkdirAll(in.RunDir(), 0o700); err != nil {
		return nil, err
	}
	if p.binaries, err = embedded.Unpack(in.Path("bin")); err != nil {
		return nil, err
	}
	// containerd looks in PATH for the shim and runc of a container whose start it did not finish recording.
	if err := os.Setenv("PATH", filepath.Dir(p.binaries.Shim)+":"+os.Getenv("PATH")); err != nil {
		return nil, err
	}
	reason := ""
	if p.snapshotter, reason = daemon.Snapshotter(in.Path("containerd")); reason != "" {
		log.Warn("overlayfs cannot be used: each container gets a whole copy of its image", "reason", reason)
	}
	if p.daemon, err = daemon.New(in.daemonConfig(), log.With("component", "containerd")); err != nil {
		return nil, err
	}
	if err := p.daemon.Start(ctx); err != nil {
		return nil, err
	}
	quotas, err := in.quotas(p.snapshotter)
	if err != nil {
		return nil, err
	}
	p.runtime, err = containerd.New(containerd.Config{Socket: in.ContainerdSocket(), Namespace: in.Namespace(), Snapshotter: p.snapshotter,
		Runc: p.binaries.Runc, Shim: p.binaries.Shim, Init: p.binaries.Init, StateDir: filepath.Join(in.RunDir(), "runtime"), CgroupParent: in.cgroup(),
		Quotas: quotas, Log: log.With("component", "runtime")})
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	p.images, err = containerd.NewImages(p.runtime, containerd.ImagesConfig{Registry: in.RegistryHost(), Login: up.login, Servers: up.registry, Log: log.With("component", "images")})
	if err != nil {
		return nil, err
	}
	return p, p.openNetwork(ctx, up)
}

// openNetwork opens this machine's network, and what leads to other machines'.
func (p *platform) openNetwork(ctx context.Context, up uplink) (err error) {
	conf := p.in.networkConfig(p.log)
	if conf.Blocks, err = firstBlocks(ctx, p.in, up, conf, p.log); err != nil {
		return err
	}
	if p.network, err = network.Open(ctx, conf); err != nil {
		return err
	}
	key, err := p.in.overlayKey()
	if err != nil {
		return err
	}
	p.overlay, err = overlay.Open(overlay.Config{ID: p.in.ID, Gateway: p.network.Gateway(), Key: key, Log: p.log.With("component", "overlay")})
	return err
}

// quotas are those of the file system that containers write to; nil where it has none, which `berth doctor` says.
func (in *Instance) quotas(snapshotter string) (*quota.Quotas, error) {
	disk, err := quota.Detect(in.Path("containerd"))
	if err != nil || snapshotter != "overlayfs" { // a whole copy of the image is not the task's to pay for
		return nil, nil
	}
	return quota.Open(in.Path("quotas"), disk)
}

func (in *Instance) networkConfig(log *slog.Logger) network.Config {
	subnet, _ := netip.ParsePrefix(in.VPCCIDR) // the zero one for ""
	return network.Config{ID: in.ID, RunDir: in.RunDir(), StateDir: in.Path("network"), MetadataPort: metadataPort, Subnet: subnet, Groups: true,
		Log: log.With("component", "network")}
}

func (p *platform) close() {
	if p.overlay != nil {
		if err := p.overlay.Close(); err != nil {
			p.log.Warn("cannot close the overlay", "error", err)
		}
	}
	if p.network != nil {
		if err := p.network.Close(); err != nil {
			p.log.Warn("cannot close the network", "error", err)
		}
	}
	if p.runtime != nil {
		if err := p.runtime.Close(); err != nil {
			p.log.Warn("cannot close the connection to containerd", "error", err)
		}
	}
}

// openMachine makes this machine the place where tasks run.
func openMachine(ctx context.Context, in *Instance, up uplink, log *slog.Logger) (*machine, error) {
	p, err := openPlatform(ctx, in, up, log)
	if err != nil {
		return nil, err
	}
	outside, inside, err := p.metadataListeners()
	if err != nil {
		p.close()
		return nil, fmt.Errorf("task metadata: %w", err)
	}
	tree, err := cgroup.Detect()
	if err != nil {
		p.close()
		return nil, err
	}
	processes := func(taskID string) []int { return tree.Processes(path.Join(in.cgroup(), taskID)) }
	logs := logdriver.New(logdriver.Config{Sink: up.logs, Log: log.With("component", "logs")})
	private, err := in.overlayKey()
	if err != nil {
		p.close()
		return nil, err
	}
	public, err := overlay.PublicKey(private)
	if err != nil {
		p.close()
		return nil, err
	}
	gateway := p.network.Gateway().String()
	names := in.names != nil && in.names(net.JoinHostPort(gateway, "53"))
	m := &machine{runtimeVersion: "containerd", across: &across{p.network, in.NodeID, p.overlay, log.With("component", "network"), public}, gateway: p.network.Gateway().String(), ports: []int32{metadataPort, int32(outside.Addr().(*net.TCPAddr).Port)},
		Config: agent.Config{Runtime: p.runtime, Images: p.images, Network: p.network, Logs: logs, VolumeDir: in.Path("volumes"), FileSystems: in.fileSystems, GPUs: gpus(), RunDir: filepath.Join(in.RunDir(), "files"),
			HostMetadataURL: "http://" + outside.Addr().String(), NameServer: gateway, Names: names},
		close: func() {
			if err := logs.Close(); err != nil {
				log.Warn("cannot close the log driver", "error", err)
			}
			p.close()
		}}
	// A task's containers share an address; one that opens more connections than anybody needs is refused them.
	tasks := gate.New(gate.Config{Name: "task metadata", Total: gate.Part(8192, 8), PerSource: 64, Log: log})
	host := gate.New(gate.Config{Name: "task metadata of host mode", Total: gate.Part(1024, 16), Log: log})
	m.start = func(a *agent.Agent) {
		meta := metadata.New(metadata.Config{Tasks: a, Credentials: up.credentials, Protection: up.protect, AvailabilityZone: in.zone(), Subnet: p.network.Subnet(),
			Log: log.With("component", "metadata")})
		m.loops = append(m.loops,
			func(ctx context.Context) error {
				return serveHTTP(ctx, tasks.Listener(inside), meta.Handler(metadata.FromTask))
			},
			func(ctx context.Context) error {
				return serveHTTP(ctx, host.Listener(outside), meta.Handler(metadata.FromHostTask(processes)))
			})
	}
	watch := vitals.New(vitals.Config{Dir: in.dir, Runtime: p.daemon.Heard, Log: log.With("component", "vitals")})
	up.vitals(watch)
	m.loops = append(m.loops, watch.Run)
	if !names {
		m.loops = append(m.loops, p.nameServer(log)...)
	}
	m.loops = append(m.loops, p.daemon.Supervise, p.overlay.Run, p.collectImages, p.sweep, p.serveBuilds)
	return m, nil
}

// nameServer answers the DNS questions of tasks at the gateway, but for names of namespaces, where no proxy's process does. Where another program has the port on all addresses, that answers.
func (p *platform) nameServer(log *slog.Logger) []func(context.Context) error {
	log = log.With("component", "resolver")
	address := net.JoinHostPort(p.network.Gateway().String(), "53")
	at, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return nil
	}
	packets, err := net.ListenUDP("udp4", at)
	if err != nil {
		log.Info("tasks are not given a name server, unless the program that has the port is one", "address", address, "reason", err)
		return nil
	}
	r := dns.New(dns.Config{ResolvConf: "/etc/resolv.conf", Log: log})
	loops := []func(context.Context) error{func(ctx context.Context) error { return r.ServePackets(ctx, packets) }}
	streams, err := net.Listen("tcp4", address)
	if err != nil {
		log.Info("tasks are given a name server over UDP only", "address", address, "reason", err)
		return loops
	}
	bounded := gate.New(gate.Config{Name: "the tasks' name server", Total: gate.Part(512, 32), PerSource: 16, Log: log}).Listener(streams)
	return append(loops, func(ctx context.Context) error { return r.ServeStreams(ctx, bounded) })
}

// metadataListeners are those of the metadata server: one at the bridge, for tasks with a namespace, and one at 127.0.0.1, for tasks
// in host mode. Containers keep the latter's address in their environment, so the port is remembered.
func (p *platform) metadataListeners() (outside, inside net.Listener, err error) {
	if inside, err = net.Listen("tcp", net.JoinHostPort(p.network.Gateway().String(), strconv.Itoa(metadataPort))); err != nil {
		return nil, nil, err
	}
	file := p.in.Path("network", "host-metadata-port")
	if data, rerr := os.ReadFile(file); rerr == nil {
		if outside, err = net.Listen("tcp", "127.0.0.1:"+strings.TrimSpace(string(data))); err == nil {
			return outside, inside, nil
		}
		p.log.Warn("tasks in host mode that run already lose their metadata: its port was taken", "error", err)
	}
	if outside, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, nil, errors.Join(err, inside.Close())
	}
	return outside, inside, writeFile(file, []byte(strconv.Itoa(outside.Addr().(*net.TCPAddr).Port)))
}

// collectImages removes unused images when the disk fills.
func (p *platform) collectImages(ctx context.Context) error {
	return every(ctx, timeouts.ImageCollect, func() {
		if _, err := p.images.Collect(ctx, containerd.CollectConfig{Path: p.in.Path("containerd")}); err != nil && ctx.Err() == nil {
			p.log.Error("cannot collect unused images", "error", err)
		}
	})
}

// sweep removes what kills left of ended tasks.
func (p *platform) sweep(ctx context.Context) error {
	return every(ctx, timeouts.SweepCgroups, func() {
		if err := p.runtime.Sweep(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("cannot remove what ended tasks left", "error", err)
		}
	})
}

// cacheBytes is how much build cache is kept.
const cacheBytes = 4 << 30

// serveBuilds answers `berth build` on a socket that only root may use.
func (p *platform) serveBuilds(ctx context.Context) error {
	socket := p.in.BuildSocket()
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for builds: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	return build.NewServer(build.Config{Root: p.in.Path("build"), Containerd: p.in.ContainerdSocket(), Namespace: p.in.Namespace(),
		Runc: p.binaries.Runc, Shim: p.binaries.Shim, Snapshotter: p.snapshotter, CgroupParent: p.in.cgroup() + "-build",
		Registry: p.in.RegistryHost(), CacheBytes: cacheBytes, Log: p.log.With("component", "build")}).Serve(ctx, l)
}

// Containerd is the process `berth containerd`.
func Containerd(ctx context.Context, file string) error {
	c, err := daemon.ReadConfig(file)
	if err != nil {
		return err
	}
	return daemon.Run(ctx, c)
}
