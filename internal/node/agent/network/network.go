// Package network connects tasks with the kernel's own means: network namespaces, a veth pair for each, routes, and one nftables
// table an instance of Berth for NAT, published ports and what may pass. It runs no other program.
//
// Each task is alone on its link: it has a /32 and a route to the gateway, and the machine has a route to it. What a task sends from
// an address that is not routed to its device is dropped, so an address tells which task speaks.
package network

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

// Config is what a Network needs. ID, StateDir and RunDir are required.
type Config struct {
	// ID is the instance's, at most 8 characters: names of devices and tables carry it.
	ID string
	// StateDir keeps the chosen subnet; RunDir holds namespaces and what each was given, and must be on tmpfs: all of it is void
	// after a reboot.
	StateDir, RunDir string
	// Subnet is what the tasks' subnet is taken from: its first /20 (4,091 addresses) that nothing on this machine uses, or all of it
	// when it is smaller; at least a /28. The zero Prefix means 172.31.0.0/16, as in AWS's default VPC, or another private network
	// when the machine itself lives in that.
	Subnet netip.Prefix
	// Blocks are what the servers gave a node before its first start, the first of which its gateway is of. They count when nothing is
	// remembered of an earlier start.
	Blocks []netip.Prefix
	// MetadataPort is where the metadata server listens on the gateway's address; tasks reach it as 169.254.170.2:80, and it sees
	// their own address. 0 means there is none.
	MetadataPort uint16
	// Groups: security groups are enforced, once SetGroups has said which there are.
	Groups bool
	// FirstPort and LastPort are what host ports are chosen from; 0 means 49153–65535.
	FirstPort, LastPort uint16
	Log                 *slog.Logger
}

// Network implements agent.Network. Its methods may be called from many goroutines. One Network at a time may be open for an
// instance.
type Network struct {
	c          Config
	log        *slog.Logger
	subnet     netip.Prefix
	gateway    netip.Addr
	bridge     *netlink.Bridge
	link       *netlink.Handle
	mtu        int
	nft        firewall
	shield     shield
	enforcing  sync.Mutex
	resolvConf string
	outside    []string // devices between which this machine forwarded nothing before Berth; see forwarding.go

	stop context.CancelFunc // of the goroutine that keeps the rules in place
	kept sync.WaitGroup

	mu      sync.Mutex
	records map[string]*record    // by network id
	byAddr  map[netip.Addr]string // network id
	last    netip.Addr            // address given last
	blocks  []*block              // that addresses are given from, by their addresses; see addresses.go
	resting map[netip.Addr]time.Time
	wanted  map[string]int // how many wait for an address, by subnet
	more    chan struct{}  // closed when there may be one
	changed chan struct{}
	setting sync.Mutex
	guard   guard
	held    map[portKey]held
	busy    map[string]*sync.Mutex // by network id
}

var _ agent.Network = (*Network)(nil)

const maxID = 7

// Open makes the instance's bridge, its subnet and its nftables table, or takes over those of an earlier process with all that is
// connected to them. Traffic that flows is not interrupted.
func Open(ctx context.Context, c Config) (*Network, error) {
	n, err := open(c)
	if err != nil {
		return nil, err
	}
	if err := n.readRecords(); err != nil {
		return nil, n.give(err)
	}
	if err := n.ensureBridge(); err != nil {
		return nil, n.give(err)
	}
	if err := errors.Join(setSysctls(n.bridge.Name), n.ensureForwarding()); err != nil {
		return nil, n.give(err)
	}
	n.mu.Lock()
	n.holdRecorded()
	n.mu.Unlock()
	n.shield.gateway = n.gateway
	if n.loadGuard(); n.guard.known {
		if err := n.enforce(); err != nil {
			return nil, n.give(err)
		}
	}
	if err := n.install(); err != nil {
		return nil, n.give(err)
	}
	for _, r := range n.recorded() {
		if r.Done && !n.intact(r) { // or it is put in order now
			n.log.Info("a network was damaged while Berth was away; it is made anew when its task is next looked at", "network", r.ID)
		}
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.kept.Go(func() { n.keep(watching) })
	return n, nil
}

// install makes the instance's tables anew, with all that is connected.
func (n *Network) install() error {
	if err := n.nft.install(n.rules()); err != nil {
		return fmt.Errorf("install nftables rules: %w", err)
	}
	if err := n.nft.passForward(); err != nil {
		n.log.Warn("another firewall may drop the traffic of tasks; see berth doctor", "error", err)
	}
	return nil
}

// rules are what the table is made from.
func (n *Network) rules() rules {
	n.mu.Lock()
	var blocks []netip.Prefix
	for _, b := range n.blocks {
		blocks = append(blocks, b.prefix)
	}
	n.mu.Unlock()
	return rules{blocks: blocks, gateway: n.gateway, metadata: n.c.MetadataPort, published: n.elements,
		outside: n.outside}
}

// open makes a Network without touching the machine.
func open(c Config) (*Network, error) {
	if c.ID == "" || len(c.ID) > maxID || c.StateDir == "" || c.RunDir == "" {
		return nil, fmt.Errorf("network: id %q (1–%d characters), state and run folder are required", c.ID, maxID)
	}
	if s := c.Subnet; s.IsValid() && (!s.Addr().Is4() || s.Bits() > 28 || s.Bits() < 8) {
		return nil, fmt.Errorf("network: the subnet %s must be an IPv4 one between /8 and /28", s)
	}
	if c.FirstPort == 0 {
		c.FirstPort = 49153
	}
	if c.LastPort == 0 {
		c.LastPort = 65535
	}
	if c.FirstPort > c.LastPort {
		return nil, fmt.Errorf("network: host ports from %d to %d are no range", c.FirstPort, c.LastPort)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	link, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network: open netlink: %w", err)
	}
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		link.Close()
		return nil, fmt.Errorf("network: open nftables: %w", err)
	}
	groups, err := nftables.New(nftables.AsLasting())
	if err != nil {
		link.Close()
		return nil, errors.Join(fmt.Errorf("network: open nftables: %w", err), conn.CloseLasting())
	}
	return &Network{c: c, log: c.Log, link: link, resolvConf: "/etc/resolv.conf", nft: firewall{conn: conn, id: c.ID, refused: map[string]bool{}}, shield: shield{id: c.ID, metadata: c.MetadataPort, conn: groups}, records: map[string]*record{},
		byAddr: map[netip.Addr]string{}, resting: map[netip.Addr]time.Time{}, wanted: map[string]int{}, more: make(chan struct{}), changed: make(chan struct{}, 1), held: map[portKey]held{}, busy: map[string]*sync.Mutex{}}, nil
}

// give closes n and returns err.
func (n *Network) give(err error) error { return errors.Join(err, n.Close()) }

// Close ends this process's part. What is connected stays connected.
func (n *Network) Close() error {
	if n.stop != nil {
		n.stop()
		n.kept.Wait()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.held {
		h.close()
	}
	clear(n.held)
	n.link.Close()
	return errors.Join(n.nft.conn.CloseLasting(), n.shield.conn.CloseLasting())
}

// Gateway is the address of this machine that tasks see; the metadata server listens on it.
func (n *Network) Gateway() netip.Addr { return n.gateway }

// Subnet is that of a VPC in which tasks have their addresses, as far as clients are told.
func (n *Network) Subnet() netip.Prefix { return n.subnet }

// ByAddr tells whose address a is: the id that Setup was given, and the task.
func (n *Network) ByAddr(a netip.Addr) (id, taskID string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, ok = n.byAddr[a.Unmap()]
	if r := n.records[id]; ok && r != nil {
		return id, r.TaskID, true
	}
	return "", "", false
}

// lock makes calls for one id wait for each other. The lock is forgotten with the last who wants it.
func (n *Network) lock(id string) (unlock func()) {
	n.mu.Lock()
	l := n.busy[id]
	if l == nil {
		l = &sync.Mutex{}
		n.busy[id] = l
	}
	n.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.records[id] == nil && l.TryLock() {
			if n.busy[id] == l {
				delete(n.busy, id)
			}
			l.Unlock()
		}
	}
}

// Names on the machine. A device's name has at most 15 characters.

// BridgeName is the name of an instance's bridge, which holds the gateway's address. No device is plugged into it: each task has a
// link of its own to this machine, which routes, so that tasks share nothing in which they could pass for each other.
func BridgeName(id string) string { return "brth-" + id }

// DevicePrefix is what the names of the devices of an instance's tasks begin with.
func DevicePrefix(id string) string { return "bv" + id }

// OverlayPrefix is what the name of the device begins with that leads to the tasks of other machines; see package overlay.
func OverlayPrefix(id string) string { return "bvx-" + id }

// OverlayPort is the UDP port on which machines take what is for their tasks: VXLAN's own port (4789) is some clouds' and VMware's, and
// 8472 is flannel's.
const OverlayPort = 4569

// SelfTestPort is where a machine answers others, at its gateway's address and through the overlay, that ask whether they reach it.
const SelfTestPort = 4569

// vethName is the device of the task at a. No two addresses of the default VPC, whose addresses begin with gateway's first byte, differ in
// their first byte only; those of other VPCs are spelled in letters that no hexadecimal number has.
func (n *Network) vethName(a netip.Addr) string {
	b, home := a.As4(), n.gateway.As4()
	if b[0] == home[0] {
		return DevicePrefix(n.c.ID) + hex.EncodeToString(b[1:])
	}
	const letters = "ghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" // 46 of them: six say 2^33
	v, name := uint64(binary.BigEndian.Uint32(b[:])), make([]byte, 6)
	for i := range name {
		name[i], v = letters[v%uint64(len(letters))], v/uint64(len(letters))
	}
	return DevicePrefix(n.c.ID) + string(name)
}

func (n *Network) netnsDir() string { return filepath.Join(n.c.RunDir, "netns") }

// NetnsPath is where the namespace of a network is mounted.
func (n *Network) NetnsPath(id string) string { return filepath.Join(n.netnsDir(), id) }

// Destroy tears down every network and removes the bridge, the table and all records. n is closed.
func (n *Network) Destroy(ctx context.Context) error {
	ids, _ := n.List(ctx)
	var errs []error
	for _, id := range ids {
		errs = append(errs, n.Teardown(ctx, id))
	}
	return errors.Join(append(errs, n.Close(), RemoveAll(n.c))...)
}

// RemoveAll removes an instance's bridge, devices, table, namespaces and records; the subnet is remembered. No Network of it may
// be open. What is missing is no error.
func RemoveAll(c Config) error {
	n, err := open(c)
	if err != nil {
		return err
	}
	entries, _ := os.ReadDir(n.netnsDir())
	var errs []error
	for _, e := range entries {
		errs = append(errs, removeNamespace(n.NetnsPath(e.Name())))
	}
	return errors.Join(append(errs, n.restoreForwarding(), n.removeDevices(), n.nft.remove(), n.shield.remove(), os.RemoveAll(n.netnsDir()), os.RemoveAll(n.recordDir()),
		n.Close())...)
}

// removeDevices removes the bridge and every veth of the instance.
func (n *Network) removeDevices() error {
	links, err := n.links()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if !n.own(l) {
			continue
		}
		if err := n.link.LinkDel(l); err != nil && !isGone(err) {
			errs = append(errs, fmt.Errorf("remove device %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func isGone(err error) bool {
	_, missing := errors.AsType[netlink.LinkNotFoundError](err)
	return missing || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}
