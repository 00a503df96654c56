// Package overlay leads the packets of tasks to tasks of other machines: one VXLAN device a machine, and for each other machine a
// route to its blocks of addresses, a neighbour and a forwarding entry, all of them fixed: nothing is asked by broadcast and nothing
// learned from packets. What the kernel has is compared with what is wanted on each change, and from time to time.
//
// As long as there is no other machine nothing is made.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/network"
	"github.com/berthdev/berth/internal/timeouts"
)

const (
	// VNI is the network's number in VXLAN's header.
	VNI  = 4242
	Port = network.OverlayPort
)

// Config is what an Overlay needs. ID and Gateway are required.
type Config struct {
	ID string // the instance's
	// Gateway is this machine's own address among those of tasks: what it sends to tasks of others comes from there.
	Gateway netip.Addr
	Key     string // this machine's private WireGuard key, in base64; needed where what is between machines is encrypted
	Log     *slog.Logger
}

// Overlay keeps the kernel's entries as they are wanted. Set may be called from many goroutines.
type Overlay struct {
	c      Config
	log    *slog.Logger
	link   *netlink.Handle
	filter *filter
	wake   chan struct{}

	mu     sync.Mutex
	wanted Wanted
	why    map[string]string // peers that are not led to, and why, as of the last level
	failed error             // what the last level failed by
	// As of the last level: the peers that are led to, and the device.
	reachable []model.Peer
	made      int

	levelled chan struct{} // receives after a level

	// What follows is level's alone.
	device int     // the index of the device; 0 without one
	have   tables  // as far as is known
	tunnel *tunnel // nil without encryption
}

// Open makes an Overlay without touching the machine. Its sockets are of the calling thread's network namespace.
func Open(c Config) (*Overlay, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	link, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("overlay: open netlink: %w", err)
	}
	f, err := openFilter(c.ID)
	if err != nil {
		link.Close()
		return nil, fmt.Errorf("overlay: open nftables: %w", err)
	}
	return &Overlay{c: c, log: c.Log, link: link, filter: f, wake: make(chan struct{}, 1), levelled: make(chan struct{}, 1), have: newTables()}, nil
}

// Close ends this process's part. Traffic goes on, but for what is encrypted.
func (o *Overlay) Close() error {
	o.closeTunnel()
	o.link.Close()
	return o.filter.conn.CloseLasting()
}

// Set says what is wanted. It never blocks; Run does the work.
func (o *Overlay) Set(w Wanted) {
	o.mu.Lock()
	o.wanted = w
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Unreached are the peers whose tasks cannot be reached, and why.
func (o *Overlay) Unreached() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.why)
}

// Run keeps the entries as they are wanted until ctx ends.
func (o *Overlay) Run(ctx context.Context) error {
	look, whole := time.NewTicker(timeouts.OverlayLook), time.NewTicker(timeouts.OverlayKept)
	defer look.Stop()
	defer whole.Stop()
	l, err := o.listen()
	if err != nil {
		o.log.Warn("other machines make their checksums themselves", "error", err)
	}
	var tests sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer tests.Wait()
	defer cancel()
	if l != nil {
		tests.Go(func() { o.serveTests(ctx, l) })
	}
	tests.Go(func() { o.check(ctx) })
	all := true // read from the kernel what there is
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
		case <-o.wake:
		case <-whole.C:
			all = true
		case <-look.C:
			if o.there() {
				continue
			}
			all = true
		}
		retry = nil
		if err := o.level(all); err != nil {
			if old := o.fail(err); old == nil || old.Error() != err.Error() {
				o.log.Warn("tasks of other machines may not be reached; trying again", "error", err)
			}
			all, retry = true, time.After(timeouts.OverlayRetry)
			continue
		}
		o.fail(nil)
		all = false
	}
}

// fail notes what the last level failed by, and returns what the one before did.
func (o *Overlay) fail(err error) (old error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old, o.failed = o.failed, err
	return old
}

// Failed is why the kernel's entries are not what is wanted; nil when they are.
func (o *Overlay) Failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// there tells whether the device is, as far as it should.
func (o *Overlay) there() bool {
	if o.device == 0 {
		return true
	}
	name := deviceName(o.c.ID)
	if o.tunnel != nil {
		name = tunnelName(o.c.ID)
	}
	l, err := o.link.LinkByName(name)
	return err == nil && l.Attrs().Index == o.device && l.Attrs().Flags&unix.IFF_UP != 0
}

// level makes the kernel's entries what is wanted. Unless all, what this process has made is believed to be there.
func (o *Overlay) level(all bool) error {
	o.mu.Lock()
	w := o.wanted
	o.mu.Unlock()
	if len(w.Self.Blocks) == 0 { // it is not known yet what this machine is; what an earlier process made goes on
		return nil
	}
	w.Self.Address = w.Self.Address.Unmap()
	peers, why := usable(w)
	if w.Encrypt {
		peers = encryptable(peers, why)
	}
	o.note(why)
	var err error
	if len(peers) == 0 {
		return o.clear(all)
	}
	if w.Encrypt {
		err = o.levelEncrypted(w.Self, peers, all)
	} else {
		err = o.levelPlain(w.Self, peers, all)
	}
	o.mu.Lock()
	changed := o.made != o.device || len(o.reachable) != len(peers)
	o.made, o.reachable = o.device, peers
	o.mu.Unlock()
	if changed {
		select {
		case o.levelled <- struct{}{}:
		default:
		}
	}
	return err
}

// levelPlain makes the VXLAN device and its entries what is wanted.
func (o *Overlay) levelPlain(self model.Peer, peers []model.Peer, all bool) error {
	if o.tunnel != nil { // it was encrypted, and is not to be any more
		if err := o.clear(true); err != nil {
			return err
		}
	}
	want := vxlanTables(self, peers)
	if err := o.filterPeers(want, all); err != nil { // before the device is there
		return err
	}
	made, err := o.ensureDevice(self)
	if err != nil {
		return err
	}
	if all || made {
		if err := o.read(); err != nil {
			return err
		}
	}
	return o.apply(want)
}

// filterPeers has packets of these machines taken and of no others.
func (o *Overlay) filterPeers(want tables, all bool) error {
	if all || o.device == 0 {
		if err := o.filter.ensure(); err != nil {
			return fmt.Errorf("overlay: install nftables rules: %w", err)
		}
		o.have.allowed = o.filter.read()
	}
	if err := o.filter.set(o.have.allowed, want.allowed); err != nil {
		return fmt.Errorf("overlay: say whose packets are taken: %w", err)
	}
	return nil
}

// note keeps why some peers are not led to, and logs what is new.
func (o *Overlay) note(why map[string]string) {
	o.mu.Lock()
	old := o.why
	o.why = why
	o.mu.Unlock()
	for _, node := range slices.Sorted(maps.Keys(why)) {
		if old[node] != why[node] {
			o.log.Warn("tasks of another machine are not reached from here", "node", node, "reason", why[node])
		}
	}
}

// clear removes what was made when there were peers.
func (o *Overlay) clear(all bool) error {
	if !all && o.device == 0 {
		return nil
	}
	o.closeTunnel()
	o.device, o.have = 0, newTables()
	o.mu.Lock()
	o.made, o.reachable = 0, nil
	o.mu.Unlock()
	return errors.Join(o.removeDevices(), o.filter.remove())
}

// removeDevices removes the instance's devices.
func (o *Overlay) removeDevices() error {
	links, err := o.link.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("overlay: list devices: %w", err)
	}
	for _, l := range links {
		if !strings.HasPrefix(l.Attrs().Name, network.OverlayPrefix(o.c.ID)) {
			continue
		}
		if err := o.link.LinkDel(l); err != nil && !gone(err) {
			return fmt.Errorf("overlay: remove the device %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// RemoveAll removes all that an Overlay of the instance has made on this machine. None may be running.
func RemoveAll(id string) error {
	o, err := Open(Config{ID: id})
	if err != nil {
		return err
	}
	return errors.Join(o.removeDevices(), o.filter.remove(), o.Close())
}

func deviceName(id string) string { return network.OverlayPrefix(id) }

func gone(err error) bool {
	_, missing := errors.AsType[netlink.LinkNotFoundError](err)
	return missing || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}
