// Package network gives tasks their namespaces: one bridge an instance of Berth, a veth pair for each namespace, and one nftables
// table for what leaves the machine, for published ports and for the metadata address. Everything is done by netlink; no program
// is executed. What was made is recorded in files before it is made, so that a crash at any point leaves nothing unaccounted.
package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/internal/agent"
	"github.com/berthdev/berth/internal/model"
)

// Config is what a Network needs.
type Config struct {
	// ID is the instance's, 6 hexadecimal digits; the names of the bridge, the links and the table carry it.
	ID string
	// RunDir holds namespaces and records; it must be gone after a reboot.
	RunDir string
	// StateDir remembers the subnet, so that it is the same after a reboot.
	StateDir string
	// Subnet of the tasks, at most /28; the zero Prefix means the first of candidates that nothing on this machine uses.
	Subnet netip.Prefix
	// MetadataPort is the port at the gateway to which requests for 169.254.170.2:80 go.
	MetadataPort uint16
	Log          *slog.Logger
}

// Network implements agent.Network.
type Network struct {
	c       Config
	subnet  netip.Prefix
	gateway netip.Addr
	bridge  int // index of the link
	rules   *rules

	mu      sync.Mutex
	records map[string]*record // by id
	last    netip.Addr         // the address given last: the next one follows it, so that none is used again at once
	ports   map[model.HostPort]string
}

var _ agent.Network = (*Network)(nil)

// record is one namespace and what belongs to it.
type record struct {
	ID    string
	Mode  types.NetworkMode
	IPv4  netip.Addr
	MAC   string
	Ports []agent.PortMapping
}

// BridgeName is the name of an instance's bridge.
func BridgeName(id string) string { return "brth-" + id }

// Open makes the bridge and the table, or takes over those of an earlier process.
func Open(_ context.Context, c Config) (*Network, error) {
	n := &Network{c: c, records: map[string]*record{}, ports: map[model.HostPort]string{}}
	for _, dir := range []string{n.nsDir(), n.recordDir(), c.StateDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
	}
	if err := n.loadRecords(); err != nil {
		return nil, fmt.Errorf("network records: %w", err)
	}
	var err error
	if n.subnet, err = chooseSubnet(c); err != nil {
		return nil, err
	}
	n.gateway = n.subnet.Addr().Next()
	n.last = n.gateway
	if n.bridge, err = n.makeBridge(); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", BridgeName(c.ID), err)
	}
	n.rules = &rules{id: c.ID, bridge: BridgeName(c.ID), subnet: n.subnet, gateway: n.gateway, metadata: c.MetadataPort}
	if err := n.rules.install(n.published()); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return n, n.forward()
}

// Subnet is that of the tasks; Gateway is this machine's address in it.
func (n *Network) Subnet() netip.Prefix { return n.subnet }

// Gateway is this machine's address in the subnet.
func (n *Network) Gateway() netip.Addr { return n.gateway }

func (n *Network) nsDir() string     { return filepath.Join(n.c.RunDir, "netns") }
func (n *Network) recordDir() string { return filepath.Join(n.c.RunDir, "net") }

func (n *Network) nsPath(id string) string     { return filepath.Join(n.nsDir(), id) }
func (n *Network) recordPath(id string) string { return filepath.Join(n.recordDir(), id+".json") }

func (n *Network) loadRecords() error {
	files, err := os.ReadDir(n.recordDir())
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(n.recordDir(), f.Name()))
		if err != nil {
			return err
		}
		r := &record{}
		if json.Unmarshal(data, r) != nil || r.ID == "" { // written half when the machine stopped
			n.c.Log.Warn("a network record is damaged and ignored", "file", f.Name())
			continue
		}
		n.hold(r)
	}
	return nil
}

// hold keeps a record in memory. It needs the lock (or sole ownership).
func (n *Network) hold(r *record) {
	n.records[r.ID] = r
	for _, p := range r.Ports {
		n.ports[model.HostPort{Port: p.HostPort, Protocol: p.Protocol}] = r.ID
	}
}

func (n *Network) save(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := n.recordPath(r.ID) + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, n.recordPath(r.ID))
}

// published lists the ports of all records.
func (n *Network) published() (all []publication) {
	for _, r := range n.records {
		all = append(all, publications(r)...)
	}
	return all
}

func publications(r *record) (all []publication) {
	for _, p := range r.Ports {
		all = append(all, publication{p.Protocol, uint16(p.HostPort), r.IPv4, uint16(p.ContainerPort)})
	}
	return all
}

// makeBridge returns the index of the bridge, which has the gateway's address.
func (n *Network) makeBridge() (int, error) {
	name := BridgeName(n.c.ID)
	link, err := netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return 0, err
		}
		link, err = netlink.LinkByName(name)
	}
	if err != nil {
		return 0, err
	}
	addr, err := netlink.ParseAddr(netip.PrefixFrom(n.gateway, n.subnet.Bits()).String())
	if err != nil {
		return 0, err
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return 0, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// forward lets this machine route for tasks, and lets 127.0.0.1 reach published ports.
func (n *Network) forward() error {
	const ipForward = "/proc/sys/net/ipv4/ip_forward"
	if now, err := os.ReadFile(ipForward); err == nil && strings.TrimSpace(string(now)) == "0" {
		if err := os.WriteFile(ipForward, []byte("1"), 0); err != nil {
			return fmt.Errorf("switch on net.ipv4.ip_forward, without which tasks reach nothing: %w", err)
		}
		n.c.Log.Info("switched on net.ipv4.ip_forward")
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+BridgeName(n.c.ID)+"/route_localnet", []byte("1"), 0); err != nil {
		n.c.Log.Warn("published ports do not answer at 127.0.0.1 of this machine", "error", err)
	}
	return nil
}

// Setup implements agent.Network.
func (n *Network) Setup(_ context.Context, spec agent.NetworkSpec) (agent.NetworkInfo, error) {
	if spec.ID == "" || strings.ContainsAny(spec.ID, "/\x00") {
		return agent.NetworkInfo{}, fmt.Errorf("network id %q is no file name", spec.ID)
	}
	r, existed, err := n.reserve(spec)
	if err != nil {
		return agent.NetworkInfo{}, err
	}
	if !existed || !n.alive(r) {
		if err := n.connect(r); err != nil {
			return agent.NetworkInfo{}, &agent.Error{Name: "ContainerNetworkingError", Message: err.Error()}
		}
	}
	info := agent.NetworkInfo{NetnsPath: n.nsPath(r.ID), MAC: r.MAC, Ports: slices.Clone(r.Ports)}
	if r.IPv4.IsValid() {
		info.IPv4, info.Gateway = r.IPv4.String(), n.gateway.String()
	}
	return info, nil
}

// reserve gives the namespace an address and host ports and records them before anything is made.
func (n *Network) reserve(spec agent.NetworkSpec) (*record, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.records[spec.ID]; r != nil {
		return r, true, nil
	}
	r := &record{ID: spec.ID, Mode: spec.Mode}
	if spec.Mode != types.NetworkModeNone {
		var err error
		if r.IPv4, err = n.freeAddress(); err != nil {
			return nil, false, err
		}
		r.MAC = macOf(r.IPv4)
	}
	for _, p := range spec.Ports {
		if p.Protocol == "" {
			p.Protocol = "tcp"
		}
		port, err := n.hostPort(p)
		if err != nil {
			for _, q := range r.Ports {
				delete(n.ports, model.HostPort{Port: q.HostPort, Protocol: q.Protocol})
			}
			return nil, false, err
		}
		p.HostPort = port
		r.Ports = append(r.Ports, p)
		n.ports[model.HostPort{Port: port, Protocol: p.Protocol}] = spec.ID
	}
	n.hold(r)
	if err := n.save(r); err != nil {
		n.release(r)
		return nil, false, fmt.Errorf("record a network: %w", err)
	}
	return r, false, nil
}

// release forgets a record. It needs the lock.
func (n *Network) release(r *record) {
	delete(n.records, r.ID)
	for _, p := range r.Ports {
		delete(n.ports, model.HostPort{Port: p.HostPort, Protocol: p.Protocol})
	}
}

// Teardown implements agent.Network.
func (n *Network) Teardown(_ context.Context, id string) error {
	n.mu.Lock()
	r := n.records[id]
	n.mu.Unlock()
	if r == nil {
		return nil
	}
	if err := n.rules.unpublish(publications(r)); err != nil {
		return fmt.Errorf("withdraw the ports of %s: %w", id, err)
	}
	if err := n.disconnect(r); err != nil {
		return fmt.Errorf("remove the network of %s: %w", id, err)
	}
	if err := os.Remove(n.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.release(r)
	return nil
}

// List implements agent.Network.
func (n *Network) List(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]string, 0, len(n.records))
	for id := range n.records {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// Destroy removes everything of the instance from the machine.
func (n *Network) Destroy(ctx context.Context) error {
	ids, _ := n.List(ctx)
	var errs []error
	for _, id := range ids {
		errs = append(errs, n.Teardown(ctx, id))
	}
	return errors.Join(append(errs, Remove(n.c.ID))...)
}

// Remove deletes the bridge and the table of an instance, whether or not a Network is open.
func Remove(id string) error {
	var errs []error
	if link, err := netlink.LinkByName(BridgeName(id)); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(append(errs, (&rules{id: id}).remove())...)
}
