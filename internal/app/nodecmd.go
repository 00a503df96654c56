package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/gate"
	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/plan/placement"
)

// NodeConfig is what `berth node` was told. What is empty is what it was at the last start.
type NodeConfig struct {
	DataDir    string
	Join       string // berth://host:port/token; needed once
	Replace    string // the node whose place this machine takes
	Listen     string // where the cluster's API answers on this machine
	Advertise  string // an IP address at which other machines reach this one
	Zone       string
	Clusters   []string          // nil: what it was; at first all
	Attributes map[string]string // nil: what they were
	Balancer   *bool             // whether load balancers are served there; nil: what it was, at first as Berth decides
	Runtime    string
	Version    string
	Verbose    bool
}

var errNotJoined = errors.New("this machine is in no cluster yet")

// NodeSettings are what a node keeps of what it was told.
type NodeSettings struct {
	Address    string            `json:"address,omitempty"`
	Zone       string            `json:"zone,omitempty"`
	Clusters   []string          `json:"clusters,omitempty"` // none: every active one
	Attributes map[string]string `json:"attributes,omitempty"`
	Balancer   *bool             `json:"balancer,omitempty"` // nil: as Berth decides
	// Unreachable: when it joined, the servers did not get through to its cluster port (UDP), as behind a router that translates addresses.
	Unreachable bool `json:"unreachable,omitempty"`
}

// Node is `berth node`: this machine as a place for the tasks of a cluster whose servers are elsewhere, until ctx is done. Tasks go on
// when it returns.
func Node(ctx context.Context, c NodeConfig, out io.Writer) error {
	in, made, err := openNodeInstance(c)
	if err != nil {
		return err
	}
	release, err := in.lock()
	if err != nil {
		return err
	}
	defer release()
	log := newLogger(c.Verbose)
	if err := gate.RaiseFiles(); err != nil {
		log.Warn("few connections at once", "reason", err)
	}
	clock := &pki.Clock{}
	joined, err := in.join(ctx, c, clock)
	if err != nil {
		if made {
			in.unmake()
		}
		return err
	}
	r, err := openRemote(in, clock, log)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w; join with: berth node --join berth://HOST:4567/TOKEN (on a server: berth token node)", in.dir, errNotJoined)
	}
	if err != nil {
		return err
	}
	defer r.close()
	front := openFront(in, c, r, log)
	defer front.close()
	n, err := openNode(ctx, in, r.uplink(), c.Version, log)
	if err != nil {
		return err
	}
	defer n.close()
	n.greet(out, r.identity.Load(), joined)
	return n.serve(ctx, r, front, log)
}

// serve runs the node until ctx is done.
func (n *node) serve(ctx context.Context, r *remote, f *front, log *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.run(ctx) })
	g.Go(func() error { return r.renew(ctx) })
	g.Go(func() error { return r.pulse.run(ctx, r.pulse.alone, n.agent.End) })
	g.Go(func() error {
		if f == nil {
			return r.relay(ctx, n.in.Listen, log)
		}
		return f.run(ctx, r, n.machine.gateway)
	})
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		log.Info("stopped; tasks go on, and the next berth node manages them")
		return nil
	}
	return err
}

// openNodeInstance reads or makes the instance of a node, and lays what c says over it. made: it was not there.
func openNodeInstance(c NodeConfig) (in *Instance, made bool, err error) {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, false, fmt.Errorf("data directory: %w", err)
	}
	if err := claimDir(dir); err != nil {
		return nil, false, fmt.Errorf("data directory: %w", err)
	}
	in, err = LoadInstance(dir)
	switch {
	case errors.Is(err, ErrNoInstance):
		if c.Join == "" {
			return nil, false, fmt.Errorf("%s: %w; join with: berth node --join berth://HOST:4567/TOKEN (on a server: berth token node)", dir, errNotJoined)
		}
		made, in = true, &Instance{ID: randomHex(3), NodeID: randomHex(16), Listen: DefaultListen, Region: DefaultRegion, Account: DefaultAccount,
			Pace: model.PaceFast, Runtime: "containerd", Created: time.Now().UTC(), Node: &NodeSettings{}, dir: dir}
	case err != nil:
		return nil, false, err
	case in.Node == nil:
		return nil, false, fmt.Errorf("%s is that of a server, which is a node already if it runs berth up; use another --data-dir for a node of another cluster", dir)
	}
	if err := in.Node.set(c, in.Region); err != nil {
		return nil, false, err
	}
	set(&in.Runtime, c.Runtime)
	set(&in.Listen, c.Listen)
	if err := in.check(); err != nil {
		return nil, false, err
	}
	return in, made, in.save()
}

// set lays what the command line says over the settings.
func (s *NodeSettings) set(c NodeConfig, region string) error {
	if c.Advertise != "" {
		if at, err := netip.ParseAddr(c.Advertise); err != nil || at.IsUnspecified() {
			return &SettingError{"advertise", c.Advertise, "the IP address at which the other machines reach this one"}
		}
		s.Address = c.Advertise
	}
	set(&s.Zone, c.Zone)
	if c.Clusters != nil {
		s.Clusters = c.Clusters
	}
	if c.Attributes != nil {
		s.Attributes = c.Attributes
	}
	if c.Balancer != nil {
		s.Balancer = c.Balancer
	}
	for name := range s.Attributes {
		if name == "" || strings.HasPrefix(name, "ecs.") || name == model.AttributeBalancer || name == model.AttributeReachable {
			return &SettingError{"attribute", name, "name=value with a name that does not begin with ecs. and is neither berth.lb nor berth.reachable, which are Berth's own"}
		}
	}
	return nil
}

// unmake forgets an instance that came to nothing, unless a server may know of it.
func (in *Instance) unmake() {
	if _, err := os.Stat(filepath.Join(in.pkiDir(), "key.pem")); errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(in.Path("instance.json")) // else the next start begins with it
	}
}

// join makes the machine one of the cluster, if it is told to; nil: it is not.
func (in *Instance) join(ctx context.Context, c NodeConfig, clock *pki.Clock) (*join.Result, error) {
	if c.Join == "" {
		return nil, nil
	}
	url, err := pki.ParseJoinURL(c.Join, pki.RoleNode)
	if err != nil {
		return nil, fmt.Errorf("--join: %w", err) // without the token, which is a secret
	}
	joined, err := join.Join(ctx, join.Config{URL: url, Dir: in.pkiDir(), Ports: nodePorts(), Clock: clock,
		Machine: join.Machine{ID: in.NodeID, Hostname: hostname(), Address: in.Node.Address, Version: c.Version, Level: model.Level, Boot: bootID(), Replace: c.Replace}})
	if err != nil {
		return nil, err
	}
	in.NodeID, in.Node.Address = joined.Identity.Peer.ID, joined.Address
	in.Account, in.Region, in.Pace = joined.Site.Account, joined.Site.Region, model.Pace(joined.Site.Pace)
	in.Node.Unreachable = slices.ContainsFunc(joined.Closed(), func(p join.Port) bool { return p.Network == "udp" && p.Number == peer.Port })
	return joined, in.save()
}

// ResetNode makes the machine one that has never been a node of a cluster.
func ResetNode(dir string, out io.Writer) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	if in.Node == nil {
		return fmt.Errorf("%s is that of a server: what it holds would be lost; to begin anew, run: berth down --purge", in.dir)
	}
	release, err := in.lock()
	if err != nil {
		return fmt.Errorf("%w; stop it first", err)
	}
	defer release()
	old := in.NodeID
	in.NodeID, in.Node.Address = randomHex(16), ""
	if err := errors.Join(pki.Reset(in.pkiDir()), in.save()); err != nil {
		return err
	}
	fmt.Fprintf(out, "this machine was node %s; to join again: berth node --join berth://HOST:4567/TOKEN (on a server: berth token node)\n", old[:8])
	return nil
}

// nodePorts are those of a node that other machines send to.
func nodePorts() []join.Port {
	return []join.Port{{Network: "udp", Number: 4567}, {Network: "udp", Number: 4569}}
}

// zone is the node's availability zone: a letter is one of the region's.
func (in *Instance) zone() string {
	switch {
	case in.Node == nil || in.Node.Zone == "":
		return in.Region + "a"
	case len(in.Node.Zone) == 1:
		return in.Region + in.Node.Zone
	}
	return in.Node.Zone
}

// greet says which node of which cluster this is.
func (n *node) greet(out io.Writer, id *pki.Identity, joined *join.Result) {
	d := n.declare()
	fmt.Fprintf(out, "%s is node %s of %s: %d CPU, %d GiB, zone %s.", d.Hostname, id.Peer.ID[:min(4, len(id.Peer.ID))], id.Peer.Cluster, d.CPU/1024,
		(d.Memory+512)/1024, d.Attributes["ecs.availability-zone"])
	if joined == nil {
		fmt.Fprintln(out)
		return
	}
	open := []string{}
	for _, p := range joined.Ports {
		if p.Open {
			open = append(open, p.String())
		}
	}
	if len(open) > 0 {
		fmt.Fprintf(out, " %s reached.", strings.Join(open, " and "))
	}
	fmt.Fprintf(out, " Clock %+.2f s.\n", -joined.Ahead.Seconds())
	for _, p := range joined.Closed() {
		fmt.Fprintf(out, "The server did not reach %s here. Open it with: %s\n", p, p.Cure())
	}
	if n.in.Node.Unreachable {
		fmt.Fprintln(out, "Until it is started with --join again, when they get through, it counts as out of reach (berth.reachable=false): no load balancers, and 5 s until it is taken for dead.")
	}
	if joined.Apart {
		fmt.Fprintln(out, "The clocks are apart: certificates are read by the server's. Set both by NTP: timedatectl set-ntp true")
	}
}

// attributes are the node's own, those it was told and those that ECS defines.
func (in *Instance) attributes(arch string) map[string]string {
	all := map[string]string{}
	if in.Node != nil {
		maps.Copy(all, in.Node.Attributes)
		if in.Node.Balancer != nil {
			all[model.AttributeBalancer] = strconv.FormatBool(*in.Node.Balancer)
		}
		if in.Node.Unreachable {
			all[model.AttributeReachable] = "false"
			if all[placement.ENILimitAttribute] == "" {
				all[placement.ENILimitAttribute] = "0" // nobody would get through to tasks with addresses of their own
			}
		}
	}
	maps.Copy(all, map[string]string{"ecs.os-type": "linux", "ecs.cpu-architecture": arch, "ecs.instance-type": "berth.local",
		"ecs.availability-zone": in.zone(), "ecs.ami-id": "berth"})
	return all
}

// bootID is the kernel's id of the machine's run; "" where it has none.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// readJSON reads a file of JSON; what does not exist leaves v as it is.
func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func writeJSON(file string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(file, data)
}
