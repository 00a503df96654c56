package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// vethName is the machine's end of a namespace's link: "v", the instance and 8 digits, 15 characters as Linux allows.
func (n *Network) vethName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "v" + n.c.ID + hex.EncodeToString(sum[:])[:8]
}

// alive tells whether the namespace of a record is mounted and, if it should be, linked.
func (n *Network) alive(r *record) bool {
	var st unix.Statfs_t
	if unix.Statfs(n.nsPath(r.ID), &st) != nil || st.Type != unix.NSFS_MAGIC {
		return false
	}
	if r.Mode == types.NetworkModeNone {
		return true
	}
	_, err := netlink.LinkByName(n.vethName(r.ID))
	return err == nil
}

// connect makes the namespace, its link and its published ports. What an earlier attempt left is removed first.
func (n *Network) connect(r *record) error {
	if err := n.disconnect(r); err != nil {
		return err
	}
	if err := makeNamespace(n.nsPath(r.ID)); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := netns.GetFromPath(n.nsPath(r.ID))
	if err != nil {
		return fmt.Errorf("open the namespace: %w", err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter the namespace: %w", err)
	}
	defer inside.Close()
	if err := up(inside, "lo"); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if r.Mode == types.NetworkModeNone {
		return nil
	}
	if err := n.link(r, ns, inside); err != nil {
		return err
	}
	return n.rules.publish(publications(r))
}

func up(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetUp(link)
}

// link connects the namespace to the bridge.
func (n *Network) link(r *record, ns netns.NsHandle, inside *netlink.Handle) error {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags = n.vethName(r.ID), n.bridge, net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the link: %w", err)
	}
	// Where bridges filter by IP rules (br_netfilter), a container that asks for its own published port is answered on the port
	// it came from.
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("let the link turn round: %w", err)
	}
	eth, err := inside.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find the link inside: %w", err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: r.IPv4.AsSlice(), Mask: net.CIDRMask(n.subnet.Bits(), 32)}}
	if err := inside.AddrAdd(eth, addr); err != nil {
		return fmt.Errorf("give it the address %s: %w", r.IPv4, err)
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set the link up: %w", err)
	}
	if err := inside.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: n.gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route by %s: %w", n.gateway, err)
	}
	return nil
}

// disconnect removes the link and the namespace; what is gone is no error.
func (n *Network) disconnect(r *record) error {
	if link, err := netlink.LinkByName(n.vethName(r.ID)); err == nil {
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the link: %w", err)
		}
	}
	path := n.nsPath(r.ID)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // not, or no longer, mounted
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeNamespace makes a network namespace that lives as long as its mount at path. It works on a thread of its own, which ends
// with it: no other goroutine can find itself in the namespace.
func makeNamespace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-done; err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
